# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The peer "raw NVMe over RDMA": the kernel's nvmet exports a block device over this guest's soft-RoCE,
# the kernel's nvme-rdma connects to it. Needs: die().

nvmet=/sys/kernel/config/nvmet
nvme_nqn=nqn.2026-11.org.weftfs:bench

# nvme_start BACKING ADDRESS: sets nvme_device
nvme_start() {
	local backing=$1 address=$2 controller
	modprobe -a configfs nvmet nvmet-rdma nvme-rdma || die "no NVMe over RDMA modules"
	mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
	mkdir -p "$nvmet/subsystems/$nvme_nqn/namespaces/1" "$nvmet/ports/1"
	echo 1 > "$nvmet/subsystems/$nvme_nqn/attr_allow_any_host"
	echo "$backing" > "$nvmet/subsystems/$nvme_nqn/namespaces/1/device_path"
	echo 1 > "$nvmet/subsystems/$nvme_nqn/namespaces/1/enable"
	echo rdma > "$nvmet/ports/1/addr_trtype"
	echo ipv4 > "$nvmet/ports/1/addr_adrfam"
	echo "$address" > "$nvmet/ports/1/addr_traddr"
	echo 4420 > "$nvmet/ports/1/addr_trsvcid"
	ln -s "$nvmet/subsystems/$nvme_nqn" "$nvmet/ports/1/subsystems/$nvme_nqn" || die "nvmet does not listen on $address:4420"
	nvme connect -t rdma -n "$nvme_nqn" -a "$address" -s 4420 >&2 || die "cannot connect to nvmet at $address:4420"
	for controller in /sys/class/nvme/nvme*; do
		[ "$(cat "$controller/subsysnqn")" = "$nvme_nqn" ] || continue
		nvme_controller=/dev/$(basename "$controller")
	done
	# the namespace is scanned by the kernel's own worker: udevadm would wait for it, a guest has none
	local deadline=$((SECONDS + 30))
	until nvme_device=$(compgen -G "${nvme_controller}n*" | head -n 1) && [ -b "$nvme_device" ]; do
		[ $SECONDS -lt $deadline ] || die "namespace of $nvme_nqn did not appear"
		nvme ns-rescan "$nvme_controller"
	done
}

nvme_stop() {
	nvme disconnect -n "$nvme_nqn" >&2
	rm -f "$nvmet/ports/1/subsystems/$nvme_nqn"
	rmdir "$nvmet/ports/1" "$nvmet/subsystems/$nvme_nqn/namespaces/1" "$nvmet/subsystems/$nvme_nqn"
}
