#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs in a guest with weftfs mounted at /mnt/weft and disks that can be made slow: one target of several
# becomes ten times as slow for its readers, and policies show what they make of it. The healthy cluster is
# measured in the same rounds.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib.sh"

mount=${MNT:-/mnt/weft}
rounds=${WEFT_BENCH_ROUNDS:-3}
seconds=${WEFT_BENCH_SECONDS:-5}
slow_factor=10
# half of what two targets do, two thirds of what three do, is what is left when one does nothing
case $WEFT_TARGETS in 2) throughput_min=0.45 ;; *) throughput_min=0.60 ;; esac
slow_target=target$WEFT_TARGETS

# measure ROW POLICY: 4 KiB random reads at depth 16
measure() {
	local row=$1 policy=$2 iops mean p50 p99
	weftctl balancer set "$policy" > /dev/null
	read -r iops mean p50 p99 < <(fio --name=bench --filename="$mount/bench.data" --direct=1 --rw=randread --bs=4k \
		--iodepth=16 --ioengine=io_uring --runtime="$seconds" --time_based --ramp_time=2 --norandommap --randrepeat=0 \
		--output-format=json | jq -r '.jobs[0].read | .clat_ns.percentile as $p |
			"\(.iops) \(.lat_ns.mean / 1e6) \($p["50.000000"] / 1e6) \($p["99.000000"] / 1e6)"') || die "$row: reads failed"
	[ -n "${p99-}" ] || die "$row: fio gave no figure"
	record "$row" iops "$iops"
	record "$row" mean_ms "$mean"
	record "$row" p50_ms "$p50"
	record "$row" p99_ms "$p99"
}

note "laying out 256 MiB"
dd if=/dev/urandom of="$mount/bench.data" bs=1M count=256 oflag=direct status=none
delay_ms=
for ((round = 1; round <= rounds; round++)); do
	note "round $round of $rounds: all targets well"
	cluster disk "$slow_target" well
	measure healthy-round_robin round_robin
	measure healthy-p2c_latency p2c_latency
	# what a read takes here is mostly the guest's processors; a target on which it takes ten times as long is
	# one whose disk adds nine times that
	: "${delay_ms:=$(awk "BEGIN { print int($(median healthy-p2c_latency mean_ms) * ($slow_factor - 1) + 1) }")}"
	note "round $round of $rounds: each read of $slow_target takes $delay_ms ms longer"
	cluster disk "$slow_target" slow "$delay_ms"
	measure slow-round_robin round_robin
	measure slow-p2c_latency p2c_latency
done
cluster disk "$slow_target" well
weftctl balancer set round_robin > /dev/null
rm "$mount/bench.data"

echo
echo "One of $WEFT_TARGETS targets $slow_factor times as slow (+$delay_ms ms), two copies, 4 KiB random reads at depth 16; median of $rounds rounds."
printf '  %-34s %10s %10s %10s\n' '' 'per s' 'p50 ms' 'p99 ms'
for row in 'healthy-round_robin:all well, round_robin' 'healthy-p2c_latency:all well, p2c_latency' \
	"slow-round_robin:$slow_target slow, round_robin" "slow-p2c_latency:$slow_target slow, p2c_latency"; do
	printf '  %-34s %10.0f %10.2f %10.2f\n' "${row#*:}" "$(median "${row%%:*}" iops)" "$(median "${row%%:*}" p50_ms)" \
		"$(median "${row%%:*}" p99_ms)"
done
echo
# against FIGURE POLICY: with the slow target, divided by the healthy cluster with the same policy
against() { ratio "$(median "slow-$2" "$1")" "$(median "healthy-$2" "$1")"; }
require "p2c_latency, 1 of $WEFT_TARGETS slow: throughput / healthy" "$(against iops p2c_latency)" '>=' $throughput_min
require "p2c_latency, 1 of $WEFT_TARGETS slow: p99 / healthy" "$(against p99_ms p2c_latency)" '<=' 2.00
printf '  %-52s %6s\n' "round_robin, for contrast: throughput / healthy" "$(against iops round_robin)"
printf '  %-52s %6s\n' "round_robin, for contrast: p99 / healthy" "$(against p99_ms round_robin)"
