#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The disk under a target is smaller than the target was told (a sparse file on a small file system):
# the write that does not fit is an error with a name, nothing acknowledged is lost, and when there is
# room again everything goes on.
# only: all
. "$(dirname "$0")/../lib.sh"
need_weft

host=${WEFT_META%:*}
second=$host:7480
ok cd "$SCRATCH"
ok mkdir small here
ok mount -t tmpfs -o size=96M small small
clean_up() {
	umount -l "$SCRATCH/here" 2>/dev/null
	pkill -f 'weftd --cluster small'
	end_jobs
	umount -l "$SCRATCH/small" 2>/dev/null
}
trap 'status=$?; cd /; clean_up; (exit $status); finish' EXIT

step "a pool whose only target has 512 MiB on a disk of 96 MiB"
start_ready weft-meta --data "$SCRATCH/meta" --listen "$second" --cluster small
start_ready weft-target --cluster small --name t --backing small/data --size 512MiB --meta "$second" --key "$WEFT_KEY" \
	--listen "$host:7482"
ok weftctl --meta "$second" pool create
ok mount.weft small here -o "meta=$second,key=$WEFT_KEY,soft,grace=10"

step "files that fit"
for i in 1 2 3; do ok dd if=/dev/urandom of="here/fits-$i" bs=1M count=16 conv=fsync status=none; done
sha256sum here/fits-* > sums

step "writing more than the disk holds"
refused 'no space|input/output' dd if=/dev/zero of=here/too-large bs=1M count=128 oflag=direct status=none
step "the target says: $(grep -Ei 'space|full|ENOSPC' log.weft-target | tail -n 1)"
grep -Eiq 'space|full' log.weft-target || fail "the target's log does not name the reason: $(tail -n 5 log.weft-target)"
ok weftctl --meta "$second" pool status > /dev/null

step "what was written before is there"
drop_caches
ok sha256sum --quiet -c sums

step "a larger disk: writing works again"
ok mount -o remount,size=600M small
ok rm here/too-large
dd if=/dev/urandom of=here/later bs=1M count=64 oflag=direct status=none || fail "writing still fails"
ok dd if=/dev/urandom of=here/later2 bs=1M count=32 conv=fsync status=none
ok sha256sum --quiet -c sums
ok umount here
