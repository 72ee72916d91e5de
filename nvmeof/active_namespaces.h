// SPDX-License-Identifier: MIT
//
// What a controller that is connected says it has, whatever of it the kernel has made devices of. Blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userland/base/status.h"

namespace weft::nvmeof {

// device: "/dev/nvme0". In ascending order; the first 1024 (NVMe 2.0, Identify, Active Namespace ID list).
Result<std::vector<uint32_t>> ListActiveNamespaces(const std::string& device);

}  // namespace weft::nvmeof
