#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Nonsense on the Thrift port and on the RDMA ports, while files are written: connections are dropped,
# nothing crashes, nothing is lost, the log names the peer and does not flood.
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
host=${WEFT_META%:*}
port=${WEFT_META##*:}
logs=/run/testbed/$WEFT_GUEST
meta_pid=$(pidof weft-meta)
targets_pid=$(pidof weft-target)

# load: keeps writing and verifying until told to stop
load() {
	local i
	for ((i = 0; ; i++)); do
		[ ! -e "$SCRATCH/stop" ] || return 0
		head -c 100000 /dev/urandom > "$SCRATCH/piece" && cp "$SCRATCH/piece" "$dir/piece-$((i % 20))" &&
			sync "$dir/piece-$((i % 20))" && cmp "$SCRATCH/piece" "$dir/piece-$((i % 20))" || return 1
	done
}
load &
load=$!

step "the Thrift port"
lines=$(wc -l < "$logs/weft-meta.log")
for seed in 1 2; do
	"$TOOLS/port_garbage" "$host" "$port" $seed > "$SCRATCH/garbage" || fail "$(tail -n 3 "$SCRATCH/garbage")"
	ok weftctl pool status > /dev/null
done
step "$(($(wc -l < "$SCRATCH/garbage") - 1)) attempts: $(awk 'NR > 1 { n[$NF]++ } END { for (w in n) printf "%s %d, ", w, n[w] }' "$SCRATCH/garbage")"
lines=$(($(wc -l < "$logs/weft-meta.log") - lines))
[ $lines -lt 1000 ] || fail "weft-meta logged $lines lines about it"
resident=$(awk '/^VmHWM/ { print $2 }' "/proc/$meta_pid/status")
[ "$resident" -lt 600000 ] || fail "weft-meta took $resident KiB of memory for it"

step "many connections that say nothing"
for ((i = 0; i < 300; i++)); do
	exec {fd}<> "/dev/tcp/$host/$port" || fail "connection $i was refused"
	idle+=("$fd")
done
timeout 20 weftctl pool status > /dev/null || fail "weft-meta does not serve beside 300 idle connections"
for fd in "${idle[@]}"; do exec {fd}<&-; done

step "the RDMA ports"
if [ -x "$TOOLS/rdma_garbage" ]; then
	for target in $(weftctl --json target list | jq -r '.. | objects | select(.host?) | "\(.host):\(.port)"' | sort -u); do
		ok "$TOOLS/rdma_garbage" --target "$target" --key "$WEFT_KEY" --session "$(sysfs session)"
	done
fi

step "everything goes on"
touch "$SCRATCH/stop"
wait $load || fail "the load saw an error"
[ "$(pidof weft-meta)" = "$meta_pid" ] || fail "weft-meta is another process than before"
[ "$(pidof weft-target)" = "$targets_pid" ] || fail "a target is another process than before"
remount
ok cp -r /usr/include/linux/netfilter "$dir/after"
ok diff -r /usr/include/linux/netfilter "$dir/after"
[ "$(sysfs bad_completions)" = 0 ] || fail "the kernel counts bad completions"
