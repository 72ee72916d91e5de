// SPDX-License-Identifier: MIT
//
// fsck: copies of chunks against targets and their places, what is being released, damaged or open, and the files
// that have lost data.
#include <algorithm>
#include <map>
#include <tuple>

#include "userland/base/config.h"
#include "userland/meta/fsck_fixer.h"
#include "userland/meta/fsck_lost_data.h"
#include "userland/meta/fsck_scan.h"

namespace weft {
namespace {

using Place = std::pair<uint32_t, uint64_t>;  // target, offset

class ChunkCheck {
 public:
  ChunkCheck(FsckScan* scan, uint64_t chunk_blocks)
      : scan_(*scan), chunk_blocks_(chunk_blocks), chunk_bytes_(chunk_blocks * kBlockBytes) {}

  void Run() {
    ScanTargets();
    ScanChunks();
    for (const auto& [index, chunk] : chunks_) CheckChunk(index, chunk);
    ScanReleases();
    ScanDamage();
    ScanOpen();
    scan_.Scan("V", [](std::string_view key, std::string_view value) {
      ScrubRecord record;
      return key.size() == 1 && ScrubRecord::Decode(value, &record);
    });
    scan_.Scan("Z", [](std::string_view key, std::string_view value) {
      return key.size() == 1 + Uuid().size() && value.empty();
    });
    scan_.Scan("Y", [](std::string_view key, std::string_view value) { return key.size() > 1 && value.empty(); });
    for (uint64_t index : lost_) lost_data_.push_back({index * chunk_blocks_, chunk_blocks_});
    FsckNameLostData(&scan_, chunk_blocks_, std::move(lost_data_));
  }

 private:
  void ScanTargets();
  void ScanChunks();
  void CheckChunk(uint64_t index, const Chunk& chunk);
  void CheckVersion(uint64_t index, const Chunk& chunk);
  // Why the copy cannot be; empty: it can.
  std::string FaultOf(const Chunk& chunk, const Copy& copy) const;
  FsckScan::Repair DropCopies(uint64_t index, const Chunk& chunk);
  void ScanReleases();
  void ScanDamage();
  void CheckDamage(std::string_view key, std::string_view value, uint64_t index, uint32_t target,
                   const DamageRecord& record);
  void FindLostBlocks();
  void ScanOpen();

