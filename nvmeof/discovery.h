// SPDX-License-Identifier: MIT
//
// The discovery log of a controller that is connected: what the storage node offers to this host. Blocks; one
// thread at a time for each controller.
#pragma once

#include <string>
#include <vector>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"

struct nvmf_disc_log_entry;

namespace weft::nvmeof {

inline constexpr uint64_t kDiscoveryEntriesMax = 4096;

// device: "/dev/nvme0". Entries for transports other than RDMA and TCP are left out. EPROTO: the log is longer than
// kDiscoveryEntriesMax, or changes all the time.
Result<std::vector<DiscoveryEntry>> ReadDiscoveryLog(const std::string& device);

// False: it is for another transport, or makes no sense.
bool DecodeDiscoveryEntry(const nvmf_disc_log_entry& raw, DiscoveryEntry* entry);

}  // namespace weft::nvmeof
