// SPDX-License-Identifier: MIT
//
// A file descriptor that is closed with its owner. Negative: there is none.
#pragma once

#include <unistd.h>

namespace weft {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace weft
