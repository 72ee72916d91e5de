#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A client whose agent has died goes on writing to NVMe-oF targets, which cannot refuse it. Another one is let in when
# it has stopped by itself and what it had sent is over, or when the fence command has taken its host out of the
# subsystems. Nothing that it still wants to write lands after that.
# vm: --kind nvmeof --several --clients 2 --targets 2 --copies 2 --timeout 900
# only: all
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
need_weft

dir=$(work_directory)
lease_ms=6000
io_timeout_s=4 # of the kernel's NVMe host: what was sent is over soon after
writer=/run/testbed/writer

fence() { weftctl --json target show target1 | jq -r .nvme.fence; }

# The second client writes its count of rounds into the first block of a file, for as long as it can;
# the last one that was acknowledged is in $writer.
write_on_client2() {
	node client2 cluster mount || return 1
	ok node client2 dd if=/dev/zero of="$dir/count" bs=4096 count=1 oflag=direct conv=fsync status=none
	rm -f "$writer"*
	# shellcheck disable=SC2016  # expanded there
	node client2 bash -c '
		for ((round = 1; ; round++)); do
			printf "%-4095d\n" $round | dd of="'"$dir"'/count" bs=4096 iflag=fullblock oflag=direct conv=notrunc status=none || break
			echo $round > '"$writer"'.new && mv '"$writer"'.new '"$writer"'
		done
		touch '"$writer"'.ended' > /dev/null 2>&1 &
	background_jobs+=($!)
	wait_for 30 test -e "$writer"
}
written() { cat "$writer"; }
moves() { local before=$1; [ "$(written)" -gt "$before" ]; }
count_here() { head -c 4096 "$dir/count" | tr -d ' \n'; }
nothing_changes() {
	drop_caches
	[ "$(count_here)" = "$1" ] || fail "$2: the file says $(count_here), not $1"
}
# takes_over SECONDS: this client mounts within that time
takes_over() {
	local start=$SECONDS
	wait_for "$1" cluster mount || fail "it cannot mount: $(cluster mount 2>&1)"
	step "it was let in after $((SECONDS - start)) s"
}
# The old one's agent comes back and finds that its session has ended: what waits ends with an error.
old_client_ends() {
	node client2 cluster start agent
	wait_for 60 test -e "$writer.ended" || fail "the writer of the client that was replaced still waits"
	ok node client2 cluster umount
}

step "leases of $lease_ms ms, and no fence command"
ok cluster umount
ok cluster stop
printf '[session]\nlease_ms = %d\n' $lease_ms > /run/testbed/meta.toml
for client in client1 client2; do ok node $client tee /sys/module/nvme_core/parameters/io_timeout <<< $io_timeout_s > /dev/null; done
ok cluster start
ok cluster mount
ok dd if=/dev/urandom of="$dir/file" bs=1M count=48 oflag=direct status=none
sum=$(sha256sum < "$dir/file")
ok sync -f "$dir"
[ "$(fence)" = lease ] || fail "the fence in force is '$(fence)', not lease"
ok cluster umount

step "the second client's agent dies, its kernel goes on"
write_on_client2 || fail "the second client does not write"
ok node client2 cluster kill agent
seen=$(written)
wait_for 5 moves "$seen" || fail "without its agent it does not write at all: is that the direct path?"
takes_over 60
last=$(count_here)
[ "$last" -ge "$(written)" ] || fail "round $(written) was acknowledged, the file says $last"
step "it wrote up to round $last"
sleep 3 # in which nothing may happen
nothing_changes "$last" "a while later"
old_client_ends
nothing_changes "$last" "after the old client's agent came back"
[ "$(sha256sum < "$dir/file")" = "$sum" ] || fail "a file that nobody wrote to differs"
ok cluster umount

step "the same with a fence command"
ok cluster stop meta
cat > /run/testbed/fence <<-END
	#!/bin/bash
	exec node "\$3" $WEFT_PROJECT/nvmeof/fence-nvmet --local "\$@"
END
chmod +x /run/testbed/fence
printf '[session]\nlease_ms = %d\n[nvmeof]\nfence_command = "/run/testbed/fence"\n' $lease_ms > /run/testbed/meta.toml
ok cluster start meta
[ "$(fence)" = command ] || fail "the fence in force is '$(fence)', not command"
write_on_client2 || fail "the second client does not write"
ok node client2 cluster kill agent
session=$(weftctl --json session list | jq -r '.[0].id')
ok weftctl session evict "$session" # its lease goes on, its kernel writes
takes_over 30
last=$(count_here)
step "it wrote up to round $last"
sleep 3 # in which nothing may happen
nothing_changes "$last" "a while later"
old_client_ends
nothing_changes "$last" "after the old client's agent came back"
in_sync 120
ok cluster umount

step "it is let in again"
node client2 cluster mount || fail "the second client is not let in again"
[ "$(node client2 head -c 4096 "$dir/count" | tr -d ' \n')" = "$last" ] || fail "it reads other bytes"
ok node client2 cluster umount

step "every byte is right"
ok cluster mount
in_sync 120
[ "$(sha256sum < "$dir/file")" = "$sum" ] || fail "a file that nobody wrote to differs"
ok weftctl fsck
copies_equal --copies 2
