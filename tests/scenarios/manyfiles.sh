#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Thousands of files in one directory: created, listed, looked up, found again after a remount, removed.
# WEFT_FILES says how many, 2000 to 10000.
# vm: --timeout 600
# only: all
. "$(dirname "$0")/../lib.sh"

count=${WEFT_FILES:-5000}
dir=$(work_directory)
ok cd "$dir"

step "creating $count files"
for ((i = 0; i < count; i++)); do
	: > "file-$i" || fail "creating file-$i"
done
for ((i = 0; i < count; i += 10)); do echo "$i" > "file-$i" || fail "writing file-$i"; done

# check WHEN: all are there, once; every tenth has contents
check() {
	step "$1: listing"
	find . -mindepth 1 -printf '%f\n' | LC_ALL=C sort > "$SCRATCH/listed"
	seq -f 'file-%.0f' 0 $((count - 1)) | LC_ALL=C sort | cmp - "$SCRATCH/listed" ||
		fail "$1: the listing has $(wc -l < "$SCRATCH/listed") names, $(uniq -d "$SCRATCH/listed" | wc -l) double"
	step "$1: attributes"
	[ "$(find . -type f -size -2 -printf x | wc -c)" = "$count" ] || fail "$1: not every entry is a small file"
	step "$1: contents"
	seq -f 'file-%.0f' 0 10 $((count - 1)) | xargs cat > "$SCRATCH/contents" || fail "$1: a file cannot be read"
	seq 0 10 $((count - 1)) | cmp - "$SCRATCH/contents" || fail "$1: a file is wrong, that of ten times the line number less 1"
}

check "after creating"
cd / || exit 1
remount
ok cd "$dir"
check "after a remount"

step "listing while 1000 are renamed: the others are all seen, once"
"$TOOLS/names" rename . file- renamed- 1000 &
renamer=$!
while kill -0 $renamer 2>/dev/null; do
	[ "$(find . -name 'file-????' -printf x | wc -c)" = $((count - 1000)) ] || fail "the listing lost or doubled entries"
done
wait $renamer || fail "a rename failed"
[ "$(find . -name 'renamed-*' -printf x | wc -c)" = 1000 ] || fail "renamed entries are missing"

step "removing some between the others"
seq -f 'file-%.0f' 1000 10 $((count - 1)) | xargs rm || fail "rm"
[ "$(find . -mindepth 1 -printf x | wc -c)" = $((count - (count - 1000) / 10)) ] || fail "wrong number of entries is left"

step "removing the rest"
cd / || exit 1
ok rm -rf "$dir"
remount
[ ! -e "$dir" ] || fail "the directory is back after a remount"
