#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A storage node that has reservations keeps clients out whose session has ended, whatever these know of that: one whose
# agent is stopped, and one that is cut off from the metadata server alone. Nothing of what they still write gets onto
# the namespace. What others have reserved is not touched, a storage node that has lost its reservations gets them
# back, and after the last unmount there are none.
#
# The storage node is resv_target, as the kernel's has no reservations yet. It and the metadata server, which has a short
# lease, are processes of the first client. There are two paths to it, both of them in use.
# vm: --several --clients 2 --targets 1 --kind nvmeof --fabric tcp --no-mount --timeout 900
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
. "$(dirname "$0")/../nvme.sh"
. "$PROJECT/tests/vm/guest/names"
[ "${WEFT_MODE-}" = several ] || skip "needs guests of its own"

lease_ms=4000
meta_address=10.66.0.50
export WEFT_META=$meta_address:7470
nqn=nqn.2026-11.org.weftfs:reserved
second_address=10.66.0.51
uri=nvme+tcp://$(data_address client1):4420/$nqn
second_uri=nvme+tcp://$second_address:4420/$nqn
exclusive_access_all=6

# on CLIENT COMMAND...
on() { node "$1" env WEFT_META="$WEFT_META" "${@:2}"; }

second=(node client2 env WEFT_META="$WEFT_META") # for who takes no function

# The storage node, with what it has stored and without what it has reserved.
start_storage() {
	local before
	before=$(grep -cx ready "$SCRATCH/storage")
	"$TOOLS/resv_target" 0.0.0.0 4420 "$nqn" "$(uuid_of reserved)" "$SCRATCH/namespace" \
		$((512 << 20)) >> "$SCRATCH/storage" 2>&1 &
	storage=$!
	background_jobs+=("$storage")
	ready() { [ "$(grep -cx ready "$SCRATCH/storage")" -gt "$before" ]; }
	wait_for 10 ready || fail "the storage node does not start: $(tail -n 3 "$SCRATCH/storage")"
}
stop_storage() {
	kill "$storage"
	wait "$storage" 2> /dev/null
}
# conflicts CLIENT: how many reads and writes of it were refused
conflicts() { grep -c "^conflict: .*$(host_nqn "$1")\$" "$SCRATCH/storage"; }
more_conflicts() { [ "$(conflicts "$1")" -gt "$2" ]; }

# both_paths CLIENT: are live, and will take turns
both_paths() {
	on "$1" bash -c '
		for subsystem in /sys/class/nvme-subsystem/*; do
			[ "$(cat "$subsystem/subsysnqn")" = "$0" ] || continue
			[ "$(cat "$subsystem"/nvme*/state 2> /dev/null | grep -cx live)" = 2 ] || exit 1
			echo round-robin > "$subsystem/iopolicy"
		done' "$nqn"
}
# device CLIENT: of the namespace
device() { on "$1" bash -c "$(declare -f nvme_device_of)"'; nvme_device_of "$0"' "$nqn"; }
# report CLIENT: what the storage node tells it of the reservation
report() { on "$1" nvme resv-report "$(device "$1")" --eds; }
# field CLIENT NAME: of that
field() { report "$1" | sed -n "s/^ *$2 *: *//p"; }
# sessions CLIENT: those whose keys are registered; the lower half of a key is one
sessions() { field "$1" rkey | while read -r key; do echo $((0x$key & 0xffffffff)); done | sort -n | paste -sd ' '; }
reserved() { [ "$(field "$1" rtype)" = "$exclusive_access_all" ]; }
# held_by CLIENT: it is reserved, and nobody is registered but the session that lives, which is this client's
held_by() {
	local session
	session=$(weftctl --json session list | jq -r '.[].id')
	reserved "$1" || fail "it is not reserved: $(report "$1")"
	[ "$(sessions "$1")" = "$session" ] || fail "registered are sessions $(sessions "$1"), not $session"
}

