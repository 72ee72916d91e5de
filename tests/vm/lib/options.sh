# shellcheck shell=bash disable=SC2034  # run uses what is set here
# SPDX-License-Identifier: MIT
#
# The command line of tests/vm/run.

usage() {
	cat <<-END
	usage: tests/vm/run [OPTION]... -- COMMAND [ARGUMENT]...
	       tests/vm/run [OPTION]... --shell

	Boots a weftfs cluster in QEMU guests, mounts it at /mnt/weft and runs COMMAND in the first
	client, in the folder where you are. Exits with the status of COMMAND; 124 when the time is
	over, 125 when the testbed failed, a kernel log has a complaint or a daemon crashed. The root
	of each guest is this host's root, read-only, with a memory file system above it; /tmp is the
	guest's own. Inside: 'cluster' starts and stops daemons, 'node' reaches the other guests.

	  --clients N        client hosts (default 1; more need --several)
	  --targets N        storage targets (default 2)
	  --spare N          more targets, which are not started and not in the pool (default 0):
	                     'cluster start targetN', 'weftctl target add targetN'
	  --copies N         of each chunk (default: what 'weftctl pool create' takes, 2)
	  --chunk-size SIZE  of the pool, for example 16MiB (default: 64 MiB)
	  --kind rdma|nvmeof|mixed
	                     kind of the targets: weft-target processes (the default), subsystems of the
	                     kernel's NVMe target, or odd ones the former and even ones the latter
	  --fabric rdma|tcp  how the NVMe-oF targets are reached (default rdma)
	  --data-path agent|direct
	                     what 'weftctl target add' is told for them (default: nothing)
	  --several          a guest for each client, the metadata server and each target, instead of
	                     one guest for all
	  --no-mount         nothing is started: COMMAND does that with 'cluster'
	  --bare             one guest with RDMA and no disks for a cluster; 'nvmet start N'
	                     has one in memory (with --kind)
	  --keep             leave it to COMMAND to unmount and stop everything
	  --shell            a prompt instead of a command

	  --backing disk|ram|mapped
	                     what targets store on: disks of their guests, files in memory, or disks
	                     below the device mapper, which 'cluster disk' makes slow or faulty
	  --target-size SIZE of each target (default 2G)
	  --disk SIZE        one more disk for the first client, \$WEFT_SPARE_DISK
	  --memory SIZE      of each guest (default 2G; 1G with --several)
	  --cpus N           of each guest (default 2; 1 with --several)
	  --counted          time in the guests is counted in instructions (QEMU's icount), and their
	                     processors take turns: how long something takes is how much is done for
	                     it, whatever this machine does besides. Not with --several; for --backing
	                     ram, as waiting for this machine's disks is no instruction
	  --module FILE      insert this kernel module first (may be repeated)
	  --kernel-args TEXT added to the kernel's command line
	  --timeout SECONDS  the whole run may last this long (default 600; 0: for ever)
	  --logs FOLDER      keep the logs here (default: a folder in build/vm, kept after a failure)
	  -v, --verbose      tell what happens
	END
}

timeout='' memory='' cpus='' mode=one clients=1 targets=2 spares=0 copies='' chunk_size='' target_size=2G backing=disk spare_size=''
kind=rdma fabric=rdma data_path=''
form=1 keep='' shell='' counted='' modules=() run_dir='' verbose='' kernel_args='' keep_logs=''

# number OPTION VALUE MIN MAX
number() {
	case $2 in '' | *[!0-9]*) die "$1 '$2' is no number" ;; esac
	if [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then die "$1 $2 is not $3 to $4"; fi
}

# one_of OPTION VALUE WORD...
one_of() { case " ${*:3} " in *" $2 "*) ;; *) die "$1 '$2' is none of: ${*:3}" ;; esac; }

size() { case $2 in *[0-9][KMGT] | *[0-9]) ;; *) die "$1 '$2' is no size; 512M and 2G are" ;; esac; }