  FsckScan& scan_;
  const uint64_t chunk_blocks_;
  const uint64_t chunk_bytes_;
  std::map<uint32_t, TargetRecord> targets_;
  std::map<uint64_t, Chunk> chunks_;
  std::map<Place, int> uses_;  // copies at a place
  std::map<uint32_t, uint64_t> versions_;
  std::set<uint64_t> lost_;
  std::map<std::pair<uint64_t, uint32_t>, std::set<uint32_t>> damage_;
  std::vector<BlockRange> lost_data_;
};

void ChunkCheck::ScanTargets() {
  scan_.Scan("T", [&](std::string_view key, std::string_view value) {
    uint64_t id = 0;
    TargetRecord record;
    if (!key::Parse(key, &id) || id == 0) return false;
    bool good = TargetRecord::Decode(value, &record);
    if (!good) record.capacity_bytes = UINT64_MAX;  // it is there, nothing is known about it
    targets_[static_cast<uint32_t>(id)] = record;
    return good;
  });
}

void ChunkCheck::ScanChunks() {
  scan_.Scan("K", [&](std::string_view key, std::string_view value) {
    uint64_t index = 0;
    Chunk chunk;
    ++scan_.result().chunks;
    if (!key::Parse(key, &index) || index >= kPoolBlocksMax / chunk_blocks_) return false;
    if (!Chunk::Decode(value, &chunk)) {
      lost_.insert(index);
      return false;
    }
    for (const Copy& copy : chunk.copies) ++uses_[{copy.target, copy.offset}];
    chunks_[index] = std::move(chunk);
    return true;
  });
}

std::string ChunkCheck::FaultOf(const Chunk& chunk, const Copy& copy) const {
  auto target = targets_.find(copy.target);
  if (target == targets_.end()) return fmt::format("is on target {}, which the pool does not have", copy.target);
  const std::string& name = target->second.name;
  if (std::ranges::count(chunk.copies, copy.target, &Copy::target) > 1) {
    return fmt::format("is not the only one on target {}", name);
  }
  uint64_t capacity = target->second.capacity_bytes;
  if (copy.offset % chunk_bytes_ != 0 || copy.offset > capacity || capacity - copy.offset < chunk_bytes_) {
    return fmt::format("is at {} of target {}, where there is no place for a chunk", copy.offset, name);
  }
  if (uses_.at({copy.target, copy.offset}) > 1) {
    return fmt::format("is at {} of target {}, as is a copy of another chunk", copy.offset, name);
  }
  return "";
}

// Drops what cannot be; null: no good copy in sync would be left.
FsckScan::Repair ChunkCheck::DropCopies(uint64_t index, const Chunk& chunk) {
  Chunk good = chunk;
  std::erase_if(good.copies, [&](const Copy& copy) { return !FaultOf(chunk, copy).empty(); });
  if (good.Lost()) return nullptr;
  return [index, chunk, good](FsckFixer& fixer) mutable {
    if (!fixer.Is(key::Chunk(index), chunk.Encode())) return false;
    good.version = ++fixer.counters().map_version;
    fixer.tx().Put(key::Chunk(index), good.Encode());
    for (const Copy& copy : chunk.copies) {
      if (good.On(copy.target) == nullptr) fixer.tx().Delete(key::Damage(index, copy.target));
    }
    return true;
  };
}

void ChunkCheck::CheckChunk(uint64_t index, const Chunk& chunk) {
  CheckVersion(index, chunk);
  for (const Copy& copy : chunk.copies) {
    std::string fault = FaultOf(chunk, copy);
    if (fault.empty()) continue;
    scan_.Report("copy-misplaced", fmt::format("a copy of chunk {} {}", index, fault), {.chunk = index},
                 DropCopies(index, chunk), true);
  }
  if (!chunk.Lost()) return;
  lost_.insert(index);
  scan_.Report("chunk-lost",
               fmt::format("chunk {} has no copy in sync{}", index,
                           std::ranges::any_of(chunk.copies, &Copy::doubtful)
                               ? "; one that was in sync when a client died is taken when its target is up"
                               : ""),
               {.chunk = index});
}

void ChunkCheck::CheckVersion(uint64_t index, const Chunk& chunk) {
  auto [other, first] = versions_.try_emplace(chunk.version, index);
  if (first) return;
  scan_.Report(
      "chunk-version", fmt::format("chunks {} and {} have the same version {}", other->second, index, chunk.version),
      {.chunk = index},
      [index, chunk](FsckFixer& fixer) {
        if (!fixer.Is(key::Chunk(index), chunk.Encode())) return false;
        Chunk now = chunk;
        now.version = ++fixer.counters().map_version;
        fixer.tx().Put(key::Chunk(index), now.Encode());
        return true;
      },
      true);
}

// ---- what hangs on chunks -----------------------------------------------------------------------

void ChunkCheck::ScanReleases() {
  scan_.Scan("R", [&](std::string_view key, std::string_view value) {
    uint32_t target = 0;
    uint64_t offset = 0;
    ReleaseRecord record;
    if (!key::ParseReleasing(key, &target, &offset) || !ReleaseRecord::Decode(value, &record)) return false;
    bool used = uses_.contains({target, offset});
    auto member = targets_.find(target);
    bool outside = member == targets_.end() || offset % chunk_bytes_ != 0 || offset >= member->second.capacity_bytes;
    if (!used && !outside) return true;
    scan_.Report("release-stale",
                 fmt::format("the place at {} of target {} is being released, but {}", offset, target,
                             used ? "a chunk has a copy there" : "there is no such place"),
                 {.chunk = record.chunk}, RemoveRecord(key, value), true);
    return true;
  });
}

void ChunkCheck::ScanDamage() {
  scan_.Scan("B", [&](std::string_view key, std::string_view value) {
    uint64_t index = 0;
    uint64_t target = 0;
    DamageRecord record;
    if (key.size() != 13 || !key::Parse(key, &index, &target) || !DamageRecord::Decode(value, &record)) return false;
    CheckDamage(key, value, index, static_cast<uint32_t>(target), record);
    return true;
  });
  FindLostBlocks();
}

void ChunkCheck::CheckDamage(std::string_view key, std::string_view value, uint64_t index, uint32_t target,
                             const DamageRecord& record) {
  auto chunk = chunks_.find(index);
  const Copy* copy = chunk == chunks_.end() ? nullptr : chunk->second.On(target);
  if (copy != nullptr && *record.blocks.rbegin() < chunk_blocks_) {
    if (copy->state == CopyState::kInSync) damage_[{index, target}] = record.blocks;
    return;
  }
  scan_.Report("damage-stale",
               fmt::format("bad blocks are noted of a copy of chunk {} on target {}, {}", index, target,
                           copy == nullptr ? "which does not exist" : "behind its end"),
               {.chunk = index}, RemoveRecord(key, value), true);
}

// Bad in every copy that may be read.
void ChunkCheck::FindLostBlocks() {
  for (auto it = damage_.begin(); it != damage_.end(); ++it) {
    auto [index, target] = it->first;
    const Chunk& chunk = chunks_.at(index);
    // Once a chunk: with the first of its copies.
    if (it != damage_.begin() && std::prev(it)->first.first == index) continue;
    for (uint32_t block : it->second) {
      bool lost = std::ranges::all_of(chunk.copies, [&](const Copy& copy) {
        if (copy.state != CopyState::kInSync) return true;
        auto bad = damage_.find({index, copy.target});
        return bad != damage_.end() && bad->second.contains(block);
      });
      if (lost) lost_data_.push_back({index * chunk_blocks_ + block, 1});
    }
  }
}

// The copies of a chunk that a dead client may have been writing to may differ: one stays in sync.
bool MakeEqual(FsckFixer& fixer, const std::string& key, uint64_t index) {
  if (!fixer.Is(key, "")) return false;
  fixer.tx().Delete(key);
  std::optional<Chunk> chunk = fixer.Read<Chunk>(key::Chunk(index));
  if (!chunk || chunk->Lost() || chunk->copies.size() - chunk->Count(CopyState::kStale) <= 1) return true;
  auto rank = [&](const Copy& copy) {
    std::optional<DamageRecord> damage = fixer.Read<DamageRecord>(key::Damage(index, copy.target));
    return std::tuple(damage ? damage->blocks.size() : 0, copy.target);
  };
  Copy* kept = nullptr;
  for (Copy& copy : chunk->copies) {
    if (copy.state == CopyState::kInSync && (kept == nullptr || rank(copy) < rank(*kept))) kept = &copy;
  }
  for (Copy& copy : chunk->copies) {
    if (&copy == kept || copy.state == CopyState::kStale) continue;
    copy.doubtful = copy.state == CopyState::kInSync;
    copy.state = CopyState::kStale;
  }
  chunk->version = ++fixer.counters().map_version;
  fixer.tx().Put(key::Chunk(index), chunk->Encode());
  return true;
}

void ChunkCheck::ScanOpen() {
  scan_.Scan("W", [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t index = 0;
    if (key.size() != 17 || !key::Parse(key, &session, &index) || !value.empty()) return false;
    if (scan_.sessions.contains(session) && (chunks_.contains(index) || lost_.contains(index))) return true;
    bool alive = scan_.sessions.contains(session);
    scan_.Report(
        "open-stale",
        alive ? fmt::format("session {} has chunk {} open, which does not exist", session, index)
              : fmt::format("chunk {} is open for session {}, which does not exist: its copies may differ; a repair "
                            "keeps one of them in sync",
                            index, session),
        {.chunk = index}, [key = std::string(key), index](FsckFixer& fixer) { return MakeEqual(fixer, key, index); },
        true);
    return true;
  });
}

}  // namespace

void FsckChunks(FsckScan* scan) {
  std::optional<std::string> bytes = scan->Get(key::Pool());
  if (!bytes) {
    // Without a pool there can be neither chunks nor space: what there is has lost its geometry.
    bool any = false;
    scan->Scan("K", [&](std::string_view, std::string_view) { return any = true; });
    if (any) scan->Report("pool-missing", "there are chunks, but the record of the pool is missing", {});
    return;
  }
  PoolRecord pool;
  if (!PoolRecord::Decode(*bytes, &pool)) {
    return scan->Report("malformed-record", "the record of the pool is malformed", {});
  }
  ChunkCheck(scan, pool.chunk_blocks).Run();
}

}  // namespace weft
