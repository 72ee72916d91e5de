#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Whoever gives a daemon, a tool or a mount something wrong is told what, where and how to do better:
# options, settings files, keys, addresses, devices, clusters, pools, targets. Nothing that runs is
# disturbed by it.
. "$(dirname "$0")/../lib.sh"
need_weft

meta=$WEFT_META
host=${meta%:*}
second=$host:7480  # of a second cluster, "other"
key=$WEFT_KEY
ok cd "$SCRATCH"

step "options and settings files of the daemons"
for daemon in weft-meta weft-target weftd; do
	refused 'nonsense' $daemon --nonsense
	refused 'log-?level' $daemon --log-level
	refused 'word' $daemon word
	refused 'nothing.toml' $daemon --config "$SCRATCH/nothing.toml"
	echo 'colour = "blue"' > unknown.toml
	refused 'colour' $daemon --config unknown.toml
	printf 'cluster = "x"\nlog_level = = 3\n' > broken.toml
	refused 'broken.toml.*(line )?2|(line )?2.*broken.toml' $daemon --config broken.toml
	echo 'log_level = 7' > type.toml
	refused 'log_level' $daemon --config type.toml
	ok $daemon --help > /dev/null
	[[ "$($daemon --version)" == "$daemon "* ]] || fail "$daemon --version says $($daemon --version)"
done

step "weft-meta"
refused 'nowhere' weft-meta --data "$SCRATCH/m" --listen nowhere.invalid:7480
refused '99999' weft-meta --data "$SCRATCH/m" --listen "$host:99999"
refused 'address already in use|in use' weft-meta --data "$SCRATCH/m0" --listen "$meta"
refused '/proc/weft' weft-meta --data /proc/weft --listen "$second"
refused 'in use by another' weft-meta --data /var/lib/weft-meta/data --listen "$second"
refused 'cluster' weft-meta --data "$SCRATCH/m" --listen "$second" --cluster "$(printf 'c%.0s' {1..100})"

step "weftctl"
refused 'which command' weftctl
refused 'no command' weftctl frobnicate
refused 'eat' weftctl pool eat
refused 'nonsense' weftctl --nonsense pool status
refused "$host:7999" weftctl --meta "$host:7999" pool status
refused 'no session' weftctl session evict 12345
refused 'not the id' weftctl session evict first
refused 'pool already' weftctl pool create
refused 'nobody' weftctl balancer set nobody

step "a second cluster: forming its pool"
start_ready weft-meta --data "$SCRATCH/other" --listen "$second" --cluster other
other_meta=$!
refused 'no target' weftctl --meta "$second" pool create
refused 'nosuch' weftctl --meta "$second" pool create --target nosuch
target=(weft-target --meta "$second" --cluster other --key "$key" --listen "$(ip -4 -o addr show dev weft0 | awk '{ sub("/.*", "", $4); print $4; exit }'):7481")
refused "cluster 'weft', this server serves 'other'" weft-target --name t --backing "$SCRATCH/t.data" --size 256MiB \
	--meta "$second" --cluster weft --key "$key" --listen "$host:7481"
rm -f "$SCRATCH/t.data"

step "weft-target"
refused 'no name' "${target[@]}" --backing "$SCRATCH/t.data" --size 256MiB
refused 'no backing' "${target[@]}" --name t
refused 'there is no .*/missing' "${target[@]}" --name t --backing "$SCRATCH/missing"
refused 'size 12' "${target[@]}" --name t --backing "$SCRATCH/t.data" --size 12
refused 'many' "${target[@]}" --name t --backing "$SCRATCH/t.data" --size many
refused 'neither a block device nor a file' "${target[@]}" --name t --backing "$SCRATCH"
refused 'in use' "${target[@]}" --name t --backing "$(findmnt -n -o SOURCE /var/lib/weft-meta)"
head -c 32M /dev/urandom > foreign
refused 'force' "${target[@]}" --name t --backing foreign
cp foreign ext4 && truncate -s 64M ext4 && mkfs.ext4 -qF ext4
refused 'ext' "${target[@]}" --name t --backing ext4
refused 'weight' "${target[@]}" --name t --backing "$SCRATCH/t.data" --size 256MiB --weight 0
refused "name 'a b'" "${target[@]}" --name 'a b' --backing "$SCRATCH/t.data" --size 256MiB
rm -f "$SCRATCH/t.data"

