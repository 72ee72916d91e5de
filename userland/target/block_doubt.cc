// SPDX-License-Identifier: MIT
#include "userland/target/block_doubt.h"

#include <algorithm>

namespace weft::target {

bool BlockDoubt::Add(uint64_t region, std::span<const uint32_t> sums) {
  Blocks blocks;
  for (size_t i = 0; i < sums.size(); i++) blocks[i] = sums[i] == kSumUnknown;
  if (blocks.none()) return false;
  regions_[region] = blocks;
  return true;
}

bool BlockDoubt::Has(uint64_t block_offset) const {
  auto region = regions_.find(block_offset / kRegionBytes);
  return region != regions_.end() && region->second[block_offset % kRegionBytes / kBlockBytes];
}

void BlockDoubt::Settle(uint64_t offset, uint64_t length, const RegionCallback& settled) {
  uint64_t end = offset + length;
  auto region = regions_.lower_bound(offset / kRegionBytes);
  while (region != regions_.end() && region->first * kRegionBytes < end) {
    uint64_t start = region->first * kRegionBytes;
    uint64_t last = std::min(end, start + kRegionBytes);
    for (uint64_t at = std::max(offset, start); at < last; at += kBlockBytes) {
      region->second.reset((at - start) / kBlockBytes);
    }
    if (region->second.any()) {
      ++region;
      continue;
    }
    uint64_t number = region->first;
    region = regions_.erase(region);
    settled(number);
  }
}

bool BlockDoubt::Next(uint64_t length_max, uint64_t* offset, uint64_t* length) {
  auto region = regions_.lower_bound(cursor_ / kRegionBytes);
  if (region == regions_.end()) {
    cursor_ = 0;
    region = regions_.begin();
  }
  if (region == regions_.end()) return false;
  const auto& [number, blocks] = *region;
  size_t first = cursor_ / kRegionBytes == number ? cursor_ % kRegionBytes / kBlockBytes : 0;
  while (first < blocks.size() && !blocks[first]) first++;
  if (first == blocks.size()) {  // nothing behind the cursor
    cursor_ = (number + 1) * kRegionBytes;
    return Next(length_max, offset, length);
  }
  size_t end = first;
  while (end < blocks.size() && blocks[end] && (end - first) * kBlockBytes < length_max) end++;
  *offset = number * kRegionBytes + first * kBlockBytes;
  *length = (end - first) * kBlockBytes;
  cursor_ = *offset + *length;
  return true;
}

}  // namespace weft::target
