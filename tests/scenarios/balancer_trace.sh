#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A trace is recorded while fio runs, and replayed by the simulator; what is wrong with traces is said.
# vm: --targets 2
# only: all
. "$(dirname "$0")/../lib.sh"
need_weft

dir=$(work_directory)
trace=$SCRATCH/trace

step "a trace of random reads and some writes"
fio_run fill --directory="$dir" --rw=write --bs=256k --size=16m --direct=1 --filename=data
fio --name=load --filename="$dir/data" --rw=randrw --rwmixread=80 --bs=4k --size=16m --direct=1 --ioengine=io_uring --iodepth=16 \
	--time_based --runtime=60 --output="$SCRATCH/fio" --eta=never &
load=$!
background_jobs+=("$load")
ok weftctl trace record "$trace" --seconds 4
step "$(stat -c %s "$trace") bytes"

step "a signal ends a trace, which is whole"
background weftctl trace record "$SCRATCH/cut" --seconds 600
record=$!
wait_for 20 test -s "$SCRATCH/cut.new" || fail "nothing is recorded"
kill -TERM "$record"
wait "$record" || fail "the recorder ended with status $?"
ok weftctl balancer simulate "$SCRATCH/cut" round_robin > /dev/null

kill "$load"
wait "$load"

step "the simulator, with one target slowed tenfold"
ok weftctl balancer simulate "$trace" round_robin least_inflight p2c_latency local_first weighted --back-to-back
weftctl --json balancer simulate "$trace" round_robin p2c_latency --back-to-back --slow target2=10 > "$SCRATCH/json" ||
	fail "the simulator: status $?"
p99() { python3 -c 'import json, sys; print({r["policy"]: r for r in json.load(open(sys.argv[1]))["policies"]}[sys.argv[2]]["p99_ns"])' "$SCRATCH/json" "$1"; }
step "p99 of round_robin $(p99 round_robin) ns, of p2c_latency $(p99 p2c_latency) ns"
[ "$(p99 p2c_latency)" -lt "$(p99 round_robin)" ] || fail "p2c_latency is no better than round robin"

step "what cannot be done, with the reason"
refused 'no target .nowhere.' weftctl balancer simulate "$trace" round_robin --slow nowhere=2
refused 'not a trace' weftctl balancer simulate /bin/true round_robin
refused 'not a BPF object|not an ELF' weftctl balancer simulate "$trace" /etc/passwd
refused 'No such file' weftctl trace record /nowhere/trace
refused 'is no file' weftctl trace record /dev/full
refused 'is not 1 to' weftctl trace record "$trace" --seconds 0
