#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The data path of NVMe-oF targets changes again and again from the agent to the module and back, under a verified fio
# load and a copy of a tree: nothing is seen of it.
# vm: --kind nvmeof --fabric tcp --targets 2 --copies 2 --chunk-size 16MiB --target-size 1G --timeout 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
switches=$(amount 20 100)

id_of() { pool ".targets[] | select(.name == \"$1\") | .id"; }
id1=$(id_of target1) id2=$(id_of target2)
# Of the module: whether it uses the block device itself, and the requests that it has sent there.
uses_device() { sysfs "targets/$1/direct" | cut -d' ' -f1; }
direct_requests() { sysfs "targets/$1/direct" | cut -d' ' -f2; }
all_requests() { sysfs "targets/$1/stat" | awk '{ print $3 + $4 }'; }
in_force() { [ "$(uses_device "$1")" = "$2" ]; }

# becomes NAME ID agent|direct
becomes() {
	ok weftctl target set "$1" --data-path "$3" > /dev/null
	wait_for 20 in_force "$2" "$([ "$3" = direct ] && echo 1 || echo 0)" || fail "$1 is not reached by $3: $(weftctl target show "$1")"
}

start_load fio tree
start_pauses
marks=$(sysfs stale_marks)
step "$switches switches of each target"
for ((switch = 1; switch <= switches; switch++)); do
	if [ $((switch % 2)) = 1 ]; then first=agent second=direct; else first=direct second=agent; fi
	becomes target1 "$id1" $first &
	becomes target2 "$id2" $second
	wait $! || exit 1
	load_runs || fail "a load ended at switch $switch"
	[ $((switch % 10)) != 0 ] || step "$switch: target1 has had $(all_requests "$id1") requests, $(direct_requests "$id1") of them directly"
done
stop_load "the data paths changed"
short_pause "the data paths changed"
[ "$(sysfs stale_marks)" = "$marks" ] || fail "$(($(sysfs stale_marks) - marks)) copies were marked stale"
for id in "$id1" "$id2"; do
	direct=$(direct_requests "$id") all=$(all_requests "$id")
	[ $((direct * 10)) -gt "$all" ] || fail "target $id: hardly any of $all requests went directly: $direct"
	[ $((direct * 10)) -lt $((all * 9)) ] || fail "target $id: nearly all of $all requests went directly: $direct"
done

step "every byte is right"
in_sync 60
ok weftctl fsck
copies_equal --copies 2
