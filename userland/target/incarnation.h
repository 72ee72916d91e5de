// SPDX-License-Identifier: MIT
//
// The incarnation of a target (rdma/block_wire.h): changes when the host was started anew, as what a device had
// acknowledged and not flushed may be lost then; not when weft-target was.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userland/base/status.h"

namespace weft::target {

// text: as in /proc/sys/kernel/random/boot_id. EINVAL: it is no uuid. Never 0.
Result<uint64_t> IncarnationFromBootId(std::string_view text);
Result<uint64_t> ReadIncarnation();  // of this host

}  // namespace weft::target
