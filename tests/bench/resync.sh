#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs in a guest with weftfs mounted at /mnt/weft: a target misses half a GiB of writes and comes back; how
# fast its copies are made equal, beside what one RDMA connection writes on the same emulated wire.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib.sh"

mount=${MNT:-/mnt/weft}
rounds=${WEFT_BENCH_ROUNDS:-3}
seconds=${WEFT_BENCH_SECONDS:-4}

stale_bytes() { weftctl --json target list | jq '[.. | objects | .stale_bytes? // 0] | add'; }

weftctl pool set resync-rate=0 > /dev/null
dd if=/dev/urandom of="$mount/bench.data" bs=1M count=512 oflag=direct status=none
for ((round = 1; round <= rounds; round++)); do
	note "round $round of $rounds: raw verbs"
	rate=$(perftest ib_write_bw -s 1048576 -D "$seconds" --report_gbits | awk '$1 == 1048576 { print $4 }')
	[ -n "$rate" ] || die "ib_write_bw over $rdma_device gave no figure"
	record verbs write_1m "$(awk "BEGIN { print $rate * 125 }")"

	note "round $round of $rounds: target2 misses writes"
	cluster kill target2
	dd if=/dev/urandom of="$mount/bench.data" bs=1M count=512 oflag=direct conv=notrunc status=none
	bytes=$(stale_bytes)
	[ "$bytes" -gt 0 ] || die "no copy is stale"
	note "round $round of $rounds: resynchronising $((bytes >> 20)) MiB"
	cluster start target2
	from=$(date +%s.%N)
	weftctl pool wait --timeout 300s > /dev/null
	record resync rate "$(awk "BEGIN { print $bytes / ($(date +%s.%N) - $from) / 1e6 }")"
done
rm "$mount/bench.data"

echo
echo "Resynchronisation of one target, idle cluster, no limit; median of $rounds rounds."
printf '  %-34s %8.1f MB/s\n' 'raw verbs, 1 MiB (ib_write_bw)' "$(median verbs write_1m)" \
	'copies made equal' "$(median resync rate)"
printf '  %-34s %8s\n' 'resync / ib_write_bw' "$(ratio "$(median resync rate)" "$(median verbs write_1m)")"
