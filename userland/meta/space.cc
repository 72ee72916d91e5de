// SPDX-License-Identifier: MIT
#include "userland/meta/space.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "userland/meta/codec.h"

namespace weft {
namespace {

bool Degraded(const Chunk& chunk) {
  return std::ranges::any_of(chunk.copies, [](const Copy& copy) { return copy.state != CopyState::kInSync; });
}

struct BlocksRecord {
  uint64_t blocks = 0;
  static std::string Encode(uint64_t blocks) { return Writer().U64(blocks).Take(); }
  static bool Decode(std::string_view bytes, BlocksRecord* out) {
    Reader in(bytes);
    out->blocks = in.U64();
    return in.Finish() && out->blocks > 0;
  }
};

}  // namespace

bool Space::Load() {
  std::optional<PoolRecord> pool = tables_->Get<PoolRecord>(key::Pool());
  if (!pool) return false;
  pool_ = *pool;
  tables_->Scan<Chunk>("K", [&](uint64_t index, Chunk chunk) {
    if (!tables_->Check(index == chunks_.size(), key::Chunk(index))) return;
    CountCopies(chunk, true);
    chunks_.push_back(std::move(chunk));
    chunk_free_.push_back(0);
  });
  tables_->Scan<BlocksRecord>("F", [&](uint64_t first, BlocksRecord record) {
    bool good = first + record.blocks <= pool_.pool_blocks && !free_.Overlaps(first, record.blocks);
    if (tables_->Check(good, key::Free(first))) ApplyFree({first, record.blocks}, true, {});
  });
  tables_->tx().Scan("G", key::End("G"), [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t first = 0;
    BlocksRecord record;
    bool good = key::Parse(key, &session, &first) && BlocksRecord::Decode(value, &record) &&
                first + record.blocks <= pool_.pool_blocks && !free_.Overlaps(first, record.blocks) &&
                !granted_[session].Overlaps(first, record.blocks);
    if (tables_->Check(good, key)) ApplyGrant(session, {first, record.blocks}, true, {});
    return good;
  });
  return true;
}

void Space::Format(const PoolRecord& pool) {
  pool_ = pool;
  tables_->tx().Put(key::Pool(), pool.Encode());
  AddFree({0, pool.pool_blocks});
}

uint64_t Space::granted_blocks(uint64_t session) const {
  auto it = granted_.find(session);
  return it == granted_.end() ? 0 : it->second.total();
}

uint64_t Space::chunks_on(uint32_t target) const {
  auto it = chunks_on_.find(target);
  return it == chunks_on_.end() ? 0 : it->second;
}

// ---- primitives: each changes the mirror, the store and the undo log ----------------------------

void Space::CountFree(BlockRange range, bool add) {
  while (range.blocks > 0) {
    uint64_t index = range.first / pool_.chunk_blocks;
    if (index >= chunks_.size()) return;
    uint64_t part = std::min(range.blocks, (index + 1) * pool_.chunk_blocks - range.first);
    uint64_t& count = chunk_free_[index];
    if (count > 0) by_free_.erase({count, index});
    count = add ? count + part : count - part;
    if (count > 0) by_free_.insert({count, index});
    range.first += part;
    range.blocks -= part;
  }
}

void Space::CountCopies(const Chunk& chunk, bool add) {
  for (const Copy& copy : chunk.copies) chunks_on_[copy.target] += add ? 1 : -1;
  if (Degraded(chunk)) degraded_ += add ? 1 : -1;
}

void Space::ApplyFree(BlockRange range, bool add, const RangeMap::Sink& sink) {
  if (add) {
    free_.Add(range.first, range.blocks, sink);
  } else {
    free_.Take(range.first, range.blocks, sink);
  }
  CountFree(range, add);
}

void Space::ApplyGrant(uint64_t session, BlockRange range, bool add, const RangeMap::Sink& sink) {
  RangeMap& map = granted_[session];
  if (add) {
    map.Add(range.first, range.blocks, sink);
    granted_total_ += range.blocks;
  } else {
    map.Take(range.first, range.blocks, sink);
    granted_total_ -= range.blocks;
  }
  if (map.total() == 0) granted_.erase(session);
}

void Space::AddFree(BlockRange range) {
  ApplyFree(range, true, [this](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Free(first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Free(first));
  });
  undo_.push_back({Undo::kFreeAdded, 0, range, 0, {}});
}

void Space::TakeFree(BlockRange range) {
  ApplyFree(range, false, [this](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Free(first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Free(first));
  });
  undo_.push_back({Undo::kFreeTaken, 0, range, 0, {}});
}

void Space::AddGrant(uint64_t session, BlockRange range) {
  ApplyGrant(session, range, true, [&](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Grant(session, first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Grant(session, first));
  });
  undo_.push_back({Undo::kGrantAdded, session, range, 0, {}});
}

void Space::TakeGrant(uint64_t session, BlockRange range) {
  ApplyGrant(session, range, false, [&](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Grant(session, first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Grant(session, first));
  });
  undo_.push_back({Undo::kGrantTaken, session, range, 0, {}});
}

// Only the mirrors: the store's part is the Transaction's.
void Space::Rollback() {
  for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) {
    switch (it->what) {
      case Undo::kFreeAdded:
        ApplyFree(it->range, false, {});
        break;
      case Undo::kFreeTaken:
        ApplyFree(it->range, true, {});
        break;
      case Undo::kGrantAdded:
        ApplyGrant(it->session, it->range, false, {});
        break;
      case Undo::kGrantTaken:
        ApplyGrant(it->session, it->range, true, {});
        break;
      case Undo::kChunkMade:
        by_free_.erase({chunk_free_.back(), it->index});
        CountCopies(chunks_.back(), false);
        std::erase(active_, it->index);
        chunks_.pop_back();
        chunk_free_.pop_back();
        break;
      case Undo::kChunkChanged:
        CountCopies(chunks_[it->index], false);
        CountCopies(it->chunk, true);
        chunks_[it->index] = std::move(it->chunk);
        break;
    }
  }
  undo_.clear();
}

