// SPDX-License-Identifier: MIT
#include "userland/meta/placement.h"

#include <algorithm>
#include <tuple>

namespace weft {
namespace {

uint64_t Room(const PlacementTarget& t) { return !t.draining && t.slots > t.used ? t.slots - t.used : 0; }

// True when `chunks` more chunks fit: no chunk may have two copies on one target, so a target is of use
// for at most `chunks` of them.
bool Fits(const std::vector<PlacementTarget>& targets, uint32_t copies, uint64_t chunks) {
  uint64_t places = 0;
  for (const PlacementTarget& t : targets) places += std::min(Room(t), chunks);
  return places >= copies * chunks;
}

// a is emptier than b, each by its weight: (used + 1) / (slots * weight), without division.
bool Emptier(const PlacementTarget& a, const PlacementTarget& b) {
  using Wide = unsigned __int128;
  Wide left = Wide(a.used + 1) * b.slots * b.weight;
  Wide right = Wide(b.used + 1) * a.slots * a.weight;
  return left != right ? left < right : a.id < b.id;
}

// The best target beside the chosen ones; targets.size(): none has room.
size_t Prefer(const std::vector<PlacementTarget>& targets, const std::vector<size_t>& chosen) {
  size_t best = targets.size();
  bool best_same_zone = false;
  for (size_t i = 0; i < targets.size(); ++i) {
    const PlacementTarget& t = targets[i];
    if (Room(t) == 0 || std::ranges::find(chosen, i) != chosen.end()) continue;
    bool same_zone =
        !t.zone.empty() && std::ranges::any_of(chosen, [&](size_t other) { return targets[other].zone == t.zone; });
    if (best != targets.size()) {
      const PlacementTarget& b = targets[best];
      if (t.up != b.up ? b.up : same_zone != best_same_zone ? same_zone : !Emptier(t, b)) continue;
    }
    best = i;
    best_same_zone = same_zone;
  }
  return best;
}

std::vector<size_t> PlaceByPreference(const std::vector<PlacementTarget>& targets, uint32_t copies) {
  std::vector<size_t> chosen;
  while (chosen.size() < copies) {
    size_t best = Prefer(targets, chosen);
    if (best == targets.size()) return {};
    chosen.push_back(best);
  }
  return chosen;
}

std::vector<size_t> PlaceByRoom(const std::vector<PlacementTarget>& targets, uint32_t copies) {
  std::vector<size_t> order;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (Room(targets[i]) > 0) order.push_back(i);
  }
  if (order.size() < copies) return {};
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return std::tuple(-static_cast<int64_t>(Room(targets[a])), targets[a].id) <
           std::tuple(-static_cast<int64_t>(Room(targets[b])), targets[b].id);
  });
  order.resize(copies);
  return order;
}

}  // namespace

uint64_t PlacementCapacity(const std::vector<PlacementTarget>& targets, uint32_t copies) {
  uint64_t low = 0;
  uint64_t high = 0;
  for (const PlacementTarget& t : targets) high += Room(t);
  high /= copies;
  while (low < high) {
    uint64_t middle = low + (high - low + 1) / 2;
    if (Fits(targets, copies, middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

std::vector<size_t> PlaceChunk(const std::vector<PlacementTarget>& targets, uint32_t copies, uint64_t remaining) {
  std::vector<size_t> chosen = PlaceByPreference(targets, copies);
  if (chosen.empty() || remaining <= 1) return chosen;
  std::vector<PlacementTarget> after = targets;
  for (size_t i : chosen) ++after[i].used;
  return Fits(after, copies, remaining - 1) ? chosen : PlaceByRoom(targets, copies);
}

std::optional<size_t> PlaceCopy(const std::vector<PlacementTarget>& targets, const std::vector<uint32_t>& have) {
  std::vector<size_t> chosen;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (std::ranges::find(have, targets[i].id) != have.end()) chosen.push_back(i);
  }
  size_t best = Prefer(targets, chosen);
  if (best == targets.size()) return std::nullopt;
  return best;
}

}  // namespace weft
