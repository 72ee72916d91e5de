// SPDX-License-Identifier: MIT
#include "userland/channel/device.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace weft::channel {
namespace {

constexpr char kPath[] = "/dev/weft";

class SystemDevice : public Device {
 public:
  Result<int> Open() override {
    int fd = open(kPath, O_RDWR | O_CLOEXEC);
    if (fd >= 0) return fd;
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
      return Error(errno, "{} is absent: load the kernel module first (modprobe weft, or insmod weft.ko)", kPath);
    }
    return Status::Errno(errno, kPath);
  }

  int Ioctl(int fd, unsigned long request, void* argument) override {
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
  }

  Result<void*> Map(int fd, uint64_t offset_bytes, size_t bytes) override {
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset_bytes));
    if (address == MAP_FAILED) return Status::Errno(errno, fmt::format("mmap of {} bytes of {}", bytes, kPath));
    return address;
  }

  void Unmap(void* address, size_t bytes) override { munmap(address, bytes); }
  void Close(int fd) override { close(fd); }
};

}  // namespace

Device* RealDevice() {
  static SystemDevice device;
  return &device;
}

}  // namespace weft::channel
