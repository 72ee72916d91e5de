// SPDX-License-Identifier: MIT
//
// For tests: floors in memory. One thread.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "rdma/places.h"

namespace weft::rdma {

class MapFloorStore final : public FloorStore {
 public:
  uint32_t floor(uint64_t place) const override {
    auto found = floors.find(place);
    return found == floors.end() ? 0 : found->second;
  }
  Status Raise(uint64_t place, uint32_t version) override {
    if (on_raise) on_raise(place, version);
    if (!fail.ok()) return fail;
    EXPECT_GT(version, floor(place));
    floors[place] = version;
    raises++;
    return Status::Ok();
  }

  std::map<uint64_t, uint32_t> floors;
  uint64_t raises = 0;
  Status fail;                                       // what the next raises return
  std::function<void(uint64_t, uint32_t)> on_raise;  // before it is durable
};

}  // namespace weft::rdma
