#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What is written is what is read: buffered, O_DIRECT and mapped, at several block sizes, checked by
# fio with a CRC32C in every block, from the cache, from the targets, and after a remount.
# also nvmeof-rdma: --kind nvmeof --fabric rdma
# also mixed: --kind mixed
# only: all nvmeof-rdma
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
verify=(--verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1 --fsync_on_close=1 --directory="$dir")
scale=$(amount 1 2)
jobs=()

# job NAME MIB OPTION...: write and verify now; verify again at the end. MIB is multiplied by $scale
job() {
	local name=$1 size=--size=$(($2 * scale))m
	shift 2
	step "$name"
	fio_run "$name" "${verify[@]}" "$size" "$@"
	jobs+=("$name $size $*")
}

job buffered-4k 3 --rw=randwrite --bs=4k --ioengine=psync
job buffered-64k 4 --rw=randwrite --bs=64k --ioengine=psync
job buffered-1m 8 --rw=write --bs=1m --ioengine=psync
job buffered-odd 3 --rw=randwrite --bs=5000 --ioengine=psync
job buffered-mixed 4 --rw=randwrite --bsrange=512-200k --bs_unaligned=1 --ioengine=psync
job direct-4k 4 --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=16
job direct-64k 8 --rw=randwrite --bs=64k --direct=1 --ioengine=io_uring --iodepth=16
job direct-1m 16 --rw=write --bs=1m --direct=1 --ioengine=io_uring --iodepth=16
job direct-odd 3 --rw=randwrite --bs=12k --direct=1 --ioengine=io_uring --iodepth=16
# each write is to data, a hole, and data: one that must not wait would be sent in part
holes=$((3 * scale))
{ echo truncate ${holes}m && seq -f 'pwrite -q %.0f 4096' 0 8192 $(((holes << 20) - 1)); } | xfs_io -f -d "$dir/direct-holes.0.0" > /dev/null ||
	fail "a file with holes"
[ "$(stat -c %b "$dir/direct-holes.0.0")" = $((holes * 1024)) ] || fail "a file with holes has $(stat -c %b "$dir/direct-holes.0.0") sectors"
job direct-holes 3 --rw=randwrite --bs=12k --direct=1 --ioengine=io_uring --iodepth=16
job mapped-4k 3 --rw=randwrite --bs=4k --ioengine=mmap
job dsync-16k 1 --rw=randwrite --bs=16k --sync=dsync --ioengine=psync

step "everything again, from the targets"
remount
for line in "${jobs[@]}"; do
	read -ra words <<< "$line"
	fio_run "${words[0]}" "${verify[@]}" "${words[@]:1}" --verify_only
done
step "and crosswise: direct files read buffered, buffered files read with O_DIRECT"
fio_run direct-64k "${verify[@]}" --rw=randwrite --bs=64k --size=$((8 * scale))m --ioengine=psync --verify_only
fio_run buffered-64k "${verify[@]}" --rw=randwrite --bs=64k --size=$((4 * scale))m --direct=1 --ioengine=io_uring --iodepth=16 --verify_only
