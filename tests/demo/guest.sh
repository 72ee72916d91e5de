#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The demonstration, inside a guest that has soft-RoCE and nothing of weftfs running: forms a pool of two
# targets, mounts it, copies a real tree and a large file in, restarts everything, compares every byte,
# swaps the balancer under load and ends with a table.
set -euo pipefail

project=${WEFT_PROJECT:?}
mount=/mnt/weft
work=$(mktemp -d)
big_bytes=$((256 << 20))
device=$(basename /sys/class/infiniband/*)
targets=/sys/fs/weft/weft/targets

step() { printf '\ndemo: [%4d s] %s\n' "$SECONDS" "$*"; }
die() { echo "demo: $*" >&2; exit 1; }
trap 'echo "demo: line $LINENO failed: $BASH_COMMAND" >&2' ERR

mb_per_s() { awk -v bytes="$1" -v from="$2" -v to="$3" 'BEGIN { printf "%.1f MB/s", bytes / (to - from) / 1e6 }'; }
now() { date +%s.%N; }
packets() { cat "/sys/class/infiniband/$device/ports/1/hw_counters/$1"; }
# sums column N of the targets' stat: state inflight reads writes read_bytes write_bytes errors latency
requests() { cat $targets/*/stat | awk '{ n += $3 + $4 } END { print n }'; }

step "starting the metadata server and two targets on $device"
cluster start-meta
cluster start-target 1
cluster start-target 2
step "forming a pool of two targets with two copies"
weftctl pool create --copies 2 --target target1 --target target2
weftctl target list
step "insmod weft.ko, mount -t weft weft $mount"
cluster mount
df -h $mount
sent_before=$(packets sent_pkts)

tree=$(echo "$project"/build/kernel/root/usr/src/linux-headers-*-common/include)
files=$(find "$tree" -type f | wc -l)
[ "$files" -ge 3000 ] || die "$tree has only $files files"
step "copying $files files of the kernel's headers"
from=$(now)
tar -C "$tree" -cf - . | tar -C $mount -xf - --one-top-level=tree --checkpoint=4000 \
	--checkpoint-action=ttyout='demo:          %{%s}T written\n'
sync $mount
tree_bytes=$(du -sb "$tree" | cut -f1)
tree_rate=$(awk -v n="$files" -v from="$from" -v to="$(now)" 'BEGIN { printf "%.0f files/s", n / (to - from) }')
echo "demo: $files files, $((tree_bytes >> 20)) MiB, $tree_rate"

step "writing a file of $((big_bytes >> 20)) MiB of random bytes"
from=$(now)
head -c $big_bytes /dev/urandom | tee >(sha256sum | sed "s|-|big|" > "$work/big.sum") |
	dd of=$mount/big bs=1M iflag=fullblock conv=fsync status=progress
echo "demo: $(mb_per_s $big_bytes "$from" "$(now)")"

step "SHA-256 of the source"
(cd "$tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum) > "$work/tree.sum"

step "unmounting, stopping everything, dropping every cache, starting and mounting again"
cluster umount
cluster stop
sync
echo 3 > /proc/sys/vm/drop_caches
cluster start
cluster mount

step "comparing SHA-256 of $files files and the large one"
found=$(find $mount/tree -type f | wc -l)
[ "$found" -eq "$files" ] || die "$found files came back instead of $files"
(cd $mount/tree && sha256sum --quiet -c "$work/tree.sum") || die "the tree came back different"
(cd $mount && sha256sum --quiet -c "$work/big.sum") || die "the large file came back different"
echo "demo: all $((files + 1)) files are the same, byte for byte"

step "swapping the balancer under a verified load"
fio --name=swap --directory=$mount --size=32M --rw=randrw --bs=4k --direct=1 --ioengine=io_uring --iodepth=8 \
	--verify=crc32c --verify_fatal=1 --time_based --runtime=20 --output="$work/swap.txt" &
load=$!
for policy in p2c_latency round_robin p2c_latency; do
	seen=$(requests)
	# under load means: the targets have served 500 requests since the last swap
	until [ "$(requests)" -ge $((seen + 500)) ]; do
		kill -0 $load || die "the load ended: $(cat "$work/swap.txt")"
	done
	weftctl balancer set $policy
	[ "$(cat /sys/fs/weft/balancer/policy)" = $policy ] || die "the kernel uses $(cat /sys/fs/weft/balancer/policy), not $policy"
done
wait $load || die "fio saw an error: $(cat "$work/swap.txt")"
weftctl balancer show

# measure RW BLOCK DEPTH: "MB/s latency_us"
measure() {
	local side='read'
	case $1 in *write) side='write' ;; esac
	fio --name=measure --filename=$mount/measure --size=128M --rw="$1" --bs="$2" --iodepth="$3" --direct=1 \
		--ioengine=io_uring --time_based --runtime=5 --output-format=json |
		jq -r ".jobs[0].$side | \"\(.bw_bytes / 1e6 | floor) \(.lat_ns.mean / 1000 | floor)\""
}
step "measuring"
dd if=/dev/zero of=$mount/measure bs=1M count=128 oflag=direct status=none
read -r write_rate _ < <(measure write 1M 4)
read -r read_rate _ < <(measure read 1M 4)
read -r _ read_latency < <(measure randread 4k 1)
read -r _ write_latency < <(measure randwrite 4k 1)
sent=$(($(packets sent_pkts) - sent_before))

echo
echo "  copying the tree              $tree_rate"
echo "  1 MiB reads, O_DIRECT         $read_rate MB/s"
echo "  1 MiB writes, O_DIRECT        $write_rate MB/s (each to two targets)"
echo "  4 KiB read, depth 1           $read_latency us"
echo "  4 KiB write, depth 1          $write_latency us"
for target in "$targets"/*; do
	read -r _ _ reads writes read_bytes write_bytes errors latency < "$target/stat"
	printf '  %-29s %d reads (%d MiB), %d writes (%d MiB), %d errors, %d us\n' "$(cat "$target/name")" \
		"$reads" $((read_bytes >> 20)) "$writes" $((write_bytes >> 20)) "$errors" $((latency / 1000))
done
# soft-RoCE counts packets, not bytes; all of them carry this pool's traffic, 4096 bytes of data at most
echo "  over $device                     $sent packets sent, up to $((sent * 4096 >> 20)) MiB of data (it counts no bytes)"

# a policy that is attached keeps the module in use
weftctl balancer set round_robin
cluster umount
cluster stop
