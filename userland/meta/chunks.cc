// SPDX-License-Identifier: MIT
#include "userland/meta/chunks.h"

#include <algorithm>
#include <cerrno>
#include <ranges>

namespace weft {

// ---- the mirror and the store --------------------------------------------------------------------

bool Chunks::Load() {
  std::optional<PoolRecord> pool = tables_->Get<PoolRecord>(key::Pool());
  if (!pool) return false;
  pool_ = *pool;
  tables_->Scan<Chunk>("K", [&](uint64_t index, Chunk chunk) {
    bool good = index < kPoolBlocksMax / pool_.chunk_blocks && chunk.version <= counters_->map_version &&
                !by_version_.contains(chunk.version) && PlacesAreFree(chunk);
    if (tables_->Check(good, key::Chunk(index))) Apply(index, std::move(chunk));
  });
  LoadReleases();
  LoadDamage();
  return true;
}

bool Chunks::PlacesAreFree(const Chunk& chunk) const {
  for (const Copy& copy : chunk.copies) {
    if (std::ranges::count(chunk.copies, copy.target, &Copy::target) != 1) return false;
    if (copy.offset % pool_.chunk_bytes() != 0) return false;
    auto places = places_.find(copy.target);
    if (places != places_.end() && places->second.Contains(copy.offset / pool_.chunk_bytes(), 1)) return false;
  }
  return true;
}

void Chunks::LoadReleases() {
  tables_->tx().Scan("R", key::End("R"), [&](std::string_view key, std::string_view value) {
    uint32_t target = 0;
    uint64_t offset = 0;
    ReleaseRecord record;
    bool good = key::ParseReleasing(key, &target, &offset) && ReleaseRecord::Decode(value, &record) &&
                offset % pool_.chunk_bytes() == 0 && !places_[target].Contains(offset / pool_.chunk_bytes(), 1);
    if (tables_->Check(good, key)) ApplyRelease(target, offset, record);
    return good;
  });
}

void Chunks::LoadDamage() {
  tables_->tx().Scan("B", key::End("B"), [&](std::string_view key, std::string_view value) {
    uint64_t index = 0;
    uint64_t target = 0;
    DamageRecord record;
    bool good = key::Parse(key, &index, &target) && DamageRecord::Decode(value, &record) &&
                *record.blocks.rbegin() < pool_.chunk_blocks;
    const Chunk* chunk = good ? Find(index) : nullptr;
    good = chunk != nullptr && chunk->On(static_cast<uint32_t>(target)) != nullptr;
    if (tables_->Check(good, key)) ApplyDamage(index, static_cast<uint32_t>(target), std::move(record.blocks));
    return good;
  });
}

void Chunks::SetPool(const PoolRecord& pool) {
  undo_.push_back([this, before = pool_] { pool_ = before; });
  pool_ = pool;
  tables_->tx().Put(key::Pool(), pool.Encode());
}

// Only the mirrors: the store's part is the Transaction's.
void Chunks::Rollback() {
  for (const auto& take_back : undo_ | std::views::reverse) take_back();
  undo_.clear();
}

uint32_t Chunks::NextVersion() {
  if (counters_->map_version == UINT32_MAX) {
    tables_->tx().Fail(Error(EOVERFLOW, "the pool's map has reached version {}, the last; move the data to a new pool",
                             counters_->map_version));
    return counters_->map_version;
  }
  return ++counters_->map_version;
}

void Chunks::CountPlace(uint32_t target, uint64_t offset, bool add) {
  RangeMap& places = places_[target];
  uint64_t number = offset / pool_.chunk_bytes();
  if (add) {
    places.Add(number, 1);
  } else {
    places.Take(number, 1);
  }
  if (places.total() == 0) places_.erase(target);
}

void Chunks::Count(uint64_t index, const Chunk& chunk, bool add) {
  for (const Copy& copy : chunk.copies) {
    CountPlace(copy.target, copy.offset, add);
    std::set<uint64_t>& on = on_[copy.target];
    add ? (void)on.insert(index) : (void)on.erase(index);
    if (on.empty()) on_.erase(copy.target);
    if (copy.state == CopyState::kInSync) continue;
    uint64_t& unsynced = unsynced_[copy.target];
    unsynced += add ? 1 : -1;
    if (unsynced == 0) unsynced_.erase(copy.target);
  }
  add ? (void)by_version_.emplace(chunk.version, index) : (void)by_version_.erase(chunk.version);
  if (chunk.Degraded()) degraded_ += add ? 1 : -1;
  if (chunk.Lost()) add ? (void)lost_.insert(index) : (void)lost_.erase(index);
  if (!chunk.Settled()) add ? (void)unsettled_.insert(index) : (void)unsettled_.erase(index);
}

void Chunks::Apply(uint64_t index, std::optional<Chunk> chunk) {
  auto it = all_.find(index);
  if (it != all_.end()) {
    Count(index, it->second, false);
    if (!chunk) {
      all_.erase(it);
      gone_.insert(index);
    }
  }
  if (!chunk) return;
  Count(index, *chunk, true);
  all_.insert_or_assign(index, *std::move(chunk));
}

void Chunks::PutChanged(uint64_t index, Chunk chunk) {
  chunk.version = NextVersion();
  Put(index, std::move(chunk));
}

void Chunks::Put(uint64_t index, std::optional<Chunk> chunk) {
  std::optional<Chunk> before;
  if (const Chunk* now = Find(index)) before = *now;
  if (chunk) {
    tables_->tx().Put(key::Chunk(index), chunk->Encode());
  } else {
    tables_->tx().Delete(key::Chunk(index));
  }
  Apply(index, std::move(chunk));
  undo_.push_back([this, index, before = std::move(before)] { Apply(index, before); });
}

void Chunks::ApplyRelease(uint32_t target, uint64_t offset, const std::optional<ReleaseRecord>& record) {
  if (record) {
    releases_[{target, offset}] = *record;
  } else {
    releases_.erase({target, offset});
  }
  CountPlace(target, offset, record.has_value());
  release_changes_.insert(target);
}

void Chunks::PutRelease(uint32_t target, uint64_t offset, std::optional<ReleaseRecord> record) {
  std::optional<ReleaseRecord> before;
  if (auto it = releases_.find({target, offset}); it != releases_.end()) before = it->second;
  if (record) {
    tables_->tx().Put(key::Releasing(target, offset), record->Encode());
  } else {
    tables_->tx().Delete(key::Releasing(target, offset));
  }
  ApplyRelease(target, offset, record);
  undo_.push_back([=, this] { ApplyRelease(target, offset, before); });
}

void Chunks::ApplyDamage(uint64_t index, uint32_t target, std::set<uint32_t> blocks) {
  bad_blocks_ -= DamageOf(index, target).size();
  bad_blocks_ += blocks.size();
  if (blocks.empty()) {
    damage_.erase({index, target});
  } else {
    damage_[{index, target}] = std::move(blocks);
  }
}

void Chunks::PutDamage(uint64_t index, uint32_t target, std::set<uint32_t> blocks) {
  std::set<uint32_t> before = DamageOf(index, target);
  if (before == blocks) return;
  if (blocks.empty()) {
    tables_->tx().Delete(key::Damage(index, target));
  } else {
    tables_->tx().Put(key::Damage(index, target), DamageRecord{blocks}.Encode());
  }
  ApplyDamage(index, target, std::move(blocks));
  undo_.push_back([this, index, target, before = std::move(before)] { ApplyDamage(index, target, before); });
}

// ---- what there is -------------------------------------------------------------------------------

const Chunk* Chunks::Find(uint64_t index) const {
  auto it = all_.find(index);
  return it == all_.end() ? nullptr : &it->second;
}

const std::set<uint64_t>& Chunks::on(uint32_t target) const {
  static const std::set<uint64_t> none;
  auto it = on_.find(target);
  return it == on_.end() ? none : it->second;
}

uint64_t Chunks::used_places(uint32_t target) const {
  auto it = places_.find(target);
  return it == places_.end() ? 0 : it->second.total();
}

uint64_t Chunks::unsynced(uint32_t target) const {
  auto it = unsynced_.find(target);
  return it == unsynced_.end() ? 0 : it->second;
}

std::vector<std::pair<uint64_t, const Chunk*>> Chunks::Changed(uint32_t since, size_t max) const {
  std::vector<std::pair<uint64_t, const Chunk*>> changed;
  for (auto it = by_version_.upper_bound(since); it != by_version_.end() && changed.size() < max; ++it) {
    changed.emplace_back(it->second, Find(it->second));
  }
  return changed;
}

std::vector<std::pair<uint64_t, ReleaseRecord>> Chunks::ReleasesOf(uint32_t target) const {
  std::vector<std::pair<uint64_t, ReleaseRecord>> out;
  for (auto it = releases_.lower_bound({target, 0}); it != releases_.end() && it->first.first == target; ++it) {
    out.emplace_back(it->first.second, it->second);
  }
  return out;
}

const std::set<uint32_t>& Chunks::DamageOf(uint64_t index, uint32_t target) const {
  static const std::set<uint32_t> none;
  auto it = damage_.find({index, target});
  return it == damage_.end() ? none : it->second;
}

// The first unused index from the counter on, around the end: an index that was deleted comes again as late as
// possible, so that no client still knows its old map.
std::optional<uint64_t> Chunks::FreeIndex() const {
  uint64_t limit = kPoolBlocksMax / pool_.chunk_blocks;
  if (all_.size() >= limit) return std::nullopt;
  uint64_t index = counters_->next_chunk % limit;
  for (auto it = all_.lower_bound(index); it != all_.end() && it->first == index; ++it) {
    if (++index == limit)
      return [&] {
        uint64_t low = 0;
        for (auto at = all_.begin(); at != all_.end() && at->first == low; ++at) ++low;
        return low;
      }();
  }
  return index;
}

uint64_t Chunks::FreePlace(uint32_t target) const {
  auto it = places_.find(target);
  return it == places_.end() ? 0 : it->second.Contiguous(0) * pool_.chunk_bytes();
}

// ---- chunks --------------------------------------------------------------------------------------

std::optional<uint64_t> Chunks::Make(uint32_t copies, const std::vector<PlacementTarget>& targets) {
  std::vector<PlacementTarget> view;
  std::ranges::copy_if(targets, std::back_inserter(view), &PlacementTarget::up);
  std::vector<size_t> chosen = PlaceChunk(view, copies, PlacementCapacity(view, copies));
  if (chosen.empty()) {
    view = targets;
    chosen = PlaceChunk(view, copies, PlacementCapacity(view, copies));
  }
  std::optional<uint64_t> index = FreeIndex();
  if (chosen.empty() || !index) return std::nullopt;
  bool any_up = std::ranges::any_of(chosen, [&](size_t i) { return view[i].up; });
  Chunk chunk;
  chunk.version = NextVersion();
  chunk.copies_wanted = copies;
  for (size_t i : chosen) {
    CopyState state = view[i].up || !any_up ? CopyState::kInSync : CopyState::kStale;
    chunk.copies.push_back({view[i].id, state, FreePlace(view[i].id)});
  }
  counters_->next_chunk = *index + 1;
  Put(*index, std::move(chunk));
  return index;
}

void Chunks::Remove(uint64_t index) {
  const Chunk* found = Find(index);
  if (found == nullptr) return;
  Chunk chunk = *found;
  uint32_t version = NextVersion();
  for (const Copy& copy : chunk.copies) PutDamage(index, copy.target, {});
  Put(index, std::nullopt);
  for (const Copy& copy : chunk.copies) PutRelease(copy.target, copy.offset, ReleaseRecord{version, index});
}

// ---- places and damage ---------------------------------------------------------------------------

int Chunks::ReleaseDone(uint32_t target, uint64_t offset) {
  if (!releases_.contains({target, offset})) return ENOENT;
  PutRelease(target, offset, std::nullopt);
  return 0;
}

int Chunks::RenewRelease(uint32_t target, uint64_t offset) {
  auto it = releases_.find({target, offset});
  if (it == releases_.end()) return ENOENT;
  ReleaseRecord record = it->second;
  record.version = NextVersion();
  PutRelease(target, offset, std::nullopt);
  PutRelease(target, offset, record);
  return 0;
}

void Chunks::ForgetReleases(uint32_t target) {
  for (const auto& [offset, record] : ReleasesOf(target)) PutRelease(target, offset, std::nullopt);
}

int Chunks::AddDamage(uint64_t index, uint32_t target, const std::vector<int64_t>& blocks) {
  const Chunk* chunk = Find(index);
  if (chunk == nullptr || chunk->On(target) == nullptr) return ENOENT;
  std::set<uint32_t> all = DamageOf(index, target);
  for (int64_t block : blocks) {
    if (block < 0 || static_cast<uint64_t>(block) >= pool_.chunk_blocks) return EINVAL;
    all.insert(static_cast<uint32_t>(block));
  }
  PutDamage(index, target, std::move(all));
  return 0;
}

int Chunks::RepairDamage(uint64_t index, uint32_t target, const std::vector<uint32_t>& blocks) {
  const Chunk* chunk = Find(index);
  if (chunk == nullptr || chunk->On(target) == nullptr) return ENOENT;
  std::set<uint32_t> left = DamageOf(index, target);
  for (uint32_t block : blocks) left.erase(block);
  PutDamage(index, target, std::move(left));
  return 0;
}

}  // namespace weft
