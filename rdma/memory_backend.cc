// SPDX-License-Identifier: MIT
#include "rdma/memory_backend.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <boost/crc.hpp>

#include "rdma/block_wire.h"

namespace weft::rdma {
namespace {

constexpr uint32_t kPoisoned = 0;  // no block has this checksum

}  // namespace

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
      return Read(request);
    case BackendOp::kWrite:
      memcpy(at, request.data, request.length_bytes);
      MakeGood(request);
      break;
    case BackendOp::kFlush:
      flushes_++;
      break;
    case BackendOp::kDiscard:
    case BackendOp::kWriteZeroes:
      memset(at, 0, request.length_bytes);
      MakeGood(request);
      break;
    case BackendOp::kChecksums:
      PutChecksums(request);
      break;
    case BackendOp::kPoison:
      for (uint64_t i = 0; i < request.length_bytes; i += kBlockAlign) bad_[request.offset_bytes + i] = kPoisoned;
      break;
  }
  if (request.durable) durable_writes_++;
  return 0;
}

int32_t MemoryBackend::Read(const BackendRequest& request) const {
  auto unreadable = unreadable_.lower_bound(request.offset_bytes);
  for (; unreadable != unreadable_.end() && unreadable->first < request.offset_bytes + request.length_bytes;
       ++unreadable) {
    if (unreadable->second) return -unreadable->second;
  }
  auto bad = bad_.lower_bound(request.offset_bytes);
  if (bad != bad_.end() && bad->first < request.offset_bytes + request.length_bytes) return -EBADMSG;
  memcpy(request.data, bytes_.data() + request.offset_bytes, request.length_bytes);
  return 0;
}

void MemoryBackend::MakeGood(const BackendRequest& request) {
  uint64_t end = request.offset_bytes + request.length_bytes;
  bad_.erase(bad_.lower_bound(request.offset_bytes), bad_.lower_bound(end));
  unreadable_.erase(unreadable_.lower_bound(request.offset_bytes), unreadable_.lower_bound(end));
}

void MemoryBackend::PutChecksums(const BackendRequest& request) const {
  uint8_t* out = request.data;
  for (uint64_t i = 0; i < request.length_bytes; i += kBlockAlign) {
    uint32_t checksum = ChecksumOf(request.offset_bytes + i);
    for (int byte = 0; byte < 4; byte++) *out++ = static_cast<uint8_t>(checksum >> (8 * byte));
  }
}

uint32_t MemoryBackend::ChecksumOf(uint64_t block_offset) const {
  if (auto bad = bad_.find(block_offset); bad != bad_.end()) return bad->second;
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(&bytes_[block_offset], kBlockAlign);
  uint32_t sum = crc.checksum();
  return sum == 0 || sum == 2 ? sum + 1 : sum;  // as in block_wire.h
}

void MemoryBackend::Corrupt(uint64_t block_offset) {
  bad_.try_emplace(block_offset, ChecksumOf(block_offset));
  bytes_[block_offset] ^= 0xff;
}

}  // namespace weft::rdma
