# shellcheck shell=bash disable=SC2034  # the scenarios use what is set here
# SPDX-License-Identifier: MIT
#
# What every scenario starts from. A scenario runs inside a guest, as root, with a cluster formed and
# mounted at $MNT; exit status 0 passes, 1 fails, 77 skips. Source it first:
#
#   . "$(dirname "$0")/../lib.sh"
#
# With MNT on another file system the scenarios check themselves: what needs weft is left out.

set -u
shopt -s inherit_errexit 2>/dev/null
PROJECT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
MNT=${MNT:-/mnt/weft}
TOOLS=$PROJECT/build/tests
CLUSTER=${CLUSTER:-weft}
# Some files to copy and to compare with: few, as a load of them ends when the round that is under way has.
TREE=/usr/include/linux/netfilter
# Scratch space outside the file system under test.
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/weft-scenario.XXXXXX")
background_jobs=()

# with_children PID...: these and all that they have started
with_children() {
	local pid children
	for pid; do
		mapfile -t children < <(pgrep -P "$pid")
		echo "$pid"
		with_children "${children[@]}"
	done
}

# What still runs in the background is ended; what hangs in the kernel is not waited for.
end_jobs() {
	local left=50
	mapfile -t -O "${#background_jobs[@]}" background_jobs < <(jobs -p)
	mapfile -t background_jobs < <(with_children "${background_jobs[@]}")
	[ "${#background_jobs[@]}" -eq 0 ] || kill "${background_jobs[@]}" 2>/dev/null
	while [ -n "$(jobs -rp)" ] && [ $((left--)) -gt 0 ]; do sleep 0.1; done
}

finish() {
	local status=$?
	trap - EXIT
	end_jobs
	rm -rf "$SCRATCH"
	exit "$status"
}
trap finish EXIT

# with_all: this is a run of `run-tests --all`
with_all() { [ -n "${WEFT_ALL-}" ]; }
# amount USUAL ALL: how much of something, usually and in such a run
amount() { if with_all; then echo "$2"; else echo "$1"; fi; }

