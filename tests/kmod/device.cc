// SPDX-License-Identifier: MIT
#include "tests/kmod/device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace weft::kmod_test {
namespace {

std::atomic_ref<uint32_t> Shared(uint32_t& value) { return std::atomic_ref<uint32_t>(value); }

}  // namespace

int OpenDevice() { return open("/dev/weft", O_RDWR | O_CLOEXEC); }

weft_ioc_attach AttachArgs(const std::string& cluster) {
  weft_ioc_attach args{};
  args.version_major = WEFT_VERSION_MAJOR;
  args.version_minor = WEFT_VERSION_MINOR;
  args.queues = 1;
  args.depth = 256;
  args.pool_bytes = 8 << 20;
  cluster.copy(args.cluster, sizeof(args.cluster) - 1);
  return args;
}

int Ioctl(int fd, unsigned long request, void* argument) { return ioctl(fd, request, argument) < 0 ? errno : 0; }

int OpenQueue(int fd, int control_fd, uint32_t index) {
  weft_ioc_queue args{};
  args.control_fd = control_fd;
  args.index = index;
  return Ioctl(fd, WEFT_IOC_QUEUE, &args);
}

Attachment::Attachment(const std::string& cluster, uint32_t queues, uint32_t depth, uint64_t pool_bytes) {
  args_ = AttachArgs(cluster);
  args_.queues = queues;
  args_.depth = depth;
  args_.pool_bytes = pool_bytes;
  control_ = OpenDevice();
  error_ = control_ < 0 ? errno : Ioctl(control_, WEFT_IOC_ATTACH, &args_);
  if (error_) return;
  void* pool = mmap(nullptr, args_.pool_bytes_granted, PROT_READ | PROT_WRITE, MAP_SHARED, control_, WEFT_MMAP_POOL);
  if (pool == MAP_FAILED) {
    error_ = errno;
    return;
  }
  pool_ = static_cast<char*>(pool);
  for (uint32_t i = 0; i < queues && !error_; ++i) {
    Queue& q = queues_[i];
    q.fd = OpenDevice();
    error_ = OpenQueue(q.fd, control_, i);
    if (error_) return;
    void* ring = mmap(nullptr, args_.ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, q.fd, WEFT_MMAP_RING);
    if (ring == MAP_FAILED) {
      error_ = errno;
      return;
    }
    q.ring = static_cast<weft_ring*>(ring);
    q.sq = reinterpret_cast<weft_sqe*>(static_cast<char*>(ring) + q.ring->sq_offset);
    q.cq = reinterpret_cast<weft_cqe*>(static_cast<char*>(ring) + q.ring->cq_offset);
  }
}

Attachment::~Attachment() {
  for (Queue& q : queues_) {
    if (q.ring) munmap(q.ring, args_.ring_bytes);
    if (q.fd >= 0) close(q.fd);
  }
  if (pool_) munmap(pool_, args_.pool_bytes_granted);
  if (control_ >= 0) close(control_);
}

int Attachment::SetTargets(const weft_target_info* targets, uint32_t count) {
  weft_ioc_targets args{};
  args.targets = reinterpret_cast<uint64_t>(targets);
  args.count = count;
  return Ioctl(control_, WEFT_IOC_TARGETS, &args);
}

int Attachment::SetChunks(const weft_chunk* chunks, uint32_t count) {
  weft_ioc_chunks args{};
  args.chunks = reinterpret_cast<uint64_t>(chunks);
  args.count = count;
  return Ioctl(control_, WEFT_IOC_CHUNKS, &args);
}

int Attachment::Ready() { return Ioctl(control_, WEFT_IOC_READY, nullptr); }

bool Attachment::Take(uint32_t queue, weft_sqe* sqe) {
  Queue& q = queues_[queue];
  uint32_t head = q.ring->sq_head;
  if (Shared(q.ring->sq_tail).load(std::memory_order_acquire) == head) return false;
  *sqe = q.sq[head & (q.ring->entries - 1)];
  Shared(q.ring->sq_head).store(head + 1, std::memory_order_release);
  return true;
}

void Attachment::Put(uint32_t queue, const weft_cqe& cqe) {
  Queue& q = queues_[queue];
  uint32_t tail = q.ring->cq_tail;
  q.cq[tail & (q.ring->entries - 1)] = cqe;
  Shared(q.ring->cq_tail).store(tail + 1, std::memory_order_release);
}

int Attachment::Complete(uint32_t queue) {
  int consumed = ioctl(queues_[queue].fd, WEFT_IOC_COMPLETE);
  return consumed < 0 ? -errno : consumed;
}

void Attachment::Wait(int milliseconds) {
  pollfd fds[WEFT_QUEUES_MAX];
  bool idle = true;
  for (uint32_t i = 0; i < args_.queues; ++i) {
    weft_ring* ring = queues_[i].ring;
    Shared(ring->agent_flags).store(WEFT_RING_NEED_WAKEUP);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    idle &= Shared(ring->sq_tail).load() == ring->sq_head;
    fds[i] = {queues_[i].fd, POLLIN, 0};
  }
  if (idle) poll(fds, args_.queues, milliseconds);
  for (uint32_t i = 0; i < args_.queues; ++i) Shared(queues_[i].ring->agent_flags).store(0);
}

}  // namespace weft::kmod_test
