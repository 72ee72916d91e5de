// SPDX-License-Identifier: MIT
#include "rdma/memory_backend.h"

#include <cstring>
#include <utility>

namespace weft::rdma {

void MemoryBackend::Watch(int fd, bool* ready) {
  fds_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  ready_.push_back(ready);
}

void MemoryBackend::Wait(int timeout_ms) { PollFds(timeout_ms); }

bool MemoryBackend::WaitIsOver() { return PollFds(0) || !Arm(); }

bool MemoryBackend::PollFds(int timeout_ms) {
  int count = poll(fds_.data(), fds_.size(), timeout_ms);
  for (size_t i = 0; i < fds_.size(); i++) *ready_[i] = *ready_[i] || (fds_[i].revents & POLLIN);
  return count > 0;
}

size_t MemoryBackend::Poll(std::span<BackendDone> out) {
  PollFds(0);
  size_t count = 0;
  while (!held_ && count < out.size() && !queue_.empty()) {
    BackendRequest request = queue_.front();
    queue_.pop_front();
    out[count++] = {request.cookie, Execute(request)};
  }
  return count;
}

int32_t MemoryBackend::Execute(const BackendRequest& request) {
  if (fail_next_) return -std::exchange(fail_next_, 0);
  uint8_t* at = bytes_.data() + request.offset_bytes;
  switch (request.op) {
    case BackendOp::kRead:
      memcpy(request.data, at, request.length_bytes);
      break;
    case BackendOp::kWrite:
      memcpy(at, request.data, request.length_bytes);
      break;
    case BackendOp::kFlush:
      flushes_++;
      break;
    case BackendOp::kDiscard:
    case BackendOp::kWriteZeroes:
      memset(at, 0, request.length_bytes);
      break;
    case BackendOp::kChecksums:
    case BackendOp::kPoison:
      return -EOPNOTSUPP;
  }
  if (request.durable) durable_writes_++;
  return 0;
}

}  // namespace weft::rdma
