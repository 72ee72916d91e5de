// SPDX-License-Identifier: MIT
#include "userland/channel/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>

namespace weft::channel {
namespace {

// The indices are shared with the kernel: every access is atomic.
uint32_t LoadAcquire(const uint32_t& index) {
  return std::atomic_ref<uint32_t>(const_cast<uint32_t&>(index)).load(std::memory_order_acquire);
}

void StoreRelease(uint32_t& index, uint32_t value) {
  std::atomic_ref<uint32_t>(index).store(value, std::memory_order_release);
}

}  // namespace

Result<std::unique_ptr<Queue>> Queue::Open(Device* device, int control_fd, uint32_t index, size_t ring_bytes,
                                           uint32_t entries) {
  Result<int> fd = device->Open();
  if (!fd.ok()) return fd.status();
  std::unique_ptr<Queue> queue(new Queue(device, *fd, index));

  weft_ioc_queue args = {};
  args.control_fd = control_fd;
  args.index = index;
  if (int err = device->Ioctl(*fd, WEFT_IOC_QUEUE, &args); err < 0) {
    return Status::Errno(-err, fmt::format("opening queue {} of the channel", index));
  }
  Result<void*> memory = device->Map(*fd, WEFT_MMAP_RING, ring_bytes);
  if (!memory.ok()) return memory.status().Annotate(fmt::format("rings of queue {}", index));
  queue->memory_ = static_cast<std::byte*>(*memory);
  queue->memory_bytes_ = ring_bytes;
  queue->ring_ = reinterpret_cast<weft_ring*>(queue->memory_);
  if (Status s = queue->Check(entries); !s.ok()) return s;

  queue->sq_ = reinterpret_cast<const weft_sqe*>(queue->memory_ + queue->ring_->sq_offset);
  queue->cq_ = reinterpret_cast<weft_cqe*>(queue->memory_ + queue->ring_->cq_offset);
  queue->mask_ = entries - 1;
  queue->sq_head_ = LoadAcquire(queue->ring_->sq_head);
  queue->cq_tail_ = LoadAcquire(queue->ring_->cq_tail);
  return queue;
}

Queue::~Queue() {
  if (memory_ != nullptr) device_->Unmap(memory_, memory_bytes_);
  device_->Close(fd_);
}

Status Queue::Check(uint32_t entries) const {
  auto inside = [&](uint32_t offset, size_t entry_bytes) {
    return offset >= sizeof(weft_ring) && offset % 8 == 0 && offset + entries * entry_bytes <= memory_bytes_;
  };
  if (memory_bytes_ < sizeof(weft_ring) || ring_->entries != entries || !std::has_single_bit(entries) ||
      !inside(ring_->sq_offset, sizeof(weft_sqe)) || !inside(ring_->cq_offset, sizeof(weft_cqe))) {
    return Error(EPROTO, "queue {}: rings of {} entries at {} and {} do not fit {} bytes; weft.ko and weftd differ",
                 index_, ring_->entries, ring_->sq_offset, ring_->cq_offset, memory_bytes_);
  }
  return {};
}

size_t Queue::Take(std::span<weft_sqe> out) {
  uint32_t waiting = LoadAcquire(ring_->sq_tail) - sq_head_;
  size_t count = std::min<size_t>(waiting, out.size());
  if (count == 0) return 0;
  for (size_t i = 0; i < count; ++i) out[i] = sq_[(sq_head_ + i) & mask_];
  sq_head_ += static_cast<uint32_t>(count);
  StoreRelease(ring_->sq_head, sq_head_);
  return count;
}

bool Queue::HasSubmissions() const { return LoadAcquire(ring_->sq_tail) != sq_head_; }

bool Queue::Arm() {
  std::atomic_ref<uint32_t>(ring_->agent_flags).store(WEFT_RING_NEED_WAKEUP, std::memory_order_relaxed);
  // Pairs with the kernel's barrier between its store of sq_tail and its load of agent_flags: one of
  // the two sides sees the other's store.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return !HasSubmissions();
}

void Queue::Disarm() { std::atomic_ref<uint32_t>(ring_->agent_flags).store(0, std::memory_order_relaxed); }

Status Queue::Complete(std::span<const weft_cqe> entries) {
  if (entries.empty()) return {};
  std::lock_guard lock(complete_mutex_);
  uint32_t unconsumed = cq_tail_ - LoadAcquire(ring_->cq_head);
  if (unconsumed + entries.size() > mask_ + 1) {
    return Error(ENOSPC, "queue {}: {} completions do not fit behind {} in a ring of {}", index_, entries.size(),
                 unconsumed, mask_ + 1);
  }
  for (size_t i = 0; i < entries.size(); ++i) cq_[(cq_tail_ + i) & mask_] = entries[i];
  cq_tail_ += static_cast<uint32_t>(entries.size());
  StoreRelease(ring_->cq_tail, cq_tail_);
  // The kernel stops behind an entry that it refuses: go on until all are consumed.
  for (uint32_t refused = 0;; ++refused) {
    int err = device_->Ioctl(fd_, WEFT_IOC_COMPLETE, nullptr);
    if (err >= 0 && refused == 0) return {};
    bool consumed = LoadAcquire(ring_->cq_head) == cq_tail_;
    if (consumed || (err < 0 && err != -EINVAL) || refused == entries.size()) {
      int code = err < 0 ? -err : EINVAL;
      return Status::Errno(code, fmt::format("queue {}: handing {} completions to the kernel", index_, entries.size()));
    }
  }
}

}  // namespace weft::channel
