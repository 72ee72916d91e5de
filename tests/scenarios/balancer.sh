#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The policy is swapped while verified I/O runs: by name, back and forth, from a file; one that answers
# nonsense is detached; nothing of it is seen by the I/O.
# vm: --targets 2
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

objects=$PROJECT/build/tests/bpf
dir=$(work_directory)

set_policy() { weftctl balancer set "$1" > "$SCRATCH/set" 2>&1; }
expect_policy() { in_force "$1" || fail "policy $(policy) is in force, not $1"; }
log_lines() { dmesg | grep -c "$1"; }
reads() { awk '{ print $3 }' "/sys/fs/weft/$CLUSTER/targets"/*/stat | paste -sd ' '; }

step "the built-in policy"
expect_policy round_robin
weftctl balancer list | grep -q '^\* *round_robin' || fail "the list does not mark round_robin"

step "p2c_latency under load"
start_load fio
ok weftctl balancer set p2c_latency
expect_policy p2c_latency
weftctl --json balancer show | grep -q '"policy": "p2c_latency"' || fail "balancer show: $(weftctl balancer show)"
[ -e /sys/fs/bpf/weft/balancer ] || fail "the link is not pinned"
wait_for 60 picks_above "$(($(cat "$balancer/picks") + 200))" || fail "no picks are counted: $(weftctl balancer show)"
before=$(reads)
wait_for 60 picks_above "$(($(cat "$balancer/picks") + 200))" || fail "no picks are counted: $(weftctl balancer show)"
read -ra was <<< "$before"
read -ra is <<< "$(reads)"
[ "${#is[@]}" = 2 ] || fail "${#is[@]} targets instead of 2"
for i in 0 1; do
	[ "${is[i]}" -gt "${was[i]}" ] || fail "no read went to one of the targets (reads before: $before, after: ${is[*]})"
done
ok weftctl balancer stats

step "every policy that ships"
for name in least_inflight local_first weighted p2c_latency; do
	ok weftctl balancer set "$name"
	expect_policy "$name"
	wait_for 60 picks_above "$(($(cat "$balancer/picks") + 20))" || fail "$name picks nothing"
done

swaps=$(amount 12 50)
step "$swaps swaps"
faults=$(cat "$balancer/faults")
for ((i = 1; i <= swaps; i++)); do
	# attach, replace by a fresh copy, detach
	case $((i % 3)) in
	1) next=p2c_latency name=p2c_latency ;;
	2) next=$PROJECT/build/bpf/p2c_latency.bpf.o name=p2c_latency ;;
	0) next=round_robin name=round_robin ;;
	esac
	set_policy "$next" || fail "swap $i to $next: $(cat "$SCRATCH/set")"
	expect_policy "$name"
	load_runs || break
done
stop_load "the policy was swapped"
[ "$(cat "$balancer/faults")" = "$faults" ] || fail "p2c_latency gave an illegal answer"
ok weftctl balancer set round_robin
expect_policy round_robin
[ ! -e /sys/fs/bpf/weft/balancer ] || fail "a link is still pinned"

step "a policy that answers nonsense"
lines=$(log_lines 'policy garbage detached')
faults=$(cat "$balancer/faults")
start_load fio
set_policy "$objects/garbage.bpf.o" || grep -q 'detached at once' "$SCRATCH/set" ||
	fail "garbage was not attached: $(cat "$SCRATCH/set")"
wait_for 60 in_force round_robin || fail "it is still in force after $(($(cat "$balancer/faults") - faults)) faults"
faults=$(($(cat "$balancer/faults") - faults))
# a callback that runs on another CPU at that moment may count one more
if [ "$faults" -lt 64 ] || [ "$faults" -ge $((64 + $(nproc))) ]; then fail "$faults faults were counted, not 64"; fi
[ $(($(log_lines 'policy garbage detached') - lines)) = 1 ] || fail "the log does not have one line about it"
ok weftctl balancer set p2c_latency
expect_policy p2c_latency
stop_load "a policy answered nonsense"
ok weftctl balancer set round_robin

step "what cannot be set, with the reason"
refused 'there are round_robin, least_inflight, p2c_latency' weftctl balancer set fastest
refused 'invalid mem access' weftctl balancer set "$objects/refused.bpf.o"
refused 'not a proper ELF object' weftctl balancer set /etc/passwd
refused 'No such file' weftctl balancer set ./nothing.bpf.o
expect_policy round_robin

step "a BPF file system that nobody has mounted is mounted"
ok umount /sys/fs/bpf
ok weftctl balancer set p2c_latency
findmnt -n -t bpf /sys/fs/bpf > /dev/null || fail "no BPF file system at /sys/fs/bpf"
expect_policy p2c_latency
ok weftctl balancer set round_robin

step "after a reboot the agent takes up what was chosen"
# a reboot forgets the pin, and with it the policy
for chosen in p2c_latency "$(amount "$PROJECT/build/bpf/least_inflight.bpf.o" "$objects/loop.bpf.o")"; do
	ok weftctl balancer set "$chosen"
	ok rm /sys/fs/bpf/weft/balancer
	wait_for 10 in_force round_robin || fail "$(policy) is in force without its pin"
	ok cluster restart agent
	expect_policy "$(basename "$chosen" .bpf.o)"
done
ok weftctl balancer set round_robin
ok cluster restart agent
expect_policy round_robin

step "what was written is still there"
fio_run load --directory="$dir" --rw=randrw --bsrange=4k-64k --size=16m --direct=1 --ioengine=io_uring --iodepth=8 \
	--verify=crc32c --verify_fatal=1
