#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Policies that are bad, and many swaps, while verified I/O runs: no error is seen, and the kernel's log
# stays clean (the testbed looks at it).
# vm: --targets 2 --timeout 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

objects=$PROJECT/build/tests/bpf
dir=$(work_directory)

runs() { load_runs || fail "the I/O saw an error: $(tail -n 20 "$SCRATCH/fio-load")"; }
start_load fio

step "a policy that loops as long as the verifier allows"
ok weftctl balancer set "$objects/loop.bpf.o"
in_force loop || fail "it is not in force"
wait_for 120 picks_above "$(($(cat "$balancer/picks") + $(amount 50 200)))" || fail "it picks nothing: $(weftctl balancer show)"
in_force loop || fail "it was detached: it answers slowly, but legally"
runs

times=$(amount 2 5)
step "a policy that answers nonsense, $times times"
for ((i = 0; i < times; i++)); do
	faults=$(cat "$balancer/faults")
	weftctl balancer set "$objects/garbage.bpf.o" > "$SCRATCH/set" 2>&1 || grep -q 'detached at once' "$SCRATCH/set" ||
		fail "garbage was not attached: $(cat "$SCRATCH/set")"
	wait_for 60 in_force round_robin || fail "it is still in force"
	[ "$(cat "$balancer/faults")" -ge $((faults + 64)) ] || fail "its faults were not counted"
	runs
done

step "a faulty policy is not taken up again by a new agent"
ok cluster restart agent
in_force round_robin || fail "garbage is in force again"
runs

swaps=$(amount 200 1000)
step "$swaps swaps"
policies=()
for name in p2c_latency least_inflight weighted local_first; do policies+=("$PROJECT/build/bpf/$name.bpf.o"); done
ok "$TOOLS/balancer_swaps" "$swaps" "${policies[@]}"
runs
stop_load "the policy was swapped $swaps times"
ok weftctl balancer set round_robin

step "what was written is still there"
fio_run load --directory="$dir" --rw=randrw --bsrange=4k-64k --size=16m --direct=1 --ioengine=io_uring --iodepth=8 \
	--verify=crc32c --verify_fatal=1
