#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs in a guest with weftfs mounted at /mnt/weft on one NVMe-oF namespace, one copy, and a spare target of the same
# kind for ext4 (tests/vm/run --kind nvmeof --targets 1 --spare 1 --copies 1): weftfs by each of its data paths
# beside ext4 on a namespace of the same nvmet, transport and mapped disk. `paths.sh FIGURE...` measures some figures only.
#
#   O_DIRECT   through io_uring, in place: 4 KiB at random, at depth 1 and 16; 1 MiB in sequence, at depth 4
#   buffered   read() and write(), one at a time, in place: 4 KiB at random, no block twice; 1 MiB in sequence. For reads nothing
#              is in memory; writes end with an fsync, which is part of the time
#
# The two take turns of a few seconds within one fio, and a ratio is the median of those of neighbours: so it bears a
# machine that is slower at one time than at another.
#
# An O_DIRECT write that weftfs has acknowledged is durable on an NVMe-oF target; ext4's is so after an fsync.
# On disks without a volatile cache, as of servers, whose capacitors see to that, it is the same. On those with one
# weftfs pays for it, and ext4 with O_DSYNC is the peer that promises as much. WEFT_BENCH_CACHES="none volatile"
# says which disks the storage node has, one after the other; the latter matter to writes only.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib.sh"
. "$here/nvme.sh"

mount=${MNT:-/mnt/weft}
ext4=/mnt/ext4
rounds=${WEFT_BENCH_ROUNDS:-5}
seconds=${WEFT_BENCH_SECONDS:-2}
read -ra caches <<< "${WEFT_BENCH_CACHES:-none volatile}"
bench_bytes=$((256 << 20))
target=target1
peer=target2
all_figures=(direct-read-4k direct-write-4k direct-read-4k-16 direct-write-4k-16 direct-read-1m direct-write-1m
	buffered-read-4k buffered-write-4k buffered-read-1m buffered-write-1m)
[ $# -gt 0 ] && figures=("$@") || figures=("${all_figures[@]}")

# ---- the two file systems ----

# disks_become CACHE: what the storage node stores on; nothing uses it
disks_become() {
	local name disk
	. "$WEFT_PROJECT/tests/vm/guest/devices"
	for name in "$target" "$peer"; do
		disk=$(disk_of "$name") || return 1
		case $1 in none) echo 'write through' ;; *) echo 'write back' ;; esac > "/sys/block/${disk#/dev/}/cache_type"
	done
}

ext4_mount() {
	local address=${peer_uri#*://}
	address=${address%%/*}
	nvme_connect "$WEFT_FABRIC" "${peer_uri##*/}" "${address%:*}" "${address##*:}"
	[ -n "${ext4_made-}" ] || mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$nvme_device" >&2 ||
		die "no ext4 on $nvme_device"
	ext4_made=1
	mkdir -p "$ext4"
	mount -t ext4 "$nvme_device" "$ext4" || die "$nvme_device is not mounted"
}

# storage_becomes CACHE
storage_becomes() {
	local disk
	if mountpoint -q "$ext4"; then umount "$ext4"; fi
	if [ -n "${WEFT_COUNTED-}" ]; then # --backing ram: loop devices, which may be told at any time
		[ "$1" = none ] || die "in memory nothing is volatile: WEFT_BENCH_CACHES=none"
		for disk in /sys/block/loop*/queue/write_cache; do echo 'write through' > "$disk"; done
	else
		export -f disks_become
		export target peer
		cluster at-rest bash -c "disks_become $1" || die "the cluster does not start again"
	fi
	ext4_mount
}

# weft_path agent|direct: as the kernel module sees it
weft_path() {
	local is deadline=$((SECONDS + 30)) wanted=0
	[ "$1" = agent ] || wanted=1
	weftctl target set "$target" --data-path "$1" > /dev/null
	# there is no event for it
	until read -r is _ < "$target_directory/direct" && [ "$is" = "$wanted" ]; do
		[ $SECONDS -lt $deadline ] || die "$target is not reached by way of $1 (direct: $is)"
	done
}

# ---- figures ----

# figure_options FIGURE: for fio, one a line
figure_options() {
	local side='read'
	case $1 in *-write-*) side='write' ;; esac
	echo "--size=$bench_bytes" --randrepeat=0
	case $1 in
	*-4k*) echo --bs=4k "--rw=rand$side" ;;
	*-1m) echo --bs=1M "--rw=$side" ;;
	esac
	case $1 in *-16) echo --iodepth=16 ;; direct-*-1m) echo --iodepth=4 ;; esac
	case $1 in
	direct-*) echo --direct=1 --ioengine=io_uring "--runtime=$seconds" --time_based --ramp_time=300ms --norandommap ;;
	# what is in memory of the file is dropped first
	buffered-read-*) echo --ioengine=psync --invalidate=1 "--runtime=$seconds" ;;
	buffered-write-4k) echo --ioengine=psync --end_fsync=1 --io_size=16M ;;
	buffered-write-1m) echo --ioengine=psync --end_fsync=1 --io_size=64M ;;
	esac
}

# row_options CACHE ROW
row_options() {
	echo "--name=$1-$2" --stonewall
	case $2 in
	direct | agent) echo "--filename=$mount/bench.data" ;;
	dsync) echo "--filename=$ext4/bench.data" --sync=dsync ;;
	ext4) echo "--filename=$ext4/bench.data" ;;
	esac
}

