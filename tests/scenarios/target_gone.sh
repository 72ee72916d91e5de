#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each target is a machine of its own: one loses its power, another its network, under a verified fio
# load and under a copy of a tree. No error, no wrong byte, and a pause of at most the detection time
# and 2 s; when it is back, what it missed is copied to it.
# vm: --several --timeout 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)

# back TARGET: copies are made equal, and are
back() {
	wait_for 60 up "$1" || fail "$1 does not come back: $(weftctl target list)"
	in_sync 180
}

# gone HOW TARGET LOAD: it stays away until it is called down
gone() {
	step "$2: $1 under $3"
	start_load "$3"
	start_pauses
	sleep 3
	ok node "$2" "$1"
	wait_for 30 down "$2" || fail "$2 is still called up: $(weftctl target list)"
	sleep 2
	stop_load "$2: $1"
	short_pause "$2: $1 under $3"
}

gone off target2 fio
ok node target2 on
ok cluster start target2
back target2

gone off target1 tree
ok node target1 on
ok cluster start target1
back target1

step "target2 loses its power and is back before anybody called it down"
start_load fio
start_pauses
sleep 2
ok node target2 off
ok node target2 on
ok cluster start target2
sleep 3
stop_load "target2 was off for a moment"
# the guest takes longer to boot than the detection time: the pause is bounded all the same
short_pause "target2 off and on"
back target2
copies_equal --copies 2

gone cut target1 fio
ok node target1 heal
back target1
gone cut target2 tree
ok node target2 heal
back target2

step "a cut that is healed before anybody notices: nothing is stale"
start_load fio
start_pauses
sleep 2
ok node target1 cut
sleep 1.5
ok node target1 heal
sleep 3
stop_load "target1 was cut off for a moment"
short_pause "target1 cut off for 1.5 s"
back target1
copies_equal --copies 2
