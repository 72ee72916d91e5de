// SPDX-License-Identifier: MIT
//
// The block of weftfs: the unit of allocation, of checksums and of I/O on a target.
#pragma once

#include <cstdint>

namespace weft {

inline constexpr uint64_t kBlockBytes = 4096;

}  // namespace weft
