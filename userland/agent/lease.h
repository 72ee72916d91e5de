// SPDX-License-Identifier: MIT
//
// How long no other client takes this one's place at the metadata server. A target that cannot refuse a client whose
// session has ended is sent nothing when it is over. Any thread.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

namespace weft::agent {

// Goes on while the host sleeps: others do not wait for it.
inline int64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

class Lease {
 public:
  using Clock = int64_t (*)();
  explicit Lease(Clock now = BoottimeNs) : now_(now) {}

  // 0: it is over.
  void Set(int64_t until_ns) { until_ns_.store(until_ns, std::memory_order_release); }
  int64_t until_ns() const { return until_ns_.load(std::memory_order_acquire); }
  bool holds() const { return now_() < until_ns(); }
  int64_t now_ns() const { return now_(); }

 private:
  const Clock now_;
  std::atomic<int64_t> until_ns_ = 0;
};

}  // namespace weft::agent
