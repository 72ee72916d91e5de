// SPDX-License-Identifier: MIT
//
// The label that makes a device or file a weft target, and the areas behind it. Values; the functions are pure.
//
//   device    := label:4096  label:4096  zero ...  (1 MiB)  places  intents  checksums  zero ...  data
//   device    := label:4096  label:4096  zero ...  (1 MiB)  data                 (plain)
//   label     := magic:u64 "WEFTLABL"  format:u32 = 2  layout:u32  generation:u64  target-uuid:16
//                cluster-uuid:16 (zero: in no pool yet)  capacity:u64 (bytes of the data area)
//                session:u64 (highest that was seen: the fence)  chunk-bytes:u64 (of the pool; 0: in none yet)
//                capacity-max:u64 (that the areas have room for)  data-offset:u64
//                zero up to 4092  crc32c:u32 (of all before)
//   layout    := 0, or 1: plain, an NVMe-oF namespace: clients write to it without anybody who would keep the areas
//   places    := floor:u32 ...     of each place of chunk-bytes: the highest chunk version seen; one for each
//                                  MiB of capacity-max
//   intents   := bit ...           of each region: it is being written, its checksums here may be out of date
//   checksums := page:4096 ...     of each region of 4 MiB
//   page      := sum:u32 x 1024    of each block of 4 KiB: 0 unknown, 2 bad (reading it is an error until it is
//                                  written), else its CRC-32C, where 0 is kept as 1 and 2 as 3
//
// Little-endian; each area starts at a multiple of 4096, the data at one of 1 MiB. The two labels are written
// in turn, so that one of them is whole whenever the power fails; the valid one with the higher generation
// counts. The other areas have no checksums of their own: a torn write leaves each of their words old or new, either of
// which is right. A floor is durable before it matters, an intent before the first write that it announces; and in the
// page of a region whose intent is 1 nothing but "bad" is believed.
#pragma once

#include <cstdint>
#include <span>

#include "userland/base/block.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::target {

inline constexpr size_t kLabelBytes = 4096;
inline constexpr int kLabelCopies = 2;
inline constexpr uint64_t kAreasOffset = 1 << 20;
inline constexpr uint32_t kLabelFormat = 2;
inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kRegionBytes = 4 << 20;  // whose checksums fill a page
inline constexpr uint64_t kPlaceBytesMin = 1 << 20;
inline constexpr uint64_t kDataAlign = 1 << 20;

enum class Layout : uint32_t { kAreas = 0, kPlain = 1 };

struct Label {
  uint64_t generation = 0;
  Uuid target{};
  Uuid cluster{};
  uint64_t capacity_bytes = 0;
  uint64_t session = 0;
  uint64_t chunk_bytes = 0;
  uint64_t capacity_max_bytes = 0;
  uint64_t data_offset = 0;
  Layout layout = Layout::kAreas;
};

// Bytes from the start of the device; of a plain one all but the data is empty.
struct Areas {
  uint64_t places = 0;
  uint64_t places_bytes = 0;
  uint64_t intents = 0;
  uint64_t intents_bytes = 0;
  uint64_t checksums = 0;
  uint64_t checksums_bytes = 0;
  uint64_t data = 0;
};

Areas AreasFor(uint64_t capacity_max_bytes, Layout layout = Layout::kAreas);
uint64_t RegionsIn(uint64_t capacity_bytes);

void EncodeLabel(const Label& label, std::span<uint8_t, kLabelBytes> out);
// ENOENT: this is no label. EPROTONOSUPPORT: of a format that this version does not know. EBADMSG: damaged.
Result<Label> DecodeLabel(std::span<const uint8_t, kLabelBytes> in);
// Which of the copies counts, each as it was decoded or the EIO of reading it. Without a valid one: EIO if one could
// not be read, as it may be; else what says more than ENOENT.
Result<Label> NewestLabel(std::span<const Result<Label>> copies);

}  // namespace weft::target
