#!/bin/bash
# SPDX-License-Identifier: MIT
#
# DIR/qemu-system-x86_64: the QEMU of the guests. The machine's own is taken where it is 8.1 or newer, as on
# Debian 13. An older one that emulates several processors can go on executing what it translated while another
# processor was rewriting it (mended by its commit deba78709a "Always lock pages before translation"): a kernel
# that switches a static key dies of "Oops: int3", a program of a page that was read in just before dies of a
# segmentation fault. For Debian 12 its backports have a newer one; it is unpacked here, not installed.
# Where they are out of reach the guests run with the old one, and tests/vm/lib/guest.sh avoids what it can.
set -euo pipefail

dir=${1:?usage: qemu.sh DIR}
mkdir -p "$dir"
dir=$(realpath "$dir")
wanted=8.1
packages=(qemu-system-x86 qemu-system-data qemu-system-common seabios)
program=usr/bin/qemu-system-x86_64

say() { printf '  %-8s %s\n' "$@"; }

# new_enough PROGRAM
new_enough() {
	local version
	version=$("$1" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
	[ -n "$version" ] && printf '%s\n' "$wanted" "$version" | sort -CV
}

# apt with lists of its own, so that the machine's stay as they are
private_apt() {
	apt-get -qq -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User="$(id -un)" \
		-o Acquire::Languages=none -o Acquire::Retries=3 "$@" </dev/null
}

unpack_backport() {
	local suite=bookworm-backports package
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
		> "$dir/sources.list"
	private_apt update && (cd "$dir" && private_apt download "${packages[@]/%//$suite}") || return
	for package in "$dir"/*.deb; do dpkg-deb -x "$package" "$dir/root" || return; done
	new_enough "$dir/root/$program"
}

exec 9>"$dir/.lock"
flock 9
[ -e "$dir/.done" ] && exit 0

rm -rf "${dir:?}"/{root,lists,cache,*.deb}
source=/$program
if ! new_enough "$source"; then
	say FETCH qemu
	if unpack_backport > "$dir/log" 2>&1; then
		source=$dir/root/$program
	else
		tail -n 5 "$dir/log" >&2
		echo "qemu.sh: no QEMU $wanted or newer from Debian's backports (above, whole: $dir/log); going on with this" \
			"machine's, with which a guest may die now and then" >&2
	fi
fi
rm -rf "${dir:?}"/{lists,cache,*.deb}
ln -sfn "$source" "$dir/qemu-system-x86_64"
# with the old one, the next build tries again
if new_enough "$source"; then touch "$dir/.done"; fi
