#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A file larger than the guest's memory is written and read back whole, through the page cache.
# vm: --memory 768M
# only: all
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
megabytes=$(($(memory_bytes) * 9 / 8 / 1048576))
[ $((megabytes * 1048576)) -lt "$(free_bytes)" ] || skip "the pool is smaller than the guest's memory"
job=(--directory="$dir" --rw=write --bs=1m --size="${megabytes}m" --ioengine=psync --fallocate=none
	--verify=crc32c --verify_fatal=1)

step "writing $megabytes MiB in a guest of $(($(memory_bytes) / 1048576)) MiB"
fio_run big "${job[@]}" --do_verify=0 --end_fsync=1
step "reading it back in order"
fio_run big "${job[@]}" --verify_only
step "reading here and there"
fio_run again --filename="$dir/big.0.0" --rw=randread --bs=64k --io_size=64m --size="${megabytes}m" --ioengine=psync
[ "$(stat -c %s "$dir/big.0.0")" = $((megabytes * 1048576)) ] || fail "the size is $(stat -c %s "$dir/big.0.0")"
ok rm "$dir/big.0.0"
