#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A full pool says ENOSPC when data is given to it and never later: what was accepted is synced and
# read back, deleting makes room again, and nothing leaks.
# vm: --target-size 256M
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
[ "$(total_bytes)" -lt $((1 << 30)) ] || skip "the pool is too large to be filled here"

# Space that was freed may come back a little later, with the next commit.
empty_again() {
	sync -f "$MNT"
	[ "$(free_bytes)" -ge $((free_at_start - 1048576)) ]
}
free_at_start=$(free_bytes)
step "$((free_at_start >> 20)) MiB are free"

# full MODE: one file until the pool is full
full() {
	local accepted
	step "filling by $1"
	"$TOOLS/fill" "$1" "$dir/full-$1" 1 > "$SCRATCH/fill" || fail "filling by $1"
	accepted=$(awk '/^accepted/ { print $2 }' "$SCRATCH/fill")
	[ "$accepted" -gt $((free_at_start * 8 / 10)) ] ||
		fail "only $accepted of $free_at_start free bytes were accepted by $1"
	step "$((accepted >> 20)) MiB were accepted and are there"
	echo "$accepted" > "$SCRATCH/accepted"
}

full write
step "names can still be made, data cannot be written"
ok mkdir "$dir/d"
ok touch "$dir/empty"
ok ln -s full-write "$dir/link"
ok mv "$dir/empty" "$dir/renamed"
refused 'no space left' dd if=/dev/zero of="$dir/more" bs=1M count=16 oflag=direct status=none
refused 'no space left' fallocate -l 64M "$dir/prealloc"
ok rm -f "$dir/more" "$dir/prealloc"
# what has its space already can be overwritten
ok dd if=/dev/zero of="$dir/full-write" bs=64k count=16 conv=notrunc,fsync status=none
ok truncate -s 0 "$dir/renamed"

step "everything accepted is there after a remount, and room comes back"
remount
cmp -n 1048576 "$dir/full-write" /dev/zero || fail "the overwritten part is wrong"
"$TOOLS/fill" "check:$(cat "$SCRATCH/accepted")" "$dir/full-write" 1 2>/dev/null && fail "the overwritten part is not there"
ok rm -rf "$dir"
ok mkdir "$dir"
wait_for 30 empty_again || fail "$(free_bytes) bytes are free after deleting, $free_at_start were before"

for mode in mapped $(amount '' direct); do
	full "$mode"
	ok rm "$dir/full-$mode"
	wait_for 30 empty_again || fail "$(free_bytes) bytes are free after deleting, $free_at_start were before"
done
full allocate
remount
ok "$TOOLS/fill" "check:$(cat "$SCRATCH/accepted")" "$dir/full-allocate" 1
step "punching a hole makes room"
ok fallocate -p -o 0 -l 32M "$dir/full-allocate"
ok dd if=/dev/urandom of="$dir/into-the-hole" bs=1M count=24 conv=fsync status=none
ok rm -rf "$dir"
wait_for 30 empty_again || fail "$(free_bytes) bytes are free after deleting, $free_at_start were before"

step "two writers fill it together, then one deletes and both go on"
ok mkdir "$dir"
"$TOOLS/fill" write "$dir/a" 2 > "$SCRATCH/a" &
a=$!
"$TOOLS/fill" write "$dir/b" 3 > "$SCRATCH/b" &
b=$!
wait "$a" || fail "the first writer"
wait "$b" || fail "the second writer"
ok rm "$dir/a"
remount
ok "$TOOLS/fill" "check:$(awk '/^accepted/ { print $2 }' "$SCRATCH/b")" "$dir/b" 3
ok dd if=/dev/urandom of="$dir/c" bs=1M count=32 conv=fsync status=none
ok rm -rf "$dir"