// ---- grants -------------------------------------------------------------------------------------

bool Space::MakeChunk() {
  uint64_t index = chunks_.size();
  uint64_t total = pool_.pool_blocks / pool_.chunk_blocks;
  if (index >= total) return false;
  std::vector<PlacementTarget> targets = targets_();
  std::vector<size_t> chosen = PlaceChunk(targets, pool_.copies, total - index);
  if (chosen.empty()) return false;
  Chunk chunk;
  for (size_t i : chosen) {
    // Chunks are never taken off a target in this version: its used places are the first ones.
    chunk.copies.push_back({targets[i].id, CopyState::kInSync, targets[i].used * pool_.chunk_blocks * kBlockBytes});
  }
  tables_->tx().Put(key::Chunk(index), chunk.Encode());
  CountCopies(chunk, true);
  chunks_.push_back(std::move(chunk));
  // All of a chunk that did not exist is free.
  assert(free_.Contains(index * pool_.chunk_blocks, pool_.chunk_blocks));
  chunk_free_.push_back(pool_.chunk_blocks);
  by_free_.insert({pool_.chunk_blocks, index});
  undo_.push_back({Undo::kChunkMade, 0, {}, index, {}});
  return true;
}

// Keeps up to kSpreadChunks chunks to grant from: those in use while they have room, then half-empty ones,
// then new ones, then whatever has a free block.
void Space::RefillActive() {
  std::erase_if(active_, [this](uint64_t index) { return chunk_free_[index] < kShareBlocksMin; });
  auto add_existing = [this](uint64_t free_min) {
    for (auto it = by_free_.rbegin(); it != by_free_.rend() && active_.size() < kSpreadChunks; ++it) {
      if (it->first < free_min) break;
      if (std::ranges::find(active_, it->second) == active_.end()) active_.push_back(it->second);
    }
  };
  add_existing(std::max(pool_.chunk_blocks / 4, kShareBlocksMin));
  while (active_.size() < kSpreadChunks && MakeChunk()) active_.push_back(chunks_.size() - 1);
  add_existing(1);
}

