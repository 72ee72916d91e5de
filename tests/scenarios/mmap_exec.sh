#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Programs run from the mount, and mappings are shared between processes as on any local file system.
. "$(dirname "$0")/../lib.sh"

dir=$(work_directory)
step "mappings"
ok "$TOOLS/mmap_test" --gtest_brief=1 "$dir"

step "programs: dynamic, static, a script, a library"
ok cp /bin/bash /bin/busybox "$dir"
# shellcheck disable=SC2016
printf '#!%s/bash\necho "script $1"\n' "$dir" > "$dir/script"
ok chmod +x "$dir/script"
drop_caches
[ "$("$dir/bash" -c "echo \$((6 * 7))")" = 42 ] || fail "bash from the mount"
[ "$("$dir/busybox" echo static)" = static ] || fail "busybox from the mount"
[ "$("$dir/script" one)" = "script one" ] || fail "a script from the mount"
library=$(ldd /bin/bash | awk '/libtinfo/ { print $3 }')
ok cp -L "$library" "$dir"
# shellcheck disable=SC2016
LD_LIBRARY_PATH=$dir "$dir/bash" -c '[[ $(< "/proc/$$/maps") == *"$1"* ]]' - "$dir/libtinfo" ||
	fail "a library from the mount is not mapped"

step "a running program cannot be written to, but can be replaced"
"$dir/busybox" sleep 100 &
sleeper=$!
wait_for 10 grep -q "$dir/busybox" "/proc/$sleeper/maps" || fail "busybox does not run from the mount"
if (echo x >> "$dir/busybox") 2>/dev/null; then fail "a running program was written to"; fi
ok cp /bin/busybox "$dir/busybox.new"
ok mv "$dir/busybox.new" "$dir/busybox"
kill "$sleeper" && wait "$sleeper" 2>/dev/null
[ "$("$dir/busybox" echo replaced)" = replaced ] || fail "the replaced program"

step "after a remount"
remount
[ "$("$dir/bash" -c 'echo again')" = again ] || fail "bash after a remount"
ok cmp /bin/bash "$dir/bash"
ok rm -rf "$dir"