agent() { on "$1" bash -c 'kill "-$0" "$(cat /run/weft/weftd.pid)"' "$2"; }
# said CLIENT PATTERN: in how many lines its agent says that
said() { on "$1" grep -Ec "$2" "/run/testbed/$1/weftd.log"; }
# says_again CLIENT PATTERN BEFORE
says_again() { [ "$(said "$1" "$2")" -gt "$3" ]; }
ended='session .* was ended by the metadata server'
# pattern FILL: 16 MiB on stdout
pattern() { tr '\0' "$1" < /dev/zero | head -c 16M; }
sum_of() { pattern "$1" | sha256sum; }
# write_file CLIENT FILL: all of $file, past the page cache
write_file() {
	on "$1" bash -c 'tr "\0" "$1" < /dev/zero | head -c 16M | dd of="$0" bs=1M iflag=fullblock oflag=direct conv=notrunc,fsync status=none' \
		"$file" "$2"
}
# holds FILL WHAT: the first client reads that
holds() {
	drop_caches
	[ "$(sha256sum < "$file")" = "$(sum_of "$1")" ] || fail "$2: the file has other bytes"
}
# late_write FILL: the second client writes what must not arrive, in the background as process $late
late_write() {
	local before
	before=$(conflicts client2)
	write_file client2 "$1" 2> "$SCRATCH/late" &
	late=$!
	background_jobs+=("$late")
	# several: of each path
	wait_for 20 more_conflicts client2 $((before + 7)) || fail "no write of the second client was refused: $(tail -n 5 "$SCRATCH/storage")"
}
# late_write_failed: now that the client knows why
late_write_failed() {
	! wait "$late" || fail "a late write has succeeded"
	grep -q 'error writing .*Input/output error' "$SCRATCH/late" || fail "the late write says: $(cat "$SCRATCH/late")"
}
# raw_write_refused: neither does what goes to the block device itself
raw_write_refused() {
	refused 'Invalid exchange' "${second[@]}" dd if=/dev/urandom of="$(device client2)" bs=4k count=256 seek=512 oflag=direct
}

# What the second client sends to the metadata server gets lost, as in a network that is cut there: it goes to a card
# that nobody has.
cut_off() {
	on client2 bash -c 'card=$(ip -o address show to "$0" | awk "{ print \$2 }")
		ip neighbour replace "$1" lladdr 02:00:00:00:00:99 nud permanent dev "$card"' "$(data_address client2)" "$meta_address"
}
reconnect() {
	on client2 bash -c 'card=$(ip -o address show to "$0" | awk "{ print \$2 }")
		ip neighbour delete "$1" dev "$card"' "$(data_address client2)" "$meta_address"
}

step "a storage node with reservations, a metadata server with a lease of $lease_ms ms"
card=$(ip -o address show to "$(data_address client1)" | awk '{ print $2 }')
for address in "$meta_address" "$second_address"; do ok ip address add "$address/24" dev "$card"; done
for client in client1 client2; do ok on "$client" sed -i "s/^meta = .*/meta = \"$WEFT_META\"/" /etc/weft/weft.toml; done
: > "$SCRATCH/storage"
start_storage
start_ready weft-meta --data "$SCRATCH/meta" --listen "$WEFT_META" --lease-ms $lease_ms

step "what others have reserved is not added"
ok nvme connect --transport tcp --traddr "$(data_address client1)" --trsvcid 4420 --nqn "$nqn" > /dev/null
has_device() { [ -n "$(device client1)" ]; }
wait_for 20 has_device || fail "the namespace does not appear"
others=$(device client1)
ok nvme resv-register "$others" --nrkey=0x1234 > /dev/null
ok nvme resv-acquire "$others" --crkey=0x1234 --rtype=1 > /dev/null
refused 'key 0x1234 of host .*write exclusive' "${second[@]}" weftctl target add "$uri" --name shelf
grep -q 'nvme resv-release' "$SCRATCH/refused" || fail "it is not said what to do: $(cat "$SCRATCH/refused")"
ok nvme resv-release "$others" --crkey=0x1234 --rrela=1 > /dev/null
ok on client2 weftctl target add "$uri" "$second_uri" --name shelf
ok weftctl pool create --copies 1 --chunk-size 16MiB > /dev/null