// The first free range of the chunk that has `wanted` blocks, or the largest of those looked at.
BlockRange Space::FindFree(uint64_t chunk, uint64_t wanted) const {
  uint64_t begin = chunk * pool_.chunk_blocks;
  uint64_t end = begin + pool_.chunk_blocks;
  BlockRange best;
  auto consider = [&](uint64_t first, uint64_t blocks) {
    first = std::max(first, begin);
    if (blocks > best.blocks) best = {first, std::min(blocks, wanted)};
    return best.blocks >= wanted;
  };
  if (uint64_t n = std::min(free_.Contiguous(begin), pool_.chunk_blocks); n > 0 && consider(begin, n)) return best;
  size_t looked_at = 0;
  for (auto it = free_.ranges().upper_bound(begin); it != free_.ranges().end() && it->first < end; ++it) {
    if (consider(it->first, std::min(it->second, end - it->first))) break;
    if (++looked_at >= kFitSearchMax) break;
  }
  return best;
}

std::vector<BlockRange> Space::Grant(uint64_t session, uint64_t blocks, size_t ranges_max) {
  std::vector<BlockRange> ranges;
  blocks = std::clamp<uint64_t>(blocks, 1, kGrantBlocksMax);
  uint64_t spread = std::clamp<size_t>(ranges_max, 1, kSpreadChunks);
  uint64_t share = std::max((blocks + spread - 1) / spread, kShareBlocksMin);
  uint64_t given = 0;
  bool progress = true;
  while (given < blocks && ranges.size() < ranges_max && progress) {
    RefillActive();
    progress = false;
    // One round over the active chunks, starting where the last grant ended.
    for (size_t i = 0; i < active_.size() && given < blocks && ranges.size() < ranges_max; ++i) {
      uint64_t chunk = active_[next_active_++ % active_.size()];
      BlockRange range = FindFree(chunk, std::min(share, blocks - given));
      if (range.blocks == 0) continue;
      TakeFree(range);
      AddGrant(session, range);
      given += range.blocks;
      progress = true;
      auto before = std::ranges::find_if(ranges, [&](const BlockRange& r) {
        return r.first + r.blocks == range.first && r.first / pool_.chunk_blocks == chunk;
      });
      if (before != ranges.end()) {
        before->blocks += range.blocks;
      } else {
        ranges.push_back(range);
      }
    }
  }
  return ranges;
}

uint64_t Space::Granted(uint64_t session, uint64_t first) const {
  auto it = granted_.find(session);
  return it == granted_.end() ? 0 : it->second.Contiguous(first);
}

void Space::Use(uint64_t session, BlockRange range) { TakeGrant(session, range); }

int Space::Release(uint64_t session, BlockRange range) {
  if (range.blocks == 0 || Granted(session, range.first) < range.blocks) return EINVAL;
  TakeGrant(session, range);
  AddFree(range);
  return 0;
}

void Space::ReleaseAll(uint64_t session) {
  auto it = granted_.find(session);
  if (it == granted_.end()) return;
  for (auto [first, blocks] : std::map(it->second.ranges())) Release(session, {first, blocks});
}

void Space::Free(BlockRange range) { AddFree(range); }

int Space::MarkStale(uint64_t index, uint32_t version, uint32_t copy_mask) {
  if (index >= chunks_.size()) return ENOENT;
  Chunk chunk = chunks_[index];
  if (copy_mask == 0 || copy_mask >> chunk.copies.size() != 0 || version > chunk.version) return EINVAL;
  bool changed = false;
  for (size_t i = 0; i < chunk.copies.size(); ++i) {
    if ((copy_mask >> i & 1) == 0 || chunk.copies[i].state == CopyState::kStale) continue;
    chunk.copies[i].state = CopyState::kStale;
    changed = true;
  }
  if (!changed) return 0;
  if (std::ranges::none_of(chunk.copies, [](const Copy& c) { return c.state == CopyState::kInSync; })) return EBUSY;
  ++chunk.version;
  tables_->tx().Put(key::Chunk(index), chunk.Encode());
  undo_.push_back({Undo::kChunkChanged, 0, {}, index, chunks_[index]});
  CountCopies(chunks_[index], false);
  CountCopies(chunk, true);
  chunks_[index] = std::move(chunk);
  return 0;
}

}  // namespace weft
