// SPDX-License-Identifier: MIT
//
// fill: writes one file until the file system is full, then checks that what was accepted is there.
//   write, direct   write(2) until ENOSPC; fsync must succeed
//   mapped          stores into a mapping of a sparse file until SIGBUS; msync must succeed
//   allocate        fallocate(2) until ENOSPC, then writes all of it: that must not fail any more
//   check           FILE again, of --bytes N (after a remount)
// Prints `accepted N`. Exit status: 0, 1 something is wrong, 2 usage.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "tests/tools/pattern.h"

namespace {

using weft::test::FillPattern;

constexpr uint64_t kPieceBytes = 256 << 10;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kLimitBytes = 8ULL << 30;  // no test pool is this large: something does not say ENOSPC

uint64_t seed = 1;

int Complain(const char* what) {
  fprintf(stderr, "fill: %s: %s\n", what, strerror(errno));
  return 1;
}

uint8_t* Buffer() {
  static auto* buffer = static_cast<uint8_t*>(aligned_alloc(kPageBytes, kPieceBytes));
  return buffer;
}

int Check(int fd, uint64_t bytes) {
  static auto* got = static_cast<uint8_t*>(aligned_alloc(kPageBytes, kPieceBytes));
  struct stat st {};
  if (fstat(fd, &st) != 0) return Complain("fstat");
  if (uint64_t(st.st_size) < bytes) {
    fprintf(stderr, "fill: %lu bytes were accepted, the file has %lu\n", bytes, uint64_t(st.st_size));
    return 1;
  }
  for (uint64_t at = 0; at < bytes;) {
    uint64_t length = std::min(kPieceBytes, bytes - at);
    ssize_t n = pread(fd, got, length, at);
    if (n <= 0) return Complain("read");
    FillPattern(seed, at, Buffer(), n);
    if (memcmp(got, Buffer(), n) != 0) {
      uint64_t i = 0;
      while (got[i] == Buffer()[i]) i++;
      fprintf(stderr, "fill: byte %lu was accepted as %#x and reads %#x\n", at + i, Buffer()[i], got[i]);
      return 1;
    }
    at += n;
  }
  return 0;
}

// Writes from *accepted until something stops it: 0 at `limit`, else the errno.
int WriteUntil(int fd, uint64_t limit, uint64_t* accepted) {
  while (*accepted < limit) {
    uint64_t length = std::min(kPieceBytes, limit - *accepted);
    FillPattern(seed, *accepted, Buffer(), length);
    ssize_t n = pwrite(fd, Buffer(), length, *accepted);
    if (n < 0) return errno;
    *accepted += n;
    if (n == 0) return EIO;
  }
  return 0;
}

int FillByWrite(int fd, uint64_t* accepted) {
  int error = WriteUntil(fd, kLimitBytes, accepted);
  if (error == ENOSPC) {
    // What a whole piece did not fit into, a block may.
    while (error == ENOSPC && *accepted % kPageBytes == 0) {
      FillPattern(seed, *accepted, Buffer(), kPageBytes);
      ssize_t n = pwrite(fd, Buffer(), kPageBytes, *accepted);
      if (n != ssize_t(kPageBytes)) break;
      *accepted += n;
    }
    return 0;
  }
  fprintf(stderr, "fill: stopped at byte %lu by '%s', not by ENOSPC\n", *accepted, strerror(error));
  return 1;
}

sigjmp_buf bus_jump;
void OnBus(int) { siglongjmp(bus_jump, 1); }

int FillByMapping(int fd, uint64_t* accepted_out) {
  constexpr uint64_t kMapBytes = 2ULL << 30;
  if (ftruncate(fd, kMapBytes) != 0) return Complain("ftruncate");
  void* address = mmap(nullptr, kMapBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return Complain("mmap");
  auto* map = static_cast<volatile uint8_t*>(address);
  static volatile uint64_t accepted = 0;
  signal(SIGBUS, OnBus);
  if (sigsetjmp(bus_jump, 1) == 0) {
    while (accepted < kMapBytes) {
      FillPattern(seed, accepted, Buffer(), kPageBytes);
      map[accepted] = Buffer()[0];  // the store that may fail
      memcpy(static_cast<uint8_t*>(address) + accepted, Buffer(), kPageBytes);
      accepted = accepted + kPageBytes;
    }
    fprintf(stderr, "fill: %lu bytes stored into the mapping and no SIGBUS\n", kMapBytes);
    return 1;
  }
  signal(SIGBUS, SIG_DFL);
  *accepted_out = accepted;
  if (msync(address, kMapBytes, MS_SYNC) != 0) return Complain("msync of what was accepted");
  munmap(address, kMapBytes);
  if (ftruncate(fd, accepted) != 0) return Complain("ftruncate");
  return 0;
}

int FillByAllocation(int fd, uint64_t* accepted) {
  uint64_t allocated = 0;
  for (uint64_t piece = 16 << 20; piece >= kPageBytes;) {
    if (fallocate(fd, 0, allocated, piece) == 0) {
      allocated += piece;
      if (allocated >= kLimitBytes) break;
    } else if (errno == ENOSPC) {
      piece /= 2;
    } else {
      return Complain("fallocate");
    }
  }
  if (allocated == 0 || allocated >= kLimitBytes) {
    fprintf(stderr, "fill: fallocate gave %lu bytes\n", allocated);
    return 1;
  }
  int error = WriteUntil(fd, allocated, accepted);
  if (error == 0) return 0;
  fprintf(stderr, "fill: %lu bytes were preallocated, writing stopped at %lu: %s\n", allocated, *accepted,
          strerror(error));
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: fill write|direct|mapped|allocate FILE SEED\n       fill check:BYTES FILE SEED\n");
    return 2;
  }
  std::string mode = argv[1];
  seed = strtoull(argv[3], nullptr, 0);
  bool check = mode.starts_with("check:");
  int fd = open(argv[2], check ? O_RDONLY : O_CREAT | O_EXCL | O_RDWR | (mode == "direct" ? O_DIRECT : 0), 0644);
  if (fd < 0) return Complain(argv[2]);
  if (check) return Check(fd, strtoull(mode.c_str() + 6, nullptr, 0));
  uint64_t accepted = 0;
  int result = 2;
  if (mode == "write" || mode == "direct") result = FillByWrite(fd, &accepted);
  if (mode == "mapped") result = FillByMapping(fd, &accepted);
  if (mode == "allocate") result = FillByAllocation(fd, &accepted);
  if (result != 0) return result;
  printf("accepted %lu\n", accepted);
  if (fsync(fd) != 0) return Complain("fsync of what was accepted");
  result = Check(fd, accepted);
  if (result == 0 && close(fd) != 0) return Complain("close");
  return result;
}
