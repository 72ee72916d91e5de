// SPDX-License-Identifier: MIT
//
// A queue thread's way to the block device of one NVMe-oF target: the thread's io_uring, which has the kernel's buffer
// pool as a registered buffer. Of that thread alone.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rdma/block_initiator.h"
#include "userland/base/status.h"
#include "userland/target/plain_backend.h"
#include "userland/target/uring_backend.h"

namespace weft::agent {

// Where the target's data is, for those who reach it without its gateway.
struct BlockDevice {
  std::string path;
  uint64_t number = 0;  // dev_t
  uint64_t data_offset = 0;
  uint64_t data_bytes = 0;
  bool write_cache = false;
  // A request that failed while this is false could not reach the namespace. Set by whoever watches its paths.
  std::shared_ptr<std::atomic<bool>> reachable;
  // It is to be used within the lease alone.
  std::shared_ptr<std::atomic<bool>> leased;
  bool operator==(const BlockDevice&) const = default;
};

// What a failure of a namespace's device is to whoever sent the request. A path and a namespace fail differently: what
// cannot be reached may come back. Whoever is kept out by a reservation was thrown out of it by a later session, unless
// it is registered again in a moment.
int32_t TranslateDeviceError(int32_t result, bool reachable);

// Until no DevicePort on it is left. EBUSY: one has requests under way for longer than `patience`, perhaps of a process
// that was killed: they hold its open file. What they write must not come after what is sent now.
Status AwaitNoPort(const std::string& path, std::chrono::milliseconds patience);

class DevicePort {
 public:
  // uring: outlives it. may_send: asked before each further step of a request; whoever submits one asks first.
  static Result<std::unique_ptr<DevicePort>> Open(const BlockDevice& device, std::span<std::byte> pool,
                                                  target::Uring* uring, std::function<bool()> may_send);
  ~DevicePort();  // nothing is under way
  DevicePort(const DevicePort&) = delete;
  DevicePort& operator=(const DevicePort&) = delete;

  // EINVAL: outside of the data area.
  Status Submit(const rdma::BlockCommand& command);
  // Adds what has ended, as BlockInitiator::Poll does; how many.
  size_t Poll(std::vector<rdma::BlockCompletion>* done);
  size_t in_flight() const { return in_flight_; }
  bool may_send() const { return may_send_(); }
  bool settled() const { return device_->settled() && backend_->settled(); }  // what was reaped was polled

 private:
  struct Request {
    uint64_t tag = 0;
    uint32_t length = 0;
  };
  DevicePort(std::span<std::byte> pool, std::function<bool()> may_send) : pool_(pool), may_send_(std::move(may_send)) {}

  const std::span<std::byte> pool_;
  const std::function<bool()> may_send_;
  int fd_ = -1;
  std::unique_ptr<target::UringBackend> device_;
  std::unique_ptr<target::PlainBackend> backend_;
  std::vector<Request> requests_;  // by cookie
  std::vector<uint32_t> free_;
  size_t in_flight_ = 0;
  std::array<rdma::BackendDone, 64> answers_;  // of Poll; kept, as looking costs less than making it
};

}  // namespace weft::agent
