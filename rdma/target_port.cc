// SPDX-License-Identifier: MIT
#include "rdma/target_port.h"

#include <sys/mman.h>

#include <cerrno>

namespace weft::rdma {
namespace {

Status Register(Device* device, void* address, size_t bytes, std::unique_ptr<Memory>* out) {
  Result<std::unique_ptr<Memory>> memory = device->RegisterMemory(address, bytes, false);
  if (!memory.ok()) return memory.status();
  *out = *std::move(memory);
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<TargetPort>> TargetPort::Create(Device* device, BufferPool* pool, std::span<uint8_t> replies,
                                                       uint32_t slots, uint32_t completion_entries) {
  std::unique_ptr<TargetPort> port(new TargetPort());
  port->device_ = device;
  port->slots_ = slots;
  port->capsules_.resize(slots * kCapsuleBytes);
  size_t data_bytes = size_t{slots} * kInlineBytesMax;
  void* data = mmap(nullptr, data_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return Status::Errno(errno, fmt::format("{} bytes for received data", data_bytes));
  port->data_ = static_cast<uint8_t*>(data);
  if (Status s = Register(device, pool->memory(), pool->bytes(), &port->pool_memory_); !s.ok()) return s;
  if (Status s = Register(device, replies.data(), replies.size(), &port->reply_memory_); !s.ok()) return s;
  if (Status s = Register(device, port->capsules_.data(), port->capsules_.size(), &port->capsule_memory_); !s.ok()) {
    return s;
  }
  if (Status s = Register(device, data, data_bytes, &port->data_memory_); !s.ok()) return s;
  Result<std::unique_ptr<CompletionQueue>> queue = device->CreateCompletionQueue(completion_entries);
  if (!queue.ok()) return queue.status();
  port->completions_ = *std::move(queue);
  port->posted_.assign(slots, true);  // Renew gives back all that are posted
  port->returned_.reserve(slots);
  port->works_.reserve(slots);
  if (Status s = port->Renew(); !s.ok()) return s;
  return port;
}

TargetPort::~TargetPort() {
  receives_.reset();
  data_memory_.reset();
  if (data_) munmap(data_, slots_ * size_t{kInlineBytesMax});
}

Status TargetPort::PostReturned() {
  if (returned_.empty()) return Status::Ok();
  works_.clear();
  for (uint32_t slot : returned_) {
    ReceiveWork work{.id = slot, .segments = 2};
    work.segment[0] = {&capsules_[slot * kCapsuleBytes], kCapsuleBytes, capsule_memory_->local_key()};
    work.segment[1] = {slot_data(slot), kInlineBytesMax, data_memory_->local_key()};
    works_.push_back(work);
    posted_[slot] = true;
  }
  returned_.clear();
  return receives_->Post(works_);
}

Status TargetPort::Renew() {
  Result<std::unique_ptr<ReceiveQueue>> queue = device_->CreateReceiveQueue(slots_);
  if (!queue.ok()) return queue.status();
  receives_ = *std::move(queue);
  wounded = false;
  for (uint32_t slot = 0; slot < slots_; slot++) {
    if (posted_[slot]) returned_.push_back(slot);
  }
  return PostReturned();
}

}  // namespace weft::rdma
