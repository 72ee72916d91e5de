// SPDX-License-Identifier: MIT
//
// Where a block target keeps its data: a device, a file, memory. Called by the target's engine thread
// only; asynchronous: nothing but Wait waits for the storage. It is also what the engine sleeps in: a
// request that ends and a message that comes wake it alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "userland/base/status.h"

namespace weft::rdma {

// kChecksums: the checksums of the range, as in block_wire.h, go to `data`.
// kPoison (the target's own): reads of the range fail with EBADMSG until it is written.
enum class BackendOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes, kChecksums, kPoison };

struct BackendRequest {
  uint64_t cookie = 0;  // the caller's, echoed
  BackendOp op = BackendOp::kRead;
  bool durable = false;       // kWrite, kWriteZeroes: as if a flush of it had followed
  uint64_t offset_bytes = 0;  // in the data area; the caller has checked the range
  uint32_t length_bytes = 0;
  uint8_t* data = nullptr;  // kRead, kWrite, kChecksums
};

struct BackendDone {
  uint64_t cookie = 0;
  int32_t result = 0;  // 0 or -errno; -EBADMSG: a block does not match its checksum
};

class BlockBackend {
 public:
  virtual ~BlockBackend() = default;
  virtual uint64_t capacity_bytes() const = 0;  // of the data area
  // Data of requests will mostly lie in here: may be prepared for it. At most 16 times.
  virtual Status AddBuffer(void* address, size_t bytes) = 0;
  virtual void Submit(const BackendRequest& request) = 0;
  virtual void Kick() = 0;                              // starts what was submitted
  virtual size_t Poll(std::span<BackendDone> out) = 0;  // each request once, in any order
  // From now on Wait ends when `fd` becomes readable, and Wait or Poll sets *ready, which the caller
  // clears: at least once after each change, which may be long after it while nobody calls Wait. Both
  // outlive the last call of Poll and Wait.
  virtual void Watch(int fd, bool* ready) = 0;
  virtual bool Arm() = 0;                 // before Wait; false: Poll again instead
  virtual void Wait(int timeout_ms) = 0;  // until there is something to Poll or an fd is ready; -1: for ever
};

}  // namespace weft::rdma