# parse_options ARGUMENT...: sets $parsed to how many were options
parse_options() {
	local given=$#
	while [ $# -gt 0 ]; do
		case $1 in
		--clients | --targets | --spare | --copies | --chunk-size | --kind | --fabric | --data-path | --backing | \
			--target-size | --disk | --memory | --cpus | --module | --kernel-args | --timeout | --logs)
			[ $# -ge 2 ] || die "option $1 needs a value" ;;
		esac
		case $1 in
		--clients) number "$1" "$2" 1 8; clients=$2; shift ;;
		--targets) number "$1" "$2" 1 16; targets=$2; shift ;;
		--spare) number "$1" "$2" 0 15; spares=$2; shift ;;
		--copies) number "$1" "$2" 1 4; copies=$2; shift ;;
		--chunk-size) chunk_size=$2; shift ;;
		--kind) one_of "$1" "$2" rdma nvmeof mixed; kind=$2; shift ;;
		--fabric) one_of "$1" "$2" rdma tcp; fabric=$2; shift ;;
		--data-path) one_of "$1" "$2" agent direct; data_path=$2; shift ;;
		--several) mode=several ;;
		--no-mount) form='' ;;
		--bare) mode=bare form='' ;;
		--keep) keep=1 ;;
		--shell) shell=1 ;;
		--backing) one_of "$1" "$2" disk ram mapped; backing=$2; shift ;;
		--target-size) size "$@"; target_size=$2; shift ;;
		--disk) size "$@"; spare_size=$2; shift ;;
		--memory) size "$@"; memory=$2; shift ;;
		--cpus) number "$1" "$2" 1 64; cpus=$2; shift ;;
		--counted) counted=1 ;;
		--module) [ -e "$2" ] || die "no module $2"; modules+=("$(realpath "$2")"); shift ;;
		--kernel-args) kernel_args=$2; shift ;;
		--timeout) number "$1" "$2" 0 86400; timeout=$2; shift ;;
		--logs) run_dir=$2; shift ;;
		-v | --verbose) verbose=1 ;;
		-h | --help) usage; exit 0 ;;
		--) shift; break ;;
		*) die "unknown option '$1'; --help lists them" ;;
		esac
		shift
	done
	parsed=$((given - $#))
	[ $((targets + spares)) -le 16 ] || die "--targets $targets --spare $spares: together there are at most 16"
	[ "$mode" = several ] || [ "$clients" -eq 1 ] || die "--clients $clients: more than one needs --several"
	[ "$mode" != bare ] || backing=ram
	if [ -n "$counted" ]; then
		[ "$mode" != several ] || die "--counted: the clocks of --several guests would run apart"
		[ "$backing" = ram ] || die "--counted with --backing $backing: this machine's disks have another clock; --backing ram"
	fi
	: "${timeout:=$([ -n "$shell" ] && echo 0 || echo 600)}"
	: "${memory:=$([ "$mode" = several ] && echo 1G || echo 2G)}"
	: "${cpus:=$([ "$mode" = several ] && echo 1 || echo 2)}"
	[ -z "$shell" ] || [ -t 0 ] || die "--shell needs a terminal"
}

# The folder of this run: names its logs and is shared with the guests.
make_run_dir() {
	if [ -n "$run_dir" ]; then
		keep_logs=1
		# only what an earlier run left may go
		if [ -e "$run_dir/run.conf" ]; then
			rm -rf "$run_dir"
		elif [ -n "$(ls -A "$run_dir" 2>/dev/null)" ]; then
			die "--logs $run_dir: the folder is not empty, and no run wrote it"
		fi
		mkdir -p "$run_dir" || exit 125
	else
		run_dir=$(mktemp -d "$project/build/vm/$(date +%m%d-%H%M%S)-XXXX") || exit 125
		# failed runs of long ago are of no use to anybody
		find "$project/build/vm" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*-*-*' -mtime +7 -exec rm -rf {} +
	fi
	run_dir=$(realpath "$run_dir")
}
