// SPDX-License-Identifier: MIT
#include "userland/meta/space.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "userland/meta/codec.h"

namespace weft {
namespace {

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

void Space::Load() {
  for (const auto& [index, chunk] : chunks_->all()) ApplyChunk(index, chunk.copies_wanted, true);
  uint64_t chunk_blocks = chunks_->pool().chunk_blocks;
  // All of it lies in chunks that exist.
  auto inside = [&](uint64_t first, uint64_t blocks) {
    if (first >= kPoolBlocksMax || blocks > kPoolBlocksMax - first) return false;
    for (uint64_t chunk = first / chunk_blocks; chunk <= (first + blocks - 1) / chunk_blocks; ++chunk) {
      if (!chunk_free_.contains(chunk)) return false;
    }
    return true;
  };
  tables_->Scan<BlocksRecord>("F", [&](uint64_t first, BlocksRecord record) {
    bool good = inside(first, record.blocks) && !free_.Overlaps(first, record.blocks);
    if (tables_->Check(good, key::Free(first))) ApplyFree({first, record.blocks}, true, {});
  });
  tables_->tx().Scan("G", key::End("G"), [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t first = 0;
    BlocksRecord record;
    bool good = key::Parse(key, &session, &first) && BlocksRecord::Decode(value, &record) &&
                inside(first, record.blocks) && !free_.Overlaps(first, record.blocks) &&
                !granted_[session].Overlaps(first, record.blocks);
    if (tables_->Check(good, key)) ApplyGrant(session, {first, record.blocks}, true, {});
    return good;
  });
}

uint64_t Space::granted_blocks(uint64_t session) const {
  auto it = granted_.find(session);
  return it == granted_.end() ? 0 : it->second.total();
}

uint64_t Space::used_blocks() const {
  return chunk_free_.size() * chunks_->pool().chunk_blocks - free_.total() - granted_total_;
}

uint64_t Space::free_blocks(uint32_t copies) const {
  uint64_t blocks = classes_[copies].free + PlacementCapacity(targets_(), copies) * chunks_->pool().chunk_blocks;
  for (uint64_t chunk : chunks_->lost()) {
    if (const FreeOf& lost = chunk_free_.at(chunk); lost.copies == copies) blocks -= lost.blocks;
  }
  return blocks;
}

bool Space::FreeLeaked(BlockRange range) {
  uint64_t chunk = range.first / chunks_->pool().chunk_blocks;
  bool inside = (range.first + range.blocks - 1) / chunks_->pool().chunk_blocks == chunk;
  if (!inside || !chunk_free_.contains(chunk) || free_.Overlaps(range.first, range.blocks)) return false;
  for (const auto& [session, granted] : granted_) {
    if (granted.Overlaps(range.first, range.blocks)) return false;
  }
  AddFree(range);
  return true;
}

bool Space::AllFree(uint64_t chunk) const {
  auto it = chunk_free_.find(chunk);
  return it != chunk_free_.end() && it->second.blocks == chunks_->pool().chunk_blocks;
}

uint64_t Space::SpareChunksMax() const {
  return std::max<uint64_t>(limits_.spare_blocks / chunks_->pool().chunk_blocks, kSpreadChunks);
}

// ---- primitives: each changes the mirror, the store and the undo log ----------------------------

void Space::ApplyChunk(uint64_t chunk, uint32_t copies, bool add) {
  if (add) {
    chunk_free_[chunk] = {copies, 0};
  } else {
    assert(chunk_free_.at(chunk).blocks == 0);
    chunk_free_.erase(chunk);
    std::erase(classes_[copies].active, chunk);
  }
}

void Space::CountFree(BlockRange range, bool add) {
  uint64_t chunk_blocks = chunks_->pool().chunk_blocks;
  while (range.blocks > 0) {
    uint64_t chunk = range.first / chunk_blocks;
    uint64_t part = std::min(range.blocks, (chunk + 1) * chunk_blocks - range.first);
    FreeOf& free = chunk_free_.at(chunk);
    Class& of = classes_[free.copies];
    if (free.blocks > 0) of.by_free.erase(Key(chunk));
    if (free.blocks == chunk_blocks) --of.spare;
    free.blocks += add ? part : -part;
    of.free += add ? part : -part;
    if (free.blocks > 0) of.by_free.insert(Key(chunk));
    if (free.blocks == chunk_blocks) ++of.spare;
    range.first += part;
    range.blocks -= part;
  }
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

RangeMap::Sink Space::FreeSink() {
  return [this](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Free(first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Free(first));
  };
}

RangeMap::Sink Space::GrantSink(uint64_t session) {
  return [this, session](uint64_t first, uint64_t blocks) {
    blocks > 0 ? tables_->tx().Put(key::Grant(session, first), BlocksRecord::Encode(blocks))
               : tables_->tx().Delete(key::Grant(session, first));
  };
}

void Space::AddFree(BlockRange range) {
  ApplyFree(range, true, FreeSink());
  undo_.push_back({Undo::kFreeAdded, 0, range, 0, 0});
}

void Space::TakeFree(BlockRange range) {
  ApplyFree(range, false, FreeSink());
  undo_.push_back({Undo::kFreeTaken, 0, range, 0, 0});
}

void Space::AddGrant(uint64_t session, BlockRange range) {
  ApplyGrant(session, range, true, GrantSink(session));
  undo_.push_back({Undo::kGrantAdded, session, range, 0, 0});
}

void Space::TakeGrant(uint64_t session, BlockRange range) {
  ApplyGrant(session, range, false, GrantSink(session));
  undo_.push_back({Undo::kGrantTaken, session, range, 0, 0});
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
      case Undo::kChunkAdded:
        ApplyChunk(it->chunk, it->copies, false);
        break;
      case Undo::kChunkRemoved:
        ApplyChunk(it->chunk, it->copies, true);
        break;
    }
  }
  undo_.clear();
}

// ---- chunks that come and go ---------------------------------------------------------------------

uint32_t Space::members_taking() const {
  std::vector<PlacementTarget> targets = targets_();
  return static_cast<uint32_t>(std::ranges::count(targets, false, &PlacementTarget::draining));
}

bool Space::MakeChunk(uint32_t copies, const std::vector<PlacementTarget>& targets) {
  std::optional<uint64_t> chunk = chunks_->Make(copies, targets);
  if (!chunk) return false;
  ApplyChunk(*chunk, copies, true);
  undo_.push_back({Undo::kChunkAdded, 0, {}, *chunk, copies});
  AddFree({*chunk * chunks_->pool().chunk_blocks, chunks_->pool().chunk_blocks});
  classes_[copies].active.push_back(*chunk);
  return true;
}

bool Space::Delete(uint64_t chunk) {
  if (!AllFree(chunk)) return false;
  uint32_t copies = chunk_free_.at(chunk).copies;
  TakeFree({chunk * chunks_->pool().chunk_blocks, chunks_->pool().chunk_blocks});
  ApplyChunk(chunk, copies, false);
  undo_.push_back({Undo::kChunkRemoved, 0, {}, chunk, copies});
  chunks_->Remove(chunk);
  open_chunks_->Forget(chunk);
  return true;
}

void Space::Trim(BlockRange range) {
  uint64_t chunk_blocks = chunks_->pool().chunk_blocks;
  for (uint64_t chunk = range.first / chunk_blocks; chunk <= (range.first + range.blocks - 1) / chunk_blocks; ++chunk) {
    if (!AllFree(chunk)) continue;
    if (chunks_->Find(chunk)->Lost() || classes_[chunk_free_.at(chunk).copies].spare > SpareChunksMax()) {
      Delete(chunk);
    }
  }
}

// The places of spare chunks go to a class that has none: as soon as their targets have let go of them.
void Space::MakeRoom(uint32_t copies) {
  for (uint32_t other = 1; other <= kCopiesMax; ++other) {
    if (other == copies) continue;
    Class& of = classes_[other];
    while (!of.by_free.empty() && Delete(of.by_free.rbegin()->second)) {
    }
  }
}

// Keeps up to kSpreadChunks chunks to grant from: those in use while they have room, then half-empty ones,
// then new ones, then whatever has a free block. Chunks of which every copy is in sync, stays and is up come
// first; without any copy in sync nothing is granted.
void Space::RefillActive(uint32_t copies) {
  std::vector<PlacementTarget> targets = targets_();
  auto good = [&](const Copy& copy) {
    auto it = std::ranges::find(targets, copy.target, &PlacementTarget::id);
    return copy.state == CopyState::kInSync && !copy.leaving && it != targets.end() && it->up && !it->draining;
  };
  auto healthy = [&](const Chunk& chunk) { return !chunk.Degraded() && std::ranges::all_of(chunk.copies, good); };
  auto usable = [](const Chunk& chunk) { return !chunk.Lost(); };
  // Many may be refused while a target is down: the search for good ones ends early, the one for any does not.
  Class& of = classes_[copies];
  auto add_existing = [&](uint64_t free_min, size_t refused_max, auto&& accepts) {
    for (auto it = of.by_free.rbegin(); it != of.by_free.rend() && of.active.size() < kSpreadChunks; ++it) {
      if (it->first < free_min) break;
      bool is_active = std::ranges::find(of.active, it->second) != of.active.end();
      if (is_active) continue;
      if (accepts(*chunks_->Find(it->second))) {
        of.active.push_back(it->second);
      } else if (refused_max-- == 0) {
        break;
      }
    }
  };
  std::erase_if(of.active, [&](uint64_t chunk) {
    return chunk_free_.at(chunk).blocks < kShareBlocksMin || !healthy(*chunks_->Find(chunk));
  });
  add_existing(std::max(chunks_->pool().chunk_blocks / 4, kShareBlocksMin), kFitSearchMax, healthy);
  while (of.active.size() < kSpreadChunks && MakeChunk(copies, targets)) targets = targets_();
  add_existing(1, kFitSearchMax, healthy);
  if (of.active.empty()) add_existing(1, SIZE_MAX, usable);
}

// ---- grants -------------------------------------------------------------------------------------

// The first free range of the chunk that has `wanted` blocks, or the largest of those looked at.
BlockRange Space::FindFree(uint64_t chunk, uint64_t wanted) const {
  uint64_t chunk_blocks = chunks_->pool().chunk_blocks;
  uint64_t begin = chunk * chunk_blocks;
  uint64_t end = begin + chunk_blocks;
  BlockRange best;
  auto consider = [&](uint64_t first, uint64_t blocks) {
    first = std::max(first, begin);
    if (blocks > best.blocks) best = {first, std::min(blocks, wanted)};
    return best.blocks >= wanted;
  };
  if (uint64_t n = std::min(free_.Contiguous(begin), chunk_blocks); n > 0 && consider(begin, n)) return best;
  size_t looked_at = 0;
  for (auto it = free_.ranges().upper_bound(begin); it != free_.ranges().end() && it->first < end; ++it) {
    if (consider(it->first, std::min(it->second, end - it->first))) break;
    if (++looked_at >= kFitSearchMax) break;
  }
  return best;
}

std::vector<BlockRange> Space::Grant(uint64_t session, uint64_t blocks, size_t ranges_max, uint32_t copies) {
  std::vector<BlockRange> ranges;
  blocks = std::clamp<uint64_t>(blocks, 1, kGrantBlocksMax);
  uint64_t spread = std::clamp<size_t>(ranges_max, 1, kSpreadChunks);
  uint64_t share = std::max((blocks + spread - 1) / spread, kShareBlocksMin);
  uint64_t given = 0;
  Class& of = classes_[copies];
  bool progress = true;
  while (given < blocks && ranges.size() < ranges_max && progress) {
    RefillActive(copies);
    progress = false;
    // One round over the active chunks, starting where the last grant ended.
    for (size_t i = 0; i < of.active.size() && given < blocks && ranges.size() < ranges_max; ++i) {
      uint64_t chunk = of.active[of.next_active++ % of.active.size()];
      BlockRange range = FindFree(chunk, std::min(share, blocks - given));
      if (range.blocks == 0) continue;
      TakeFree(range);
      AddGrant(session, range);
      open_chunks_->Open(session, chunk);
      chunks_->ClearDoubtful(chunk);
      given += range.blocks;
      progress = true;
      auto before = std::ranges::find_if(ranges, [&](const BlockRange& r) {
        return r.first + r.blocks == range.first && r.first / chunks_->pool().chunk_blocks == chunk;
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
  Trim(range);
  return 0;
}

void Space::ReleaseAll(uint64_t session) {
  auto it = granted_.find(session);
  if (it == granted_.end()) return;
  for (auto [first, blocks] : std::map(it->second.ranges())) Release(session, {first, blocks});
}

void Space::Free(BlockRange range) {
  AddFree(range);
  Trim(range);
}

}  // namespace weft
