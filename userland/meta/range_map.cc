// SPDX-License-Identifier: MIT
#include "userland/meta/range_map.h"

#include <cassert>
#include <iterator>

namespace weft {

uint64_t RangeMap::Contiguous(uint64_t first) const {
  auto it = ranges_.upper_bound(first);
  if (it == ranges_.begin()) return 0;
  --it;
  uint64_t end = it->first + it->second;
  return end > first ? end - first : 0;
}

bool RangeMap::Overlaps(uint64_t first, uint64_t blocks) const {
  if (Contiguous(first) > 0) return true;
  auto it = ranges_.lower_bound(first);
  return it != ranges_.end() && it->first < first + blocks;
}

void RangeMap::Add(uint64_t first, uint64_t blocks, const Sink& sink) {
  assert(blocks > 0 && !Overlaps(first, blocks));
  total_ += blocks;
  auto next = ranges_.lower_bound(first);
  if (next != ranges_.end() && next->first == first + blocks) {
    blocks += next->second;
    if (sink) sink(next->first, 0);
    next = ranges_.erase(next);
  }
  if (next != ranges_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == first) {
      before->second += blocks;
      if (sink) sink(before->first, before->second);
      return;
    }
  }
  ranges_.emplace_hint(next, first, blocks);
  if (sink) sink(first, blocks);
}

void RangeMap::Take(uint64_t first, uint64_t blocks, const Sink& sink) {
  assert(blocks > 0 && Contains(first, blocks));
  total_ -= blocks;
  auto it = std::prev(ranges_.upper_bound(first));
  uint64_t start = it->first;
  uint64_t end = it->first + it->second;
  if (start < first) {
    it->second = first - start;
    if (sink) sink(start, it->second);
  } else {
    ranges_.erase(it);
    if (sink) sink(start, 0);
  }
  if (first + blocks < end) {
    ranges_.emplace(first + blocks, end - first - blocks);
    if (sink) sink(first + blocks, end - first - blocks);
  }
}

}  // namespace weft
