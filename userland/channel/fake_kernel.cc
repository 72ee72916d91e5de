// SPDX-License-Identifier: MIT
#include "userland/channel/fake_kernel.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <thread>

namespace weft::channel {
namespace {

std::atomic_ref<uint32_t> Atomic(uint32_t& index) { return std::atomic_ref<uint32_t>(index); }

}  // namespace

FakeKernel::FakeKernel(Options options)
    : options_(options), pool_memory_(new Page[options.pool_bytes / sizeof(Page)]()) {
  pool_ = {pool_memory_[0].bytes, options_.pool_bytes};
}

FakeKernel::~FakeKernel() {
  for (int fd : fds_) close(fd);
}

size_t FakeKernel::RingBytes() const { return 4096 + options_.depth * (sizeof(weft_sqe) + sizeof(weft_cqe)); }

Result<int> FakeKernel::Open() {
  std::lock_guard lock(mutex_);
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return Status::Errno(errno, "eventfd");
  fds_.insert(fd);
  return fd;
}

void FakeKernel::Close(int fd) {
  std::lock_guard lock(mutex_);
  fds_.erase(fd);
  close(fd);
}

int FakeKernel::Ioctl(int fd, unsigned long request, void* argument) {
  std::lock_guard lock(mutex_);
  if (!fds_.contains(fd)) return -EBADF;
  switch (request) {
    case WEFT_IOC_ATTACH:
      return Attach(static_cast<weft_ioc_attach*>(argument));
    case WEFT_IOC_QUEUE:
      return AddQueue(fd, static_cast<weft_ioc_queue*>(argument));
    case WEFT_IOC_READY:
      ready_ = true;
      changed_.notify_all();
      return 0;
    case WEFT_IOC_TARGETS:
      return TakeTargets(static_cast<weft_ioc_targets*>(argument));
    case WEFT_IOC_CHUNKS: {
      auto* args = static_cast<const weft_ioc_chunks*>(argument);
      if (args->reserved != 0 || args->count > WEFT_CHUNKS_PER_CALL) return -EINVAL;
      auto* chunks = reinterpret_cast<const weft_chunk*>(args->chunks);
      chunks_.insert(chunks_.end(), chunks, chunks + args->count);
      changed_.notify_all();
      return 0;
    }
    case WEFT_IOC_SETTLE:
      ++settles_;
      changed_.notify_all();
      return 0;
    case WEFT_IOC_DEVICE:
      devices_.push_back(*static_cast<const weft_ioc_device*>(argument));
      return 0;
    case WEFT_IOC_LEASE:
      lease_until_ns_ = static_cast<const weft_ioc_lease*>(argument)->until_ns;
      changed_.notify_all();
      return 0;
    case WEFT_IOC_COMPLETE:
      return Consume(fd);
    default:
      return -ENOTTY;
  }
}

int FakeKernel::Attach(weft_ioc_attach* args) {
  if (options_.attach_error != 0) return -options_.attach_error;
  if (args->version_major != WEFT_VERSION_MAJOR) return -EPROTO;
  if (args->flags != 0 || args->queues == 0 || args->queues > WEFT_QUEUES_MAX) return -EINVAL;
  args->epoch = options_.epoch;
  args->depth_granted = options_.depth;
  args->pool_bytes_granted = options_.pool_bytes;
  args->ring_bytes = RingBytes();
  args->session = options_.session;
  for (size_t i = 0; i < sizeof args->client; ++i) args->client[i] = static_cast<uint8_t>(i + 1);
  return 0;
}

int FakeKernel::AddQueue(int fd, const weft_ioc_queue* args) {
  if (args->reserved != 0 || rings_.contains(args->index)) return -EINVAL;
  Ring& ring = rings_[args->index];
  ring.fd = fd;
  ring.memory.reset(new std::byte[RingBytes()]());
  ring.header = reinterpret_cast<weft_ring*>(ring.memory.get());
  ring.header->entries = options_.depth;
  ring.header->sq_offset = 4096;
  ring.header->cq_offset = static_cast<uint32_t>(4096 + options_.depth * sizeof(weft_sqe));
  return 0;
}

int FakeKernel::TakeTargets(const weft_ioc_targets* args) {
  if (args->reserved != 0 || args->count > WEFT_TARGETS_MAX) return -EINVAL;
  auto* infos = reinterpret_cast<const weft_target_info*>(args->targets);
  for (uint32_t i = 0; i < args->count; ++i) {
    const weft_target_info& info = infos[i];
    if (info.id == 0 || (info.state != WEFT_TARGET_UP && info.state != WEFT_TARGET_DOWN) ||
        info.paths_usable > info.paths || info.reserved1 != 0 || memchr(info.name, 0, sizeof info.name) == nullptr) {
      return -EINVAL;
    }
  }
  targets_.assign(infos, infos + args->count);
  changed_.notify_all();
  return 0;
}

int FakeKernel::Consume(int fd) {
  ++complete_calls_;
  for (auto& [index, ring] : rings_) {
    if (ring.fd != fd) continue;
    auto* cq = reinterpret_cast<weft_cqe*>(ring.memory.get() + ring.header->cq_offset);
    uint32_t head = ring.header->cq_head;
    uint32_t tail = Atomic(ring.header->cq_tail).load(std::memory_order_acquire);
    int consumed = 0;
    bool bad = false;
    while (head != tail && !bad) {  // up to a bad one, which is consumed as well
      const weft_cqe& cqe = cq[head++ & (options_.depth - 1)];
      bad = cqe.epoch != options_.epoch || cqe.reserved[0] != 0 || cqe.reserved[1] != 0 || !unfinished_.erase(cqe.tag);
      if (bad) continue;
      results_[cqe.tag] = cqe.result;
      ++consumed;
    }
    Atomic(ring.header->cq_head).store(head, std::memory_order_release);
    if (bad) ++bad_completions_;
    changed_.notify_all();
    return bad ? -EINVAL : consumed;
  }
  return -EINVAL;
}

Result<void*> FakeKernel::Map(int fd, uint64_t offset_bytes, size_t bytes) {
  std::lock_guard lock(mutex_);
  for (auto& [index, ring] : rings_) {
    if (ring.fd == fd) return static_cast<void*>(ring.memory.get());
  }
  if (bytes > pool_.size() || offset_bytes != WEFT_MMAP_POOL) return Error(EINVAL, "mmap of {} bytes", bytes);
  return static_cast<void*>(pool_.data());
}

void FakeKernel::Push(uint32_t queue, weft_sqe sqe) {
  std::lock_guard lock(mutex_);
  Ring& ring = rings_.at(queue);
  bool is_new = unfinished_.insert(sqe.tag).second && !results_.contains(sqe.tag);
  assert(is_new);
  (void)is_new;
  sqe.epoch = options_.epoch;
  auto* sq = reinterpret_cast<weft_sqe*>(ring.memory.get() + ring.header->sq_offset);
  uint32_t tail = ring.header->sq_tail;
  sq[tail & (options_.depth - 1)] = sqe;
  Atomic(ring.header->sq_tail).store(tail + 1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (Atomic(ring.header->agent_flags).load(std::memory_order_relaxed) & WEFT_RING_NEED_WAKEUP) {
    ++wakeups_;
    eventfd_write(ring.fd, 1);
  }
}

void FakeKernel::PushMeta(uint32_t queue, uint64_t tag, uint32_t slot, uint64_t seq, uint32_t op, uint64_t ino,
                          std::span<const std::byte> args) {
  weft_meta_req header = {};
  header.op = op;
  header.length = static_cast<uint32_t>(sizeof header + args.size());
  header.ino = ino;
  header.now_ns = 1'700'000'000'000'000'000;
  std::byte* message = pool_.data() + MessageOffset(slot);
  memcpy(message, &header, sizeof header);
  if (!args.empty()) memcpy(message + sizeof header, args.data(), args.size());
  weft_sqe sqe = {};
  sqe.tag = tag;
  sqe.op = WEFT_OP_META;
  sqe.length = header.length;
  sqe.buf = MessageOffset(slot);
  sqe.meta_slot = slot;
  sqe.meta_seq = seq;
  Push(queue, sqe);
}

std::span<std::byte> FakeKernel::reply(uint32_t slot) {
  return pool_.subspan(MessageOffset(slot) + WEFT_META_REQ_BYTES, WEFT_META_REP_BYTES);
}

std::optional<int32_t> FakeKernel::WaitFor(uint64_t tag, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, timeout, [&] { return results_.contains(tag); })) return std::nullopt;
  return results_[tag];
}

