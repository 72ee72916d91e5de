// SPDX-License-Identifier: MIT
//
// The average time of what a device did since it was last asked. Add: one thread. TakeUs: any thread, one caller.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace weft::target {

class LatencyMeter {
 public:
  using Clock = std::chrono::steady_clock;

  void AddSince(Clock::time_point started) {
    auto time = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started);
    ns_.fetch_add(static_cast<uint64_t>(time.count()), std::memory_order_relaxed);
    count_.fetch_add(1, std::memory_order_relaxed);
  }

  uint32_t TakeUs() {  // at least 1; 0: nothing was done
    uint64_t count = count_.exchange(0, std::memory_order_relaxed);
    uint64_t ns = ns_.exchange(0, std::memory_order_relaxed);
    return count == 0 ? 0 : static_cast<uint32_t>(std::clamp<uint64_t>(ns / count / 1000, 1, UINT32_MAX));
  }

 private:
  std::atomic<uint64_t> ns_ = 0;
  std::atomic<uint64_t> count_ = 0;
};

}  // namespace weft::target
