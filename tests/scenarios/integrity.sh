#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What is written is what is read: buffered, O_DIRECT and mapped, at several block sizes, checked by
# fio with a CRC32C in every block, from the cache, from the targets, and after a remount.
# also nvmeof-rdma: --kind nvmeof --fabric rdma
# also mixed: --kind mixed
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
verify=(--verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1 --fsync_on_close=1 --directory="$dir")
jobs=()

# job NAME OPTION...: write and verify now; verify again at the end
job() {
	local name=$1
	shift
	step "$name"
	fio_run "$name" "${verify[@]}" "$@"
	jobs+=("$name $*")
}

job buffered-4k --rw=randwrite --bs=4k --size=6m --ioengine=psync
job buffered-64k --rw=randwrite --bs=64k --size=8m --ioengine=psync
job buffered-1m --rw=write --bs=1m --size=16m --ioengine=psync
job buffered-odd --rw=randwrite --bs=5000 --size=6m --ioengine=psync
job buffered-mixed --rw=randwrite --bsrange=512-200k --bs_unaligned=1 --size=8m --ioengine=psync
job direct-4k --rw=randwrite --bs=4k --size=8m --direct=1 --ioengine=io_uring --iodepth=16
job direct-64k --rw=randwrite --bs=64k --size=16m --direct=1 --ioengine=io_uring --iodepth=16
job direct-1m --rw=write --bs=1m --size=32m --direct=1 --ioengine=io_uring --iodepth=16
job direct-odd --rw=randwrite --bs=12k --size=6m --direct=1 --ioengine=io_uring --iodepth=16
# each write is to data, a hole, and data: one that must not wait would be sent in part
{ echo truncate 6m && seq -f 'pwrite -q %.0f 4096' 0 8192 $(((6 << 20) - 1)); } | xfs_io -f -d "$dir/direct-holes.0.0" > /dev/null ||
	fail "a file with holes"
[ "$(stat -c %b "$dir/direct-holes.0.0")" = 6144 ] || fail "a file with holes has $(stat -c %b "$dir/direct-holes.0.0") sectors"
job direct-holes --rw=randwrite --bs=12k --size=6m --direct=1 --ioengine=io_uring --iodepth=16
job mapped-4k --rw=randwrite --bs=4k --size=6m --ioengine=mmap
job dsync-16k --rw=randwrite --bs=16k --size=1m --sync=dsync --ioengine=psync

step "everything again, from the targets"
remount
for line in "${jobs[@]}"; do
	read -ra words <<< "$line"
	fio_run "${words[0]}" "${verify[@]}" "${words[@]:1}" --verify_only
done
step "and crosswise: direct files read buffered, buffered files read with O_DIRECT"
fio_run direct-64k "${verify[@]}" --rw=randwrite --bs=64k --size=16m --ioengine=psync --verify_only
fio_run buffered-64k "${verify[@]}" --rw=randwrite --bs=64k --size=8m --direct=1 --ioengine=io_uring --iodepth=16 --verify_only
