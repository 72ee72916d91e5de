// SPDX-License-Identifier: MIT
//
// CRC-32C (Castagnoli), as iSCSI and ext4 use it: of "123456789" it is 0xe3069283. Pure; any thread.
#pragma once

#include <isa-l/crc.h>

#include <cstddef>
#include <cstdint>

namespace weft::target {

inline uint32_t Crc32c(const uint8_t* data, size_t bytes) {
  // ISA-L leaves the inversions to its caller and does not write to what it is given.
  return ~crc32_iscsi(const_cast<uint8_t*>(data), static_cast<int>(bytes), UINT32_MAX);
}

}  // namespace weft::target
