#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Holes and preallocation: SEEK_HOLE, SEEK_DATA, FIEMAP, every mode of fallocate; holes stay holes
# through copies and remounts.
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
step "every call"
ok "$TOOLS/sparse_test" --gtest_brief=1 "$dir"

step "a file with holes, before and after a remount"
file=$dir/holes
ok truncate -s 24M "$file"
for at in 0 3 10 11 17 23; do
	ok dd if=/dev/urandom of="$file" bs=1M count=1 seek="$at" conv=notrunc status=none
done
ok xfs_io -c 'falloc 13m 3m' -c 'fpunch 500k 300k' -c 'fzero 10500k 100k' "$file"
ok sync "$file"
drop_caches  # pages of preallocated space would look like data
xfs_io -r -c 'seek -a -r 0' "$file" > "$SCRATCH/seek-before" || fail "seek"
sum=$(sha256sum < "$file")
blocks=$(stat -c %b "$file")
remount
[ "$(sha256sum < "$file")" = "$sum" ] || fail "the contents changed over a remount"
[ "$(stat -c %b "$file")" = "$blocks" ] || fail "it had $blocks blocks and has $(stat -c %b "$file")"
drop_caches
xfs_io -r -c 'seek -a -r 0' "$file" > "$SCRATCH/seek-after" || fail "seek"
ok diff "$SCRATCH/seek-before" "$SCRATCH/seek-after"
xfs_io -r -c 'fiemap -v' "$file" > "$SCRATCH/fiemap" || fail "fiemap"
grep -q hole "$SCRATCH/fiemap" || fail "FIEMAP shows no hole: $(cat "$SCRATCH/fiemap")"
ok filefrag "$file"

step "a sparse copy"
ok cp --sparse=always "$file" "$dir/copy"
ok cmp "$file" "$dir/copy"
[ "$(stat -c %b "$dir/copy")" -le "$blocks" ] || fail "the sparse copy takes more space than the original"

step "space comes back"
ok rm "$dir/copy" "$file"
ok sync -f "$dir"
