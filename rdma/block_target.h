// SPDX-License-Identifier: MIT
//
// The target's side of the block protocol (block_wire.h): listens, serves all connections, moves the
// data between their memory and a BlockBackend. One engine is driven by one thread:
//
//   while (...) {
//     if (target->Poll() == 0 && (spun long enough) && target->Arm(&timeout_ms)) backend->Wait(timeout_ms);
//   }
//
// Whatever a peer sends cannot harm the engine or other peers: what breaks the grammar costs that peer
// its connection and a (rate-limited) line in the log.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rdma/block_backend.h"
#include "rdma/clock.h"
#include "rdma/fence.h"
#include "rdma/places.h"
#include "rdma/verbs.h"
#include "userland/base/status.h"

namespace weft::rdma {

struct BlockTargetOptions {
  std::string host;  // address of the RDMA network; "0.0.0.0": all
  uint16_t port = 0;
  std::array<uint8_t, 16> uuid{};
  uint64_t incarnation = 1;  // see block_wire.h; not 0
  Places* places = nullptr;  // nullptr: chunk versions are not checked (tests, benchmarks); outlives the engine
  std::vector<uint8_t> cluster_key;
  uint32_t depth_max = 256;        // credits of one connection
  uint32_t depth_total = 2048;     // of all together; 4 KiB of memory each
  uint32_t inline_max = 4096;      // bytes of a write in its capsule
  size_t buffer_bytes = 64 << 20;  // for data under way; a multiple of 1 MiB
  const Clock* clock = nullptr;    // nullptr: CLOCK_MONOTONIC; outlives the engine
};

// Written by the engine, read by any thread.
struct BlockTargetCounters {
  std::atomic<uint64_t> reads = 0;
  std::atomic<uint64_t> writes = 0;
  std::atomic<uint64_t> read_bytes = 0;
  std::atomic<uint64_t> write_bytes = 0;
  std::atomic<uint64_t> errors = 0;           // commands answered with an error
  std::atomic<uint64_t> bad_connections = 0;  // dropped or refused for what they sent
  std::atomic<uint32_t> in_hand = 0;          // commands
  std::atomic<uint32_t> connections = 0;
};

class BlockTarget {
 public:
  // Listens at once. All pointers outlive the target.
  static Result<std::unique_ptr<BlockTarget>> Create(Verbs* verbs, BlockBackend* backend, Fence* fence,
                                                     BlockTargetOptions options);
  virtual ~BlockTarget() = default;  // ends all connections and waits for the backend

  virtual size_t Poll() = 0;  // how much there was to do
  // False: Poll again instead of sleeping. The backend's Wait may last *timeout_ms (-1: for ever).
  virtual bool Arm(int* timeout_ms) = 0;
  virtual uint16_t port() const = 0;
  // Work of the target itself (copying, verifying), beside its connections' commands, in memory that was given
  // to the backend or not. The caller holds the region's lock in Places if it writes. done: from Poll, with 0
  // or -errno. Engine thread.
  virtual void Execute(const BackendRequest& request, std::function<void(int32_t result)> done) = 0;
  virtual const BlockTargetCounters& counters() const = 0;
};

}  // namespace weft::rdma
