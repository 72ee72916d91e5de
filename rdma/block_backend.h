// SPDX-License-Identifier: MIT
//
// Where a block target keeps its data: a device, a file, memory. Called by the target's engine thread
// only; asynchronous: nothing here waits for the storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "userland/base/status.h"

namespace weft::rdma {

enum class BackendOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

struct BackendRequest {
  uint64_t cookie = 0;  // the caller's, echoed
  BackendOp op = BackendOp::kRead;
  bool durable = false;       // kWrite, kWriteZeroes: as if a flush of it had followed
  uint64_t offset_bytes = 0;  // in the data area; the caller has checked the range
  uint32_t length_bytes = 0;
  uint8_t* data = nullptr;  // kRead, kWrite
};

struct BackendDone {
  uint64_t cookie = 0;
  int32_t result = 0;  // 0 or -errno
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
  virtual int event_fd() const = 0;                     // readable when Poll has something; -1: it has after Kick
  virtual bool Arm() = 0;                               // before sleeping on event_fd; false: Poll again
};

}  // namespace weft::rdma
