// SPDX-License-Identifier: MIT
//
// The highest session that a target has seen; smaller ones are refused. Called by the engine thread.
#pragma once

#include <cstdint>

#include "userland/base/status.h"

namespace weft::rdma {

class Fence {
 public:
  virtual ~Fence() = default;
  virtual uint64_t highest() const = 0;
  // session > highest(). Returns when it is durable; it happens once in the life of a session.
  virtual Status Raise(uint64_t session) = 0;
};

class VolatileFence final : public Fence {  // for tests and memory backends
 public:
  uint64_t highest() const override { return highest_; }
  Status Raise(uint64_t session) override {
    highest_ = session;
    return Status::Ok();
  }

 private:
  uint64_t highest_ = 0;
};

}  // namespace weft::rdma
