// SPDX-License-Identifier: MIT
//
// One queue of the channel: its submission ring (kernel -> agent) and its completion ring (agent ->
// kernel); the protocol is that of kmod/uapi/weft.h. Take, Arm and Disarm belong to one thread, the
// consumer. Complete may be called from any thread: a lock makes it the one producer.
//
//   for (;;) {
//     size_t n = queue->Take(sqes);  ...  queue->Complete(cqes);
//     if (nothing to do) {
//       if (queue->Arm()) poll(queue->fd(), ...);  // else: entries arrived meanwhile
//       queue->Disarm();
//     }
//   }
#pragma once

#include <memory>
#include <mutex>
#include <span>

#include "kmod/uapi/weft.h"
#include "userland/base/status.h"
#include "userland/channel/device.h"

namespace weft::channel {

class Queue {
 public:
  static Result<std::unique_ptr<Queue>> Open(Device* device, int control_fd, uint32_t index, size_t ring_bytes,
                                             uint32_t entries);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  uint32_t index() const { return index_; }
  int fd() const { return fd_; }  // POLLIN: the submission ring is not empty

  // Moves up to out.size() entries out of the submission ring.
  size_t Take(std::span<weft_sqe> out);
  bool HasSubmissions() const;

  // Asks the kernel for a wake-up. False: the ring is not empty, take instead of sleeping.
  bool Arm();
  void Disarm();

  // Hands completions to the kernel with one system call. EINVAL: the kernel refused one of them (its
  // log says why); the others are done. ENOSPC: more completions than requests, none was handed over.
  Status Complete(std::span<const weft_cqe> entries);

 private:
  Queue(Device* device, int fd, uint32_t index) : device_(device), fd_(fd), index_(index) {}
  Status Check(uint32_t entries) const;

  Device* const device_;
  const int fd_;
  const uint32_t index_;
  std::byte* memory_ = nullptr;  // the mapping; starts with the ring header
  size_t memory_bytes_ = 0;
  weft_ring* ring_ = nullptr;
  const weft_sqe* sq_ = nullptr;
  weft_cqe* cq_ = nullptr;
  uint32_t mask_ = 0;
  uint32_t sq_head_ = 0;  // consumer thread only; published in the ring after each Take

  std::mutex complete_mutex_;  // guards cq_tail_, and cq_tail of the ring
  uint32_t cq_tail_ = 0;
};

}  // namespace weft::channel
