// SPDX-License-Identifier: MIT
//
// Holds work to a rate: what is taken is paid for by the time until the next may be taken. One thread.
#pragma once

#include <algorithm>
#include <cstdint>

namespace weft::target {

class TokenBucket {
 public:
  void SetRate(uint64_t bytes_per_s) {  // 0: no limit. What was taken is paid for at the new rate.
    if (bytes_per_s != bytes_per_s_) next_us_ = 0;
    bytes_per_s_ = bytes_per_s;
  }
  bool Take(uint64_t bytes, uint64_t now_ms) {
    if (bytes_per_s_ == 0) return true;
    uint64_t now_us = now_ms * 1000;
    if (next_us_ > now_us) return false;
    // A turn that came late is not lost, an idle time is not saved up.
    next_us_ = std::max(next_us_, now_us - std::min(now_us, kLateUs)) + bytes * 1'000'000 / bytes_per_s_;
    return true;
  }
  uint64_t ready_ms() const { return bytes_per_s_ == 0 ? 0 : (next_us_ + 999) / 1000; }  // when Take may succeed

 private:
  static constexpr uint64_t kLateUs = 100'000;
  uint64_t bytes_per_s_ = 0;
  uint64_t next_us_ = 0;
};

}  // namespace weft::target
