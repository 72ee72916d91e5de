// SPDX-License-Identifier: MIT
//
// Chunks: the life of copies. Each function takes the chunk as it is, changes its copies and puts it back with
// a new version; what only weft-meta looks at (leaving, doubtful) leaves the version alone, so that clients and
// running jobs are not disturbed.
#include <algorithm>
#include <cerrno>
#include <tuple>

#include "userland/meta/chunks.h"

namespace weft {
namespace {

Copy* CopyOn(Chunk* chunk, uint32_t target) {
  auto it = std::ranges::find(chunk->copies, target, &Copy::target);
  return it == chunk->copies.end() ? nullptr : &*it;
}

// A copy that leaves the writes behind, for whatever reason, has not got everything for long.
void SetCopyState(Copy* copy, CopyState state) {
  copy->state = state;
  if (state != CopyState::kResyncing) copy->doubtful = false;
}

// Of those that `wanted` accepts the one of the lowest rank.
template <typename F, typename R>
Copy* Choose(Chunk* chunk, F&& wanted, R&& rank) {
  Copy* best = nullptr;
  for (Copy& copy : chunk->copies) {
    if (wanted(copy) && (best == nullptr || rank(copy) < rank(*best))) best = &copy;
  }
  return best;
}

}  // namespace

int Chunks::MarkStale(uint64_t index, uint32_t version, uint32_t copy_mask) {
  const Chunk* found = Find(index);
  if (found == nullptr) return ENOENT;
  if (version != found->version) return ESTALE;
  if (copy_mask == 0 || copy_mask >> found->copies.size() != 0) return EINVAL;
  Chunk chunk = *found;
  for (size_t i = 0; i < chunk.copies.size(); ++i) {
    if ((copy_mask >> i & 1) != 0 && chunk.copies[i].state != CopyState::kStale) {
      SetCopyState(&chunk.copies[i], CopyState::kStale);
    }
  }
  if (chunk == *found) return 0;
  if (chunk.Lost()) return EBUSY;
  PutChanged(index, std::move(chunk));
  return 0;
}

int Chunks::SetState(uint64_t index, uint32_t target, CopyState state) {
  const Chunk* found = Find(index);
  if (found == nullptr || found->On(target) == nullptr) return ENOENT;
  Chunk chunk = *found;
  Copy* copy = CopyOn(&chunk, target);
  if (copy->state == state) return 0;
  SetCopyState(copy, state);
  if (chunk.Lost() && !found->Lost()) return EBUSY;
  PutChanged(index, std::move(chunk));
  if (state == CopyState::kResyncing) PutDamage(index, target, {});  // all of it is written anew
  return 0;
}

int Chunks::AddCopy(uint64_t index, uint32_t target) {
  const Chunk* found = Find(index);
  if (found == nullptr) return ENOENT;
  if (found->On(target) != nullptr) return EEXIST;
  uint64_t offset = FreePlace(target);
  if (found->copies.size() >= kChunkCopiesMax || offset / pool_.chunk_bytes() >= places_of_(target)) return ENOSPC;
  Chunk chunk = *found;
  chunk.copies.push_back({target, CopyState::kResyncing, offset});
  PutChanged(index, std::move(chunk));
  return 0;
}

int Chunks::DropCopy(uint64_t index, uint32_t target, bool release) {
  const Chunk* found = Find(index);
  if (found == nullptr || found->On(target) == nullptr) return ENOENT;
  Chunk chunk = *found;
  uint64_t offset = found->On(target)->offset;
  std::erase_if(chunk.copies, [&](const Copy& copy) { return copy.target == target; });
  if (release && chunk.Lost() && !found->Lost()) return EBUSY;
  chunk.version = NextVersion();
  uint32_t version = chunk.version;
  PutDamage(index, target, {});
  Put(index, std::move(chunk));
  if (release) PutRelease(target, offset, ReleaseRecord{version, index});
  return 0;
}

int Chunks::SetLeaving(uint64_t index, uint32_t target, bool leaving) {
  const Chunk* found = Find(index);
  if (found == nullptr || found->On(target) == nullptr) return ENOENT;
  Chunk chunk = *found;
  CopyOn(&chunk, target)->leaving = leaving;
  if (chunk != *found) Put(index, std::move(chunk));
  return 0;
}

// Which copy to keep of those that have everything: one on a target that is up, without bad blocks, lowest id.
auto Chunks::RankIn(uint64_t index, const IsUp& up) const {
  return [this, index, &up](const Copy& copy) {
    return std::tuple(up && !up(copy.target), DamageOf(index, copy.target).size(), copy.target);
  };
}

int Chunks::Promote(uint64_t index, const IsUp& up) {
  const Chunk* found = Find(index);
  if (found == nullptr) return ENOENT;
  Chunk chunk = *found;
  Copy* chosen = Choose(
      &chunk, [](const Copy& copy) { return copy.doubtful; }, RankIn(index, up));
  if (chosen == nullptr) return ENODATA;
  for (Copy& copy : chunk.copies) {
    if (copy.state != CopyState::kInSync) continue;
    copy.state = CopyState::kStale;
    copy.doubtful = true;
  }
  SetCopyState(chosen, CopyState::kInSync);
  PutChanged(index, std::move(chunk));
  return 0;
}

void Chunks::StaleResyncing(uint32_t target) {
  for (uint64_t index : std::set(on(target))) {
    if (Find(index)->On(target)->state == CopyState::kResyncing) SetState(index, target, CopyState::kStale);
  }
}

void Chunks::Equalize(uint64_t index, const IsUp& up) {
  const Chunk* found = Find(index);
  if (found == nullptr || found->copies.size() - found->Count(CopyState::kStale) <= 1) return;
  Chunk chunk = *found;
  Copy* kept = Choose(
      &chunk, [](const Copy& copy) { return copy.state == CopyState::kInSync; }, RankIn(index, up));
  if (kept == nullptr) return;
  for (Copy& copy : chunk.copies) {
    if (&copy == kept || copy.state == CopyState::kStale) continue;
    bool had_everything = copy.state == CopyState::kInSync;
    SetCopyState(&copy, CopyState::kStale);
    copy.doubtful = had_everything;
  }
  PutChanged(index, std::move(chunk));
}

void Chunks::ClearDoubtful(uint64_t index) {
  const Chunk* found = Find(index);
  if (found == nullptr || std::ranges::none_of(found->copies, &Copy::doubtful)) return;
  Chunk chunk = *found;
  for (Copy& copy : chunk.copies) copy.doubtful = false;
  Put(index, std::move(chunk));
}

}  // namespace weft
