// SPDX-License-Identifier: MIT
//
// Prints how fast this machine's time stamp counter runs, in kHz. For tests/vm, on the host: an emulated guest
// sees this counter, and would calibrate it against an emulated timer. On a busy host that once went wrong
// by 8.5, and so did that guest's clock and every time limit in it.
#include <x86intrin.h>

#include <cstdint>
#include <cstdio>
#include <ctime>

namespace {

struct Moment {
  uint64_t ticks;
  int64_t ns;
};

int64_t NowNs() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

// Both at once: of several tries the one that nothing came between.
Moment Now() {
  Moment best{};
  int64_t shortest = INT64_MAX;
  for (int i = 0; i < 20; i++) {
    int64_t before = NowNs();
    uint64_t ticks = __rdtsc();
    int64_t took = NowNs() - before;
    if (took < shortest) best = {ticks, before + took / 2};
    if (took < shortest) shortest = took;
  }
  return best;
}

}  // namespace

int main() {
  Moment begin = Now();
  timespec pause{.tv_sec = 0, .tv_nsec = 50'000'000};
  nanosleep(&pause, nullptr);
  Moment end = Now();
  double khz = static_cast<double>(end.ticks - begin.ticks) * 1e6 / static_cast<double>(end.ns - begin.ns);
  std::printf("%.0f\n", khz);
  return 0;
}
