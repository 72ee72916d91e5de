// SPDX-License-Identifier: MIT
//
// What all connections of a target over one RDMA device share: registrations, the completion queue and
// the shared receive queue with its slots. A slot holds one message: 64 bytes of capsule and, page
// aligned for O_DIRECT, the data that came with it. Engine thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "rdma/block_wire.h"
#include "rdma/buffer_pool.h"
#include "rdma/verbs.h"

namespace weft::rdma {

class TargetPort {
 public:
  // replies: the memory that completions are sent from.
  static Result<std::unique_ptr<TargetPort>> Create(Device* device, BufferPool* pool, std::span<uint8_t> replies,
                                                    uint32_t slots, uint32_t completion_entries);
  ~TargetPort();

  Device* device() const { return device_; }
  CompletionQueue* completions() const { return completions_.get(); }
  ReceiveQueue* receives() const { return receives_.get(); }
  uint32_t pool_key() const { return pool_memory_->local_key(); }
  uint32_t reply_key() const { return reply_memory_->local_key(); }
  std::span<uint8_t> data() const { return {data_, slots_ * size_t{kInlineBytesMax}}; }

  uint32_t slots() const { return slots_; }
  std::span<const uint8_t, kCapsuleBytes> capsule(uint32_t slot) const {
    return std::span<const uint8_t, kCapsuleBytes>(&capsules_[slot * kCapsuleBytes], kCapsuleBytes);
  }
  uint8_t* slot_data(uint32_t slot) const { return data_ + size_t{slot} * kInlineBytesMax; }

  void Taken(uint32_t slot) { posted_[slot] = false; }  // a message has come into it
  void GiveBack(uint32_t slot) { returned_.push_back(slot); }
  Status PostReturned();  // once per turn
  // A queue pair that was destroyed in the middle of a message keeps that message's slot for ever. When
  // no connection is left the queue is made anew.
  Status Renew();

  uint32_t connections = 0;
  bool wounded = false;  // a connection was destroyed since the last Renew
  std::optional<CompletionQueue::Wake> armed;
  bool event_ready = false;  // the backend's Watch sets it

 private:
  TargetPort() = default;

  Device* device_ = nullptr;
  uint32_t slots_ = 0;
  uint8_t* data_ = nullptr;
  std::vector<uint8_t> capsules_;
  std::vector<bool> posted_;
  std::vector<uint32_t> returned_;
  std::vector<ReceiveWork> works_;  // reused by PostReturned
  std::unique_ptr<Memory> pool_memory_;
  std::unique_ptr<Memory> reply_memory_;
  std::unique_ptr<Memory> capsule_memory_;
  std::unique_ptr<Memory> data_memory_;
  std::unique_ptr<CompletionQueue> completions_;
  std::unique_ptr<ReceiveQueue> receives_;
};

}  // namespace weft::rdma