step "keys"
refused 'nokey' weftd --cluster other --meta "$second" --key "$SCRATCH/nokey"
echo abc > short.key && chmod 600 short.key
refused 'hex digits' weftd --cluster other --meta "$second" --key short.key
cp "$key" open.key && chmod 644 open.key
refused 'chmod' weftd --cluster other --meta "$second" --key open.key
ok weftctl key generate wrong.key
refused 'exists' weftctl key generate wrong.key

step "pools"
start_ready "${target[@]}" --name only --backing "$SCRATCH/only.data" --size 256MiB
only_target=$!
refused 'in use by another' "${target[@]}" --name twin --backing "$SCRATCH/only.data"
refused 'in use|listen|address' "${target[@]}" --name twin --backing "$SCRATCH/twin.data" --size 256MiB
refused 'need as many targets' weftctl --meta "$second" pool create --copies 2
refused 'copies' weftctl --meta "$second" pool create --copies 9
refused 'power of two' weftctl --meta "$second" pool create --chunk-size 3MiB
refused 'too small' weftctl --meta "$second" pool create --chunk-size 1GiB
refused 'twice' weftctl --meta "$second" pool create --target only --target only
refused 'nosuch' weftctl --meta "$second" pool create --target only --target nosuch

step "mounts"
ok mkdir here
other="meta=$second,key=$key"
refused 'no pool yet' mount.weft other here -o "$other"
ok weftctl --meta "$second" pool create
refused 'nosuch' mount.weft nosuch here -o "$other"
refused 'unknown on this host|nosuch' mount.weft nosuch here
refused 'nonsense' mount.weft other here -o "$other,nonsense"
refused 'colour' mount.weft other here -o "$other,colour=blue"
refused 'grace=0' mount.weft other here -o "$other,grace=0"
refused 'grace=soon' mount.weft other here -o "$other,grace=soon"
refused 'there' mount.weft other "$SCRATCH/there" -o "$other"
refused 'not a directory' mount.weft other "$SCRATCH/foreign" -o "$other"
refused "$host:7999" mount.weft other here -o "meta=$host:7999,key=$key"
refused 'not connected' mount -i -t weft nosuch here
dmesg | tail -n 3 | grep -q 'no agent serves cluster' || fail "the kernel does not say why: $(dmesg | tail -n 3)"
refused 'bad.toml' mount.weft other here -o "config=$SCRATCH/bad.toml"
[ ! -e /sys/fs/weft/nosuch ] || fail "a refused mount left /sys/fs/weft/nosuch"

step "an agent with the wrong key"
start_ready weftd --cluster other --meta "$second" --key wrong.key
wrong=$!
refused 'key' mount.weft other here -o "$other"
kill $wrong
wait $wrong || fail "the agent did not end cleanly"

step "a second agent of one cluster, a second client"
refused 'attached|busy|another' weftd --cluster weft --meta "$meta" --key "$key"
refused 'cluster' weftd --cluster weft --meta "$second" --key "$key"

step "with the right key it works, and what was running was not disturbed"
ok mount.weft other here -o "$other,soft,grace=5"
ok cp /bin/bash here/ && ok cmp /bin/bash here/bash
ok umount here
agent=$(pgrep -f 'weftd --cluster other') || fail "mount.weft did not start an agent"
kill "$agent"
wait_for 20 test ! -e "/proc/$agent" || fail "the agent that mount.weft started does not end"
kill $only_target
wait $only_target || fail "weft-target did not end cleanly"
kill $other_meta
wait $other_meta || fail "weft-meta did not end cleanly"
ok touch "$MNT/options.sh.done"
ok rm "$MNT/options.sh.done"
ok weftctl pool status > /dev/null
