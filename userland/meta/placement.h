// SPDX-License-Identifier: MIT
//
// Where the copies of a new chunk go, and how many chunks a set of targets can hold. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weft {

// A target as placement sees it.
struct PlacementTarget {
  uint32_t id = 0;
  uint64_t slots = 0;  // chunks that fit
  uint64_t used = 0;   // chunks that are there
  uint32_t weight = 100;
  std::string zone;  // empty: none
  bool up = true;
  bool draining = false;  // takes nothing new
};

// The largest number of chunks whose `copies` copies can lie on distinct targets.
uint64_t PlacementCapacity(const std::vector<PlacementTarget>& targets, uint32_t copies);

// Indices into `targets` for the copies of one chunk while `remaining` chunks (it included) are still to
// be placed. Among targets that have room and are not draining: those that are up, in zones that have no copy yet,
// emptiest first (used / slots by weight), then by id; but never so that the chunks after it would find no room: then
// the targets with the most room are taken. Empty: there is no room.
std::vector<size_t> PlaceChunk(const std::vector<PlacementTarget>& targets, uint32_t copies, uint64_t remaining);

// One more copy of a chunk that has copies on the targets with the ids `have`, by the same preference. Nothing:
// no other target has room.
std::optional<size_t> PlaceCopy(const std::vector<PlacementTarget>& targets, const std::vector<uint32_t>& have);

}  // namespace weft
