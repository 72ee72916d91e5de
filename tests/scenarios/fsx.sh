#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Random operations of every kind on files, several processes at once, each against a model in memory;
# at the end, and again after a remount, every file holds what its model says. WEFT_SEED repeats a run.
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
models=$SCRATCH/models
ok mkdir "$models"
seed=${WEFT_SEED:-$(date +%s)}
[ "$(stat -f -c %T "$MNT")" = tmpfs ] && options=(--no-direct) || options=(--require-all)

# round NAME OPTION...
round() {
	local name=$1
	shift
	step "$name, seed $seed"
	ok mkdir "$dir/$name" "$models/$name"
	"$TOOLS/weft_fsx" --seed "$seed" --models "$models/$name" "${options[@]}" "$@" "$dir/$name" || {
		cp -r "$models/$name" "${WEFT_LOGS:-/tmp}/" 2>/dev/null
		fail "the checker found a difference: WEFT_SEED=$seed repeats it"
	}
}

round small-files --processes 4 --ops "$(amount 600 1200)" --size $((2 << 20))
round larger-files --processes 2 --ops "$(amount 500 1000)" --size $((16 << 20)) --drop-caches
round cached-only --processes 2 --ops "$(amount 700 1500)" --size $((4 << 20)) --no-direct

step "after a remount"
remount
for name in small-files larger-files cached-only; do
	for model in "$models/$name"/fsx-*; do
		ok cmp "$model" "$dir/$name/${model##*/}"
	done
done
ok rm -rf "$dir"
