#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Several processes write at once: to one file (appending, in ranges that share blocks, through
# mappings, with O_DIRECT) and to many; nothing is torn or lost, also after a remount.
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
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

step "eight processes create, rename and remove in one directory"
ok mkdir "$dir/many"
pids=()
for worker in {1..8}; do
	(
		cd "$dir/many" || exit 1
		for i in {1..100}; do
			echo "$worker-$i" > "new-$worker-$i" || exit 1
			mv "new-$worker-$i" "kept-$worker-$i" || exit 1
			echo x > "gone-$worker" && rm "gone-$worker" || exit 1
		done
	) &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "a worker failed"; done

step "eight processes fight for the same names"
pids=()
for worker in {1..8}; do
	(
		cd "$dir/many" || exit 1
		for i in {1..60}; do
			mkdir "fight-$i" 2>/dev/null && echo "$i" >> "$SCRATCH/won-$worker"
			ln "kept-1-$i" "link-$i" 2>/dev/null && echo "$i" >> "$SCRATCH/linked-$worker"
		done
		exit 0
	) &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
[ "$(cat "$SCRATCH"/won-* | wc -l)" = 60 ] || fail "mkdir of one name succeeded for more than one, or for none"
[ "$(cat "$SCRATCH"/linked-* | wc -l)" = 60 ] || fail "link of one name succeeded for more than one, or for none"

# check WHEN
check() {
	local worker i
	step "$1"
	for mode in "${modes[@]}"; do
		ok "$TOOLS/writers" --check "$mode" "$dir/$mode" 4 400
		ok "$TOOLS/writers" --check "$mode" "$dir/together-$mode" 3 200
	done
	[ "$(find "$dir/many" -name 'kept-*' -printf x | wc -c)" = 800 ] || fail "$1: kept files are missing"
	for worker in {1..8}; do
		for i in {1..100}; do
			[ "$(< "$dir/many/kept-$worker-$i")" = "$worker-$i" ] || fail "$1: kept-$worker-$i is wrong"
		done
	done
	[ "$(stat -c %h "$dir/many/kept-1-1")" = 2 ] || fail "$1: wrong link count"
	[ "$(find "$dir/many" -name 'gone-*' -o -name 'new-*' | wc -l)" = 0 ] || fail "$1: removed files are there"
}
check "everything is there"
remount
check "and after a remount"
ok rm -rf "$dir"
