#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Several processes write at once: to one file (appending, in ranges that share blocks, through
# mappings, with O_DIRECT) and to many; nothing is torn or lost, also after a remount.
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
names=$(amount 20 60) # of each process
modes=(append ranges mapped)
[ "$(stat -f -c %T "$MNT")" = tmpfs ] || modes+=(direct)

for mode in "${modes[@]}"; do
	step "four writers of one file: $mode"
	ok "$TOOLS/writers" "$mode" "$dir/$mode" 4 400
done
step "all of them at the same time"
pids=()
for mode in "${modes[@]}"; do
	"$TOOLS/writers" "$mode" "$dir/together-$mode" 3 200 &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "a writer failed beside the others"; done

step "eight processes create, link, rename and remove in one directory"
ok mkdir "$dir/many" "$dir/fight"
ok "$TOOLS/names" work "$dir/many" 8 "$names"
step "eight processes fight for the same names"
ok "$TOOLS/names" fight "$dir/fight" 8 80

# check WHEN
check() {
	local worker i
	step "$1"
	for mode in "${modes[@]}"; do
		ok "$TOOLS/writers" --check "$mode" "$dir/$mode" 4 400
		ok "$TOOLS/writers" --check "$mode" "$dir/together-$mode" 3 200
	done
	[ "$(find "$dir/many" -type f -printf x | wc -c)" = $((8 * names)) ] || fail "$1: wrong number of files"
	for worker in {0..7}; do
		for ((i = 0; i < names; i++)); do
			[ "$(< "$dir/many/kept-$worker-$i")" = "$worker-$i" ] || fail "$1: kept-$worker-$i is wrong"
		done
	done
	[ "$(stat -c %h "$dir/fight/prize")" = 81 ] || fail "$1: wrong link count"
	[ "$(stat -c %h "$dir/fight")" = 82 ] || fail "$1: wrong link count of the directory"
}
check "everything is there"
remount
check "and after a remount"
ok rm -rf "$dir"
