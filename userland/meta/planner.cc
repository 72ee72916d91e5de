// SPDX-License-Identifier: MIT
#include "userland/meta/planner.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace weft {
namespace {

using Wide = unsigned __int128;

const Member* Find(const Members& members, uint32_t id) {
  auto it = members.find(id);
  return it == members.end() ? nullptr : &it->second;
}

bool IsUp(const Members& members, uint32_t id) {
  const Member* member = Find(members, id);
  return member != nullptr && member->up;
}

// a is less full than b when both hold `more` chunks more, each by its weight.
bool Emptier(const Member& a, const Member& b) {
  Wide left = Wide(a.used + 1) * b.places * b.weight;
  Wide right = Wide(b.used + 1) * a.places * a.weight;
  return left != right ? left < right : a.id < b.id;
}

// The zone of `member` holds a copy that stays, of a target other than `except`.
bool ZoneTaken(const Chunk& chunk, const Members& members, const Member& member, uint32_t except) {
  if (member.zone.empty()) return false;
  return std::ranges::any_of(chunk.copies, [&](const Copy& copy) {
    const Member* other = Find(members, copy.target);
    return copy.target != except && copy.target != member.id && other != nullptr && Stays(copy, members) &&
           other->zone == member.zone;
  });
}

struct Census {
  uint32_t in_sync = 0;
  uint32_t in_sync_up = 0;
  uint32_t staying = 0;
};

Census Count(const Chunk& chunk, const Members& members) {
  Census count;
  for (const Copy& copy : chunk.copies) {
    if (copy.state == CopyState::kInSync) {
      ++count.in_sync;
      if (IsUp(members, copy.target)) ++count.in_sync_up;
    }
    if (Stays(copy, members)) ++count.staying;
  }
  return count;
}

// A copy may go when enough are in sync without it, and as long as one that can be read is left.
bool MayGo(const Chunk& chunk, const Copy& copy, const Census& count, const Members& members) {
  bool in_sync = copy.state == CopyState::kInSync;
  uint32_t left = count.in_sync - (in_sync ? 1 : 0);
  uint32_t left_up = count.in_sync_up - (in_sync && IsUp(members, copy.target) ? 1 : 0);
  if (left == 0 || (left_up == 0 && count.in_sync_up > 0)) return false;
  if (left >= chunk.copies_wanted) return true;
  // Out of date and to be elsewhere: it would have to be copied as a whole in any case.
  return !in_sync && !copy.doubtful && !Stays(copy, members);
}

std::optional<ChunkPlan> PlanDrop(const Chunk& chunk, const Census& count, const Members& members) {
  const Copy* best = nullptr;
  auto rank = [&](const Copy& copy) {
    const Member* member = Find(members, copy.target);
    bool zone_taken = member != nullptr && ZoneTaken(chunk, members, *member, copy.target);
    return std::tuple(!Stays(copy, members), copy.state != CopyState::kInSync, !IsUp(members, copy.target), zone_taken);
  };
  for (const Copy& copy : chunk.copies) {
    bool surplus = Stays(copy, members) && count.staying > chunk.copies_wanted;
    if ((Stays(copy, members) && !surplus) || !MayGo(chunk, copy, count, members)) continue;
    if (best != nullptr) {
      if (rank(copy) < rank(*best)) continue;
      const Member* a = Find(members, copy.target);
      const Member* b = Find(members, best->target);
      if (rank(copy) == rank(*best) && (a == nullptr || b == nullptr || Emptier(*a, *b))) continue;
    }
    best = &copy;
  }
  if (best == nullptr) return std::nullopt;
  return ChunkPlan{Action::kDrop, best->target, 0, Wait::kNothing};
}

// The source whose turn it is; 0: all are busy, or there is none.
uint32_t FreeSource(const Chunk& chunk, uint32_t target, const Members& members) {
  std::vector<uint32_t> sources = SourcesFor(chunk, target, members);
  if (sources.empty() || members.at(sources.front()).copying_out >= kCopyJobsPerTarget) return 0;
  return sources.front();
}

ChunkPlan PlanResync(const Chunk& chunk, const Census& count, const Members& members) {
  Wait wait = Wait::kNothing;
  uint32_t turn = 0;
  for (const Copy& copy : chunk.copies) {
    if (copy.state != CopyState::kStale || !Stays(copy, members)) continue;
    if (!IsUp(members, copy.target)) {
      if (wait == Wait::kNothing) wait = Wait::kTargetDown;
      continue;
    }
    if (count.in_sync_up == 0) return {Action::kNothing, 0, 0, Wait::kSource};
    uint32_t source = FreeSource(chunk, copy.target, members);
    if (source != 0 && members.at(copy.target).copying_in < kCopyJobsPerTarget)
      return {Action::kResync, copy.target, source, Wait::kNothing};
    if (wait != Wait::kTurn) turn = copy.target;
    wait = Wait::kTurn;
  }
  return {Action::kNothing, turn, 0, wait};
}

ChunkPlan PlanAdd(const Chunk& chunk, const Census& count, const Members& members) {
  if (count.in_sync_up == 0) return {Action::kNothing, 0, 0, Wait::kSource};
  if (chunk.copies.size() >= kChunkCopiesMax) return {Action::kNothing, 0, 0, Wait::kSource};
  // A free turn counts less than a zone of its own and more than how full a target is: otherwise all would wait
  // for the emptiest target.
  const Member* best = nullptr;
  auto rank = [&](const Member& member) {
    return std::tuple(ZoneTaken(chunk, members, member, 0), member.copying_in >= kCopyJobsPerTarget);
  };
  bool full = false;
  for (const auto& [id, member] : members) {
    if (!member.up || member.draining || chunk.On(id) != nullptr) continue;
    if (member.used >= member.places) {
      full = true;
      continue;
    }
    if (best == nullptr || rank(member) < rank(*best) || (rank(member) == rank(*best) && Emptier(member, *best)))
      best = &member;
  }
  if (best == nullptr) return {Action::kNothing, 0, 0, full ? Wait::kRoom : Wait::kTargets};
  uint32_t source = FreeSource(chunk, best->id, members);
  if (source == 0 || best->copying_in >= kCopyJobsPerTarget) return {Action::kNothing, 0, 0, Wait::kTurn};
  return {Action::kAdd, best->id, source, Wait::kNothing};
}

}  // namespace

