// SPDX-License-Identifier: MIT
//
// /dev/weft without any care: for tests that hand the kernel what an agent never would. One thread.
#pragma once

#include <string>

#include "kmod/uapi/weft.h"

namespace weft::kmod_test {

int OpenDevice();
weft_ioc_attach AttachArgs(const std::string& cluster);
// 0 or errno.
int Ioctl(int fd, unsigned long request, void* argument);
int OpenQueue(int fd, int control_fd, uint32_t index);

// An attachment with its mappings; closes and unmaps all of it at the end.
class Attachment {
 public:
  // Waits until the cluster can be had (an agent may just be dying); error() is the errno otherwise.
  Attachment(const std::string& cluster, uint32_t queues, uint32_t depth = 256, uint64_t pool_bytes = 8 << 20);
  ~Attachment();
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  int error() const { return error_; }
  int control() const { return control_; }
  int queue_fd(uint32_t queue) const { return queues_[queue].fd; }
  weft_ring* ring(uint32_t queue) const { return queues_[queue].ring; }
  const weft_ioc_attach& args() const { return args_; }
  char* pool() const { return pool_; }

  int SetTargets(const weft_target_info* targets, uint32_t count);
  int SetChunks(const weft_chunk* chunks, uint32_t count);
  int Ready();
  bool Take(uint32_t queue, weft_sqe* sqe);
  void Put(uint32_t queue, const weft_cqe& cqe);
  int Complete(uint32_t queue);  // completions consumed, or -errno
  // Until a queue has submissions, at most `milliseconds`.
  void Wait(int milliseconds);

 private:
  struct Queue {
    int fd = -1;
    weft_ring* ring = nullptr;
    weft_sqe* sq = nullptr;
    weft_cqe* cq = nullptr;
  };

  int error_ = 0;
  int control_ = -1;
  weft_ioc_attach args_{};
  char* pool_ = nullptr;
  Queue queues_[WEFT_QUEUES_MAX];
};

}  // namespace weft::kmod_test
