// SPDX-License-Identifier: MIT
//
// How long an application waits: writes blocks of a file with O_DIRECT and reads each back, one after the other,
// until SIGTERM, then prints the longest time between two answers and when it was over.
//
//   pauses FILE      prints "longest MS operations N until HH:MM:SS.mmm"; exit status 1: an error, or a block that
//                    reads wrong
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

constexpr size_t kBlockBytes = 4096;
constexpr uint64_t kBlocks = 256;
// apart, so that the file is in several chunks when these are small
constexpr uint64_t kStride = 64;

volatile sig_atomic_t end = 0;

using Clock = std::chrono::steady_clock;

[[noreturn]] void Die(const char* what, uint64_t block, const char* why) {
  std::fprintf(stderr, "pauses: %s block %llu: %s\n", what, static_cast<unsigned long long>(block), why);
  std::exit(1);
}

void Fill(uint64_t* words, uint64_t block, uint64_t round) {
  for (size_t i = 0; i < kBlockBytes / sizeof(uint64_t); i++) words[i] = block << 40 ^ round << 12 ^ i;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: pauses FILE\n");
    return 2;
  }
  std::signal(SIGTERM, [](int) { end = 1; });
  int fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  if (fd < 0) Die("opening for", 0, std::strerror(errno));
  auto* wanted = static_cast<uint64_t*>(std::aligned_alloc(kBlockBytes, kBlockBytes));
  auto* found = static_cast<uint64_t*>(std::aligned_alloc(kBlockBytes, kBlockBytes));
  if (wanted == nullptr || found == nullptr) Die("memory for", 0, "none");

  Clock::duration longest{};
  Clock::time_point last = Clock::now();
  timespec until{};
  uint64_t operations = 0;
  auto answered = [&] {
    Clock::time_point now = Clock::now();
    if (now - last > longest) {
      longest = now - last;
      clock_gettime(CLOCK_REALTIME, &until);
    }
    last = now;
    operations++;
  };
  for (uint64_t round = 0; !end; round++) {
    uint64_t block = round % kBlocks;
    auto offset = static_cast<off_t>(block * kStride * kBlockBytes);
    Fill(wanted, block, round);
    if (pwrite(fd, wanted, kBlockBytes, offset) != kBlockBytes) Die("writing", block, std::strerror(errno));
    answered();
    if (pread(fd, found, kBlockBytes, offset) != kBlockBytes) Die("reading", block, std::strerror(errno));
    answered();
    if (std::memcmp(wanted, found, kBlockBytes) != 0) Die("reading", block, "it holds other bytes than were written");
  }
  char time[sizeof "HH:MM:SS"] = "";
  tm parts{};
  std::strftime(time, sizeof time, "%T", gmtime_r(&until.tv_sec, &parts));
  std::printf("longest %lld operations %llu until %s.%03ld\n",
              static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()),
              static_cast<unsigned long long>(operations), time, until.tv_nsec / 1'000'000);
  return 0;
}
