#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The metadata server is killed with -9 while a tree is copied, renamed and removed: a pause, no
# error, nothing done twice, and what was synced is there.
# vm: --timeout 700
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
free_at_start=$(free_bytes)
kills=$(amount 2 4) # of each load
operations=$(amount 200 400)

# kill_meta ROUNDS PAUSE PID
kill_meta() {
	local round
	for ((round = 1; round <= $1; round++)); do
		kill -0 "$3" 2>/dev/null || break
		sleep "$2"
		ok cluster kill meta
		sleep 0.3
		ok cluster start meta
	done
	step "killed $((round - 1)) times"
}

step "under a copy of a tree"
( cp -a /usr/include/linux "$dir/tree" && sync -f "$dir" ) &
load=$!
kill_meta "$kills" 1 $load
wait $load || fail "cp saw an error"
ok diff -r --no-dereference /usr/include/linux "$dir/tree"

step "under operations that must happen once: mkdir, link, rename, unlink, O_EXCL, O_APPEND"
ok mkdir "$dir/once"
"$TOOLS/names" once "$dir/once" "$operations" &
load=$!
kill_meta "$kills" 1 $load
wait $load || fail "an operation was seen to fail"
seq 0 $((operations - 1)) | cmp - "$dir/once/log" || fail "the log is not complete"
[ "$(find "$dir/once" -name 'x*' | wc -l)" = "$operations" ] || fail "files are missing"

step "under removal"
rm -rf "$dir/tree" &
load=$!
kill_meta "$kills" 0.7 $load
wait $load || fail "rm saw an error"
[ ! -e "$dir/tree" ] || fail "the tree is still there"

step "under a buffered load with fsync"
fio_run buffered --directory="$dir" --rw=randwrite --bs=8k --size=8m --ioengine=psync --fsync=16 \
	--verify=crc32c --verify_fatal=1 &
load=$!
kill_meta "$kills" 1 $load
wait $load || fail "fio saw an error"

step "the same after everything was restarted"
ok sync
manifest "$dir" > "$SCRATCH/before"
ok cluster restart-all
manifest "$dir" > "$SCRATCH/after"
same_manifest "$SCRATCH/before" "$SCRATCH/after" "after a restart"
ok rm -rf "$dir"
room_is_back() { sync -f "$MNT"; [ "$(free_bytes)" -ge $((free_at_start - 1048576)) ]; }
wait_for 30 room_is_back || fail "$(free_bytes) bytes are free after deleting, $free_at_start were before"
