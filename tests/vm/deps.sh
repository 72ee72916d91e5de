#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs those of PACKAGE... that are missing, and remembers that in STAMP. Silent when nothing is.
set -euo pipefail

stamp=${1:?usage: deps.sh STAMP PACKAGE...}
shift
series=6.12

say() { printf '  %-8s %s\n' "$@"; }
die() { echo "deps.sh: $*" >&2; exit 1; }

command -v dpkg-query >/dev/null || die "this machine has no dpkg: weftfs is built on Debian 12 or newer"
[ "$(dpkg --print-architecture)" = amd64 ] || die "the guests are amd64; this machine is $(dpkg --print-architecture)"

installed() {
	dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p' | sort
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

mkdir -p "$(dirname "$stamp")"
exec 9>"$stamp.lock"
flock 9

mapfile -t missing < <(comm -13 <(installed "$@") <(printf '%s\n' "$@" | sort -u))
dir=$(dirname "$stamp")
# The kernel and libbpf come from packages that are unpacked, not installed: apt must know them once.
kernel_known() {
	{ [ -e "$dir/.done" ] && [ -e "$dir/../kernel/.done" ]; } || apt-cache show "linux-source-$series" >/dev/null 2>&1
}
if [ "${#missing[@]}" -gt 0 ] || ! kernel_known; then
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
		die "not root and no sudo; as root: apt-get update && apt-get install ${missing[*]}"
	say APT update
	as_root apt-get -qq -o DPkg::Lock::Timeout=600 update </dev/null ||
		echo "deps.sh: apt-get update had errors; going on with the lists that are there" >&2
fi
if [ "${#missing[@]}" -gt 0 ]; then
	say APT "${missing[*]}"
	log=$dir/apt.log
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=600 install \
		--no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "cannot install the packages; the whole log is $log"
	}
fi
kernel_known || die "apt knows no linux-source-$series; on Debian 12 it is in bookworm-security"
touch "$stamp"
