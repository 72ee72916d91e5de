// SPDX-License-Identifier: MIT
//
// A set of block numbers kept as disjoint, merged ranges: what is free, what a session was granted.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

namespace weft {

class RangeMap {
 public:
  // Told about every range of the map that changes: its first block and new length, 0: it is gone.
  using Sink = std::function<void(uint64_t first, uint64_t blocks)>;

  uint64_t total() const { return total_; }
  const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }

  // Blocks from `first` on that are in the set without a gap.
  uint64_t Contiguous(uint64_t first) const;
  bool Contains(uint64_t first, uint64_t blocks) const { return Contiguous(first) >= blocks; }
  bool Overlaps(uint64_t first, uint64_t blocks) const;

  // The blocks must not be in the set.
  void Add(uint64_t first, uint64_t blocks, const Sink& sink = {});
  // The blocks must all be in the set.
  void Take(uint64_t first, uint64_t blocks, const Sink& sink = {});

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first block -> blocks
  uint64_t total_ = 0;
};

}  // namespace weft
