// SPDX-License-Identifier: MIT
//
// A block backend in memory, for tests: done at once, unless a test holds it or makes it fail.
// One thread.
#pragma once

#include <poll.h>

#include <deque>
#include <map>
#include <vector>

#include "rdma/block_backend.h"

namespace weft::rdma {

class MemoryBackend final : public BlockBackend {
 public:
  explicit MemoryBackend(uint64_t capacity_bytes) : bytes_(capacity_bytes) {}
  uint64_t capacity_bytes() const override { return bytes_.size(); }
  Status AddBuffer(void* address, size_t bytes) override { return Status::Ok(); }
  void Submit(const BackendRequest& request) override { queue_.push_back(request); }
  void Kick() override {}
  size_t Poll(std::span<BackendDone> out) override;
  void Watch(int fd, bool* ready) override;
  bool Arm() override { return held_ || queue_.empty(); }
  void Wait(int timeout_ms) override;
  bool WaitIsOver();  // Wait would not last

  // Faults.
  void Hold(bool held) { held_ = held; }            // what is submitted waits
  void FailNext(int error) { fail_next_ = error; }  // errno for the next request that is carried out
  void Corrupt(uint64_t block_offset);              // the medium changes the block; its checksum stays
  // Reads of the block fail until it is written, unless error is 0.
  void FailReads(uint64_t block_offset, int error) { unreadable_[block_offset] = error; }
  size_t waiting() const { return queue_.size(); }
  uint64_t flushes() const { return flushes_; }
  uint64_t durable_writes() const { return durable_writes_; }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  int32_t Execute(const BackendRequest& request);
  int32_t Read(const BackendRequest& request) const;
  void PutChecksums(const BackendRequest& request) const;
  uint32_t ChecksumOf(uint64_t block_offset) const;
  void MakeGood(const BackendRequest& request);
  bool PollFds(int timeout_ms);

  std::vector<pollfd> fds_;
  std::vector<bool*> ready_;  // of fds_
  std::vector<uint8_t> bytes_;
  std::map<uint64_t, uint32_t> bad_;    // blocks, by offset, that do not match this checksum
  std::map<uint64_t, int> unreadable_;  // errno
  std::deque<BackendRequest> queue_;
  bool held_ = false;
  int fail_next_ = 0;
  uint64_t flushes_ = 0;
  uint64_t durable_writes_ = 0;
};

}  // namespace weft::rdma
