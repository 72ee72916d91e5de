// SPDX-License-Identifier: MIT
//
// What one chunk needs next, and which copy should move so that targets are evenly full. Pure functions.
//
// The same three rules make resync, rebuild, drain and rebalance; they only differ in why a copy does not stay:
//   a copy that is out of date, on a target that is up, is copied from one that is in sync
//   a chunk with too few copies that stay gets another one, by placement
//   a copy that does not stay is dropped as soon as enough others are in sync
// A copy stays when it is on a target that is not being drained and does not have to leave. Of one chunk one copy is
// made at a time: its end gives the chunk a new version, with which the others would begin anew.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "userland/meta/records.h"

namespace weft {

inline constexpr uint32_t kCopyJobsPerTarget = 2;  // as destination, and as many as source

// A target of the pool as the planner sees it.
struct Member {
  uint32_t id = 0;
  bool up = true;
  bool draining = false;
  uint32_t weight = 100;
  std::string zone;      // empty: none
  uint64_t places = 0;   // chunks that fit
  uint64_t used = 0;     // places that are taken, also by what is about to go
  uint64_t staying = 0;  // copies that are to be there
  uint32_t copying_in = 0;
  uint32_t copying_out = 0;
};
using Members = std::map<uint32_t, Member>;

enum class Action : uint8_t {
  kNothing,
  kPromote,  // a doubtful copy becomes the one in sync
  kResync,   // the stale copy on `target` is brought up to date from `source`
  kAdd,      // a new copy on `target`, from `source`
  kDrop,     // the copy on `target`
};

// Why a chunk that needs something does not get it now.
enum class Wait : uint8_t {
  kNothing,
  kTurn,        // as many copies are made at a time as may be
  kTargetDown,  // the target of the stale copy
  kSource,      // no copy in sync is on a target that is up
  kTargets,     // there are too few targets
  kRoom,        // the other targets are full
};
std::string_view Describe(Wait wait);

struct ChunkPlan {
  Action action = Action::kNothing;
  uint32_t target = 0;  // kNothing with kTurn: whose turn it is waiting for, if that is known
  uint32_t source = 0;
  Wait wait = Wait::kNothing;
};

// True when the copy is to be where it is.
bool Stays(const Copy& copy, const Members& members);
uint32_t CopiesThatStay(const Chunk& chunk, const Members& members);

// The next step for the chunk; carried out, it is asked again. Equal arguments, equal answer.
ChunkPlan PlanChunk(const Chunk& chunk, const Members& members);

// Where copies of `chunk` are read from: in sync, on targets that are up, not on `target`; least busy first.
std::vector<uint32_t> SourcesFor(const Chunk& chunk, uint32_t target, const Members& members);

// ---- rebalance ----------------------------------------------------------------------------------------------

struct Move {
  uint64_t chunk = 0;
  uint32_t from = 0;
  uint32_t to = 0;
};

// True while a chunk should move from `from` to `to`: afterwards `from` is still not emptier, by weight, and the
// difference is more than 5 %.
bool WorthMoving(const Member& from, const Member& to);

// A copy of a chunk that is whole (all copies in sync, none leaving) whose move evens out the targets and keeps as
// many zones. `on` gives the chunks with a copy on a target. Nothing: even enough, or no turn (see *blocked).
std::optional<Move> PickMove(const std::map<uint64_t, Chunk>& chunks, const Members& members,
                             const std::function<const std::set<uint64_t>&(uint32_t target)>& on, bool* blocked);

}  // namespace weft
