// SPDX-License-Identifier: MIT
//
// The block backend on a device or file, through io_uring. Engine thread. Data in the memory given to
// AddBuffer goes by registered buffers (its pages are looked up once), everything else the ordinary way.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "rdma/block_backend.h"
#include "userland/target/uring.h"

namespace weft::target {

class UringBackend final : public rdma::BlockBackend, private Uring::Client {
 public:
  // data_offset: where the data area starts. The file outlives this, and so does `uring`, the thread's; without one it
  // has its own.
  static Result<std::unique_ptr<UringBackend>> Create(int fd, bool is_device, uint64_t data_offset,
                                                      uint64_t capacity_bytes, Uring* uring = nullptr);
  ~UringBackend() override;  // nothing is under way, unless the ring is its own

  uint64_t capacity_bytes() const override { return capacity_bytes_; }
  Status AddBuffer(void* address, size_t bytes) override { return uring_->AddBuffer(address, bytes); }
  void Submit(const rdma::BackendRequest& request) override;
  void Kick() override { uring_->Kick(); }
  size_t Poll(std::span<rdma::BackendDone> out) override;
  void Watch(int fd, bool* ready) override { uring_->Watch(fd, ready); }
  // See Uring.
  void StopWatching() { uring_->StopWatching(); }
  // Asked before each further step of a request that takes several; when it says no, the request ends with -EHOSTDOWN.
  void SetMaySend(std::function<bool()> may_send) { may_send_ = std::move(may_send); }
  bool Arm() override;
  bool settled() const { return taken_ == done_.size(); }  // all that was reaped was polled
  void Wait(int timeout_ms) override { uring_->Wait(timeout_ms); }

 private:
  struct Operation {  // a request in the ring
    rdma::BackendRequest request;
    uint32_t done_bytes = 0;  // of a read or write that came back short
    int fallback = 0;         // ways of DISCARD and WRITE_ZEROES that were tried without success
  };

  UringBackend(bool is_device, uint64_t data_offset, uint64_t capacity_bytes);
  void OnCompletion(uint32_t index, int32_t result) override;
  void Prepare(uint32_t index);
  void PrepareData(const Operation& operation, io_uring_sqe* sqe);
  void PrepareRange(const Operation& operation, io_uring_sqe* sqe);
  // What the kernel's result means; true: the request is finished with *result.
  bool Finish(Operation* operation, int32_t* result);

  const bool is_device_;
  const uint64_t data_offset_;
  const uint64_t capacity_bytes_;
  std::function<bool()> may_send_;
  std::unique_ptr<Uring> own_;
  Uring* uring_ = nullptr;
  uint32_t number_ = 0;  // in the ring
  bool joined_ = false;
  std::vector<Operation> operations_;
  std::vector<uint32_t> free_;
  std::vector<rdma::BackendDone> done_;
  size_t taken_ = 0;             // of done_
  std::vector<uint8_t> zeroes_;  // what WRITE_ZEROES writes when the file system cannot do it
};

}  // namespace weft::target
