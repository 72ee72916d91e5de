#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Whoever adds an NVMe-oF namespace that cannot be a target is told which it is, why, and what to do; nothing stays
# connected, and nothing that runs is disturbed. Then it is added, holds data, is drained and removed, and comes again.
#
# Over TCP: there a wrong key is refused at once. Of block sizes only good ones are tried: nvmet exports none above
# the size of a page.
# vm: --kind mixed --fabric tcp --targets 3 --spare 1 --copies 2 --chunk-size 16MiB --target-size 1G --timeout 900
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../pool.sh"
. "$(dirname "$0")/../nvme.sh"
need_weft

dir=$(work_directory)
hostnqn=$(< /etc/nvme/hostnqn)
uri=$(cluster uri target4)
nqn=${uri##*/}
at=${uri#*://} at=${at%/*}
host=${at%:*} port=${at#*:}
second=${WEFT_META%:*}:7480 # where the metadata server of another cluster is
namespaces=/sys/kernel/config/nvmet/subsystems/$nqn/namespaces
limit=/sys/module/nvme_core/parameters/admin_timeout

controllers() { grep -lxsF "$nqn" /sys/class/nvme/nvme*/subsysnqn; }
disconnected() { [ -z "$(controllers)" ]; }
# refuses THING REMEDY ARGUMENT...: `weftctl target add` names the one and the other, and leaves nothing connected
refuses() {
	local remedy=$2
	refused "$1" weftctl target add "${@:3}"
	grep -Eiq -- "$remedy" "$SCRATCH/refused" || fail "it is not said what to do (/$remedy/): $(cat "$SCRATCH/refused")"
	wait_for 10 disconnected || fail "it is still connected: $(controllers)"
}
# settings NAME LINE...: of `weftctl --cluster NAME`, besides those that all need
settings() {
	local file=/etc/weft/$1.toml
	{ cat /etc/weft/weft.toml; printf '%s\n' "${@:2}"; } > "$file"
}
# add_tls_key: some key, to the keyring that the kernel looks in; Debian's nvme-cli does not put it there
add_tls_key() {
	local keyring
	keyring=$(awk '$0 ~ / keyring +\.nvme:/ { print $1 }' /proc/keys)
	perl -e 'my $type = "psk"; syscall(248, $type, $ARGV[0], $ARGV[1], length $ARGV[1], hex $ARGV[2]) > 0 or die "add_key: $!\n"' \
		"NVMe0R01 $hostnqn $nqn" "$(head -c 24 /dev/urandom | base64)" "$keyring"
}
# more_namespace NSID SIZE BLOCK_BYTES: one more in the subsystem; where it is stored is in $device
more_namespace() {
	ok truncate -s "$2" "$SCRATCH/namespace-$1"
	device=$(losetup --find --show --sector-size "$3" "$SCRATCH/namespace-$1") || fail "no loop device"
	ok mkdir "$namespaces/$1"
	ok tee "$namespaces/$1/device_path" <<< "$device" > /dev/null
	ok tee "$namespaces/$1/enable" <<< 1 > /dev/null
}
less_namespace() {
	ok rmdir "$namespaces/$1"
	ok losetup --detach "$(losetup --noheadings --output NAME --associated "$SCRATCH/namespace-$1")"
}
# through_fabric COMMAND...: with the namespace, connected by hand, in $connected
through_fabric() {
	ok nvme connect --transport tcp --traddr "$host" --trsvcid "$port" --nqn "$nqn" > /dev/null
	appeared() { connected=$(nvme_device_of "$nqn"); }
	wait_for 20 appeared || fail "there is no device of $nqn"
	"$@"
	ok nvme disconnect --nqn "$nqn" > /dev/null
}
used() { pool ".targets[] | select(.name == \"$1\") | .used_bytes"; }
live_paths() { [ "$(weftctl --json target show target4 | jq '[.nvme.paths[] | select(.state == "live")] | length')" = "$1" ]; }
connected_paths() { wait_for 30 live_paths "$1" || fail "not $1 paths are live: $(weftctl target show target4)"; }

ok dd if=/dev/urandom of="$dir/before" bs=1M count=16 oflag=direct status=none
before_sum=$(sha256sum < "$dir/before")

step "URIs that are none"
refuses "nvme\+tcp:/$host" 'wanted: nvme\+rdma://' "nvme+tcp:/$host/$nqn"
refuses "'fc'" 'rdma nor tcp' "nvme+fc://$at/$nqn"
refuses 'NQN is missing' 'wanted: nvme' "nvme+tcp://$at"
refuses "'disk1' is not an NQN" 'begins with' "nvme+tcp://$at/disk1"
refuses "'99999' is not a port" '1 to 65535' "nvme+tcp://$host:99999/$nqn"
refuses "'300.1.2.3'" 'address' "nvme+tcp://300.1.2.3:4420/$nqn"
refuses 'IPv6' 'brackets' "nvme+tcp://fe80::1:4420/$nqn"
refuses "nsid '0'" 'from 1' "$uri?nsid=0"
refuses 'nsid=N' 'wanted' "$uri?size=1"
refuses 'discovery' 'no namespaces' "nvme+tcp://$at/nqn.2014-08.org.nvmexpress.discovery"
refuses 'nowhere.invalid' 'check the name' "nvme+tcp://nowhere.invalid/$nqn"
refuses 'target9' 'each target by itself' "$uri" "nvme+tcp://$at/nqn.2026-11.org.weftfs:target9"
refuses "data path 'fast'" 'auto, agent, direct' "$uri" --data-path fast
refuses '--name' 'NVMe-oF' target1 --name other

step "nothing listens"
refuses "nothing listens at tcp $at" 'check' "$uri"
refused "nothing listens at tcp $at" weftctl nvme discover "$at" --transport tcp

step "it listens: discovery shows it, the wrong name is refused"
ok cluster start target4
ok weftctl nvme discover "$at" --transport tcp > "$SCRATCH/discovered"
grep -Eq "^nvm +nvme\+tcp://$at/$nqn\$" "$SCRATCH/discovered" || fail "it is not discovered: $(cat "$SCRATCH/discovered")"
[ "$(weftctl --json nvme discover "$at" --transport tcp | jq -r '.[] | select(.kind == "nvm") | .uri')" = "$uri" ] ||
	fail "discovered as JSON: $(weftctl --json nvme discover "$at" --transport tcp)"
refuses "subsystem ${nqn}x" 'discover' "${uri}x"

step "this host is not admitted"
ok nvmet host 4 refuse "$hostnqn"
refuses "$nqn at tcp $at does not admit host NQN $hostnqn" 'allowed hosts' "$uri"
ok weftctl nvme discover "$at" --transport tcp > "$SCRATCH/discovered"
! grep -q "$nqn" "$SCRATCH/discovered" || fail "a host that is not admitted is shown $nqn"
ok nvmet host 4 allow "$hostnqn"

step "keys: none, a wrong one, no key at all, and the right one"
key() { nvme gen-dhchap-key --hmac 1 --nqn "$hostnqn"; }
key > "$SCRATCH/right.key"
key > "$SCRATCH/wrong.key"
echo 'DHHC-1:01:abcd:' > "$SCRATCH/no.key"
settings wrong "nvme_key = \"$SCRATCH/wrong.key\""
settings none "nvme_key = \"$SCRATCH/no.key\""
settings missing "nvme_key = \"$SCRATCH/missing.key\""
settings right "nvme_key = \"$SCRATCH/right.key\""
before=$(< $limit)
# a controller that waits for an answer that does not come is given up after this time, not after a minute
echo 5 > $limit
ok nvmet key 4 "$hostnqn" "$(< "$SCRATCH/right.key")"
refuses "$nqn at tcp $at wants host NQN $hostnqn to prove a DH-HMAC-CHAP key" 'set the one' "$uri"
refuses "$nqn at tcp $at rejected the DH-HMAC-CHAP key of host NQN $hostnqn" 'compare' "$uri" --cluster wrong
refuses 'dhchap_key is not a DH-HMAC-CHAP secret' 'nvme gen-dhchap-key' "$uri" --cluster none
refuses "$SCRATCH/missing.key" 'nvme gen-dhchap-key' "$uri" --cluster missing
# connected, and no more than that: the namespace is not the one that is wanted
refuses "$nqn shows" 'namespaces? 1' "$uri?nsid=7" --cluster right
ok nvmet key 4 "$hostnqn" none
echo "$before" > $limit

step "TLS: without a key, without tlshd, not over RDMA"
settings tls 'nvme_tls = true'
refuses "no TLS key for host NQN $hostnqn and subsystem $nqn at tcp $at" 'put the one of the storage node there' \
	"$uri" --cluster tls
ok add_tls_key
refuses "TLS to tcp $at needs tlshd" 'systemctl start tlshd' "$uri" --cluster tls
refuses 'TLS is set' 'nvme\+tcp' "nvme+rdma://$at/$nqn" --cluster tls

step "several namespaces; one that is too small; blocks of 4 KiB"
ok modprobe loop
members=$(pool '.targets | length')
more_namespace 2 12M 512
more_namespace 3 64M 4096
refuses "$nqn has the namespaces 1, 2, 3" 'nsid=N' "$uri"
refuses "$nqn shows namespaces 1, 2, 3" 'nsid' "$uri?nsid=4"
refuses "namespace 2 of $nqn has 12\.0 MiB" 'larger' "$uri?nsid=2"
[ "$(pool '.targets | length')" = "$members" ] || fail "it became a member: $(weftctl target list)"
ok weftctl target add "$uri?nsid=3" --name blocks
wait_for 30 up blocks || fail "it does not come up: $(weftctl target show blocks)"
ok weftctl target drain blocks
in_sync 120
ok weftctl target remove blocks
less_namespace 2
less_namespace 3
# the agent has left that to whoever may use the others
ok nvme disconnect --nqn "$nqn" > /dev/null

step "it belongs to another cluster"
start_ready weft-meta --data "$SCRATCH/other" --listen "$second" --cluster other
other=$!
ok weftctl --meta "$second" target add "$uri" --name theirs
refuses "namespace 1 of $nqn belongs to another cluster" 'zero its first MiB' "$uri"
refuses "namespace 1 of $nqn belongs to another cluster" 'zero its first MiB' "$uri" --force
kill $other
wait $other || fail "weft-meta did not end cleanly"

step "it holds a file system"
make_ext4() {
	ok dd if=/dev/zero of="$connected" bs=1M count=1 oflag=direct status=none
	ok mkfs.ext4 -q -F "$connected"
}
through_fabric make_ext4
ext4="namespace 1 of $nqn.* holds an ext2, ext3 or ext4 file system"
refuses "$ext4" '--force' "$uri"
# and it still does after an error, --force or not
refuses "another target is named 'target1'" '--name' "$uri" --name target1 --force
refuses '--weight: 0' '1 to' "$uri" --name target4 --weight 0 --force
refuses "$ext4" '--force' "$uri"

step "with --force it is a target: data are on it"
ok weftctl target add "$uri" --name target4 --force
wait_for 30 up target4 || fail "it does not come up: $(weftctl target show target4)"
connected_paths 1
weftctl target show target4 | grep -Eq "path +nvme[0-9]+ at tcp $at: live" || fail "its path: $(weftctl target show target4)"
weftctl target show target4 | grep -Fq "$uri" || fail "its URI: $(weftctl target show target4)"
refused 'target1 is .*weft-target|weft-target' weftctl target set target1 --data-path agent
ok dd if=/dev/urandom of="$dir/large" bs=1M count=96 oflag=direct status=none
sum=$(sha256sum < "$dir/large")
[ "$(used target4)" -gt 0 ] || fail "nothing was placed on target4: $(weftctl target list)"
copies_equal --copies 2

step "one more path is made known"
ok nvmet second-port 4 on
ok weftctl target add "$uri" "nvme+tcp://$host:5424/$nqn" --name target4
connected_paths 2

step "it is drained and removed"
ok weftctl target drain target4
in_sync 240
[ "$(used target4)" -eq 0 ] || fail "target4 still holds $(used target4) bytes: $(weftctl pool status)"
ok weftctl target remove target4
wait_for 20 disconnected || fail "it is still connected: $(controllers)"
[ "$(sha256sum < "$dir/large")" = "$sum" ] || fail "the large file differs"

step "and added again"
ok weftctl target add "$uri" --name target4
wait_for 30 up target4 || fail "it does not come up: $(weftctl target show target4)"
ok dd if=/dev/urandom of="$dir/later" bs=1M count=96 oflag=direct status=none
[ "$(used target4)" -gt 0 ] || fail "nothing was placed on target4: $(weftctl target list)"
ok weftctl pool scrub > /dev/null
ok weftctl pool wait --scrub --timeout 240s > /dev/null
pool_says '.bad_blocks == 0' || fail "scrubbing finds what it held before: $(weftctl pool status)"
remount
[ "$(sha256sum < "$dir/large")" = "$sum" ] || fail "the large file differs"
[ "$(sha256sum < "$dir/before")" = "$before_sum" ] || fail "the file from before differs"
ok weftctl fsck
copies_equal --copies 2
