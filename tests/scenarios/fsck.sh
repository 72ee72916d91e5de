#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fsck: a healthy pool has no findings, under load and offline; each kind of injected damage is found and
# named, and what can be repaired is repaired, offline on copies of the store and online on the store itself.
# vm: --chunk-size 16MiB --timeout 700
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
offline() { weftctl --json fsck --offline "$@" > "$SCRATCH/report" 2> "$SCRATCH/error"; }
found() { jq -e --arg kind "$1" '.problems | any(.kind == $kind)' "$SCRATCH/report" > /dev/null; }
report() { cat "$SCRATCH/report" "$SCRATCH/error"; }

step "healthy, under load"
ok mkdir "$dir/directory"
ok cp -a "$TREE" "$dir/directory/tree"
ok dd if=/dev/urandom of="$dir/victim" bs=1M count=4 oflag=direct status=none
ok dd if=/dev/urandom of="$dir/bystander" bs=1M count=4 oflag=direct status=none
start_load fio tree
for round in 1 2 3; do
	weftctl fsck > "$SCRATCH/fsck" 2>&1 || fail "round $round: fsck complains about a healthy pool: $(cat "$SCRATCH/fsck")"
done
stop_load "it was checked"
refused 'in use' weftctl fsck --offline --data /var/lib/weft-meta/data
gives 1 weftctl fsck --offline --data /var/lib/weft-meta/data 2> /dev/null || fail "what could not be checked has another status"

step "healthy, at rest"
ok cluster at-rest cp -r /var/lib/weft-meta/data "$SCRATCH/healthy"
offline --data "$SCRATCH/healthy" || fail "fsck complains about a healthy store: $(report)"

# damaged KIND WANTED NAME [OTHER]: damage KIND must be found as WANTED
damaged() {
	local kind=$1 wanted=$2
	shift 2
	rm -rf "$SCRATCH/store"
	ok cp -r "$SCRATCH/healthy" "$SCRATCH/store"
	"$TOOLS/store_damage" --data "$SCRATCH/store" "$kind" "$@" > "$SCRATCH/damage" || fail "cannot damage the store: $kind"
	gives 4 offline --data "$SCRATCH/store" || fail "$kind is not found"
	found "$wanted" || fail "$kind is not found as $wanted: $(report)"
	step "$kind: $(jq -r --arg kind "$wanted" '[.problems[] | select(.kind == $kind)][0].message' "$SCRATCH/report")"
}
# mended KIND WANTED NAME [OTHER]: and is repaired
mended() {
	damaged "$@"
	offline --repair --data "$SCRATCH/store"
	offline --data "$SCRATCH/store" || fail "$1 is not repaired: $(report)"
}

mended dangling-dirent dirent-dangling victim
mended unreferenced-inode inode-unreferenced victim
mended missing-cookie dirent-cookie victim
mended link-count link-count victim
mended block-count block-count victim
mended entry-count directory-entries directory
mended lost-blocks blocks-leaked victim
damaged double-use blocks-shared victim bystander
damaged beyond-chunks extent-outside victim
jq -r '.problems[].path' "$SCRATCH/report" | grep -q '/victim$' || fail "the file that lost data is not named: $(report)"

step "online: the store itself is damaged, repaired while it serves"
ok cluster at-rest "$TOOLS/store_damage" --data /var/lib/weft-meta/data lost-blocks victim
gives 4 weftctl --json fsck > "$SCRATCH/report" 2> "$SCRATCH/error" || fail "online, the damage is not found"
found blocks-leaked || fail "online, it is not found as blocks-leaked: $(report)"
start_load tree
weftctl fsck --repair > "$SCRATCH/fsck" 2>&1 || fail "it is not repaired online: $(cat "$SCRATCH/fsck")"
stop_load "it was repaired"
ok weftctl fsck
remount
ok diff -r --no-dereference "$TREE" "$dir/directory/tree"
copies_equal --copies 2
