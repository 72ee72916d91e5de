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
rounds=${BENCH_ROUNDS:-3}
seconds=${BENCH_SECONDS:-4}
bench_bytes=$((256 << 20))
address=${WEFT_RDMA_ADDRESS:?tests/vm/run sets it: the address of this guest on the RDMA network}
disk=${WEFT_SPARE_DISK:?tests/vm/run --disk sets it: a block device for the peers}

measure_verbs() {
	local rate device
	device=$(basename /sys/class/infiniband/*)
	ib_read_bw -d "$device" -R -s 1048576 -D "$seconds" >/dev/null 2>&1 &
	local server=$!
	until ss -Hltn 'sport = :18515' | grep -q .; do
		kill -0 $server || die "ib_read_bw does not start on $device"
	done
	rate=$(ib_read_bw -d "$device" -R -s 1048576 -D "$seconds" --report_gbits "$address" | awk '$1 == 1048576 { print $4 }')
	wait $server || true
	[ -n "$rate" ] || die "ib_read_bw over $device gave no figure"
	record verbs read_1m "$(awk "BEGIN { print $rate * 125 }")"
	rate=$(measure_read_latency "$device") && record verbs read_4k "$rate"
}

measure_read_latency() {
	ib_read_lat -d "$1" -R -s 4096 -n 2000 >/dev/null 2>&1 &
	local server=$!
	until ss -Hltn 'sport = :18515' | grep -q .; do
		kill -0 $server || die "ib_read_lat does not start on $1"
	done
	ib_read_lat -d "$1" -R -s 4096 -n 2000 "$address" | awk '$1 == 4096 { print $6 }'
	wait $server || true
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
	note "round $round of $rounds: weft"
	measure_file weft "$mount/bench.data"
done
nvme_stop
rm "$mount/bench.data"

echo
echo "Median of $rounds rounds, one guest with $(nproc) processors under emulation, soft-RoCE; O_DIRECT through io_uring."
printf '  %-26s %13s %13s %13s %13s\n' '' '1 MiB read' '1 MiB write' '4 KiB read' '4 KiB write'
for row in 'verbs:raw verbs (perftest)' 'nvme:NVMe over RDMA, raw' 'weft:weftfs, two copies'; do
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
