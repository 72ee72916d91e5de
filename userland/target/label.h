// SPDX-License-Identifier: MIT
//
// The label that makes a device or file a weft target. A value; the functions are pure.
//
//   device := label:4096  label:4096  zero or older labels ...  data area from kDataOffset on
//   label  := magic:u64 "WEFTLABL"  format:u32 = 1  reserved:u32 = 0  generation:u64  target-uuid:16
//             cluster-uuid:16 (zero: in no pool yet)  capacity:u64 (bytes of the data area)
//             session:u64 (highest that was seen: the fence)  zero up to 4092  crc32c:u32 (of all before)
//
// Little-endian. The two labels are written in turn, so that one of them is whole whenever the power
// fails; the valid one with the higher generation counts.
#pragma once

#include <cstdint>
#include <span>

#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::target {

inline constexpr size_t kLabelBytes = 4096;
inline constexpr int kLabelCopies = 2;
inline constexpr uint64_t kDataOffset = 1 << 20;
inline constexpr uint32_t kLabelFormat = 1;

struct Label {
  uint64_t generation = 0;
  Uuid target{};
  Uuid cluster{};
  uint64_t capacity_bytes = 0;
  uint64_t session = 0;
};

void EncodeLabel(const Label& label, std::span<uint8_t, kLabelBytes> out);
// ENOENT: this is no label. EPROTONOSUPPORT: of a format that this version does not know. EBADMSG: damaged.
Result<Label> DecodeLabel(std::span<const uint8_t, kLabelBytes> in);

}  // namespace weft::target
