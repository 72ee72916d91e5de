// SPDX-License-Identifier: MIT
//
// fsck: every block of every chunk has one owner: a file, a grant, or it is free.
#include <dirent.h>

#include "userland/meta/codec.h"
#include "userland/meta/fsck_bitmap.h"
#include "userland/meta/fsck_fixer.h"
#include "userland/meta/fsck_scan.h"

namespace weft {
namespace {

bool DecodeBlocks(std::string_view bytes, uint64_t* blocks) {
  Reader in(bytes);
  *blocks = in.U64();
  return in.Finish() && *blocks > 0 && *blocks <= kPoolBlocksMax;
}

bool Overlaps(const BlockRange& a, const BlockRange& b) {
  return a.first < b.first + b.blocks && b.first < a.first + a.blocks;
}

std::string Text(const BlockRange& range) {
  return range.blocks == 1 ? fmt::format("block {}", range.first)
                           : fmt::format("blocks {} to {}", range.first, range.first + range.blocks - 1);
}

class SpaceCheck {
 public:
  SpaceCheck(FsckScan* scan, uint64_t chunk_blocks) : scan_(*scan), chunk_blocks_(chunk_blocks), owned_(chunk_blocks) {}

  void Run() {
    scan_.Scan("K", [&](std::string_view key, std::string_view) {
      uint64_t index = 0;
      if (key::Parse(key, &index)) owned_.AddChunk(index);  // else FsckChunks reports it
      return true;
    });
    ScanExtents();
    ReportShared();
    CheckBlockCounts();
    ScanGrants();
    ScanFree();
    owned_.VisitUnclaimed([&](BlockRange range) { ReportLeaked(range); });
  }

 private:
  void ScanExtents();
  void CheckExtent(uint64_t ino, const Extent& extent, const Extent* before);
  void ReportShared();
  void CheckBlockCounts();
  void ScanGrants();
  void ScanFree();
  void CheckFree(uint64_t first, uint64_t blocks);
  void ReportLeaked(BlockRange range);
  FsckScan::Repair RemoveExtent(uint64_t ino, const Extent& extent);

