# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The initramfs of the guests: busybox, tests/vm/init and the modules that every guest wants, since
# they load faster from here than over 9p. Built again when this, init or the kernel changed.

boot_modules=(virtio_pci 9pnet_virtio 9p overlay virtio_blk virtio_net dummy rdma_rxe rdma_ucm)

# initramfs_modules KERNEL STAGE: copies boot_modules and what they need, and writes their order
initramfs_modules() {
	local kernel=$1 stage=$2 module path
	for module in "${boot_modules[@]}"; do
		sed -n "s|^\(.*/${module}\.ko\): *\(.*\)|\2 \1|p" "$kernel/modules/modules.dep" | {
			read -ra paths || true
			# modules.dep lists what must come first last
			for ((i = ${#paths[@]} - 2; i >= 0; i--)); do echo "${paths[i]}"; done
			[ "${#paths[@]}" -eq 0 ] || echo "${paths[-1]}"
		}
	done | awk '!seen[$0]++' > "$stage/modules/paths"
	while read -r path; do
		cp "$kernel/modules/$path" "$stage/modules/"
		basename "$path"
	done < "$stage/modules/paths" > "$stage/modules/order"
}

# build_initramfs KERNEL INIT OUT
build_initramfs() {
	local kernel=$1 init=$2 out=$3 stage
	exec 8>"$out.lock"
	flock 8
	if [ ! "$out" -nt "$init" ] || [ ! "$out" -nt "$kernel/.done" ] || [ ! "$out" -nt "${BASH_SOURCE[0]}" ]; then
		stage=$(mktemp -d)
		mkdir -p "$stage"/{bin,modules,proc,sys,dev}
		cp "$(command -v busybox || echo /bin/busybox)" "$stage/bin/busybox"
		cp "$init" "$stage/init"
		initramfs_modules "$kernel" "$stage"
		(cd "$stage" && find . | cpio --quiet -o -H newc) > "$out.new"
		mv "$out.new" "$out"
		rm -rf "$stage"
	fi
	exec 8>&-
}
