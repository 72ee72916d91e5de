// SPDX-License-Identifier: MIT
#include "userland/meta/fsck_lost_data.h"

#include "userland/base/config.h"

namespace weft {
namespace {

// Blocks of the extent that lie in the sorted ranges; *first: pool block of the first one.
uint64_t Common(const Extent& extent, const std::vector<BlockRange>& ranges, uint64_t* first) {
  uint64_t begin = extent.pool_block;
  uint64_t end = begin + extent.blocks;
  auto it = std::ranges::upper_bound(ranges, begin, {}, &BlockRange::first);
  if (it != ranges.begin()) --it;
  uint64_t blocks = 0;
  for (; it != ranges.end() && it->first < end; ++it) {
    uint64_t from = std::max(begin, it->first);
    uint64_t to = std::min(end, it->first + it->blocks);
    if (from >= to) continue;
    if (blocks == 0) *first = from;
    blocks += to - from;
  }
  return blocks;
}

}  // namespace

void FsckNameLostData(FsckScan* scan, uint64_t chunk_blocks, std::vector<BlockRange> ranges) {
  if (ranges.empty()) return;
  std::ranges::sort(ranges, {}, &BlockRange::first);
  struct {
    uint64_t ino = 0;
    uint64_t blocks = 0;
    uint64_t first = 0;       // in the pool
    uint64_t file_block = 0;  // of it
  } lost;
  auto report = [&] {
    if (lost.blocks == 0) return;
    scan->Report("data-lost",
                 fmt::format("inode {} has lost {}, the first of it at byte {}; restore it from a good copy", lost.ino,
                             FormatBytes(lost.blocks * kBlockBytes), lost.file_block * kBlockBytes),
                 {.ino = lost.ino, .chunk = lost.first / chunk_blocks});
  };
  scan->Scan("E", [&](std::string_view key, std::string_view value) {
    uint64_t ino = 0;
    uint64_t last = 0;
    Extent extent;
    if (!key::Parse(key, &ino, &last) || !Extent::Decode(last, value, &extent)) return true;  // has been reported
    if (ino != lost.ino) {
      report();
      lost = {.ino = ino};
    }
    uint64_t first = 0;
    uint64_t blocks = extent.unwritten ? 0 : Common(extent, ranges, &first);
    if (blocks > 0 && lost.blocks == 0) {
      lost.first = first;
      lost.file_block = extent.first + (first - extent.pool_block);
    }
    lost.blocks += blocks;
    return true;
  });
  report();
}

}  // namespace weft
