// SPDX-License-Identifier: MIT
//
// What the kernel logs from one moment on. The NVMe host returns one errno for several causes and says in its log
// which one it was (connect_error.h). One thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft::nvmeof {

class KernelLog {
 public:
  explicit KernelLog(const char* device = "/dev/kmsg");  // from now on
  ~KernelLog();
  KernelLog(const KernelLog&) = delete;
  KernelLog& operator=(const KernelLog&) = delete;

  bool readable() const { return fd_ >= 0; }  // not so in most containers
  // The messages since it was made, or since the last call: "nvme nvme0: failed to connect socket: -111".
  std::vector<std::string> Take();

 private:
  int fd_;
};

// Of a record of /dev/kmsg, "PRIORITY,SEQUENCE,TIME,FLAGS;MESSAGE\n KEY=VALUE\n...".
std::string_view MessageOf(std::string_view record);

}  // namespace weft::nvmeof
