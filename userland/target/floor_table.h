// SPDX-License-Identifier: MIT
//
// The floors of a target's places (rdma/places.h) in the place area of its backing: all of them in memory, a page
// written through for each one that is raised. Engine thread.
#pragma once

#include <cstdint>
#include <memory>

#include "rdma/places.h"
#include "userland/base/status.h"

namespace weft::target {

class FloorTable final : public rdma::FloorStore {
 public:
  // The area is read at once. The file outlives this. EIO.
  static Result<std::unique_ptr<FloorTable>> Open(int fd, uint64_t offset, uint64_t bytes);

  uint32_t floor(uint64_t place) const override;
  Status Raise(uint64_t place, uint32_t version) override;

 private:
  struct Free {
    void operator()(uint32_t* memory) const;
  };
  FloorTable(int fd, uint64_t offset, uint64_t bytes, uint32_t* floors);

  const int fd_;
  const uint64_t offset_;
  const uint64_t bytes_;
  std::unique_ptr<uint32_t[], Free> floors_;  // as on the device: aligned for O_DIRECT
};

}  // namespace weft::target
