#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The name space behaves as POSIX and Linux say, in every call, and is the same after a remount.
# vm: --timeout 400
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
step "every call of the name space"
"$TOOLS/namespace_test" "$dir" > "$SCRATCH/out" || { grep -avE "^\[ +(OK|RUN)|^$" "$SCRATCH/out" >&2; fail "namespace_test"; }
grep -aE "^\[ +OK" "$SCRATCH/out" | awk '{ gsub(/[^0-9]/, "", $5); if ($5 + 0 > 1500) print "       slow:", $4, $5, "ms" }'

step "one of everything, then a remount"
make_zoo "$dir/zoo" || exit 1
manifest "$dir/zoo" > "$SCRATCH/before"
remount
manifest "$dir/zoo" > "$SCRATCH/after"
same_manifest "$SCRATCH/before" "$SCRATCH/after" "after a remount"

step "a directory moved, a tree copied and removed"
ok mv "$dir/zoo" "$dir/moved"
manifest "$dir/moved" > "$SCRATCH/moved"
# the top directory's own change time moves with its name
diff -a <(sed 1d "$SCRATCH/before") <(sed 1d "$SCRATCH/moved") > /dev/null || fail "mv changed the tree"
ok cp -a "$dir/moved" "$dir/copy"
ok diff -r --no-dereference -x null -x block -x fifo "$dir/moved" "$dir/copy"
ok rm -rf "$dir"
[ ! -e "$dir" ] || fail "rm -rf left something"
remount
[ ! -e "$dir" ] || fail "what was removed is back after a remount"
