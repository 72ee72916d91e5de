// SPDX-License-Identifier: MIT
//
// A cluster in memory that is shared between the test and its agents, so that it outlives an agent that
// is killed: a pool of a few chunks, targets, and a metadata server that knows a file, `data`, whose block i
// is block i of the pool, and two empty ones, which get their space by grants.
//
// The agent writes what it has seen, the test what the agent shall do; all of it is atomic.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "kmod/uapi/weft.h"

namespace weft::kmod_test {

inline constexpr uint32_t kTargets = 3;  // ids 1, 2, 3
inline constexpr uint32_t kChunkBytes = 4 << 20;
inline constexpr uint32_t kChunkBlocks = kChunkBytes / WEFT_BLOCK_BYTES;
inline constexpr uint32_t kFileChunks = 4;     // the first ones are the file's; the others are granted
inline constexpr uint32_t kGrantedChunks = 2;  // of each class
inline constexpr uint32_t kClasses = 2;        // chunks of two copies, then chunks of one
inline constexpr uint32_t kChunks = kFileChunks + kClasses * kGrantedChunks;
inline constexpr uint64_t kFileBytes = uint64_t{kFileChunks} * kChunkBytes;
inline constexpr uint64_t kPoolBytes = uint64_t{kChunks} * kChunkBytes;
inline constexpr uint64_t kRootIno = 1;
inline constexpr uint64_t kFileIno = 2;  // "data"
inline constexpr uint64_t kTwoIno = 3;   // "two": empty, its data gets two copies
inline constexpr uint64_t kOneIno = 4;   // "one": likewise, one
inline constexpr uint64_t kInos = 5;
inline constexpr uint64_t kSession = 77;

struct Target {
  std::atomic<int> read_error;      // errno that it answers with, 0: it works
  std::atomic<uint64_t> bad_block;  // 0: none; a read that touches this one fails with EBADMSG
  std::atomic<int> write_error;
  std::atomic<int> flush_error;
  std::atomic<bool> up{true};   // what TARGETS says
  std::atomic<uint32_t> flags;  // likewise
  std::atomic<uint64_t> incarnation{100};
  std::atomic<uint64_t> told_incarnation{100};  // what TARGETS says
  std::atomic<uint64_t> reads;
  std::atomic<uint64_t> writes;
  std::atomic<uint64_t> fua_writes;
  std::atomic<uint64_t> flushes;
  char data[kPoolBytes];
};

struct Chunk {
  std::atomic<uint32_t> version{1};
  std::atomic<uint32_t> copies{2};  // on the first targets
  std::atomic<uint32_t> states[kTargets] = {WEFT_COPY_IN_SYNC, WEFT_COPY_IN_SYNC, WEFT_COPY_STALE};
  std::atomic<bool> open;
  std::atomic<bool> deleted;  // MARK_STALE finds no such chunk
  std::atomic<bool> granted[kChunkBlocks];
};

struct World {
  // for the agent
  std::atomic<bool> hold_blocks;    // takes block requests and does not answer
  std::atomic<bool> hold_meta;      // likewise calls, but for MOUNT and UNMOUNT
  std::atomic<bool> session_ended;  // targets and metadata server refuse the session
  std::atomic<int> release_error;   // errno that RELEASE answers with after it was executed
  std::atomic<bool> poison;         // tries bad completions before each good one
  std::atomic<bool> targets_changed;
  std::atomic<bool> push;  // hands `pushed` to WEFT_IOC_CHUNKS
  weft_chunk pushed{};
  std::atomic<bool> call;                  // of the control fd, one of:
  std::atomic<unsigned long> call_number;  // WEFT_IOC_DEVICE, _LEASE or _SETTLE
  weft_ioc_device device{};
  char device_path[64];  // opened for device.fd; empty: -1
  weft_ioc_lease lease{};
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
  std::atomic<uint64_t> opened;  // chunks named by OPEN_CHUNKS
  std::atomic<uint64_t> closed;
  std::atomic<uint64_t> granted[kClasses];  // blocks
  std::atomic<uint64_t> released;           // ranges
  std::atomic<uint64_t> committed[kInos];   // bit i: extents in chunk i
  std::atomic<uint32_t> copies[kInos] = {0, 2, 2, 2, 1};
  std::atomic<int> push_error;
  std::atomic<int> call_error;
  std::atomic<uint64_t> poison_tried;
  std::atomic<uint64_t> poison_accepted;
  std::atomic<uint64_t> violations;  // of the protocol, by the kernel
  std::atomic<uint64_t> last_seq[WEFT_META_SLOTS];

  Chunk chunks[kChunks];  // of one copy: the last kGrantedChunks
  Target targets[kTargets];
};

World* NewWorld();  // never freed before the program ends

}  // namespace weft::kmod_test
