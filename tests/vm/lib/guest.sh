# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# One QEMU guest: its command line, start and end. Uses from `run`: project, qemu_program, kernel,
# initramfs, run_dir, events (fd), accel, memory, verbose.
#
# In $run_dir/NAME: console.log (all of the kernel log), monitor.in (QEMU's HMP), tell.in
# (requests to the guest, read by guest/boot).

# Prints the accelerator: KVM only where the processor has it and a guest has really run, since a
# /dev/kvm that opens may still hang.
choose_accel() {
	local seen=$1
	if ! grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo || [ ! -w /dev/kvm ]; then
		echo tcg
		return
	fi
	if [ ! -e "$seen" ]; then
		if timeout 20 "$qemu_program" -nodefaults -no-user-config -display none -no-reboot -machine q35 \
			-accel kvm -cpu host -m 512 -kernel "$kernel/vmlinuz" -initrd "$initramfs" -serial stdio \
			-append "console=ttyS0 weft.probe" 2>/dev/null </dev/null | grep -q 'this accelerator works'; then
			echo kvm > "$seen"
		else
			echo tcg > "$seen"
		fi
	fi
	cat "$seen"
}

# start_guest NAME CPUS MEMORY [MORE QEMU OPTIONS...]: returns at once. When the guest has ended,
# "gone NAME" arrives at $events.
declare -A guest_pids
start_guest() {
	local name=$1 cpus=$2 memory=$3 dir=$run_dir/$1 qemu boot_args=
	shift 3
	mkdir -p "$dir"
	for fifo in alive.in monitor.in monitor.out tell.in tell.out; do
		[ -p "$dir/$fifo" ] || mkfifo "$dir/$fifo"
	done
	# An old QEMU does not bear a kernel that rewrites its code while several processors run (tests/vm/qemu.sh).
	# Nearly all of that, the switching of static keys, is done while the kernel starts, so it starts on one
	# processor; tests/vm/init brings up the others. (lpj: calibrating the delay loop of each takes 1.5 s.)
	# It sees this machine's time stamp counter, and is told how fast that runs (tests/tools/tsc_khz.cc).
	[ "$accel" = kvm ] || boot_args="maxcpus=1 lpj=10000000 tsc_early_khz=$tsc_khz"
	qemu=(
		"$qemu_program" -nodefaults -no-user-config -display none -no-reboot -name "weft-$name"
		-machine q35 -smp "$cpus" -m "$memory"
		-kernel "$kernel/vmlinuz" -initrd "$initramfs"
		-append "$boot_args console=ttyS0 loglevel=7 printk.time=1 panic=-1 oops=panic mitigations=off nokaslr tsc=reliable no_timer_check random.trust_cpu=on weft.name=$name weft.project=$project $kernel_args"
		-chardev "file,id=console,path=$dir/console.log,append=on" -serial chardev:console
		-chardev "pipe,id=monitor,path=$dir/monitor" -mon chardev=monitor,mode=readline
		-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng
		-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap
		-device virtio-9p-pci,fsdev=root,mount_tag=root
		-fsdev "local,id=run,path=$run_dir,security_model=none"
		-device virtio-9p-pci,fsdev=run,mount_tag=run
		-device virtio-serial-pci
		-chardev "pipe,id=tell,path=$dir/tell" -device virtserialport,chardev=tell,name=tell
	)
	case $accel in
	kvm) qemu+=(-accel kvm -cpu host) ;;
	counted) qemu+=(-accel tcg,thread=single -icount shift=1 -cpu max) ;; # 2 ns each
	# `rep movsb` is emulated byte by byte: without these flags the kernel and glibc copy in other ways
	*) qemu+=(-accel tcg,thread=multi -cpu max,erms=off,fsrm=off) ;;
	esac
	qemu+=("$@")
	[ -z "$verbose" ] || printf '%q ' "${qemu[@]}" >> "$dir/qemu.cmd"
	# QEMU's monitor and the port `tell` answer; nobody reads that, so it must not fill up
	cat "$dir/monitor.out" >> "$dir/monitor.log" &
	cat "$dir/tell.out" > /dev/null &
	# no process but QEMU holds the other end of `alive`: end of file means that QEMU has ended
	{ read -r _ < "$dir/alive.in"; echo "gone $name" >&"$events"; } &
	if [ -n "$shell" ] && [ "$name" = client1 ]; then
		"${qemu[@]}" <&"$terminal" >&"$terminal" 2>> "$dir/qemu.log" {alive}> "$dir/alive.in" &
	else
		"${qemu[@]}" </dev/null >> "$dir/qemu.log" 2>&1 {alive}> "$dir/alive.in" &
	fi
	guest_pids[$name]=$!
}

# monitor NAME COMMAND...: to QEMU's monitor
monitor() {
	local name=$1
	shift
	echo "$*" <>"$run_dir/$name/monitor.in" >&0
}

# tell NAME WORD...: to the guest's boot script
tell() {
	local name=$1
	shift
	echo "$*" <>"$run_dir/$name/tell.in" >&0
}

# kill_guest NAME: cuts its power; the guest is not asked
kill_guest() {
	[ -z "${guest_pids[$1]-}" ] || kill "${guest_pids[$1]}" 2>/dev/null || true
}
