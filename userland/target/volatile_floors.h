// SPDX-License-Identifier: MIT
//
// Floors that are forgotten with the process: of a place whose writers are held back by other means before its copy
// changes (see "NVMe-oF targets" in ARCHITECTURE.md). Engine thread.
#pragma once

#include <unordered_map>

#include "rdma/places.h"

namespace weft::target {

class VolatileFloors final : public rdma::FloorStore {
 public:
  uint32_t floor(uint64_t place) const override {
    auto found = floors_.find(place);
    return found == floors_.end() ? 0 : found->second;
  }
  Status Raise(uint64_t place, uint32_t version) override {
    floors_[place] = version;
    return {};
  }

 private:
  std::unordered_map<uint64_t, uint32_t> floors_;
};

}  // namespace weft::target
