// SPDX-License-Identifier: MIT
#include "userland/target/uring_backend.h"

#include <linux/falloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "userland/base/log.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr unsigned kRingEntries = 1024;
constexpr unsigned kCompletionEntries = 16384;
constexpr unsigned kBuffersMax = 16;
constexpr size_t kZeroBytes = 1 << 20;
constexpr size_t kPageBytes = 4096;
constexpr uint64_t kWatchedBit = 1ULL << 32;  // in user data: an index of watched_, not of operations_

}  // namespace

Result<std::unique_ptr<UringBackend>> UringBackend::Create(int fd, bool is_device, uint64_t data_offset,
                                                           uint64_t capacity_bytes) {
  std::unique_ptr<UringBackend> backend(new UringBackend(fd, is_device, data_offset, capacity_bytes));
  if (Status s = backend->OpenRing(); !s.ok()) return s;
  return backend;
}

UringBackend::UringBackend(int fd, bool is_device, uint64_t data_offset, uint64_t capacity_bytes)
    : fd_(fd), is_device_(is_device), data_offset_(data_offset), capacity_bytes_(capacity_bytes) {}

UringBackend::~UringBackend() {
  if (open_) io_uring_queue_exit(&ring_);
}

Status UringBackend::OpenRing() {
  io_uring_params params{};
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  params.cq_entries = kCompletionEntries;
  int error = -io_uring_queue_init_params(kRingEntries, &ring_, &params);
  if (error == ENOSYS || error == EPERM) {
    return Status::Errno(error, "io_uring is not there; see /proc/sys/kernel/io_uring_disabled");
  }
  if (error) return Status::Errno(error, "io_uring_setup");
  open_ = true;
  if (io_uring_register_files(&ring_, &fd_, 1)) return Error(EIO, "io_uring does not take the backing file");
  fixed_ = io_uring_register_buffers_sparse(&ring_, kBuffersMax) == 0;
  return Status::Ok();
}

Status UringBackend::AddBuffer(void* address, size_t bytes) {
  if (!fixed_ || buffers_.size() == kBuffersMax) return Status::Ok();
  iovec buffer{address, bytes};
  __u64 tag = 0;
  int result = io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(buffers_.size()), &buffer, &tag, 1);
  if (result < 0) {
    LogWarning("io_uring does not register {} bytes ({}): raise the locked-memory limit (`ulimit -l`) for speed", bytes,
               Status::Errno(-result, "error").message());
    return Status::Ok();
  }
  buffers_.push_back(buffer);
  return Status::Ok();
}

int UringBackend::BufferIndexOf(const uint8_t* data, size_t bytes) const {
  for (size_t i = 0; i < buffers_.size(); i++) {
    const auto* start = static_cast<const uint8_t*>(buffers_[i].iov_base);
    if (data >= start && data + bytes <= start + buffers_[i].iov_len) return static_cast<int>(i);
  }
  return -1;
}

void UringBackend::Submit(const BackendRequest& request) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(operations_.size()));
    operations_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  operations_[index] = {.request = request};
  Prepare(index);
}

