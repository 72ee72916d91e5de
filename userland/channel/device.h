// SPDX-License-Identifier: MIT
//
// The system calls that reach /dev/weft, behind a seam: RealDevice() for programs, FakeKernel
// (fake_kernel.h) for unit tests. Stateless; use from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "userland/base/status.h"

namespace weft::channel {

class Device {
 public:
  virtual ~Device() = default;
  virtual Result<int> Open() = 0;                                              // a new file descriptor, close-on-exec
  virtual int Ioctl(int fd, unsigned long request, void* argument) = 0;        // >= 0, or -errno
  virtual Result<void*> Map(int fd, uint64_t offset_bytes, size_t bytes) = 0;  // shared, read-write
  virtual void Unmap(void* address, size_t bytes) = 0;
  virtual void Close(int fd) = 0;
};

// Lives as long as the program.
Device* RealDevice();

}  // namespace weft::channel
