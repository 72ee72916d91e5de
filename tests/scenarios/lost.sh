#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Copies by directory, inherited; then a target is gone for good: its copies are rebuilt elsewhere while
# verified I/O goes on, files that had no other copy are lost and named, and it is refused when it comes
# back.
# vm: --targets 3 --spare 1 --copies 2 --chunk-size 16MiB --target-size 1G --timeout 900
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
copies_of() { where "$1" 0 | wc -l; }

step "copies by directory"
for n in 1 2 3; do
	ok mkdir "$dir/by-$n"
	ok weftctl set copies $n "$dir/by-$n"
	ok mkdir -p "$dir/by-$n/deep/er"
	for i in {0..11}; do ok dd if=/dev/urandom of="$dir/by-$n/deep/er/file-$i" bs=1M count=4 oflag=direct status=none; done
	[ "$(weftctl get copies "$dir/by-$n/deep/er/file-0" | awk '{ print $1 }')" = $n ] ||
		fail "a file below a directory of $n copies: $(weftctl get copies "$dir/by-$n/deep/er/file-0")"
done
refused '1 to 4' weftctl set copies 5 "$dir/by-1"
refused '1 to 4' weftctl set copies 0 "$dir/by-1"
ok dd if=/dev/urandom of="$dir/usual" bs=1M count=32 oflag=direct status=none
ok sync
for n in 1 2 3; do
	[ "$(copies_of "$dir/by-$n/deep/er/file-3")" = $n ] ||
		fail "a file of $n copies is at: $(where "$dir/by-$n/deep/er/file-3" 0)"
done
[ "$(copies_of "$dir/usual")" = 2 ] || fail "a file of the pool's copies is at: $(where "$dir/usual" 0)"
step "changed for one file: what is written from then on"
ok touch "$dir/by-1/later"
ok weftctl set copies 3 "$dir/by-1/later"
ok dd if=/dev/urandom of="$dir/by-1/later" bs=1M count=2 oflag=direct conv=notrunc status=none
[ "$(copies_of "$dir/by-1/later")" = 3 ] || fail "it is at: $(where "$dir/by-1/later" 0)"
copies_equal
(cd "$dir" && find . -type f -print0 | sort -z | xargs -0 sha256sum) > "$SCRATCH/sums"

start_load fio
step "target3 is gone for good"
refused 'up' weftctl target remove --lost target3
ok cluster kill target3
wait_for 30 down target3 || fail "target3 is still called up"
refused 'drain|lost' weftctl target remove target3
ok weftctl target remove --lost target3
waits_for_targets() { pool_says '.tasks | any(.waits_for | test("target"))'; }
wait_for 60 waits_for_targets || fail "it is not said that two targets cannot hold three copies: $(weftctl pool status)"
ok cluster start target4
ok cluster add target4
in_sync 240
stop_load "target3 was lost"
member target3 && fail "target3 is still a member: $(weftctl target list)"

step "what had another copy is whole; what had not is an error, never wrong bytes, and is named"
drop_caches
(cd "$dir" && sha256sum -c "$SCRATCH/sums") > "$SCRATCH/read" 2> "$SCRATCH/errors"
sed -n 's/: FAILED open or read$//p' "$SCRATCH/read" | sort > "$SCRATCH/lost"
! grep -q ': FAILED$' "$SCRATCH/read" || fail "files with wrong bytes: $(grep ': FAILED$' "$SCRATCH/read")"
[ -s "$SCRATCH/lost" ] || fail "target3 held no part of 12 files of one copy: placement is not even"
! grep -qv '^\./by-1/' "$SCRATCH/lost" || fail "files with another copy cannot be read: $(cat "$SCRATCH/lost")"
grep -qi 'input/output error' "$SCRATCH/errors" || fail "the error is not that of lost data: $(head -n 3 "$SCRATCH/errors")"
step "$(wc -l < "$SCRATCH/lost") of 12 files of one copy are lost"
pool_says '.chunks_lost > 0' || fail "no chunk is called lost: $(weftctl pool status)"
gives 4 weftctl --json fsck > "$SCRATCH/fsck" || fail "fsck finds nothing"
jq -r '.problems[].path | select(. != "")' "$SCRATCH/fsck" | sed 's|^.*/by-1/|./by-1/|' | sort -u > "$SCRATCH/named"
diff "$SCRATCH/lost" "$SCRATCH/named" || fail "fsck names other files than those that are lost"

step "it is not taken back"
ok cluster start target3
if is_nvmeof target3; then
	refused 'was removed from the pool as lost' cluster add target3
else
	told_so() { grep -q 'was removed from the pool as lost' "/run/testbed/$WEFT_GUEST/weft-target-3.log"; }
	wait_for 30 told_so || fail "target3 is not told that it was removed: $(weftctl target list)"
fi
pool_says '[.targets[].name] | index("target3") | not' || fail "target3 is back: $(weftctl target list)"

step "the lost files are removed, and all is well"
while read -r file; do ok rm "$dir/$file"; done < "$SCRATCH/lost"
all_well() { sync -f "$dir"; weftctl fsck > "$SCRATCH/fsck" 2>&1; }
wait_for 30 all_well || fail "fsck still complains: $(tail -n 5 "$SCRATCH/fsck")"
ok cp -a "$TREE" "$dir/tree"
in_sync 60
copies_equal
ok diff -r --no-dereference "$TREE" "$dir/tree"
