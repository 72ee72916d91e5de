#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A client loses its power while it writes: its copies may differ where it was writing. The next client
# reads the same bytes from every copy, what was synced is there, and the copies become equal.
# vm: --several --clients 2 --timeout 700
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
busy_mib=$(amount 16 32)
ok cluster umount
ok cluster stop meta
printf '[session]\nlease_ms = 10000\n' > /run/testbed/meta.toml
ok cluster start meta

step "the second client writes and syncs, and goes on writing"
ok node client2 cluster mount
ok node client2 cp -a "$TREE" "$dir/tree"
ok node client2 dd if=/dev/urandom of="$dir/busy" bs=1M count="$busy_mib" oflag=direct status=none
ok node client2 sync -f "$dir"
node client2 fio --name=busy --filename="$dir/busy" --size="${busy_mib}m" --rw=randwrite --bs=64k --direct=1 --ioengine=io_uring \
	--iodepth=16 --time_based --runtime=120 --output=/dev/null > /dev/null 2>&1 &
background_jobs+=($!)
busy=$!
sleep 5
kill -0 $busy 2>/dev/null || fail "the load on the second client ended by itself"
step "its power fails"
ok node client2 off

step "the first client takes over when the lease is over"
wait_for 90 cluster mount || fail "it cannot mount: $(cluster mount 2>&1)"
drop_caches
first=$(sha256sum < "$dir/busy")
for round in 1 2 3 4; do
	drop_caches
	[ "$(sha256sum < "$dir/busy")" = "$first" ] || fail "read $round gave other bytes than the first"
done
ok diff -r --no-dereference "$TREE" "$dir/tree"
in_sync 180
drop_caches
[ "$(sha256sum < "$dir/busy")" = "$first" ] || fail "after resynchronisation the bytes are others"

step "each copy alone has them"
copies_equal --copies 2
[ "$(sha256sum < "$dir/busy")" = "$first" ] || fail "after a restart the bytes are others"
ok weftctl fsck
