# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# NVMe-oF without weftfs: the kernel's NVMe host connects to a namespace. For the peer "raw NVMe over RDMA" the kernel's
# nvmet exports a block device over this guest's soft-RoCE. Needs: die().

. "$(dirname "${BASH_SOURCE[0]}")/../nvme.sh"

nvmet=/sys/kernel/config/nvmet
nvme_nqn=nqn.2026-11.org.weftfs:bench

# nvme_connect TRANSPORT NQN ADDRESS PORT: sets nvme_device, the multipath head of the subsystem's namespace
nvme_connect() {
	local nqn=$2 deadline=$((SECONDS + 30))
	nvme connect -t "$1" -n "$nqn" -a "$3" -s "$4" >&2 || die "cannot connect to $nqn at $3:$4"
	# the namespace is scanned by the kernel's own worker: udevadm would wait for it, a guest has none
	until nvme_device=$(nvme_device_of "$nqn"); do
		[ $SECONDS -lt $deadline ] || die "namespace of $nqn did not appear"
	done
}

# nvme_start BACKING ADDRESS: sets nvme_device
nvme_start() {
	local backing=$1 address=$2
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
	nvme_connect rdma "$nvme_nqn" "$address" 4420
}

nvme_stop() {
	nvme disconnect -n "$nvme_nqn" >&2
	rm -f "$nvmet/ports/1/subsystems/$nvme_nqn"
	rmdir "$nvmet/ports/1" "$nvmet/subsystems/$nvme_nqn/namespaces/1" "$nvmet/subsystems/$nvme_nqn"
}
