#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Bytes change on a target's disk behind its back: readers get the right ones from the other copy, the
# damage is reported and repaired, by reading and by scrubbing; a block that is damaged everywhere is an
# error, and fsck names the file. A disk that fails altogether is as a target that is away. (NVMe-oF targets keep
# no checksums: there nothing is damaged.)
# vm: --backing mapped --chunk-size 16MiB --timeout 700
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
file=$dir/file
blocks=2048
meta_log=/run/testbed/$WEFT_GUEST/weft-meta.log

# place TARGET BLOCK: sets $disk and $disk_block, where that block of $file is
place() {
	local target state offset
	while read -r target state disk offset; do
		[ "$target" != "$1" ] || break
	done < <(where "$file" "$2")
	[ "$target $state" = "$1 in-sync" ] || fail "no copy in sync of block $2 on $1: $(where "$file" "$2")"
	disk_block=$((offset / 4096))
}
# damage TARGET BLOCK: unless nobody would notice
damage() {
	! is_nvmeof "$1" || return 0
	place "$@"
	ok dd if=/dev/urandom of="$disk" bs=4096 seek=$disk_block count=1 conv=notrunc,fsync status=none
	step "block $2 is damaged on $1"
}
# good TARGET BLOCK: the disk holds what the file holds there
# (not an end of the scenario when its place cannot be told: it is asked again)
good() (
	place "$@"
	cmp -s <(dd if="$disk" bs=4096 skip=$disk_block count=1 iflag=direct status=none) \
		<(dd if="$SCRATCH/original" bs=4096 skip="$2" count=1 status=none)
)
repaired() { wait_for 60 good "$@" || fail "block $2 is not repaired on $1: $(weftctl pool status)"; }
no_bad_blocks() { pool_says '.bad_blocks == 0'; }
# read_right: the whole file, from both copies of each block: round_robin takes turns, on each processor for
# itself, and one read more in each round makes the turns fall differently
read_right() {
	local round
	for round in 1 2 3 4; do
		taskset -c 0 dd if="$file" bs=256k iflag=direct status=none | cmp - "$SCRATCH/original" ||
			fail "round $round: the file is read with wrong bytes"
		ok taskset -c 0 dd if="$file" of=/dev/null bs=4096 count=1 iflag=direct status=none
	done
}
scrub() {
	ok weftctl pool scrub
	ok weftctl pool wait --scrub --timeout 120s > /dev/null
}

ok dd if=/dev/urandom of="$SCRATCH/original" bs=4096 count=$blocks status=none
ok dd if="$SCRATCH/original" of="$file" bs=1M oflag=direct status=none
remount

step "found by a reader"
damage target1 5
damage target2 900
read_right
repaired target1 5
repaired target2 900
wait_for 30 no_bad_blocks || fail "bad blocks are still counted: $(weftctl pool status)"
is_nvmeof target1 || grep -Eiq 'repair' "$meta_log" || fail "the metadata server's log does not tell of the repair"

step "found by a scrub"
damage target1 77
damage target2 78
scrub
repaired target1 77
repaired target2 78
wait_for 30 no_bad_blocks || fail "bad blocks are still counted: $(weftctl pool status)"

step "damaged while the target was stopped"
ok cluster stop target2
damage target2 1500
ok cluster start target2
in_sync 60
scrub
repaired target2 1500
read_right

step "under load, scrubbing finds what was damaged and nothing else"
start_load fio
damage target1 1000
scrub
repaired target1 1000
stop_load "it was scrubbed"
wait_for 30 no_bad_blocks || fail "bad blocks are counted that nobody damaged: $(weftctl pool status)"
copies_equal --copies 2

step "a disk fails under load, and is well again"
start_load fio
ok cluster disk target2 failing
wait_for 60 degraded || fail "no copy on the failing disk is stale: $(weftctl pool status)"
read_right
ok cluster disk target2 well
in_sync 120
stop_load "the disk of target2 failed"
copies_equal --copies 2

ok weftctl fsck
# the next needs two
for target in target1 target2; do ! is_nvmeof $target || exit 0; done

step "the same block on both"
damage target1 333
damage target2 333
drop_caches
refused 'input/output error' dd if="$file" of=/dev/null bs=4096 skip=333 count=1 iflag=direct status=none
some_bad_blocks() { pool_says '.bad_blocks > 0'; }
wait_for 30 some_bad_blocks || fail "no bad block is counted: $(weftctl pool status)"
gives 4 weftctl --json fsck > "$SCRATCH/fsck" || fail "fsck finds nothing"
jq -r '.problems[].path' "$SCRATCH/fsck" | grep -q "/${file#"$MNT/"}\$" || fail "fsck does not name $file: $(cat "$SCRATCH/fsck")"
# not through the page cache, which reads more than was asked for
dd if="$file" bs=4096 count=333 iflag=direct status=none | cmp -n $((333 * 4096)) - "$SCRATCH/original" ||
	fail "the blocks before it are wrong"

step "written anew it is good again"
ok dd if="$SCRATCH/original" of="$file" bs=4096 skip=333 seek=333 count=1 oflag=direct conv=notrunc status=none
read_right
wait_for 60 no_bad_blocks || fail "a bad block is counted that was written anew: $(weftctl pool status)"
ok weftctl fsck
