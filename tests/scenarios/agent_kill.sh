#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The agent is killed with -9 again and again, under a verified load, under a tree copy and while it
# is being started: applications see a pause and no error, and every byte is right.
# vm: --timeout 700
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
epoch=$(sysfs epoch)
kills=$(amount 2 4) # of each load
agent_is() { [ "$(sysfs agent)" = "$1" ]; }

# kill_agent ROUNDS PAUSE PID: kills and starts the agent while PID runs
kill_agent() {
	local round
	for ((round = 1; round <= $1; round++)); do
		kill -0 "$3" 2>/dev/null || break
		sleep "$2"
		ok cluster kill agent
		wait_for 10 agent_is detached || fail "the kernel does not notice that the agent is gone"
		ok cluster start agent
		epoch=$((epoch + 1))
		wait_for 30 agent_is attached || fail "the agent does not attach again"
		[ "$(sysfs epoch)" = "$epoch" ] || fail "epoch is $(sysfs epoch), want $epoch"
	done
	step "killed $((round - 1)) times, $(sysfs parked) requests parked, $(sysfs bad_completions) bad completions"
	[ "$(sysfs bad_completions)" = 0 ] || fail "the kernel counts bad completions"
}

step "under a verified O_DIRECT load"
fio_run direct --directory="$dir" --rw=randwrite --bs=16k --size=32m --loops="$(amount 1 2)" --direct=1 --ioengine=io_uring \
	--iodepth=16 --verify=crc32c --verify_fatal=1 &
load=$!
kill_agent "$kills" 1.5 $load
wait $load || fail "fio saw an error"

step "under a buffered load with fsync"
fio_run buffered --directory="$dir" --rw=randwrite --bs=16k --size=16m --ioengine=psync --fsync=32 \
	--verify=crc32c --verify_fatal=1 &
load=$!
kill_agent "$kills" 1.5 $load
wait $load || fail "fio saw an error"

step "under a copy of a tree"
cp -a /usr/include/linux "$dir/tree" &
load=$!
kill_agent "$kills" 1 $load
wait $load || fail "cp saw an error"
ok diff -r --no-dereference /usr/include/linux "$dir/tree"

step "while nobody is there, requests wait and can be interrupted"
ok cluster kill agent
timeout -s INT 2 ls -l "$dir/tree/." "$dir/never-looked-at" > /dev/null 2>&1
[ $? = 124 ] || fail "a request came back without an agent"
( echo parked > "$dir/parked" && sync "$dir/parked" ) &
waiter=$!
sleep 1
kill -0 $waiter 2>/dev/null || fail "a write with fsync came back without an agent"
ok cluster start agent
wait $waiter || fail "the parked write failed"
[ "$(< "$dir/parked")" = parked ] || fail "the parked write is not there"

step "killed twice while it starts"
( cp -a "$TREE" "$dir/tree2" && sync -f "$dir" ) &
load=$!
for round in 1 2 3; do
	ok cluster kill agent
	cluster start agent &
	starter=$!
	sleep 0.$((round * 2))
	pkill -9 -x weftd
	wait $starter
	cluster runs agent || ok cluster start agent
done
wait $load || fail "cp saw an error"
ok diff -r --no-dereference "$TREE" "$dir/tree2"

step "stopped cleanly and started, as an upgrade does"
( cp -a "$TREE" "$dir/tree3" && sync -f "$dir" ) &
load=$!
sleep 0.5
ok cluster restart agent
wait $load || fail "cp saw an error"

step "the same after a remount"
remount
ok diff -r --no-dereference /usr/include/linux "$dir/tree"
for copy in tree2 tree3; do ok diff -r --no-dereference "$TREE" "$dir/$copy"; done
fio_run direct --directory="$dir" --rw=randwrite --bs=16k --size=32m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1 --verify_only
