#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Unpacks Debian's 6.12 kernel below DIR, without installing it: image, modules, headers and
# build tools. An installed kernel package, and the headers package that depends on one,
# would put a new kernel on the boot menu of whoever tries weftfs.
#
#   DIR/vmlinuz  DIR/modules  DIR/headers  DIR/release   links to what the guests and kbuild need
set -euo pipefail

series=6.12
dir=${1:?usage: kernel.sh DIR}
mkdir -p "$dir"
dir=$(realpath "$dir")

say() { printf '  %-8s %s\n' "$@"; }
die() { echo "kernel.sh: $*" >&2; exit 1; }

# The release that a meta package stands for, for example 6.12.9+deb12-amd64: Debian 12 has the
# series beside its own 6.1, for Debian 13 it is the kernel.
newest() {
	apt-cache depends "linux-headers-$series-amd64" linux-headers-amd64 2>/dev/null |
		sed -n "s/^ *Depends: linux-headers-\($series\..*\)$/\1/p" | head -n 1
}

# Absolute paths and links inside the packages point to /usr; make them point into the tree.
relocate() {
	local link target
	sed -i "s|/usr/src/|$dir/root/usr/src/|g" "$dir"/root/usr/src/linux-headers-*/Makefile
	find "$dir/root" -type l -lname '/*' | while read -r link; do
		target=$(readlink "$link")
		ln -sfn "$dir/root$target" "$link"
	done
}

exec 9>"$dir/.lock"
flock 9
[ -e "$dir/.done" ] && exit 0

# Plain modules load several times faster in an emulated guest; hardware that no guest has goes.
thin_modules() {
	(cd "$1/kernel" && rm -rf sound drivers/{gpu,media,staging,iio,net/wireless,net/ethernet})
	find "$1" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P "$(nproc)" xz -d
}

release=$(newest)
[ -n "$release" ] || die "apt knows no linux-headers-$series-amd64: run 'apt-get update'; on Debian 12 it is in bookworm-security"
common=${release%-amd64}
say UNPACK "kernel $release"

rm -rf "$dir/deb" "$dir/root"
mkdir -p "$dir/deb" "$dir/root"
(
	cd "$dir/deb"
	apt-get -qq -o APT::Sandbox::User="$(id -un)" download "linux-image-$release" "linux-headers-$release" \
		"linux-headers-$common-common" "linux-kbuild-$common"
) || die "cannot download the packages of kernel $release"
for deb in "$dir"/deb/*.deb; do
	dpkg-deb -x "$deb" "$dir/root"
done
rm -rf "$dir/deb"

relocate
modules=$dir/root/usr/lib/modules/$release
[ -d "$modules" ] || modules=$dir/root/lib/modules/$release
[ -d "$modules" ] || die "package linux-image-$release has no modules"
thin_modules "$modules"
"$(command -v depmod || echo /sbin/depmod)" -b "${modules%%/lib/modules/*}" "$release"

ln -sfn "root/boot/vmlinuz-$release" "$dir/vmlinuz"
ln -sfn "${modules#"$dir/"}" "$dir/modules"
ln -sfn "root/usr/src/linux-headers-$release" "$dir/headers"
echo "$release" > "$dir/release"
touch "$dir/.done"
