#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Everything is stopped and started: mount, agent, targets, metadata server, module. Names, attributes
# and contents are the same.
# only: all
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
step "one of everything, a tree and a large file"
make_zoo "$dir/zoo" || exit 1
ok cp -a "$TREE" "$dir/tree"
ok dd if=/dev/urandom of="$dir/large" bs=1M count=64 status=none
ok truncate -s 70000001 "$dir/large"
manifest "$dir" > "$SCRATCH/before"
free=$(free_bytes)

step "umount, stop, start, mount"
ok cluster restart-all
manifest "$dir" > "$SCRATCH/after"
same_manifest "$SCRATCH/before" "$SCRATCH/after" "after a restart of everything"

step "the module too"
ok cluster umount
ok cluster stop
ok cluster rmmod
drop_caches
ok cluster start
ok cluster mount
manifest "$dir" > "$SCRATCH/after"
same_manifest "$SCRATCH/before" "$SCRATCH/after" "after the module was loaded again"

step "a server that was not stopped cleanly"
ok cluster umount
ok cluster kill agent
ok cluster kill meta
ok cluster kill target1
ok cluster kill target2
ok cluster start
ok cluster mount
manifest "$dir" > "$SCRATCH/after"
same_manifest "$SCRATCH/before" "$SCRATCH/after" "after all daemons were killed"
[ "$(free_bytes)" -ge $((free - 1048576)) ] || fail "$free bytes were free, now $(free_bytes)"
ok rm -rf "$dir"