bool FakeKernel::WaitAsleep(uint32_t queue, std::chrono::milliseconds timeout) {
  // The agent announces its sleep in shared memory only: nothing to wait on but the ring. A flag from before it took
  // what is in the ring says nothing, so that it has done that is looked at first.
  auto deadline = std::chrono::steady_clock::now() + timeout;
  weft_ring* ring = rings_.at(queue).header;
  auto asleep = [ring] {
    return Atomic(ring->sq_head).load(std::memory_order_acquire) ==
               Atomic(ring->sq_tail).load(std::memory_order_relaxed) &&
           (Atomic(ring->agent_flags).load(std::memory_order_acquire) & WEFT_RING_NEED_WAKEUP);
  };
  while (!asleep()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

bool FakeKernel::WaitTargets(size_t count, uint32_t state, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] {
    if (targets_.size() != count) return false;
    for (const weft_target_info& t : targets_) {
      if (t.state != state) return false;
    }
    return true;
  });
}

bool FakeKernel::WaitChunks(size_t count, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return chunks_.size() >= count; });
}

size_t FakeKernel::bad_completions() const { return std::lock_guard(mutex_), bad_completions_; }
size_t FakeKernel::wakeups() const { return std::lock_guard(mutex_), wakeups_; }
size_t FakeKernel::complete_calls() const { return std::lock_guard(mutex_), complete_calls_; }
bool FakeKernel::ready() const { return std::lock_guard(mutex_), ready_; }
std::vector<weft_target_info> FakeKernel::targets() const { return std::lock_guard(mutex_), targets_; }
std::vector<weft_ioc_device> FakeKernel::devices() const { return std::lock_guard(mutex_), devices_; }
size_t FakeKernel::settles() const { return std::lock_guard(mutex_), settles_; }
bool FakeKernel::WaitLease(const std::function<bool(uint64_t until_ns)>& wanted, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return wanted(lease_until_ns_); });
}

uint64_t FakeKernel::lease_until_ns() const { return std::lock_guard(mutex_), lease_until_ns_; }
std::vector<weft_chunk> FakeKernel::chunks() const { return std::lock_guard(mutex_), chunks_; }
size_t FakeKernel::open_fds() const { return std::lock_guard(mutex_), fds_.size(); }

}  // namespace weft::channel
