// SPDX-License-Identifier: MIT
//
// Which blocks of the pool have an owner, while fsck looks: one bit a block of the chunks that have any. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "userland/meta/space.h"

namespace weft {

class FsckBitmap {
 public:
  explicit FsckBitmap(uint64_t chunk_blocks) : chunk_blocks_(chunk_blocks) {}

  void AddChunk(uint64_t index) { chunks_[index]; }
  bool HasChunk(uint64_t index) const { return chunks_.contains(index); }

  struct Claimed {
    std::vector<BlockRange> fresh;  // had no owner and have one now
    std::vector<BlockRange> taken;  // had one before
    uint64_t outside = 0;           // blocks of chunks that do not exist
  };
  Claimed Claim(BlockRange range);

  // Ranges without an owner; none crosses a chunk.
  void VisitUnclaimed(const std::function<void(BlockRange)>& visit) const;

 private:
  const uint64_t chunk_blocks_;
  std::map<uint64_t, std::vector<bool>> chunks_;  // empty: no block has an owner
};

}  // namespace weft
