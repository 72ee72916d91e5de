// SPDX-License-Identifier: MIT
#include "userland/target/checksum_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>

#include "userland/target/crc32c.h"

namespace weft::target {

static_assert(std::endian::native == std::endian::little, "the table is kept as it is on the device");

uint32_t SumOf(const uint8_t* block) {
  uint32_t crc = Crc32c(block, kBlockBytes);
  return crc == kSumUnknown || crc == kSumBad ? crc + 1 : crc;
}

ChecksumTable::ChecksumTable(uint64_t capacity_bytes)
    : blocks_(capacity_bytes / kBlockBytes), pages_(RegionsIn(capacity_bytes)) {
  sums_ = mmap(nullptr, pages_ * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

ChecksumTable::~ChecksumTable() {
  if (ok()) munmap(sums_, pages_ * kPageBytes);
}

std::span<uint32_t> ChecksumTable::Of(uint64_t offset, uint64_t length) {
  assert(offset % kBlockBytes == 0 && length % kBlockBytes == 0 && (offset + length) / kBlockBytes <= blocks_);
  return {static_cast<uint32_t*>(sums_) + offset / kBlockBytes, length / kBlockBytes};
}

void ChecksumTable::Load(uint64_t region, const uint8_t* page, bool in_doubt) {
  std::array<uint32_t, kSumsPerPage> sums;
  memcpy(sums.data(), page, kPageBytes);
  if (in_doubt) {
    std::ranges::replace_if(
        sums, [](uint32_t sum) { return sum != kSumBad; }, kSumUnknown);
  }
  // Untouched pages stay so.
  if (std::ranges::any_of(sums, [](uint32_t sum) { return sum != kSumUnknown; })) {
    memcpy(this->page(region), sums.data(), kPageBytes);
  }
}

}  // namespace weft::target
