// SPDX-License-Identifier: MIT
#include "userland/meta/fsck_bitmap.h"

#include <algorithm>

namespace weft {
namespace {

void Append(std::vector<BlockRange>* ranges, BlockRange range) {
  if (!ranges->empty() && ranges->back().first + ranges->back().blocks == range.first) {
    ranges->back().blocks += range.blocks;
  } else {
    ranges->push_back(range);
  }
}

// Calls visit(first, end, value) for every run of equal bits of [first, end).
template <typename F>
void VisitRuns(const std::vector<bool>& bits, uint64_t first, uint64_t end, F&& visit) {
  auto at = [&](uint64_t block) { return bits.begin() + static_cast<int64_t>(block); };
  while (first < end) {
    bool value = bits[first];
    auto run_end = static_cast<uint64_t>(std::find(at(first), at(end), !value) - bits.begin());
    visit(first, run_end, value);
    first = run_end;
  }
}

}  // namespace

FsckBitmap::Claimed FsckBitmap::Claim(BlockRange range) {
  Claimed claimed;
  while (range.blocks > 0) {
    uint64_t index = range.first / chunk_blocks_;
    uint64_t first = range.first % chunk_blocks_;
    uint64_t part = std::min(range.blocks, chunk_blocks_ - first);
    auto chunk = chunks_.find(index);
    if (chunk == chunks_.end()) {
      claimed.outside += part;
    } else {
      std::vector<bool>& bits = chunk->second;
      if (bits.empty()) bits.resize(chunk_blocks_);
      VisitRuns(bits, first, first + part, [&](uint64_t from, uint64_t to, bool taken) {
        Append(taken ? &claimed.taken : &claimed.fresh, {index * chunk_blocks_ + from, to - from});
      });
      std::fill_n(bits.begin() + static_cast<int64_t>(first), part, true);
    }
    range.first += part;
    range.blocks -= part;
  }
  return claimed;
}

void FsckBitmap::VisitUnclaimed(const std::function<void(BlockRange)>& visit) const {
  for (const auto& [index, bits] : chunks_) {
    uint64_t begin = index * chunk_blocks_;
    if (bits.empty()) {
      visit({begin, chunk_blocks_});
      continue;
    }
    VisitRuns(bits, 0, chunk_blocks_, [&](uint64_t from, uint64_t to, bool claimed) {
      if (!claimed) visit({begin + from, to - from});
    });
  }
}

}  // namespace weft
