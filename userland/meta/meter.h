// SPDX-License-Identifier: MIT
//
// How far a task is and how fast: bytes that were done since it began, and the rate of the last seconds. A value.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>

namespace weft {

class Meter {
 public:
  static constexpr int64_t kWindowMs = 10'000;

  void Add(uint64_t bytes, int64_t now_ms) {
    if (began_ms_ < 0) began_ms_ = now_ms;
    done_ += bytes;
    steps_.emplace_back(now_ms, bytes);
    while (steps_.front().first <= now_ms - kWindowMs) steps_.pop_front();
  }
  // What was done has to be done again.
  void Undo(uint64_t bytes) { done_ -= std::min(bytes, done_); }

  uint64_t done() const { return done_; }
  uint64_t bytes_per_s(int64_t now_ms) const {
    uint64_t bytes = 0;
    for (const auto& [at_ms, step] : steps_) {
      if (at_ms > now_ms - kWindowMs) bytes += step;
    }
    if (bytes == 0) return 0;
    return bytes * 1000 / static_cast<uint64_t>(std::clamp<int64_t>(now_ms - began_ms_, 1000, kWindowMs));
  }

 private:
  uint64_t done_ = 0;
  int64_t began_ms_ = -1;
  std::deque<std::pair<int64_t, uint64_t>> steps_;  // when, bytes
};

}  // namespace weft
