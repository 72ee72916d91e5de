// SPDX-License-Identifier: MIT
//
// How long a thread that polls goes on looking for work before it sleeps: as long as looking pays. The
// rule is that of the kernel's guest halt polling (Documentation/virt/guest-halt-polling.rst): work that
// comes soon after the thread has fallen asleep means that it should have looked for longer; work that
// comes long after means that looking was in vain. So a thread that is asked every few hundred
// microseconds never sleeps, and one that is asked ten times a second does not burn a processor.
// One thread.
#pragma once

#include <algorithm>
#include <chrono>

namespace weft {

class AdaptiveSpin {
 public:
  using Duration = std::chrono::nanoseconds;
  using Time = std::chrono::steady_clock::time_point;

  // max: it never looks for longer; zero: it never looks.
  explicit AdaptiveSpin(Duration max) : max_(max), budget_(max) {}

  // There was work at `now`.
  void Worked(Time now) { last_work_ = now; }
  // Whether to look again at `now` instead of sleeping.
  bool KeepLooking(Time now) const { return now - last_work_ < budget_; }
  // A sleep has ended at `now`; what it was ended by counts as work.
  void Woke(Time now) {
    Duration quiet = now - last_work_;
    if (quiet <= max_) {
      budget_ = std::min(max_, std::max(kGrowFrom, budget_ * 2));
    } else {
      budget_ = budget_ / 2 < kGrowFrom ? Duration(0) : budget_ / 2;
    }
    last_work_ = now;
  }
  Time last_work() const { return last_work_; }
  Duration budget() const { return budget_; }

 private:
  static constexpr Duration kGrowFrom = std::chrono::microseconds(25);
  const Duration max_;
  Duration budget_;
  Time last_work_;
};

}  // namespace weft
