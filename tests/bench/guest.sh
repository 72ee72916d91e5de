#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs in a guest with weftfs mounted at /mnt/weft. Everything shares the guest's two processors: the
# application, the file system, the agent, soft-RoCE on both ends, the targets. What is compared does the
# same bytes over the same emulated wire, so ratios carry over to how much work each design adds; the
# figures themselves say nothing about real hardware.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib.sh"
. "$here/nvme.sh"

mount=${MNT:-/mnt/weft}
rounds=${WEFT_BENCH_ROUNDS:-3}
seconds=${WEFT_BENCH_SECONDS:-4}
bench_bytes=$((256 << 20))
disk=${WEFT_SPARE_DISK:?tests/vm/run --disk sets it: a block device for the peers}

measure_verbs() {
	local rate latency
	rate=$(perftest ib_read_bw -s 1048576 -D "$seconds" --report_gbits | awk '$1 == 1048576 { print $4 }')
	[ -n "$rate" ] || die "ib_read_bw over $rdma_device gave no figure"
	record verbs read_1m "$(awk "BEGIN { print $rate * 125 }")"
	latency=$(perftest ib_read_lat -s 4096 -n 2000 | awk '$1 == 4096 { print $6 }')
	[ -n "$latency" ] || die "ib_read_lat over $rdma_device gave no figure"
	record verbs read_4k "$latency"
}

# The block protocol and weft-target alone, beside the mounted file system: a connection of its session to
# the first target. Reads only.
measure_protocol() {
	local session address line
	read -r session address < <(weftctl --json pool status |
		jq -r '"\(.sessions[0].id) \(.targets[0].host):\(.targets[0].port)"')
	protocol() {
		"$here/../../build/tests/blockbench" --key "$WEFT_KEY" --target "$address" --session "$session" --number 1000 \
			--spin-us 1000 --seconds "$seconds" --span-mib $((bench_bytes >> 20)) --depth 4 --tests "$1" 2> /dev/null
	}
	line=$(protocol read-throughput) || die "blockbench over $address gave no figure"
	record protocol read_1m "$(awk '{ print $2 * 1.048576 }' <<< "$line")"
	line=$(protocol read-latency) || die "blockbench over $address gave no figure"
	record protocol read_4k "$(awk '{ print $2 }' <<< "$line")"
}

note "laying out $((bench_bytes >> 20)) MiB on weft and on the peer's disk"
dd if=/dev/urandom of="$mount/bench.data" bs=1M count=$((bench_bytes >> 20)) oflag=direct status=none
dd if=/dev/urandom of="$disk" bs=1M count=$((bench_bytes >> 20)) oflag=direct status=none
nvme_start "$disk" "$address"

for ((round = 1; round <= rounds; round++)); do
	note "round $round of $rounds: raw verbs"
	measure_verbs
	note "round $round of $rounds: NVMe over RDMA"
	measure_file nvme "$nvme_device"
	note "round $round of $rounds: the block protocol alone"
	measure_protocol
	note "round $round of $rounds: weft"
	measure_file weft "$mount/bench.data"
done
nvme_stop
rm "$mount/bench.data"

echo
echo "Median of $rounds rounds, one guest with $(nproc) processors under emulation, soft-RoCE; O_DIRECT through io_uring."
printf '  %-26s %13s %13s %13s %13s\n' '' '1 MiB read' '1 MiB write' '4 KiB read' '4 KiB write'
for row in 'verbs:raw verbs (perftest)' 'nvme:NVMe over RDMA, raw' 'protocol:weft-target, no client fs' \
	'weft:weftfs, two copies'; do
	printf '  %-26s' "${row#*:}"
	for figure in read_1m write_1m read_4k write_4k; do
		case $figure in *1m) unit='MB/s' ;; *) unit='us' ;; esac
		value=$(median "${row%%:*}" $figure)
		[ "$value" = - ] && printf ' %13s' - || printf ' %8.1f %-4s' "$value" $unit
	done
	echo
done
echo
require '1 MiB reads: weft / ib_read_bw' "$(ratio "$(median weft read_1m)" "$(median verbs read_1m)")" '>=' 0.70
require '4 KiB read latency: weft / NVMe over RDMA' "$(ratio "$(median weft read_4k)" "$(median nvme read_4k)")" '<=' 1.00
echo "(weft writes every block to two targets; the NVMe device keeps one copy.)"
