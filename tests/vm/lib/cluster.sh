# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The guests of one run, their disks and networks, seen from the host. Uses from `run`: what
# options.sh sets, start_guest and its friends.
#
# Several guests hang on two hubs of one QEMU without a machine: data and control, by unix
# sockets, so nothing leaves the host and nobody has to be root. Each hub port can be unplugged.

declare -A is_up guest_extra

guests() { if [ "$mode" = several ]; then all_roles "$clients" $((targets + spares)); else echo client1; fi; }

# disk NAME SIZE: QEMU options, in $disk_options, of a disk that the guest finds by its serial number
disk() {
	local file=$run_dir/$1.disk
	if [ ! -e "$file" ]; then
		truncate -s "$2" "$file" || die "cannot make a disk of $2"
		[ "$1" != meta ] || "$(command -v mkfs.xfs || echo /sbin/mkfs.xfs)" -q -f "$file" 2>> "$run_dir/mkfs.log" ||
			die "no file system on the disk of the metadata server: $run_dir/mkfs.log"
	fi
	disk_options+=(
		-drive "if=none,id=$1,file=$file,format=raw,cache=unsafe,discard=unmap"
		-device "virtio-blk-pci,drive=$1,serial=$1"
	)
}

# role_disks ROLE
role_disks() {
	case $1 in
	meta) disk meta 1G ;;
	target*) [ "$backing" = ram ] || disk "$1" "$target_size" ;;
	client1) [ -z "$spare_size" ] || disk spare "$spare_size" ;;
	esac
}

start_hub() {
	local name network options=()
	for name in $(guests); do
		for network in data control; do
			options+=(
				-netdev "stream,id=$network-$name,server=on,addr.type=unix,addr.path=$run_dir/$network-$name.socket"
				-netdev "hubport,id=port-$network-$name,hubid=$([ "$network" = data ] && echo 1 || echo 2),netdev=$network-$name"
			)
		done
	done
	mkdir -p "$run_dir/hub"
	mkfifo "$run_dir"/hub/{alive.in,monitor.in,monitor.out}
	cat "$run_dir/hub/monitor.out" > "$run_dir/hub/monitor.log" &
	{ read -r _ < "$run_dir/hub/alive.in"; echo "gone hub" >&"$events"; } &
	"$qemu_program" -nodefaults -no-user-config -display none -machine none -name weft-hub \
		-chardev "pipe,id=monitor,path=$run_dir/hub/monitor" -mon chardev=monitor,mode=readline \
		"${options[@]}" </dev/null >> "$run_dir/hub/qemu.log" 2>&1 {alive}> "$run_dir/hub/alive.in" &
	guest_pids[hub]=$!
	# its sockets are there when the last one is
	until [ -S "$run_dir/control-$name.socket" ]; do
		kill -0 "${guest_pids[hub]}" 2>/dev/null || die "the network hub does not start: $(cat "$run_dir/hub/qemu.log")"
	done
}

# networks NAME: QEMU options, in $network_options
network_cards() {
	local network mac
	for network in data control; do
		mac=$("${network}_mac" "$1")
		network_options+=(
			-netdev "stream,id=$network,server=off,addr.type=unix,addr.path=$run_dir/$network-$1.socket"
			-device "virtio-net-pci,netdev=$network,mac=$mac,mrg_rxbuf=on"
		)
	done
}

# What only the first client has: the command's output and the answers to `node`.
job_ports() {
	local stream
	mkfifo "$run_dir/answer.in" "$run_dir/answer.out"
	cat "$run_dir/answer.out" > /dev/null &
	port_options+=(-chardev "pipe,id=answer,path=$run_dir/answer" -device virtserialport,chardev=answer,name=answer)
	if [ -n "$shell" ]; then
		port_options+=(-chardev stdio,id=term,signal=off -device virtconsole,chardev=term)
		return
	fi
	for stream in out err; do
		mkfifo "$run_dir/$stream.out"
		port_options+=(-chardev "file,id=$stream,path=$run_dir/$stream.out" -device "virtserialport,chardev=$stream,name=$stream")
	done
	cat "$run_dir/out.out" &
	out_pid=$!
	cat "$run_dir/err.out" >&2 &
	err_pid=$!
}

boot_guest() {
	local name=$1 role disk_options=() network_options=() port_options=()
	if [ "$mode" = several ]; then
		role_disks "$name"
		network_cards "$name"
	elif [ "$mode" = one ]; then
		for role in $(all_roles "$clients" $((targets + spares))); do role_disks "$role"; done
	fi
	port_options=(-chardev "file,id=events,path=$run_dir/events.out" -device virtserialport,chardev=events,name=events)
	[ "$name" != client1 ] || job_ports
	start_guest "$name" "$cpus" "$memory" "${disk_options[@]}" "${network_options[@]}" "${port_options[@]}"
}

start_cluster() {
	local name
	if [ "$mode" = several ]; then
		dropbearkey -t ed25519 -f "$run_dir/node.key" 2>/dev/null | sed -n 's|^\(ssh-[^ ]* [^ ]*\).*|\1|p' > "$run_dir/node.pub" ||
			die "dropbearkey makes no key: run 'make deps'"
		start_hub
	fi
	for name in $(guests); do
		say "booting $name"
		boot_guest "$name"
	done
}

# answer NAME TEXT: to a `node` command that asked the host
answer() { echo "$2" <>"$run_dir/answer.in" >&0; }

# The command starts when all are up; after that a guest comes up when `node NAME on` asked for it.
guest_up() {
	is_up[$1]=1
	if [ -n "${waiting_for-}" ] && [ "$waiting_for" = "$1" ]; then
		waiting_for=
		monitor hub "set_link port-data-$1 on"
		answer client1 ok
		return
	fi
	[ "${#is_up[@]}" -ne $(($(guests | wc -l) - 1)) ] || [ -n "${all_up-}" ] || { all_up=1; answer client1 all-up; }
}

guest_gone() {
	unset "is_up[$1]" "guest_pids[$1]"
	if [ "${expected_gone-}" = "$1" ]; then
		expected_gone=
		answer client1 ok
	else
		complain "guest $1 ended by itself; the end of its console:"
		cat "$run_dir/$1/console.log" "$run_dir/$1/qemu.log" 2>/dev/null | tail -n 25 >&2
	fi
}

# do_for_guest NAME off|on|cut|heal
do_for_guest() {
	local name=$1
	if [ "$name" = client1 ]; then answer client1 "the first client runs the command: it stays on"; return; fi
	if ! grep -qx "$name" < <(guests); then answer client1 "this run has no such guest"; return; fi
	case $2 in
	off)
		if [ -z "${guest_pids[$name]-}" ]; then answer client1 "it is off"; return; fi
		expected_gone=$name
		kill_guest "$name" ;;
	on)
		if [ -n "${is_up[$name]-}" ]; then answer client1 "it is on"; return; fi
		waiting_for=$name
		# Plugged in when it is up. The hub waits in the socket of a guest that does not read, which is so until
		# its driver does: no packet would get through to anybody.
		monitor hub "set_link port-data-$name off"
		boot_guest "$name" ;;
	cut) monitor hub "set_link data-$name off"; answer client1 ok ;;
	heal) monitor hub "set_link data-$name on"; answer client1 ok ;;
	*) answer client1 "unknown request" ;;
	esac
}
