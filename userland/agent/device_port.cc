// SPDX-License-Identifier: MIT
#include "userland/agent/device_port.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace weft::agent {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;

constexpr off_t kPortByte = 1;  // that ports lock
constexpr std::chrono::milliseconds kLookAgain{5};

int LockPortByte(int fd, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kPortByte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock);
}

BackendOp OpOf(rdma::BlockOp op) {
  switch (op) {
    case rdma::BlockOp::kRead:
      return BackendOp::kRead;
    case rdma::BlockOp::kWrite:
      return BackendOp::kWrite;
    case rdma::BlockOp::kDiscard:
      return BackendOp::kDiscard;
    case rdma::BlockOp::kWriteZeroes:
      return BackendOp::kWriteZeroes;
    default:
      return BackendOp::kFlush;
  }
}

}  // namespace

int32_t TranslateDeviceError(int32_t result, bool reachable) {
  if (result == -EBADE) return -ESTALE;
  bool path = result == -EIO || result == -ENODEV || result == -ENXIO || result == -ENOLINK || result == -ETIMEDOUT;
  return path && !reachable ? -EHOSTDOWN : result;
}

Status AwaitNoPort(const std::string& path, std::chrono::milliseconds patience) {
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, path);
  auto deadline = std::chrono::steady_clock::now() + patience;
  int error = 0;
  // The kernel takes a closed ring apart in the background, and a lock that is waited for knows no time limit.
  while ((error = LockPortByte(fd, F_WRLCK) == 0 ? 0 : errno) == EAGAIN &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kLookAgain);
  }
  Status status;
  if (error == EAGAIN) status = Error(EBUSY, "{}: requests of the agent before are still under way", path);
  if (error != 0 && error != EAGAIN) status = Status::Errno(error, fmt::format("lock {}", path));
  close(fd);
  return status;
}

Result<std::unique_ptr<DevicePort>> DevicePort::Open(const BlockDevice& device, std::span<std::byte> pool,
                                                     target::Uring* uring, std::function<bool()> may_send) {
  std::unique_ptr<DevicePort> port(new DevicePort(pool, may_send));
  port->fd_ = open(device.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  if (port->fd_ < 0) return Status::Errno(errno, device.path);
  if (LockPortByte(port->fd_, F_RDLCK) != 0) return Status::Errno(errno, fmt::format("lock {}", device.path));
  auto backend = target::UringBackend::Create(port->fd_, true, 0, device.data_offset + device.data_bytes, uring);
  if (!backend.ok()) return backend.status().Annotate(device.path);
  port->device_ = *std::move(backend);
  port->device_->SetMaySend(std::move(may_send));
  port->backend_ = std::make_unique<target::PlainBackend>(
      port->device_.get(), target::PlainOptions{.data_offset = device.data_offset,
                                                .capacity_bytes = device.data_bytes,
                                                .write_cache = device.write_cache,
                                                .translate = [device](int32_t result) {
                                                  return TranslateDeviceError(result, *device.reachable);
                                                }});
  return port;
}

DevicePort::~DevicePort() {
  backend_ = nullptr;
  device_ = nullptr;
  if (fd_ >= 0) close(fd_);
}

Status DevicePort::Submit(const rdma::BlockCommand& command) {
  uint64_t capacity = backend_->capacity_bytes();
  if (command.offset_bytes > capacity || command.length_bytes > capacity - command.offset_bytes) {
    return Error(EINVAL, "offset {} length {} is outside the data area of {} bytes", command.offset_bytes,
                 command.length_bytes, capacity);
  }
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(requests_.size()));
    requests_.emplace_back();
  }
  uint32_t cookie = free_.back();
  free_.pop_back();
  requests_[cookie] = {command.tag, command.length_bytes};
  ++in_flight_;
  backend_->Submit({.cookie = cookie,
                    .op = OpOf(command.op),
                    .durable = (command.flags & rdma::kBlockFua) != 0,
                    .offset_bytes = command.offset_bytes,
                    .length_bytes = command.length_bytes,
                    .data = reinterpret_cast<uint8_t*>(pool_.data()) + command.buffer_offset});
  return {};
}

size_t DevicePort::Poll(std::vector<rdma::BlockCompletion>* done) {
  if (in_flight_ == 0) return 0;
  size_t count = backend_->Poll(answers_);
  for (size_t i = 0; i < count; ++i) {
    auto cookie = static_cast<uint32_t>(answers_[i].cookie);
    const Request& request = requests_[cookie];
    int32_t result = answers_[i].result < 0 ? answers_[i].result : static_cast<int32_t>(request.length);
    done->push_back({.tag = request.tag, .result = result});
    free_.push_back(cookie);
  }
  in_flight_ -= count;
  return count;
}

}  // namespace weft::agent
