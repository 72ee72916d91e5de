// SPDX-License-Identifier: MIT
//
// Keeps a repeated message from flooding the log: one a second passes. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>

namespace weft::agent {

class RateLimit {
 public:
  // True: say it. *missed: how many were not said since the last time.
  bool Pass(uint64_t* missed) {
    auto now = std::chrono::steady_clock::now();
    if (now < next_) {
      ++missed_;
      return false;
    }
    next_ = now + std::chrono::seconds(1);
    *missed = missed_;
    missed_ = 0;
    return true;
  }

 private:
  std::chrono::steady_clock::time_point next_{};
  uint64_t missed_ = 0;
};

}  // namespace weft::agent