step() { printf '%4ds  %s\n' "$SECONDS" "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
skip() { printf 'skipped: %s\n' "$*" >&2; exit 77; }

# ok COMMAND...: the scenario fails unless it succeeds
ok() { "$@" || fail "'$*' gave status $?"; }

# gives STATUS COMMAND...: whether it ends with that status
gives() {
	local wanted=$1 status=0
	shift
	"$@" || status=$?
	[ "$status" -eq "$wanted" ]
}

# refused TEXT COMMAND...: it must fail within 60 s, not by a signal, and say TEXT (an extended regular
# expression) about it
refused() {
	local pattern=$1 status=0
	shift
	timeout 60 "$@" > "$SCRATCH/refused" 2>&1 || status=$?
	[ "$status" -ne 0 ] || fail "'$*' was accepted: $(cat "$SCRATCH/refused")"
	[ "$status" -ne 124 ] || fail "'$*' did not come back: $(cat "$SCRATCH/refused")"
	[ "$status" -lt 126 ] || fail "'$*' ended with status $status: $(cat "$SCRATCH/refused")"
	grep -Eiq -- "$pattern" "$SCRATCH/refused" ||
		fail "'$*' failed without saying /$pattern/, but: $(cat "$SCRATCH/refused")"
	step "refused as it should be: $(tail -n 1 "$SCRATCH/refused")"
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# background COMMAND...: started now, ended with the scenario; its process id is in $!
background() {
	"$@" &
	background_jobs+=($!)
}

# start_ready COMMAND...: in the background, until it says that it serves; its process id is in $!
start_ready() {
	local word='' fifo=$SCRATCH/ready.$RANDOM
	ok mkfifo "$fifo"
	"$@" --ready-fd 9 9> "$fifo" 2>> "$SCRATCH/log.${1##*/}" &
	background_jobs+=($!)
	read -r -t 30 word < "$fifo"
	[ "$word" = ready ] || fail "'$*' does not start: $(tail -n 5 "$SCRATCH/log.${1##*/}")"
}

on_weft() { [ "$(stat -f -c %T "$MNT" 2>/dev/null)" != "" ] && findmnt -n -t weft "$MNT" > /dev/null; }
need_weft() { on_weft || skip "needs weft mounted at $MNT"; }

drop_caches() { sync && echo 3 > /proc/sys/vm/drop_caches; }

# Everything that the client remembers is gone after it.
remount() {
	if on_weft; then
		ok cluster umount
		drop_caches
		ok cluster mount
	else
		drop_caches
	fi
}

# sysfs FILE: of this cluster's channel
sysfs() { cat "/sys/fs/weft/$CLUSTER/$1"; }
# The balancer's policy, and how many answers it has given.
balancer=/sys/fs/weft/balancer
policy() { cat "$balancer/policy"; }
in_force() { [ "$(policy)" = "$1" ]; }
picks_above() { [ "$(cat "$balancer/picks")" -gt "$1" ]; }

free_bytes() { stat -f -c '%f * %S' "$MNT" | { read -r a _ b; echo $((a * b)); }; }
total_bytes() { stat -f -c '%b * %S' "$MNT" | { read -r a _ b; echo $((a * b)); }; }
memory_bytes() { awk '/^MemTotal:/ { print $2 * 1024 }' /proc/meminfo; }

# work_directory: a new empty one on the file system under test
work_directory() { mktemp -d "$MNT/$(basename "$0" .sh).XXXXXX"; }

# manifest DIRECTORY: every name, type, mode, owner, link count, size, time, device, link target and
# the SHA-256 of the contents, in a fixed order; two manifests are equal when the trees are
manifest() {
	(
		cd "$1" || exit 1
		find . -type d -print0 | LC_ALL=C sort -z |
			xargs -0 -r stat --printf '%n|%F|%a|%u|%g|%h|%.9Y|%.9Z\0'
		find . ! -type d -print0 | LC_ALL=C sort -z |
			xargs -0 -r stat --printf '%n|%F|%a|%u|%g|%h|%s|%.9Y|%.9Z|%t:%T\0'
		find . -type l -printf '%p -> %l\0' | LC_ALL=C sort -z
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum -z
	) | tr '\0' '\n'
}

# same_manifest FILE FILE WHAT
same_manifest() {
	[ -s "$1" ] || fail "$3: the first manifest is empty"
	cmp -s "$1" "$2" || {
		diff -a "$1" "$2" | head -n 20 >&2
		fail "$3: the trees differ ($(diff -a "$1" "$2" | grep -ac '^[<>]') lines)"
	}
}

# make_zoo DIRECTORY: one of everything that a directory may hold
make_zoo() (
	ok mkdir -p "$1" && cd "$1" || exit 1
	umask 022
	local size long odd
	ok mkdir -p empty deep/er/and/deeper modes owners times links nodes names
	for size in 0 1 511 4095 4096 4097 65536 1000000; do
		head -c "$size" /dev/urandom > "deep/file-$size" || fail "writing a file of $size bytes"
	done
	ok cp deep/file-4097 deep/er/and/deeper/copy
	for size in 0000 0444 0640 0755 1755 2755 4755 6711 7777; do
		: > "modes/f$size" && ok chmod "$size" "modes/f$size"
		ok mkdir "modes/d$size" && ok chmod "$size" "modes/d$size"
	done
	: > owners/a && ok chown 1000:100 owners/a
	: > owners/b && ok chown 4000000000:4000000001 owners/b
	: > times/past && ok touch -d '1999-12-31 23:59:59.123456789 UTC' times/past
	: > times/before && ok touch -d '1960-01-02 03:04:05.5 UTC' times/before
	: > times/future && ok touch -d '2100-01-01 00:00:00.999999999 UTC' times/future
	ok ln deep/file-4096 links/hard-1 && ok ln deep/file-4096 links/hard-2
	ok ln -s ../deep/file-511 links/soft && ok ln -s /nowhere/at/all links/dangling
	ok ln -s "$(printf 'x%.0s' {1..4000})" links/long
	ok mkfifo nodes/fifo && ok mknod nodes/null c 1 3 && ok mknod nodes/block b 259 70000
	long=$(printf 'n%.0s' {1..255})
	echo long > "names/$long"
	for odd in ' ' '-rf' '*' '...' $'new\nline' $'\xff\xfe' $'tab\t' '€uro' '"quoted"' "back\\slash"; do
		echo "$odd" > "names/$odd" || fail "creating the name '$odd'"
	done
	ok truncate -s 100M sparse-all
	ok truncate -s 50M sparse && echo in the middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
)

# fio_run NAME OPTION...: a quiet fio job in $MNT that fails the scenario with its own words
fio_run() {
	local name=$1
	shift
	fio --name="$name" --group_reporting --output="$SCRATCH/fio-$name" --eta=never "$@" || {
		tail -n 40 "$SCRATCH/fio-$name" >&2
		fail "fio $name: status $?"
	}
	! grep -Eq 'verify:|error=|err= *[1-9]' "$SCRATCH/fio-$name" || {
		tail -n 40 "$SCRATCH/fio-$name" >&2
		fail "fio $name reports an error"
	}
}
