#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each target is a machine of its own: one loses its power, another its network, under a verified fio
# load and under a copy of a tree. No error, no wrong byte, and a pause of at most the detection time
# and 2 s; when it is back, what it missed is copied to it.
# vm: --several --timeout 900
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
. "$PROJECT/tests/vm/guest/names"
need_weft

dir=$(work_directory)

# back TARGET: copies are made equal, and are
back() {
	wait_for 60 up "$1" || fail "$1 does not come back: $(weftctl target list)"
	in_sync 180
}

# gone HOW TARGET LOAD [unknown]: it stays away until it is called down; unknown: the kernel has to ask for its
# address again, as it may have to at any time, and keeps what it sends until it has given up
gone() {
	step "$2: $1 under $3"
	start_load "$3"
	start_pauses
	ok node "$2" "$1"
	[ "${4-}" != unknown ] || ok ip neighbour flush to "$(data_address "$2")"
	wait_for 30 down "$2" || fail "$2 is still called up: $(weftctl target list)"
	sleep 2
	stop_load "$2: $1"
	short_pause "$2: $1 under $3"
}

# a guest takes longer to boot than the detection time; what happens within that, tests/kmod shows
step "target2: off under fio, and back under it"
start_load fio
start_pauses
ok node target2 off
wait_for 30 down target2 || fail "target2 is still called up: $(weftctl target list)"
ok node target2 on
ok cluster start target2
wait_for 60 up target2 || fail "target2 does not come back: $(weftctl target list)"
stop_load "target2 was off for a while"
short_pause "target2: off under fio, and back under it"
in_sync 180

gone off target1 tree
ok node target1 on
ok cluster start target1
back target1

copies_equal --copies 2

gone cut target1 fio unknown
ok node target1 heal
back target1
gone cut target2 tree
ok node target2 heal
back target2

step "a cut that is healed before anybody notices: nothing is stale"
marks=$(sysfs stale_marks)
start_load fio
start_pauses
ok node target1 cut
sleep 1.5
ok node target1 heal
sleep 3
stop_load "target1 was cut off for a moment"
short_pause "target1 cut off for 1.5 s"
[ "$(sysfs stale_marks)" = "$marks" ] || fail "$(($(sysfs stale_marks) - marks)) copies were marked stale"
back target1
copies_equal --copies 2
