// SPDX-License-Identifier: MIT
//
// The time, as a seam: monotonic milliseconds. Use from any thread.
#pragma once

#include <time.h>

#include <cstdint>

namespace weft::rdma {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual uint64_t NowMs() const = 0;
};

class SteadyClock final : public Clock {
 public:
  uint64_t NowMs() const override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
  }
};

}  // namespace weft::rdma
