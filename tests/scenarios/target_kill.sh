#!/bin/bash
# SPDX-License-Identifier: MIT
#
# One of two targets is killed with -9 under a verified load: with two copies there is a pause and no
# error; the copies on it are marked stale and not read any more, also when it comes back.
# vm: --timeout 700
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
degraded() { [ "$(weftctl --json pool status | jq .chunks_degraded)" -gt 0 ]; }
target2_up() { [ "$(weftctl --json pool status | jq '.targets[] | select(.name == "target2") | .up')" = "$1" ]; }

step "files from before"
ok cp -a /usr/include/linux "$dir/tree"
fio_run before --directory="$dir" --rw=randwrite --bs=64k --size=32m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1
ok sync
degraded && fail "a copy is stale before anything happened: $(weftctl pool status)"

step "target2 dies under a write load that verifies"
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --loops=2 --direct=1 --ioengine=io_uring \
	--iodepth=16 --verify=crc32c --verify_fatal=1 &
load=$!
sleep 2
ok cluster kill target2
wait $load || fail "fio saw an error"
step "fio saw nothing"
wait_for 30 degraded || fail "no copy was marked stale: $(weftctl pool status)"
wait_for 30 target2_up false ||
	fail "target2 is still called up: $(weftctl target list)"

step "reading everything from the other one"
drop_caches
ok diff -r --no-dereference /usr/include/linux "$dir/tree"
fio_run before --directory="$dir" --rw=randwrite --bs=64k --size=32m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1 --verify_only
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --direct=1 --ioengine=io_uring --iodepth=16 \
	--verify=crc32c --verify_fatal=1 --verify_only

step "writing goes on with one target"
ok cp -a /usr/include/linux "$dir/tree2"
ok sync -f "$dir"

step "target2 comes back, its stale copies are not read"
ok cluster start target2
wait_for 30 target2_up true ||
	fail "target2 does not come back: $(weftctl target list)"
remount
ok diff -r --no-dereference /usr/include/linux "$dir/tree"
ok diff -r --no-dereference /usr/include/linux "$dir/tree2"
fio_run during --directory="$dir" --rw=randwrite --bs=16k --size=48m --direct=1 --ioengine=io_uring \
	--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_only

step "the only target in sync dies: a hard mount waits and goes on when it is back"
ok cluster kill target1
drop_caches
( ok diff -r --no-dereference /usr/include/linux "$dir/tree" ) &
load=$!
( dd if=/dev/urandom of="$dir/late" bs=1M count=8 oflag=direct status=none ) &
writer=$!
sleep 8
kill -0 $load 2>/dev/null || fail "the reader did not wait for the only copy"
ok cluster start target1
wait $load || fail "the reader saw an error"
wait $writer || fail "the writer saw an error"