std::string_view Describe(Wait wait) {
  switch (wait) {
    case Wait::kTurn:
      return "other copies are made first";
    case Wait::kTargetDown:
      return "the target is down: start it, or remove it with --lost";
    case Wait::kSource:
      return "no copy in sync is on a target that is up: start the targets that are down";
    case Wait::kTargets:
      return "there are too few targets that are up: add one";
    case Wait::kRoom:
      return "the other targets are full: add one";
    case Wait::kNothing:
      break;
  }
  return "";
}

bool Stays(const Copy& copy, const Members& members) {
  const Member* member = Find(members, copy.target);
  return member != nullptr && !member->draining && !copy.leaving;
}

uint32_t CopiesThatStay(const Chunk& chunk, const Members& members) { return Count(chunk, members).staying; }

std::vector<uint32_t> SourcesFor(const Chunk& chunk, uint32_t target, const Members& members) {
  std::vector<uint32_t> sources;
  for (const Copy& copy : chunk.copies) {
    if (copy.state == CopyState::kInSync && copy.target != target && IsUp(members, copy.target))
      sources.push_back(copy.target);
  }
  std::ranges::sort(sources, {}, [&](uint32_t id) { return std::tuple(members.at(id).copying_out, id); });
  return sources;
}

ChunkPlan PlanChunk(const Chunk& chunk, const Members& members) {
  Census count = Count(chunk, members);
  if (count.in_sync_up == 0) {
    for (const Copy& copy : chunk.copies) {
      if (copy.doubtful && IsUp(members, copy.target)) return {Action::kPromote, copy.target, 0, Wait::kNothing};
    }
  }
  if (std::optional<ChunkPlan> drop = PlanDrop(chunk, count, members)) return *drop;
  if (chunk.Count(CopyState::kResyncing) > 0) return {};
  ChunkPlan plan = PlanResync(chunk, count, members);
  if (plan.action != Action::kNothing || count.staying >= chunk.copies_wanted) return plan;
  ChunkPlan add = PlanAdd(chunk, count, members);
  return add.action == Action::kNothing && plan.wait == Wait::kTurn ? plan : add;
}

// ---- rebalance ------------------------------------------------------------------------------------------------

namespace {

// (from - to) > from / 20, by weight
bool Uneven(const Member& from, const Member& to) {
  return Wide(from.staying) * to.places * to.weight * 19 > Wide(to.staying) * from.places * from.weight * 20;
}

}  // namespace

bool WorthMoving(const Member& from, const Member& to) {
  if (from.staying == 0 || to.used >= to.places) return false;
  Wide from_size = Wide(from.places) * from.weight;
  Wide to_size = Wide(to.places) * to.weight;
  return Wide(from.staying - 1) * to_size >= Wide(to.staying + 1) * from_size && Uneven(from, to);
}

namespace {

bool Whole(const Chunk& chunk, const Members& members) {
  return std::ranges::all_of(
      chunk.copies, [&](const Copy& copy) { return copy.state == CopyState::kInSync && Stays(copy, members); });
}

// The targets among which copies may move, the fullest first.
std::vector<const Member*> ByFill(const Members& members) {
  std::vector<const Member*> order;
  for (const auto& [id, member] : members) {
    if (member.up && !member.draining && member.places > 0) order.push_back(&member);
  }
  std::ranges::sort(order, [](const Member* a, const Member* b) {
    Wide left = Wide(a->staying) * b->places * b->weight;
    Wide right = Wide(b->staying) * a->places * a->weight;
    return left != right ? left > right : a->id < b->id;
  });
  return order;
}

std::optional<uint64_t> Movable(const std::map<uint64_t, Chunk>& chunks, const Members& members,
                                const std::set<uint64_t>& candidates, const Member& from, const Member& to) {
  for (uint64_t index : candidates) {
    auto chunk = chunks.find(index);
    if (chunk == chunks.end() || chunk->second.On(to.id) != nullptr || !Whole(chunk->second, members)) continue;
    // Never into a zone that has a copy, out of one that has only this.
    if (ZoneTaken(chunk->second, members, to, from.id) && !ZoneTaken(chunk->second, members, from, from.id)) continue;
    return index;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Move> PickMove(const std::map<uint64_t, Chunk>& chunks, const Members& members,
                             const std::function<const std::set<uint64_t>&(uint32_t)>& on, bool* blocked) {
  *blocked = false;
  std::vector<const Member*> order = ByFill(members);
  for (const Member* from : order) {
    bool busy = from->copying_out >= kCopyJobsPerTarget;
    for (auto to = order.rbegin(); to != order.rend() && *to != from; ++to) {
      if (!Uneven(*from, **to)) break;  // still less those that are fuller
      if (!WorthMoving(*from, **to)) continue;
      if (busy || (*to)->copying_in >= kCopyJobsPerTarget) {
        *blocked = true;
        if (busy) break;
        continue;
      }
      if (std::optional<uint64_t> index = Movable(chunks, members, on(from->id), *from, **to))
        return Move{*index, from->id, (*to)->id};
    }
  }
  return std::nullopt;
}

}  // namespace weft
