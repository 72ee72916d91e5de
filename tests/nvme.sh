# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What scenarios and measurements that use NVMe-oF by hand share.

# nvme_device_of NQN: prints the block device of its namespace, the multipath head; the first of several. False: there is
# none, which comes some time after connecting.
nvme_device_of() {
	local entry device
	for entry in /sys/class/nvme-subsystem/*/nvme*n*; do
		device=/dev/${entry##*/}
		[ "$(cat "${entry%/*}/subsysnqn" 2> /dev/null)" != "$1" ] || [ ! -b "$device" ] || { echo "$device"; return; }
	done
	return 1
}
