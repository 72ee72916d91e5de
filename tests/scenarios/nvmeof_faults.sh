#!/bin/bash
# SPDX-License-Identifier: MIT
#
# All that may happen to NVMe-oF targets and the paths to them, under a verified fio load or a copy of a tree: no
# error, no wrong byte, a pause of at most the detection time and 2 s, and the copies are in sync again while the load
# goes on. What is over before anybody has to act leaves no copy stale.
#
# The spare target is added with two paths. WEFT_FAULTS="FAULT..." picks some of the functions below, or all.
# vm: --kind nvmeof --targets 2 --spare 1 --copies 2 --chunk-size 16MiB --target-size 1G --timeout 1800
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
two_paths=target$((WEFT_TARGETS + WEFT_SPARES))
faults=${WEFT_FAULTS:-$(amount "port_off controller_reset namespace_fails both_paths_cut" all)}

# controllers TARGET [PORT]: those of this host, through that port
controllers() {
	local controller
	for controller in /sys/class/nvme/nvme*; do
		[ "$(cat "$controller/subsysnqn" 2> /dev/null)" = "nqn.2026-11.org.weftfs:$1" ] || continue
		[ $# -lt 2 ] || grep -q "trsvcid=$2\\b" "$controller/address" || continue
		echo "$controller"
	done
}
# live TARGET COUNT: so many paths to it are
live() {
	local controller count=0
	for controller in $(controllers "$1"); do
		[ "$(cat "$controller/state" 2> /dev/null)" != live ] || count=$((count + 1))
	done
	[ "$count" = "$2" ]
}
comes_back() {
	wait_for 60 up "$1" || fail "$1 does not come back: $(weftctl target show "$1")"
	in_sync 240
}
# forgotten TARGET: waits until the metadata server calls it down
forgotten() { wait_for 30 down "$1" || fail "$1 is still called up: $(weftctl target list)"; }

# under_load LOADS WHAT COMMAND...
under_load() {
	local what=$2
	step "$what, under $1"
	# shellcheck disable=SC2086  # several words
	start_load $1
	start_pauses
	"${@:3}"
	in_sync 240
	stop_load "$what"
	short_pause "$what"
}
# fault FUNCTION LOADS WHAT
fault() { case " $faults " in ' all ' | *" $1 "*) under_load "$2" "$3" "$1" ;; esac; }
# harmless_fault FUNCTION LOADS WHAT: no copy is stale afterwards
harmless_fault() {
	local marks
	marks=$(sysfs stale_marks)
	fault "$@"
	[ "$(sysfs stale_marks)" = "$marks" ] || fail "$3: $(($(sysfs stale_marks) - marks)) copies were marked stale"
}

# ---- what happens -------------------------------------------------------------------------------------------

port_off() {
	ok nvmet port 1 off
	forgotten target1
	sleep 2
	ok nvmet port 1 on
	comes_back target1
}
port_for_a_moment() {
	ok nvmet port 1 off
	sleep 1
	ok nvmet port 1 on
	wait_for 30 live target1 1 || fail "target1 is not connected again: $(weftctl target show target1)"
}
controller_reset() {
	local controller round
	for round in 1 2 3; do
		controller=$(controllers target2)
		ok tee "$controller/reset_controller" <<< 1 > /dev/null
		wait_for 30 live target2 1 || fail "target2 is not connected after reset $round: $(cat "$controller/state")"
		sleep 1 # of load
	done
}
namespace_off() {
	ok nvmet namespace 2 off
	forgotten target2
	ok nvmet namespace 2 on
	comes_back target2
}
# the device is another one afterwards
namespace_for_a_moment() {
	ok nvmet namespace 2 off
	sleep 1.5
	ok nvmet namespace 2 on
	comes_back target2
	sleep 2 # of load, which reads and writes there again
	up target2 || fail "target2 was up for a moment: $(weftctl target show target2)"
}
namespace_fails() {
	ok nvmet error 1 on
	wait_for 60 degraded || fail "no copy on the failing namespace is stale: $(weftctl pool status)"
	sleep 2
	ok nvmet error 1 off
	comes_back target1
}
# one_of_two_cut port|second-port: that path is away
one_of_two_cut() {
	ok nvmet "$1" "${two_paths#target}" off
	wait_for 30 live "$two_paths" 1 || fail "its paths: $(weftctl target show "$two_paths")"
	sleep $((detection_ms / 1000 + 2)) # it must not be missed after the detection time either
	up "$two_paths" || fail "$two_paths is called down, and has a path: $(weftctl target show "$two_paths")"
	ok nvmet "$1" "${two_paths#target}" on
	wait_for 30 live "$two_paths" 2 || fail "its paths: $(weftctl target show "$two_paths")"
}
path_cut() {
	one_of_two_cut port
	one_of_two_cut second-port
}
both_paths_cut() {
	ok nvmet withdraw "$two_paths"
	forgotten "$two_paths"
	ok nvmet start "$two_paths"
	comes_back "$two_paths"
	wait_for 30 live "$two_paths" 2 || fail "its paths: $(weftctl target show "$two_paths")"
}
agent_killed() {
	local round
	for round in 1 2 3; do
		ok cluster kill agent
		ok cluster start agent
		sleep 2 # of load
		load_runs || fail "a load ended in round $round"
	done
	for round in target1 target2 "$two_paths"; do comes_back "$round"; done
}
# its controllers, its namespace and its name are gone, as when the storage node is installed anew with the same disk
storage_node_stopped() {
	ok nvmet stop 2
	forgotten target2
	sleep 10 # of load, which it misses
	degraded || fail "nothing is missing on target2: $(weftctl pool status)"
	ok nvmet start 2
	comes_back target2
}

step "$two_paths is added with two paths"
ok cluster start "$two_paths"
ok nvmet second-port "$two_paths" on
uri=$(cluster uri "$two_paths")
ok weftctl target add "$uri" "${uri/:44/:54}" --name "$two_paths" ${WEFT_DATA_PATH:+--data-path "$WEFT_DATA_PATH"}
wait_for 30 up "$two_paths" || fail "it does not come up: $(weftctl target show "$two_paths")"
wait_for 30 live "$two_paths" 2 || fail "its paths: $(weftctl target show "$two_paths")"
weftctl target show "$two_paths"
ok cp -a "$TREE" "$dir/tree"
ok dd if=/dev/urandom of="$dir/large" bs=1M count=64 oflag=direct status=none
sum=$(sha256sum < "$dir/large")
ok sync
for target in target1 target2 "$two_paths"; do
	pool_says ".targets[] | select(.name == \"$target\") | .used_bytes > 0" || fail "$target holds nothing: $(weftctl target list)"
done

fault port_off "fio tree" "a port is off until it is missed"
harmless_fault port_for_a_moment fio "a port is off for a moment"
harmless_fault controller_reset fio "a controller is reset"
fault namespace_off tree "a namespace is off until it is missed"
fault namespace_for_a_moment fio "a namespace is off for a moment"
fault namespace_fails "fio tree" "a namespace answers with errors"
harmless_fault path_cut "fio tree" "one of two paths is cut, then the other"
fault both_paths_cut fio "both are cut"
fault agent_killed "fio tree" "the agent is killed"
fault storage_node_stopped "fio tree" "a storage node is gone for a while"

step "every byte is right"
drop_caches
[ "$(sha256sum < "$dir/large")" = "$sum" ] || fail "the large file differs"
ok diff -r --no-dereference "$TREE" "$dir/tree"
ok weftctl fsck
copies_equal --copies 2