  FsckScan& scan_;
  const uint64_t chunk_blocks_;
  FsckBitmap owned_;
  std::vector<BlockRange> shared_;  // that two extents hold
};

// ---- extents ------------------------------------------------------------------------------------

void SpaceCheck::ScanExtents() {
  uint64_t last_ino = 0;
  std::optional<Extent> before;
  scan_.Scan("E", [&](std::string_view key, std::string_view value) {
    uint64_t ino = 0;
    uint64_t last = 0;
    Extent extent;
    if (!key::Parse(key, &ino, &last) || !Extent::Decode(last, value, &extent)) return false;
    ++scan_.result().extents;
    if (ino != last_ino) before.reset();
    last_ino = ino;
    CheckExtent(ino, extent, before ? &*before : nullptr);
    before = extent;
    return true;
  });
}

void SpaceCheck::CheckExtent(uint64_t ino, const Extent& extent, const Extent* before) {
  FsckBitmap::Claimed claimed = owned_.Claim({extent.pool_block, extent.blocks});
  shared_.insert(shared_.end(), claimed.taken.begin(), claimed.taken.end());
  FsckInode* inode = scan_.Find(ino);
  if (inode == nullptr || inode->type != DT_REG) {
    return scan_.Report("extent-of-no-file",
                        fmt::format("inode {}, which is no file, has an extent of {} blocks", ino, extent.blocks),
                        {.ino = inode != nullptr ? ino : 0}, RemoveExtent(ino, extent));
  }
  inode->rest -= extent.blocks;
  if (before != nullptr && extent.first < before->end()) {
    scan_.Report("extent-overlap",
                 fmt::format("inode {} has two extents for file blocks {} to {}; copy what is good and remove it", ino,
                             extent.first, std::min(before->end(), extent.end()) - 1),
                 {.ino = ino});
  }
  if (claimed.outside == 0) return;
  scan_.Report(
      "extent-outside",
      fmt::format("file blocks {} to {} of inode {} are mapped to chunks that do not exist: their data is lost; "
                  "a repair leaves a hole there",
                  extent.first, extent.end() - 1, ino),
      {.ino = ino, .chunk = extent.pool_block / chunk_blocks_}, RemoveExtent(ino, extent));
}

FsckScan::Repair SpaceCheck::RemoveExtent(uint64_t ino, const Extent& extent) {
  return [ino, extent](FsckFixer& fixer) {
    std::string key = key::Extent(ino, extent.end() - 1);
    if (!fixer.Is(key, extent.Encode())) return false;
    fixer.tx().Delete(key);
    std::optional<Inode> inode = fixer.Read<Inode>(key::Inode(ino));
    if (!inode || !inode->IsRegular() || inode->blocks < extent.blocks) return true;
    inode->blocks -= extent.blocks;
    fixer.tx().Put(key::Inode(ino), inode->Encode());
    return true;
  };
}

// The owners of shared blocks are only known after a second look.
void SpaceCheck::ReportShared() {
  if (shared_.empty()) return;
  std::ranges::sort(shared_, {}, &BlockRange::first);
  scan_.Scan("E", [&](std::string_view key, std::string_view value) {
    uint64_t ino = 0;
    uint64_t last = 0;
    Extent extent;
    if (!key::Parse(key, &ino, &last) || !Extent::Decode(last, value, &extent)) return true;  // has been reported
    BlockRange here{extent.pool_block, extent.blocks};
    for (const BlockRange& shared : shared_) {
      if (shared.first >= here.first + here.blocks) break;
      if (!Overlaps(shared, here)) continue;
      scan_.Report(
          "blocks-shared",
          fmt::format("{} of the pool, part of inode {}, {} also part of another extent: compare the file with a "
                      "good copy, then copy it and remove it",
                      Text(shared), ino, shared.blocks == 1 ? "is" : "are"),
          {.ino = ino, .chunk = shared.first / chunk_blocks_});
      break;
    }
    return true;
  });
}

void SpaceCheck::CheckBlockCounts() {
  for (const FsckInode& inode : scan_.inodes()) {
    if (inode.IsDir() || inode.rest == 0) continue;
    std::optional<std::string> bytes = scan_.Get(key::Inode(inode.ino));
    Inode record;
    if (!bytes || !Inode::Decode(*bytes, &record)) return;
    scan_.Report("block-count",
                 fmt::format("inode {} counts {} blocks, its extents have {}", inode.ino, record.blocks,
                             static_cast<int64_t>(record.blocks) - inode.rest),
                 {.ino = inode.ino}, [ino = inode.ino, bytes = *bytes, rest = inode.rest](FsckFixer& fixer) {
                   Inode now;
                   if (!fixer.Is(key::Inode(ino), bytes) || !Inode::Decode(bytes, &now)) return false;
                   now.blocks -= static_cast<uint64_t>(rest);
                   fixer.tx().Put(key::Inode(ino), now.Encode());
                   return true;
                 });
  }
}

// ---- grants and free blocks ---------------------------------------------------------------------

void SpaceCheck::ScanGrants() {
  scan_.Scan("G", [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    BlockRange range;
    if (!key::Parse(key, &session, &range.first) || !DecodeBlocks(value, &range.blocks)) return false;
    FsckBitmap::Claimed claimed = owned_.Claim(range);
    FsckScan::Repair remove = RemoveRecord(key, value);
    uint64_t chunk = range.first / chunk_blocks_;
    if (!scan_.sessions.contains(session)) {
      scan_.Report("grant-stale",
                   fmt::format("{} are granted to session {}, which does not exist", Text(range), session),
                   {.chunk = chunk}, remove, true);
    } else if (claimed.outside > 0) {
      scan_.Report("grant-outside",
                   fmt::format("{}, granted to session {}, are in chunks that do not exist", Text(range), session),
                   {.chunk = chunk}, remove, true);
    } else if (!claimed.taken.empty()) {
      scan_.Report(
          "grant-conflict",
          fmt::format("{}, granted to session {}, {} owned by a file or another session; unmount that client or "
                      "evict it (`weftctl session evict {}`) and check again",
                      Text(claimed.taken.front()), session, claimed.taken.front().blocks == 1 ? "is" : "are", session),
          {.chunk = chunk});
    }
    return true;
  });
}

void SpaceCheck::ScanFree() {
  scan_.Scan("F", [&](std::string_view key, std::string_view value) {
    uint64_t first = 0;
    uint64_t blocks = 0;
    if (!key::Parse(key, &first) || !DecodeBlocks(value, &blocks)) return false;
    CheckFree(first, blocks);
    return true;
  });
}

void SpaceCheck::CheckFree(uint64_t first, uint64_t blocks) {
  FsckBitmap::Claimed claimed = owned_.Claim({first, blocks});
  if (claimed.taken.empty() && claimed.outside == 0) return;
  std::string what = claimed.taken.empty()
                         ? fmt::format("{} are in chunks that do not exist", Text({first, blocks}))
                         : fmt::format("{} also belong to a file or a grant", Text(claimed.taken.front()));
  scan_.Report(
      claimed.taken.empty() ? "free-outside" : "free-conflict", fmt::format("free {}", what),
      {.chunk = first / chunk_blocks_},
      [first, blocks, fresh = claimed.fresh](FsckFixer& fixer) {
        if (!fixer.Is(key::Free(first), Writer().U64(blocks).Take())) return false;
        fixer.tx().Delete(key::Free(first));
        for (const BlockRange& good : fresh) fixer.tx().Put(key::Free(good.first), Writer().U64(good.blocks).Take());
        return true;
      },
      true);
}

void SpaceCheck::ReportLeaked(BlockRange range) {
  scan_.Report("blocks-leaked", fmt::format("{} of the pool belong to nobody", Text(range)),
               {.chunk = range.first / chunk_blocks_},
               [range](FsckFixer& fixer) { return fixer.FreeLeaked(range.first, range.blocks); });
}

}  // namespace

void FsckSpace(FsckScan* scan) {
  std::optional<PoolRecord> pool = scan->Read<PoolRecord>(key::Pool());
  if (pool) SpaceCheck(scan, pool->chunk_blocks).Run();
}

}  // namespace weft
