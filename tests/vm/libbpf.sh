#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Takes from Debian's package linux-source-6.12, without installing it, what the kernel's headers
# do not ship: libbpf (Debian 12's 1.1 cannot attach struct_ops of a module; a newer system's 1.5
# is taken as it is), a bpftool that knows the same object files, and checkpatch.
#
#   DIR/libbpf/include  DIR/libbpf/lib/libbpf.a  DIR/bin/bpftool  DIR/source/scripts/checkpatch.pl
set -euo pipefail

dir=${1:?usage: libbpf.sh DIR}
mkdir -p "$dir"
dir=$(realpath "$dir")
package=linux-source-6.12
wanted=(
	Makefile tools/lib tools/bpf tools/include tools/build tools/scripts tools/arch/x86
	kernel/bpf/disasm.c kernel/bpf/disasm.h include/uapi/linux
	scripts/bpf_doc.py scripts/checkpatch.pl scripts/spelling.txt scripts/const_structs.checkpatch
)

say() { printf '  %-8s %s\n' "$@"; }
die() { echo "libbpf.sh: $*" >&2; exit 1; }

exec 9>"$dir/.lock"
flock 9
[ -e "$dir/.done" ] && exit 0

rm -rf "${dir:?}"/{source,tmp,libbpf,bin}
mkdir -p "$dir/source" "$dir/tmp" "$dir/bin"

archive=/usr/src/$package.tar.xz
if [ ! -e "$archive" ]; then
	say FETCH "$package"
	(cd "$dir/tmp" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package") ||
		die "cannot download the package $package: run 'apt-get update'; on Debian 12 it is in bookworm-security"
	dpkg-deb -x "$dir"/tmp/*.deb "$dir/tmp"
	archive=$dir/tmp$archive
fi

say UNPACK "$package"
tar -C "$dir/source" --strip-components=1 -xf "$archive" "${wanted[@]/#/$package/}"

if pkg-config --atleast-version=1.5 libbpf 2>/dev/null; then
	mkdir -p "$dir/libbpf/include" "$dir/libbpf/lib"
	ln -s "$(pkg-config --variable=includedir libbpf)/bpf" "$dir/libbpf/include/bpf"
	ln -s "$(pkg-config --variable=libdir libbpf)/libbpf.a" "$dir/libbpf/lib/libbpf.a"
else
	say BUILD libbpf
	make -s -C "$dir/source/tools/lib/bpf" -j"$(nproc)" OUTPUT="$dir/tmp/" BUILD_STATIC_ONLY=1 \
		DESTDIR="$dir/libbpf" prefix= libdir=/lib install install_headers >"$dir/libbpf.log" 2>&1 ||
		die "libbpf does not build: see $dir/libbpf.log"
fi

say BUILD bpftool
make -s -C "$dir/source/tools/bpf/bpftool" -j"$(nproc)" OUTPUT="$dir/tmp/" bootstrap >"$dir/bpftool.log" 2>&1 ||
	die "bpftool does not build: see $dir/bpftool.log"
mv "$dir/tmp/bootstrap/bpftool" "$dir/bin/bpftool"

rm -rf "$dir/tmp"
touch "$dir/.done"
