// SPDX-License-Identifier: MIT
#include "userland/channel/channel.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace weft::channel {
namespace {

Status AttachError(int err, const AttachOptions& options) {
  switch (err) {
    case EBUSY:
      return Error(EBUSY, "cluster \"{}\" is served by another weftd on this host", options.cluster);
    case EAGAIN:
      return Error(EAGAIN,
                   "cluster \"{}\": the buffers are still registered by a former weftd after {} s; "
                   "look for a weftd that cannot exit",
                   options.cluster, WEFT_ATTACH_WAIT_MS / 1000);
    case EPROTO:
      return Error(EPROTO, "weft.ko does not speak protocol {}.{}; install weft.ko and weftd of the same version",
                   WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR);
    case EINVAL:
      return Error(EINVAL, "weft.ko refused cluster \"{}\", queues {}, depth {}, pool of {} bytes; one is out of range",
                   options.cluster, options.queues, options.depth, options.pool_bytes);
    case ENOMEM:
      return Error(ENOMEM, "no memory for a buffer pool of {} bytes; set a smaller pool_bytes", options.pool_bytes);
    default:
      return Status::Errno(err, fmt::format("attaching to cluster \"{}\"", options.cluster));
  }
}

}  // namespace

Result<std::unique_ptr<Channel>> Channel::Attach(Device* device, const AttachOptions& options) {
  if (options.cluster.empty() || options.cluster.size() >= WEFT_CLUSTER_NAME_MAX) {
    return Error(EINVAL, "cluster name \"{}\" must have 1 to {} bytes", options.cluster, WEFT_CLUSTER_NAME_MAX - 1);
  }
  Result<int> fd = device->Open();
  if (!fd.ok()) return fd.status();
  std::unique_ptr<Channel> channel(new Channel(device, *fd));
  if (Status s = channel->DoAttach(options); !s.ok()) return s;
  if (Status s = channel->MapPool(); !s.ok()) return s;
  const weft_ioc_attach& granted = channel->attach_;
  for (uint32_t i = 0; i < options.queues; ++i) {
    auto queue = Queue::Open(device, *fd, i, granted.ring_bytes, granted.depth_granted);
    if (!queue.ok()) return queue.status();
    channel->queues_.push_back(*std::move(queue));
  }
  return channel;
}

Channel::~Channel() {
  queues_.clear();
  if (!pool_.empty()) device_->Unmap(pool_.data(), pool_.size());
  device_->Close(fd_);
}

Status Channel::DoAttach(const AttachOptions& options) {
  attach_.version_major = WEFT_VERSION_MAJOR;
  attach_.version_minor = WEFT_VERSION_MINOR;
  attach_.queues = options.queues;
  attach_.depth = options.depth;
  attach_.pool_bytes = options.pool_bytes;
  memcpy(attach_.cluster, options.cluster.data(), options.cluster.size());
  if (int err = device_->Ioctl(fd_, WEFT_IOC_ATTACH, &attach_); err < 0) return AttachError(-err, options);
  if (!std::has_single_bit(attach_.depth_granted) || attach_.depth_granted > WEFT_DEPTH_MAX ||
      attach_.pool_bytes_granted > WEFT_POOL_BYTES_MAX || attach_.epoch == 0) {
    return Error(EPROTO, "weft.ko granted depth {}, a pool of {} bytes and epoch {}: weft.ko and weftd differ",
                 attach_.depth_granted, attach_.pool_bytes_granted, attach_.epoch);
  }
  std::copy(std::begin(attach_.client), std::end(attach_.client), client_.begin());
  return {};
}

Status Channel::MapPool() {
  Result<void*> memory = device_->Map(fd_, WEFT_MMAP_POOL, attach_.pool_bytes_granted);
  if (!memory.ok()) return memory.status().Annotate("buffer pool");
  pool_ = {static_cast<std::byte*>(*memory), attach_.pool_bytes_granted};
  return {};
}

Status Channel::SetTargets(std::span<const weft_target_info> targets) {
  weft_ioc_targets args = {};
  args.targets = reinterpret_cast<uintptr_t>(targets.data());
  args.count = static_cast<uint32_t>(targets.size());
  int err = device_->Ioctl(fd_, WEFT_IOC_TARGETS, &args);
  if (err < 0) return Status::Errno(-err, fmt::format("telling the kernel about {} targets", targets.size()));
  return {};
}

Status Channel::SetChunks(std::span<const weft_chunk> chunks) {
  weft_ioc_chunks args = {};
  args.chunks = reinterpret_cast<uintptr_t>(chunks.data());
  args.count = static_cast<uint32_t>(chunks.size());
  int err = device_->Ioctl(fd_, WEFT_IOC_CHUNKS, &args);
  if (err < 0) return Status::Errno(-err, fmt::format("telling the kernel about {} chunks", chunks.size()));
  return {};
}

Status Channel::Settle() {
  int result = device_->Ioctl(fd_, WEFT_IOC_SETTLE, nullptr);
  return result < 0 ? Status::Errno(-result, "WEFT_IOC_SETTLE") : Status::Ok();
}

Status Channel::SetDevice(const weft_ioc_device& device) {
  weft_ioc_device args = device;
  int result = device_->Ioctl(fd_, WEFT_IOC_DEVICE, &args);
  return result < 0 ? Status::Errno(-result, fmt::format("WEFT_IOC_DEVICE for target {}", device.target))
                    : Status::Ok();
}

Status Channel::SetLease(int64_t until_ns) {
  weft_ioc_lease args = {};
  args.until_ns = static_cast<uint64_t>(until_ns);
  int result = device_->Ioctl(fd_, WEFT_IOC_LEASE, &args);
  return result < 0 ? Status::Errno(-result, "telling the kernel how long the lease lasts") : Status::Ok();
}

Status Channel::Ready() {
  int err = device_->Ioctl(fd_, WEFT_IOC_READY, nullptr);
  if (err < 0) return Status::Errno(-err, "telling the kernel that the agent is ready");
  return {};
}

}  // namespace weft::channel