# measure CACHE FIGURE ROW...: they take turns; every other time the other way round. Prints "ROW BYTES_PER_SECOND".
measure() {
	local cache=$1 figure=$2 jobs=() row rows round
	shift 2
	for ((round = 1; round <= rounds; round++)); do
		mapfile -t rows < <(printf '%s\n' "$@" | if ((round % 2)); then cat; else tac; fi)
		for row in "${rows[@]}"; do
			# shellcheck disable=SC2207  # options are words
			jobs+=($(row_options "$cache" "$row") $(figure_options "$figure"))
		done
	done
	fio --output-format=json "${jobs[@]}" |
		jq -r '.jobs[] | "\(.jobname) \([.read.bw_bytes, .write.bw_bytes] | max)"'
}

# neighbours FIGURE ROW PEER: records the ratios of what `measure` has printed
neighbours() {
	awk -v row="$2" -v peer="$3" -v figure="$1" '{ v[$1] = $2; n[$1]++ }
		$1 == row || $1 == peer { if (n[row] == n[peer]) print row "/" peer, figure, v[row] / v[peer] }' >> "$results"
}

# take CACHE FIGURE PATH
take() {
	local cache=$1 figure=$2 path=$3 rows=("$3" ext4) taken unit=4096 row
	case $cache:$figure in volatile:direct-write-*) rows+=(dsync) ;; esac
	case $figure in *-1m) unit=1e6 ;; esac
	weft_path "$path"
	taken=$(measure "$cache" "$figure" "${rows[@]}")
	if [ -z "$taken" ] || grep ' 0$' <<< "$taken" >&2; then die "$cache, $path: no figure of $figure"; fi
	awk -v figure="$figure" -v unit=$unit '{ print $1, figure, $2 / unit }' <<< "$taken" >> "$results"
	for row in "${rows[@]:1}"; do neighbours "$figure" "$cache-$path" "$cache-$row" <<< "$taken"; done
}

# figures_of CACHE
figures_of() { printf '%s\n' "${figures[@]}" | case $1:${#caches[@]} in volatile:2) grep -e -write- || true ;; *) cat ;; esac; }

# ---- what is said ----

title_of() {
	local text=${1/direct-/O_DIRECT }
	text=${text/buffered-/buffered }
	text=${text/read-/read } text=${text/write-/write }
	text=${text/4k-16/4k} text=${text/4k/4 KiB} text=${text/1m/1 MiB}
	case $1 in *-16) text+=', depth 16' ;; direct-*-1m) text+=', depth 4' ;; direct-*) text+=', depth 1' ;; esac
	echo "$text"
}

# report CACHE
report() {
	local figure row unit
	case $1 in
	none) echo "Disks without a volatile cache:" ;;
	*) echo "Disks with a volatile cache; what weftfs writes has FUA:" ;;
	esac
	printf '  %-36s %10s %10s %10s %14s\n' '' direct agent ext4 'ext4, O_DSYNC'
	while read -r figure; do
		case $figure in *-1m) unit='MB/s' ;; *) unit='/s' ;; esac
		printf '  %-31s %4s' "$(title_of "$figure")" "$unit"
		for row in direct:10 agent:10 ext4:10 dsync:14; do
			printf " %${row#*:}s" "$(median "$1-${row%:*}" "$figure" | awk '{ print $1 == "-" ? "-" : sprintf("%.0f", $1) }')"
		done
		echo
	done < <(figures_of "$1")
	for row in direct:0.95 agent:0.80; do
		while read -r figure; do
			require "${row%:*} / ext4: $(title_of "$figure")" "$(ratio "$(median "$1-${row%:*}/$1-ext4" "$figure")" 1)" '>=' "${row#*:}"
			case $1:$figure in
			volatile:direct-write-*) printf '  %-52s %6s\n' '    / ext4 with O_DSYNC' "$(ratio "$(median "$1-${row%:*}/$1-dsync" "$figure")" 1)" ;;
			esac
		done < <(figures_of "$1")
	done
	echo
}

for figure in "${figures[@]}"; do
	case " ${all_figures[*]} " in *" $figure "*) ;; *) die "there is no figure '$figure': ${all_figures[*]}" ;; esac
done
peer_uri=$(cluster uri "$peer")
cluster start "$peer"
number=$(weftctl --json target list | jq -r ".. | objects | select(.name? == \"$target\") | .id")
target_directory=/sys/fs/weft/weft/targets/$number
storage_becomes "${caches[0]}"
note "laying out $((bench_bytes >> 20)) MiB on weft and on ext4"
for file in "$mount/bench.data" "$ext4/bench.data"; do
	dd if=/dev/urandom of="$file" bs=1M count=$((bench_bytes >> 20)) oflag=direct status=none
	sync "$file"
done
for cache in "${caches[@]}"; do
	[ "$cache" = "${caches[0]}" ] || storage_becomes "$cache"
	while read -r figure; do
		note "volatile cache: $cache; $(title_of "$figure")"
		for path in direct agent; do take "$cache" "$figure" "$path"; done
	done < <(figures_of "$cache")
done
umount "$ext4"
nvme disconnect -n "${peer_uri##*/}" >&2
rm "$mount/bench.data"

echo
clock="under emulation"
[ -z "${WEFT_COUNTED-}" ] || clock="that take turns; time is counted in instructions, 2 ns each"
echo "weftfs and ext4, each on one NVMe-oF namespace ($WEFT_FABRIC); median of $rounds turns; one guest with $(nproc) processors $clock."
for cache in "${caches[@]}"; do report "$cache"; done
