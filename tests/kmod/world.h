// SPDX-License-Identifier: MIT
//
// A cluster in memory that is shared between the test and its agents, so that it outlives an agent that
// is killed: a pool of a few chunks with two copies each, two targets, and a metadata server that knows
// one file, `data`, whose block i is block i of the pool.
//
// The agent writes what it has seen, the test what the agent shall do; all of it is atomic.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "kmod/uapi/weft.h"

namespace weft::kmod_test {

inline constexpr uint32_t kTargets = 2;  // ids 1, 2
inline constexpr uint32_t kChunks = 4;
inline constexpr uint32_t kChunkBytes = 4 << 20;
inline constexpr uint64_t kPoolBytes = uint64_t{kChunks} * kChunkBytes;
inline constexpr uint64_t kRootIno = 1;
inline constexpr uint64_t kFileIno = 2;
inline constexpr uint64_t kSession = 77;

struct Target {
  std::atomic<int> read_error;  // errno that it answers with, 0: it works
  std::atomic<int> write_error;
  std::atomic<int> flush_error;
  std::atomic<bool> up{true};  // what TARGETS says
  std::atomic<uint64_t> reads;
  std::atomic<uint64_t> writes;
  std::atomic<uint64_t> fua_writes;
  std::atomic<uint64_t> flushes;
  char data[kPoolBytes];
};

struct Chunk {
  std::atomic<uint32_t> version{1};
  std::atomic<uint32_t> states[kTargets] = {WEFT_COPY_IN_SYNC, WEFT_COPY_IN_SYNC};
};

struct World {
  // for the agent
  std::atomic<bool> hold_blocks;  // takes block requests and does not answer
  std::atomic<bool> hold_meta;    // likewise calls, but for MOUNT and UNMOUNT
  std::atomic<bool> poison;       // tries bad completions before each good one
  std::atomic<bool> targets_changed;
  std::atomic<bool> pin;  // registers the pool so that the registration outlives it
  std::atomic<bool> quit;

  // by the agent
  std::atomic<uint32_t> epoch;  // of the last agent that is ready
  std::atomic<uint64_t> held;
  std::atomic<pid_t> holder;  // the process that keeps the registration
  std::atomic<uint64_t> requests;
  std::atomic<uint64_t> resent;
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> marked_stale;
  std::atomic<uint64_t> unmounts;
  std::atomic<uint64_t> poison_tried;
  std::atomic<uint64_t> poison_accepted;
  std::atomic<uint64_t> violations;  // of the protocol, by the kernel
  std::atomic<uint64_t> last_seq[WEFT_META_SLOTS];

  Chunk chunks[kChunks];
  Target targets[kTargets];
};

World* NewWorld();  // never freed before the program ends

}  // namespace weft::kmod_test
