#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The module is loaded and unloaded again and again, with a mount and work in between: nothing is left in
# /sys, /dev, /proc or the slabs, and memory does not shrink.
. "$(dirname "$0")/../lib.sh"
need_weft

rounds=$(amount 8 20)
dir=$(work_directory)

# What is in use now, in KiB, after everything that can be given back was.
memory_in_use() {
	drop_caches
	echo 1 > /proc/sys/vm/compact_memory 2>/dev/null
	awk '/^(MemAvailable|Slab|SUnreclaim|VmallocUsed|Percpu):/ { v[$1] = $2 }
		END { print v["MemAvailable:"], v["SUnreclaim:"], v["VmallocUsed:"], v["Percpu:"] }' /proc/meminfo
}

nothing_left() {
	local path
	for path in /sys/module/weft /sys/fs/weft /dev/weft /sys/class/misc/weft; do
		[ ! -e "$path" ] || fail "round $1: $path is left after rmmod"
	done
	! grep -qw weft /proc/filesystems || fail "round $1: the file system is still registered"
	! grep -q '^weft' /proc/slabinfo || fail "round $1: a slab is left: $(grep '^weft' /proc/slabinfo)"
	! grep -qi 'weft' /proc/misc || fail "round $1: the device is still registered"
	! lsmod | grep -q '^weft ' || fail "round $1: the module is still loaded"
	[ -z "$(find /sys/block /sys/devices/virtual/bdi -maxdepth 1 -iname '*weft*' 2>/dev/null)" ] ||
		fail "round $1: a disk is left: $(find /sys/block /sys/devices/virtual/bdi -maxdepth 1 -iname '*weft*')"
}

ok dd if=/dev/urandom of="$dir/kept" bs=1M count=4 status=none
sum=$(sha256sum < "$dir/kept")
for ((round = 1; round <= rounds; round++)); do
	ok cluster umount
	if cluster runs agent; then ok cluster stop agent; fi
	ok cluster rmmod
	nothing_left $round
	if [ "$round" -eq 3 ]; then first=$(memory_in_use); fi
	if [ "$round" -eq "$rounds" ]; then last=$(memory_in_use); fi
	ok cluster insmod
	if [ $((round % 4)) -eq 0 ]; then
		# loaded and unloaded without a mount in between
		ok cluster rmmod
		nothing_left $round
		ok cluster insmod
	fi
	ok cluster mount
	[ "$(sha256sum < "$dir/kept")" = "$sum" ] || fail "round $round: the contents changed"
	ok cp -r /usr/include/linux/netfilter "$dir/round-$round"
	ok mkdir "$dir/d-$round"
	ok ln "$dir/kept" "$dir/link-$round"
	ok dd if=/dev/zero of="$dir/direct" bs=64k count=4 oflag=direct status=none
	exec 7> "$dir/open-unlinked" && rm "$dir/open-unlinked" && echo gone >&7 && exec 7>&-
	[ $((round % 5)) -ne 0 ] || step "round $round of $rounds"
done

read -r available unreclaimable vmalloc percpu <<< "$first"
read -r available2 unreclaimable2 vmalloc2 percpu2 <<< "$last"
step "KiB after round 3 and $rounds: available $available $available2, slab $unreclaimable $unreclaimable2, vmalloc $vmalloc $vmalloc2, percpu $percpu $percpu2"
[ $((unreclaimable2 - unreclaimable)) -lt 6000 ] || fail "the slabs grew by $((unreclaimable2 - unreclaimable)) KiB"
[ $((vmalloc2 - vmalloc)) -lt 1500 ] || fail "vmalloc grew by $((vmalloc2 - vmalloc)) KiB"
[ $((percpu2 - percpu)) -lt 400 ] || fail "percpu memory grew by $((percpu2 - percpu)) KiB"
[ $((available - available2)) -lt 60000 ] || fail "available memory shrank by $((available - available2)) KiB"

step "the module cannot go while it is mounted"
refused 'in use' rmmod weft
