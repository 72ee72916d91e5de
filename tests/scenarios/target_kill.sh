#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A target is killed with -9 under a verified fio load and under a copy of a tree: no error, no wrong
# byte, and a pause of at most the detection time and 2 s. When it is back, what it missed is copied
# to it. Without any copy in sync a hard mount waits.
# vm: --timeout 700
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)

step "files from before"
ok cp -a "$TREE" "$dir/tree"
fio_run before --directory="$dir" --rw=randwrite --bs=64k --size=32m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1
ok sync
degraded && fail "a copy is stale before anything happened: $(weftctl pool status)"

step "target2 dies under a write load that verifies"
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --loops="$(amount 1 2)" --direct=1 --ioengine=io_uring \
	--iodepth=16 --verify=crc32c --verify_fatal=1 &
load=$!
start_pauses
sleep 2
ok cluster kill target2
wait $load || fail "fio saw an error"
short_pause "under fio"
wait_for 30 degraded || fail "no copy was marked stale: $(weftctl pool status)"
wait_for 30 down target2 || fail "target2 is still called up: $(weftctl target list)"

step "reading everything from the other one"
drop_caches
ok diff -r --no-dereference "$TREE" "$dir/tree"
fio_run before --directory="$dir" --rw=randwrite --bs=64k --size=32m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1 --verify_only
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1 --verify_only

step "the only target in sync dies: a hard mount waits and goes on when it is back"
ok cluster kill target1
drop_caches
( ok diff -r --no-dereference "$TREE" "$dir/tree" ) &
load=$!
( dd if=/dev/urandom of="$dir/late" bs=1M count=8 oflag=direct status=none ) &
writer=$!
wait_for 30 down target1 || fail "target1 is still called up: $(weftctl target list)"
sleep 2
kill -0 $load 2>/dev/null || fail "the reader did not wait for the only copy"
ok cluster start target1
wait $load || fail "the reader saw an error"
wait $writer || fail "the writer saw an error"

step "target2 comes back: what it missed is copied to it"
ok cluster start target2
wait_for 30 up target2 || fail "target2 does not come back: $(weftctl target list)"
in_sync 120
copies_equal --copies 2

with_all || exit 0
step "target1 dies under a copy of a tree"
start_load tree
start_pauses
ok cluster kill target1
wait_for 30 down target1 || fail "target1 is still called up: $(weftctl target list)"
stop_load "target1 died"
short_pause "under a copy of a tree"
step "its copies are read from target2 alone"
drop_caches
ok diff -r --no-dereference "$TREE" "$dir/tree"
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --direct=1 --ioengine=io_uring \
	--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_only
ok cluster start target1
in_sync 120
copies_equal --copies 2
