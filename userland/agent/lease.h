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
  // 0: it is over.
  void Set(int64_t until_ns) { until_ns_.store(until_ns, std::memory_order_release); }
  bool holds() const { return BoottimeNs() < until_ns_.load(std::memory_order_acquire); }

 private:
  std::atomic<int64_t> until_ns_ = 0;
};

}  // namespace weft::agent
