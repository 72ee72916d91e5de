// SPDX-License-Identifier: MIT
//
// The agent's end of /dev/weft for one cluster: attachment, buffer pool and queues. The kernel owns the
// memory; it stays mapped as long as this object. Attach and Ready are for the thread that starts the
// agent; what tells the kernel something may be called from any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kmod/uapi/weft.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"
#include "userland/channel/device.h"
#include "userland/channel/queue.h"

namespace weft::channel {

struct AttachOptions {
  std::string cluster;
  uint32_t queues = 1;
  uint32_t depth = 0;       // 0: the kernel's choice
  uint64_t pool_bytes = 0;  // 0: the kernel's choice
};

class Channel {
 public:
  // EBUSY: another agent serves the cluster. EAGAIN: the pages of a dead agent are still registered.
  // ENOENT: no weft.ko. Each message says what to do.
  static Result<std::unique_ptr<Channel>> Attach(Device* device, const AttachOptions& options);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  uint32_t epoch() const { return attach_.epoch; }
  uint32_t depth() const { return attach_.depth_granted; }
  uint64_t session() const { return attach_.session; }  // of the mount, at the time of Attach; 0: not mounted
  const Uuid& client() const { return client_; }
  std::span<std::byte> pool() const { return pool_; }
  size_t queue_count() const { return queues_.size(); }
  Queue* queue(size_t index) const { return queues_[index].get(); }

  Status SetTargets(std::span<const weft_target_info> targets);
  // At most WEFT_CHUNKS_PER_CALL. Any thread.
  Status SetChunks(std::span<const weft_chunk> chunks);
  // Returns when no request that went by an older map than those of SetChunks is under way. EAGAIN: that takes
  // longer than WEFT_SETTLE_WAIT_MS, ask again.
  Status Settle();
  // The kernel uses the target's block device itself (fd -1: no longer).
  Status SetDevice(const weft_ioc_device& device);
  // CLOCK_BOOTTIME; see weft_ioc_lease.
  Status SetLease(int64_t until_ns);
  Status Ready();  // from here on requests flow

 private:
  Channel(Device* device, int fd) : device_(device), fd_(fd) {}
  Status DoAttach(const AttachOptions& options);
  Status MapPool();

  Device* const device_;
  const int fd_;  // control
  weft_ioc_attach attach_ = {};
  Uuid client_ = {};
  std::span<std::byte> pool_;
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace weft::channel
