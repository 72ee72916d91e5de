#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Targets come and go while verified I/O goes on: one is added and takes part at once, fill is evened out,
# one is drained and removed. The metadata server and targets die in the middle of it.
# vm: --spare 1 --copies 2 --chunk-size 16MiB --target-size 1G --timeout 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
chunk_bytes=$((16 << 20))
used() { pool ".targets[] | select(.name == \"$1\") | .used_bytes"; }
moved() { [ "$(pool "[.tasks[] | select(.kind == \"$1\") | .done_bytes] | add // 0")" -gt 0 ]; }

step "files from before"
ok dd if=/dev/urandom of="$dir/large" bs=1M count=64 oflag=direct status=none
sum=$(sha256sum < "$dir/large")
ok cp -a "$TREE" "$dir/tree"
ok sync

step "what is refused"
refused 'target3' weftctl target add target3
refused 'drain' weftctl target remove target2
refused 'up' weftctl target remove --lost target2
refused 'target9' weftctl target drain target9

start_load fio
step "target3 is added and takes part at once"
ok cluster start target3
member target3 && fail "target3 is part of the pool already: $(weftctl target list)"
ok cluster add target3
target_is target3 'state == "active"' || fail "target3 is not in the pool: $(weftctl target list)"
ok dd if=/dev/urandom of="$dir/later" bs=1M count=64 oflag=direct status=none
[ "$(used target3)" -gt 0 ] || fail "nothing was placed on target3: $(weftctl target list)"

step "rebalance: fill is evened out, also when the metadata server dies in the middle"
# a chunk or two are to be moved: slowly enough to be seen at it
ok weftctl pool set resync-rate=2MiB
ok weftctl pool rebalance
wait_for 30 moved rebalance || fail "nothing moves: $(weftctl pool status)"
ok cluster kill meta
ok cluster start meta
ok weftctl pool set resync-rate=0
in_sync 180
# as even as whole chunks allow, or to 5 %
used_bytes=$(pool '[.targets[].used_bytes] | "\(min) \(max)"')
step "used bytes of the emptiest and the fullest target: $used_bytes"
awk -v chunk=$chunk_bytes '{ exit !($2 - $1 <= chunk || $2 - $1 <= $2 / 20) }' <<< "$used_bytes" ||
	fail "targets hold from/to bytes: $used_bytes"
stop_load "targets were added and evened out"
copies_equal --copies 2

start_load fio
step "target1 is drained; it, another target and the metadata server die meanwhile"
ok weftctl pool set resync-rate=12MiB
ok weftctl target drain target1
target_is target1 'state == "draining"' || fail "target1 is not being drained: $(weftctl target list)"
wait_for 60 moved drain || fail "nothing moves: $(weftctl pool status)"
weftctl pool status | grep -m 1 drain
ok cluster kill target1
ok cluster start target1
ok cluster kill meta
ok cluster start meta
ok cluster kill target3
ok cluster start target3
wait_for 60 up target3 || fail "target3 does not come back"
ok weftctl pool set resync-rate=0
in_sync 240
[ "$(used target1)" -eq 0 ] || fail "target1 still holds $(used target1) bytes: $(weftctl pool status)"

step "it is removed"
ok weftctl target remove target1
ok cluster stop target1
member target1 && fail "target1 is still a member: $(weftctl target list)"
ok dd if=/dev/urandom of="$dir/latest" bs=1M count=32 oflag=direct status=none
stop_load "target1 was drained"

step "every byte is right"
copies_equal --copies 2
[ "$(sha256sum < "$dir/large")" = "$sum" ] || fail "the large file differs"
ok diff -r --no-dereference "$TREE" "$dir/tree"
ok weftctl fsck
