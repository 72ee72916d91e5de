// SPDX-License-Identifier: MIT
//
// Keeps what a peer can provoke from filling the log: at most kBurst lines in kPeriodMs, then one that
// says how many were left out. One thread.
#pragma once

#include <cstdint>
#include <string>

#include "userland/base/log.h"

namespace weft::rdma {

class LogLimiter {
 public:
  void Warn(uint64_t now_ms, const std::string& line) {
    if (now_ms >= start_ms_ + kPeriodMs) {
      if (left_out_) LogWarning("{} more messages like the last ones were left out", left_out_);
      start_ms_ = now_ms;
      lines_ = left_out_ = 0;
    }
    if (lines_++ < kBurst) {
      LogWarning("{}", line);
    } else {
      left_out_++;
    }
  }

 private:
  static constexpr uint64_t kPeriodMs = 10000;
  static constexpr int kBurst = 20;
  uint64_t start_ms_ = 0;
  int lines_ = 0;
  int left_out_ = 0;
};

}  // namespace weft::rdma
