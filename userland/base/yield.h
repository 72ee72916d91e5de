// SPDX-License-Identifier: MIT
//
// How a thread that polls lets others have its processor for a moment. sched_yield(2) alone will not do: the
// kernel's EEVDF scheduler (yield_task_fair() of 6.6 to 6.17) moves the caller's deadline on by a slice at each
// call, and only a sleep takes that back. After some thousand calls whatever wakes up comes first: the thread of
// an agent was kept from its processor for 5 s on a busy machine with two of them.
// One thread.
#pragma once

#include <sched.h>
#include <sys/prctl.h>

#include <ctime>

namespace weft {

class Yielder {
 public:
  void Yield() {
    if (++count_ % kYieldsPerSleep != 0) {
      sched_yield();
      return;
    }
    if (count_ == kYieldsPerSleep) prctl(PR_SET_TIMERSLACK, 1UL);  // of this thread, ns: 50 us unless told
    timespec moment{.tv_sec = 0, .tv_nsec = 1};
    nanosleep(&moment, nullptr);
  }

 private:
  static constexpr unsigned kYieldsPerSleep = 64;  // slices of 1 to 3 ms that others can get ahead at most
  unsigned count_ = 0;
};

}  // namespace weft
