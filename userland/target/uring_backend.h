// SPDX-License-Identifier: MIT
//
// The block backend on a device or file, through io_uring. Engine thread. Data in the memory given to
// AddBuffer goes by registered buffers (its pages are looked up once), everything else the ordinary way.
#pragma once

#include <liburing.h>

#include <memory>
#include <vector>

#include "rdma/block_backend.h"

namespace weft::target {

class UringBackend final : public rdma::BlockBackend {
 public:
  // data_offset: where the data area starts. The file outlives this.
  static Result<std::unique_ptr<UringBackend>> Create(int fd, bool is_device, uint64_t data_offset,
                                                      uint64_t capacity_bytes);
  ~UringBackend() override;

  uint64_t capacity_bytes() const override { return capacity_bytes_; }
  Status AddBuffer(void* address, size_t bytes) override;
  void Submit(const rdma::BackendRequest& request) override;
  void Kick() override;
  size_t Poll(std::span<rdma::BackendDone> out) override;
  void Watch(int fd, bool* ready) override;
  // What was watched is left alone from now on: its owners may go, and Poll and Wait still be called.
  void StopWatching();
  bool Arm() override;
  void Wait(int timeout_ms) override;
  int fd() const { return ring_.ring_fd; }  // readable when there is something to Poll, for who sleeps elsewhere

 private:
  struct Operation {  // a request in the ring
    rdma::BackendRequest request;
    uint32_t done_bytes = 0;  // of a read or write that came back short
    int fallback = 0;         // ways of DISCARD and WRITE_ZEROES that were tried without success
  };
  struct Watched {
    int fd;
    bool* ready;  // nullptr: not any more
  };

  UringBackend(int fd, bool is_device, uint64_t data_offset, uint64_t capacity_bytes);
  Status OpenRing();
  io_uring_sqe* NextSqe();
  void Prepare(uint32_t index);
  void PrepareData(const Operation& operation, io_uring_sqe* sqe);
  void PrepareRange(const Operation& operation, io_uring_sqe* sqe);
  void PreparePoll(size_t watched);
  int BufferIndexOf(const uint8_t* data, size_t bytes) const;  // -1: not registered
  // What the kernel's result means; true: the request is finished with *result.
  bool Finish(Operation* operation, int32_t* result);

  const int fd_;
  const bool is_device_;
  const uint64_t data_offset_;
  const uint64_t capacity_bytes_;
  io_uring ring_{};
  bool open_ = false;
  bool fixed_ = false;  // buffers may be registered
  unsigned unsubmitted_ = 0;
  std::vector<iovec> buffers_;
  std::vector<Operation> operations_;
  std::vector<uint32_t> free_;
  std::vector<Watched> watched_;
  std::vector<uint8_t> zeroes_;  // what WRITE_ZEROES writes when the file system cannot do it
};

}  // namespace weft::target