step "nor is it used while they have it"
ok nvme resv-register "$others" --nrkey=0x1234 > /dev/null
ok nvme resv-acquire "$others" --crkey=0x1234 --rtype=1 > /dev/null
on client2 cluster mount &
mounting=$!
background_jobs+=("$mounting")
wait_for 30 says_again client2 "target 'shelf': .*key 0x1234" 0 || fail "the agent does not say it"
ok nvme resv-release "$others" --crkey=0x1234 --rrela=1 > /dev/null
ok nvme disconnect --nqn "$nqn" > /dev/null
wait $mounting || fail "the second client cannot mount"
wait_for 30 up shelf || fail "it does not come up: $(weftctl target show shelf)"
held_by client2
wait_for 30 both_paths client2 || fail "not both paths are live: $(weftctl target show shelf)"
# Says what the metadata server makes of that; nothing where it does not know reservations.
fence() { weftctl --json target show shelf | jq -r .nvme.fence; }
fenced_by() { [ "$(fence)" = "$1" ]; }
wait_for 10 fenced_by reservation || fail "it is fenced by '$(fence)'" # a heartbeat tells

step "the second client writes, and its agent stops"
dir=$(on client2 mktemp -d "$MNT/reservation.XXXXXX")
file=$dir/file
ok write_file client2 A
ok on client2 sync -f "$dir"
ok agent client2 STOP

step "the first takes over, and only it is registered"
wait_for 60 cluster mount || fail "it cannot mount: $(cluster mount 2>&1)"
held_by client1
holds A "after the session has changed"
ok write_file client1 B

step "what the second writes now is refused"
late_write C
raw_write_refused
[ "$(grep '^conflict: ' "$SCRATCH/storage" | grep -o "controller [0-9]* by $(host_nqn client2)" | sort -u | wc -l)" = 2 ] ||
	fail "not both paths were refused: $(grep ^conflict "$SCRATCH/storage")"
holds B "after late writes"
before=$(said client2 "$ended")
ok agent client2 CONT
wait_for 60 says_again client2 "$ended" "$before" || fail "the second client does not learn of its end"
late_write_failed
ok on client2 cluster umount
holds B "after the second client has gone"
held_by client1

step "after an unmount nothing is reserved"
ok cluster umount
ok on client2 cluster mount
held_by client2
ok write_file client2 D

step "the second client is cut off from the metadata server, not from storage"
ok cut_off
wait_for 60 cluster mount || fail "it cannot mount: $(cluster mount 2>&1)"
held_by client1
holds D "after the session has changed"
ok write_file client1 E
late_write F
raw_write_refused
sleep 3 # in which its agent looks at the reservation several times
held_by client1
holds E "after late writes"

step "and finds out that its session has ended when it is back"
before=$(said client2 "$ended")
ok reconnect
wait_for 60 says_again client2 "$ended" "$before" || fail "the second client does not learn of its end"
late_write_failed
ok on client2 cluster umount
held_by client1
holds E "after the second client has gone"

step "the agent is killed: the reservation stays"
before=$(grep -c '^register' "$SCRATCH/storage")
ok cluster kill agent
ok cluster start agent
wait_for 30 up shelf || fail "it does not come up: $(weftctl target show shelf)"
held_by client1
[ "$(grep -c '^register' "$SCRATCH/storage")" = "$before" ] || fail "it was registered anew: $(tail -n 5 "$SCRATCH/storage")"
holds E "after the agent was killed"

step "the storage node loses its power, and what was reserved"
stop_storage
start_storage
reserved_again() { [ -n "$(device client1)" ] && reserved client1; }
wait_for 60 reserved_again || fail "it is not reserved again: $(tail -n 5 "$SCRATCH/storage")"
held_by client1
holds E "after the power was lost"
ok write_file client1 G
holds G "when it is reserved again"

step "after the last unmount nobody is registered"
ok cluster umount
ok nvme connect --transport tcp --traddr "$(data_address client1)" --trsvcid 4420 --nqn "$nqn" > /dev/null
wait_for 20 has_device || fail "the namespace does not appear"
[ "$(field client1 rtype) $(field client1 regctl)" = "0 0" ] || fail "something is left: $(report client1)"
ok nvme disconnect --nqn "$nqn" > /dev/null
step "$(conflicts client2) writes and reads were refused"
