# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Measuring in a guest. Figures go to $results as lines "ROW FIGURE VALUE"; several rounds take turns,
# so that what disturbs one disturbs all, and the median of the rounds counts.

results=$(mktemp)
trap 'rm -f "$results"' EXIT

address=${WEFT_RDMA_ADDRESS:?tests/vm/run sets it: the address of this guest on the RDMA network}
rdma_device=$(basename /sys/class/infiniband/*)

note() { echo "bench: $*" >&2; }
die() { echo "bench: $*" >&2; exit 1; }

record() { echo "$1 $2 $3" >> "$results"; }

# median ROW FIGURE: of what was recorded, "-" when nothing was
median() {
	awk -v row="$1" -v figure="$2" '$1 == row && $2 == figure { print $3 }' "$results" | sort -g |
		awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2; else print "-" }'
}

# perftest TOOL ARGUMENT...: both ends of a perftest over rdma_cm in this guest; prints what the client says
perftest() {
	local tool=$1 server deadline=$((SECONDS + 30))
	shift
	"$tool" -d "$rdma_device" -R "$@" > /dev/null 2>&1 &
	server=$!
	# there is no event for a listener that appears
	until rdma resource show cm_id | grep 'state LISTEN .*:18515 ' > /dev/null; do
		kill -0 $server 2> /dev/null || die "$tool does not start on $rdma_device"
		[ $SECONDS -lt $deadline ] || die "$tool does not listen on port 18515; rdma resource show cm_id says:
$(rdma resource show cm_id)"
	done
	"$tool" -d "$rdma_device" -R "$@" "$address"
	wait $server || die "the server side of $tool failed"
}

# measure_fio FILE RW BLOCK DEPTH SECONDS: prints "BYTES_PER_SECOND MEAN_LATENCY_US"
measure_fio() {
	local file=$1 rw=$2 block=$3 depth=$4 seconds=$5 side='read'
	case $rw in *write) side='write' ;; esac
	fio --name=bench --filename="$file" --direct=1 --rw="$rw" --bs="$block" --iodepth="$depth" --ioengine=io_uring \
		--size="$bench_bytes" --runtime="$seconds" --time_based --ramp_time=1 --norandommap --randrepeat=0 \
		--output-format=json |
		jq -r ".jobs[0].$side | \"\(.bw_bytes) \(.lat_ns.mean / 1000)\""
}

# measure_file ROW FILE: the figures that every block device and file system gets
measure_file() {
	local row=$1 file=$2 rate latency
	read -r rate latency < <(measure_fio "$file" read 1M 4 "$seconds") || die "$row: 1 MiB reads failed"
	record "$row" read_1m "$(awk "BEGIN { print $rate / 1e6 }")"
	read -r rate latency < <(measure_fio "$file" write 1M 4 "$seconds") || die "$row: 1 MiB writes failed"
	record "$row" write_1m "$(awk "BEGIN { print $rate / 1e6 }")"
	read -r rate latency < <(measure_fio "$file" randread 4k 1 "$seconds") || die "$row: 4 KiB reads failed"
	record "$row" read_4k "$latency"
	read -r rate latency < <(measure_fio "$file" randwrite 4k 1 "$seconds") || die "$row: 4 KiB writes failed"
	record "$row" write_4k "$latency"
}

# ratio A B: A / B with two digits
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0 && a != "-") printf "%.2f", a / b; else printf "-" }'; }

# require TEXT RATIO OPERATOR BOUND
require() {
	local verdict=missed
	awk -v r="$2" -v b="$4" "BEGIN { exit !(r != \"-\" && r $3 b) }" && verdict=met
	printf '  %-52s %6s   wanted %s %s: %s\n' "$1" "$2" "$3" "$4" "$verdict"
}