io_uring_sqe* UringBackend::NextSqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {  // more than once: the kernel was short of memory for a moment
    Kick();       // makes room: the kernel copies what it takes
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void UringBackend::Prepare(uint32_t index) {
  io_uring_sqe* sqe = NextSqe();
  const Operation& operation = operations_[index];
  switch (operation.request.op) {
    case BackendOp::kRead:
    case BackendOp::kWrite:
      PrepareData(operation, sqe);
      break;
    case BackendOp::kFlush:
      io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
      break;
    case BackendOp::kDiscard:
    case BackendOp::kWriteZeroes:
      PrepareRange(operation, sqe);
      break;
    case BackendOp::kChecksums:
    case BackendOp::kPoison:
      std::abort();  // those of the backend in front, which keeps the checksums
  }
  sqe->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data64(sqe, index);
  unsubmitted_++;
}

void UringBackend::PrepareData(const Operation& operation, io_uring_sqe* sqe) {
  const BackendRequest& request = operation.request;
  uint8_t* data = request.data + operation.done_bytes;
  unsigned bytes = request.length_bytes - operation.done_bytes;
  uint64_t offset = data_offset_ + request.offset_bytes + operation.done_bytes;
  int buffer = BufferIndexOf(data, bytes);
  if (request.op == BackendOp::kRead) {
    if (buffer >= 0) {
      io_uring_prep_read_fixed(sqe, 0, data, bytes, offset, buffer);
    } else {
      io_uring_prep_read(sqe, 0, data, bytes, offset);
    }
    return;
  }
  if (buffer >= 0) {
    io_uring_prep_write_fixed(sqe, 0, data, bytes, offset, buffer);
  } else {
    io_uring_prep_write(sqe, 0, data, bytes, offset);
  }
  if (request.durable) sqe->rw_flags = RWF_DSYNC;
}

// In the order of preference: zero the range, or punch a hole, which reads as zeroes as well; as a last
// resort zeroes are written. A device that cannot discard may leave the contents as they are.
void UringBackend::PrepareRange(const Operation& operation, io_uring_sqe* sqe) {
  const BackendRequest& request = operation.request;
  uint64_t offset = data_offset_ + request.offset_bytes;
  bool punch = request.op == BackendOp::kDiscard || operation.fallback == 1;
  if (operation.fallback < 2) {
    int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    io_uring_prep_fallocate(sqe, 0, mode, static_cast<off_t>(offset), request.length_bytes);
    return;
  }
  if (zeroes_.empty()) zeroes_.resize(kZeroBytes + kPageBytes);
  auto at = (reinterpret_cast<uintptr_t>(zeroes_.data()) + kPageBytes - 1) / kPageBytes * kPageBytes;
  unsigned bytes = std::min<unsigned>(request.length_bytes - operation.done_bytes, kZeroBytes);
  io_uring_prep_write(sqe, 0, reinterpret_cast<void*>(at), bytes, offset + operation.done_bytes);
  if (request.durable) sqe->rw_flags = RWF_DSYNC;
}

void UringBackend::Watch(int fd, bool* ready) {
  watched_.push_back({fd, ready});
  PreparePoll(watched_.size() - 1);
}

void UringBackend::StopWatching() {
  for (Watched& watched : watched_) watched.ready = nullptr;
}

// One request for all readiness to come, until the kernel ends it (Poll then makes another one).
void UringBackend::PreparePoll(size_t watched) {
  io_uring_sqe* sqe = NextSqe();
  io_uring_prep_poll_multishot(sqe, watched_[watched].fd, POLLIN);
  io_uring_sqe_set_data64(sqe, kWatchedBit | watched);
  unsubmitted_++;
}

void UringBackend::Kick() {
  if (unsubmitted_ == 0) return;
  int taken = io_uring_submit(&ring_);
  // EAGAIN, EBUSY, EINTR: the rest stays in the ring and is taken next time.
  if (taken > 0) unsubmitted_ -= std::min(unsubmitted_, static_cast<unsigned>(taken));
}

size_t UringBackend::Poll(std::span<BackendDone> out) {
  std::array<io_uring_cqe*, 64> cqes;
  auto wanted = static_cast<unsigned>(std::min(out.size(), cqes.size()));
  unsigned count = io_uring_peek_batch_cqe(&ring_, cqes.data(), wanted);
  size_t finished = 0;
  for (unsigned i = 0; i < count; i++) {
    uint64_t data = io_uring_cqe_get_data64(cqes[i]);
    auto index = static_cast<uint32_t>(data);
    if (data & kWatchedBit) {
      if (watched_[index].ready == nullptr) continue;
      *watched_[index].ready = true;
      if (cqes[i]->res < 0 && cqes[i]->res != -ECANCELED) {  // ECANCELED: the thread that waited has ended
        LogError("{}", Status::Errno(-cqes[i]->res, "io_uring does not wait for a file").message());
      } else if (cqes[i]->res >= 0 && !(cqes[i]->flags & IORING_CQE_F_MORE)) {
        PreparePoll(index);
      }
      continue;
    }
    int32_t result = cqes[i]->res;
    Operation& operation = operations_[index];
    if (!Finish(&operation, &result)) {
      Prepare(index);
      continue;
    }
    out[finished++] = {operation.request.cookie, result};
    free_.push_back(index);
  }
  io_uring_cq_advance(&ring_, count);
  return finished;
}

bool UringBackend::Finish(Operation* operation, int32_t* result) {
  const BackendRequest& request = operation->request;
  bool range = request.op == BackendOp::kDiscard || request.op == BackendOp::kWriteZeroes;
  if (*result == -EINTR || *result == -EAGAIN) return false;
  if (range && operation->fallback < 2) {
    if (*result != -EOPNOTSUPP) {
      if (*result == 0 && request.durable) {
        operation->request.op = BackendOp::kFlush;
        return false;
      }
      return true;
    }
    if (request.op == BackendOp::kDiscard) {
      *result = 0;
      return true;
    }
    // Punching a hole of a device may discard, which need not read as zeroes.
    operation->fallback = is_device_ ? 2 : operation->fallback + 1;
    return false;
  }
  if (*result < 0 || request.op == BackendOp::kFlush) return true;
  operation->done_bytes += static_cast<uint32_t>(*result);
  if (*result == 0) {
    *result = -EIO;  // the end of the file or device: it has shrunk
    return true;
  }
  if (operation->done_bytes < request.length_bytes) return false;
  *result = 0;
  return true;
}

bool UringBackend::Arm() {
  Kick();
  return unsubmitted_ == 0 && io_uring_cq_ready(&ring_) == 0;
}

// In the ring itself: the thread that is woken by the storage's interrupt returns with its answer.
void UringBackend::Wait(int timeout_ms) {
  io_uring_cqe* cqe;
  __kernel_timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000LL};
  io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, timeout_ms < 0 ? nullptr : &timeout, nullptr);
}

}  // namespace weft::target
