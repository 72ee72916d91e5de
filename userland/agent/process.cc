// SPDX-License-Identifier: MIT
#include "userland/agent/process.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "userland/base/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace weft::agent {
namespace {

constexpr size_t kStackBytes = 512 << 10;  // locked in full for each thread
constexpr int kArenasMax = 2;
constexpr int kKeepBytes = 16 << 20;  // freed memory below this is kept, not given back and asked for again

}  // namespace

void PrepareForWriteback() {
  mallopt(M_ARENA_MAX, kArenasMax);
  mallopt(M_TRIM_THRESHOLD, kKeepBytes);
  mallopt(M_MMAP_THRESHOLD, kKeepBytes);

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);

  rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) {
    LogWarning("RLIMIT_MEMLOCK cannot be raised ({}): registering the buffer pool may fail; run as root",
               strerror(errno));
  }
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    LogWarning("mlockall: {}: the agent may be swapped out and stall under memory pressure", strerror(errno));
  }
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    LogWarning("PR_SET_IO_FLUSHER: {}: the agent may stall under memory pressure", strerror(errno));
  }
}

}  // namespace weft::agent
