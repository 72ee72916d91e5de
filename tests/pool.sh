# shellcheck shell=bash disable=SC2034  # the scenarios use what is set here
# SPDX-License-Identifier: MIT
#
# What the scenarios about the pool share, after lib.sh: its state, loads that go on while something
# happens to it, how long these were kept waiting, and the copies as they are on the targets' devices.

# A target that does not answer is known to be gone after this time: detect_ms of clients, down_ms of the
# metadata server.
detection_ms=5000
pause_max_ms=$((detection_ms + 2000))

# pool FILTER: of the pool's status, by jq
pool() { weftctl --json pool status | jq -r "$1"; }
pool_says() { [ "$(pool "$1")" = true ]; }
degraded() { pool_says '.chunks_degraded > 0'; }
target_is() { pool_says ".targets[] | select(.name == \"$1\") | .$2"; }
up() { target_is "$1" up; }
down() { target_is "$1" 'up | not'; }
member() { pool_says ".targets | any(.name == \"$1\" and .state != \"spare\")"; }
is_nvmeof() { cluster uri "$1" > /dev/null 2>&1; }
task() { pool_says ".tasks | any(.kind == \"$1\")"; }

# in_sync SECONDS: all copies are there and in sync within that time
in_sync() {
	weftctl pool wait --timeout "$1s" > "$SCRATCH/wait" 2>&1 ||
		fail "the copies are not in sync after $1 s: $(tail -n 3 "$SCRATCH/wait"); $(weftctl pool status)"
}

# copies COMMAND...: $TOOLS/copies over the metadata server's store and all disks of the run
copies() {
	local command=$1
	shift
	node meta "$TOOLS/copies" "$command" --data /var/lib/weft-meta/data "$@" /run/testbed/target*.disk
}

# copies_equal [OPTION...]: everything is stopped, the copies are compared on the devices, everything is
# started again
copies_equal() {
	export -f copies
	export TOOLS
	cluster at-rest bash -c 'copies check "$@"' copies "$@" > "$SCRATCH/copies" 2>&1 ||
		fail "the copies on the devices differ: $(tail -n 20 "$SCRATCH/copies")"
	step "on the devices: $(tail -n 1 "$SCRATCH/copies")"
}

# store_copy DIRECTORY: the metadata server's store as of now, for the tools that read it; only in a run with one
# guest, while nothing is written
store_copy() {
	rm -rf "$1"
	ok sync
	ok cp -r /var/lib/weft-meta/data "$1"
}

# where FILE BLOCK: lines "TARGET STATE DEVICE OFFSET_BYTES", one for each copy of that block of a file
where() {
	store_copy "$SCRATCH/store"
	"$TOOLS/copies" locate --data "$SCRATCH/store" --ino "$(stat -c %i "$1")" --block "$2" /run/testbed/target*.disk ||
		fail "block $2 of $1 is nowhere"
}

# Loads that check what they read, in $dir, from start_load until stop_load, which fails the scenario when one
# of them saw an error. "fio": random reads and writes of files; "tree": a tree that is copied and compared.
# Each touches $SCRATCH/began.KIND when it has written its first file.
load_fio() {
	cd "$SCRATCH" || exit 1 # for what fio says of the command
	while [ ! -e "$SCRATCH/stop" ]; do
		fio_run load --directory="$dir" --rw=randrw --bsrange=4k-64k --size=8m --direct=1 --ioengine=io_uring \
			--iodepth=8 --verify=crc32c --verify_fatal=1 --exec_prerun="touch $SCRATCH/began.fio"
	done
}
load_tree() {
	local round
	ok cp /usr/include/linux/types.h "$dir/load-first"
	touch "$SCRATCH/began.tree"
	for ((round = 0; ; round++)); do
		[ ! -e "$SCRATCH/stop" ] || return 0
		rm -rf "$dir/load-tree"
		ok cp -a "$TREE" "$dir/load-tree"
		ok sync -f "$dir"
		echo 1 > /proc/sys/vm/drop_caches
		diff -r --no-dereference "$TREE" "$dir/load-tree" || fail "the tree differs in round $round"
	done
}
load_pids=()
# start_load fio|tree...: they have begun when it returns
start_load() {
	local kind
	rm -f "$SCRATCH/stop" "$SCRATCH"/began.*
	load_pids=()
	for kind in "$@"; do
		"load_$kind" &
		load_pids+=($!)
		background_jobs+=($!)
	done
	for kind in "$@"; do wait_for 60 test -e "$SCRATCH/began.$kind" || fail "the load '$kind' does not begin"; done
}
load_runs() { kill -0 "${load_pids[@]}" 2> /dev/null; }
stop_load() {
	local pid failed=0
	touch "$SCRATCH/stop"
	for pid in "${load_pids[@]}"; do wait "$pid" || failed=1; done
	[ "$failed" = 0 ] || fail "a load saw an error or a wrong byte while: $1"
	step "the load saw nothing"
}

# How long an application was kept waiting between start_pauses and stop_pauses, in $pause_ms, until $pause_end.
start_pauses() {
	"$TOOLS/pauses" "$dir/pauses" > "$SCRATCH/pauses" 2>&1 &
	pauses=$!
	background_jobs+=($!)
}
stop_pauses() {
	kill "$pauses"
	wait "$pauses" || fail "$(cat "$SCRATCH/pauses")"
	read -r _ pause_ms _ _ _ pause_end < "$SCRATCH/pauses"
}
# short_pause WHAT
short_pause() {
	stop_pauses
	step "$1: the longest pause was $pause_ms ms, until $pause_end"
	[ "$pause_ms" -le "$pause_max_ms" ] ||
		fail "$1: a pause of $pause_ms ms, more than $pause_max_ms; this host's agent: $(tail -n 8 "/run/testbed/$WEFT_GUEST/weftd.log")"
}
