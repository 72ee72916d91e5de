// SPDX-License-Identifier: MIT
#include "userland/target/uring_backend.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr size_t kZeroBytes = 1 << 20;
constexpr size_t kPageBytes = 4096;

}  // namespace

Result<std::unique_ptr<UringBackend>> UringBackend::Create(int fd, bool is_device, uint64_t data_offset,
                                                           uint64_t capacity_bytes, Uring* uring) {
  std::unique_ptr<UringBackend> backend(new UringBackend(is_device, data_offset, capacity_bytes));
  if (!uring) {
    Result<std::unique_ptr<Uring>> own = Uring::Create();
    if (!own.ok()) return own.status();
    backend->own_ = *std::move(own);
  }
  backend->uring_ = uring ? uring : backend->own_.get();
  Result<uint32_t> number = backend->uring_->Join(backend.get(), fd);
  if (!number.ok()) return number.status();
  backend->number_ = *number;
  backend->joined_ = true;
  return backend;
}

UringBackend::UringBackend(bool is_device, uint64_t data_offset, uint64_t capacity_bytes)
    : is_device_(is_device), data_offset_(data_offset), capacity_bytes_(capacity_bytes) {}

UringBackend::~UringBackend() {
  if (joined_ && !own_) uring_->Leave(number_);
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

void UringBackend::Prepare(uint32_t index) {
  io_uring_sqe* sqe = uring_->Next();
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
  uring_->Name(sqe, number_, index);
}

void UringBackend::PrepareData(const Operation& operation, io_uring_sqe* sqe) {
  const BackendRequest& request = operation.request;
  uint8_t* data = request.data + operation.done_bytes;
  unsigned bytes = request.length_bytes - operation.done_bytes;
  uint64_t offset = data_offset_ + request.offset_bytes + operation.done_bytes;
  int buffer = uring_->BufferIndexOf(data, bytes);
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

void UringBackend::OnCompletion(uint32_t index, int32_t result) {
  Operation& operation = operations_[index];
  if (!Finish(&operation, &result)) {
    if (!may_send_ || may_send_()) return Prepare(index);
    result = -EHOSTDOWN;
  }
  done_.push_back({operation.request.cookie, result});
  free_.push_back(index);
}

size_t UringBackend::Poll(std::span<BackendDone> out) {
  if (taken_ == done_.size()) {
    done_.clear();
    taken_ = 0;
    uring_->Reap();
  }
  size_t count = std::min(out.size(), done_.size() - taken_);
  std::copy_n(done_.begin() + static_cast<ptrdiff_t>(taken_), count, out.begin());
  taken_ += count;
  return count;
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
  return settled() && !uring_->unsubmitted() && !uring_->has_ended();
}

}  // namespace weft::target
