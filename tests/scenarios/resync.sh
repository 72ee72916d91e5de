#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A target that was away is made equal again, chunk by chunk and only what it missed, while verified I/O
# goes on: at the rate that was set, which may be changed meanwhile; progress is seen; the metadata server
# and the target may die in the middle.
# vm: --chunk-size 16MiB --timeout 900
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
chunk_bytes=$((16 << 20))
slow_rate=$((4 << 20))
resynced() { pool '[.tasks[] | select(.kind == "resync") | .done_bytes] | add // 0'; }
missing() { pool '[.tasks[] | select(.kind == "resync") | .total_bytes - .done_bytes] | add // 0'; }
copying() { [ "$(resynced)" -gt "$1" ]; }

step "a file of 128 MiB and a tree"
ok dd if=/dev/urandom of="$dir/large" bs=1M count=128 oflag=direct status=none
ok cp -a "$TREE" "$dir/tree"
ok sync

step "target2 misses one block: one chunk is copied, not all"
ok cluster kill target2
wait_for 30 down target2 || fail "target2 is still called up"
ok dd if=/dev/urandom of="$dir/large" bs=4k count=1 oflag=direct conv=notrunc status=none
stale=$(pool '.targets[] | select(.name == "target2") | .stale_bytes')
[ "$stale" -eq $chunk_bytes ] || fail "$stale bytes of target2 are stale after one block was written"
ok cluster start target2
in_sync 60

step "target2 misses everything"
ok cluster kill target2
ok dd if=/dev/urandom of="$dir/large" bs=1M count=128 oflag=direct conv=notrunc status=none
sum=$(sha256sum < "$dir/large")
start_load fio
ok weftctl pool set resync-rate=$slow_rate
ok cluster start target2
wait_for 60 task resync || fail "no resynchronisation is seen: $(weftctl pool status)"
wait_for 60 copying 0 || fail "nothing is copied: $(weftctl pool status)"

step "it keeps to $((slow_rate >> 20)) MiB/s and tells how far it is"
before=$(resynced)
from=$(date +%s%N)
sleep 6
# never less than the time that is measured: the clock is read after the counter
rate=$((($(resynced) - before) * 1000 / (($(date +%s%N) - from) / 1000000)))
step "$rate bytes/s: $(weftctl pool status | grep -m 1 resync)"
[ "$rate" -le $((slow_rate * 3 / 2)) ] || fail "$rate bytes/s although $slow_rate were set"
[ "$rate" -gt $((slow_rate / 10)) ] || fail "only $rate bytes/s although $slow_rate were set"
pool_says '.tasks[] | select(.kind == "resync") | .target == "target2" and .total_bytes > 0 and .eta_s >= 0' ||
	fail "no time is estimated: $(pool .tasks)"

step "the metadata server dies in the middle"
ok cluster kill meta
ok cluster start meta
wait_for 60 task resync || fail "resynchronisation does not go on: $(weftctl pool status)"
before=$(resynced)
wait_for 60 copying "$before" || fail "nothing is copied any more: $(weftctl pool status)"

step "target2 dies in the middle"
ok cluster kill target2
sleep 1
ok cluster start target2
wait_for 60 task resync || fail "resynchronisation does not begin anew: $(weftctl pool status)"
left=$(missing)

step "without a limit the other $((left >> 20)) MiB take less time"
from=$SECONDS
ok weftctl pool set resync-rate=0
in_sync 180
stop_load "target2 was resynchronised"
if [ "$left" -gt $((slow_rate * 20)) ]; then
	[ $((SECONDS - from)) -lt $((left / slow_rate)) ] || fail "it took $((SECONDS - from)) s, as if the old limit held"
fi

step "every byte is right, from each target alone"
copies_equal --copies 2
ok cluster kill target1
drop_caches
[ "$(sha256sum < "$dir/large")" = "$sum" ] || fail "the large file differs on target2"
ok diff -r --no-dereference "$TREE" "$dir/tree"
ok cluster start target1
in_sync 120
