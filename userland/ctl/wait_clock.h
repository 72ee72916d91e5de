// SPDX-License-Identifier: MIT
//
// The clock of the commands that wait for the cluster: the seam that lets their tests run in no time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace weft::ctl {

struct WaitClock {
  std::function<int64_t()> now_ms = [] {
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<int64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  };
  std::function<void(int64_t ms)> sleep = [](int64_t ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  };
};

}  // namespace weft::ctl
