// SPDX-License-Identifier: MIT
#include "nvmeof/kernel_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace weft::nvmeof {
namespace {

constexpr size_t kRecordBytesMax = 8192;  // the kernel's limit of a record of /dev/kmsg, with its keys
constexpr size_t kMessagesMax = 1000;     // a kernel that logs faster than this reads must not keep it

}  // namespace

KernelLog::KernelLog(const char* device) : fd_(open(device, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_ < 0 || lseek(fd_, 0, SEEK_END) >= 0) return;
  close(fd_);
  fd_ = -1;
}

KernelLog::~KernelLog() {
  if (fd_ >= 0) close(fd_);
}

std::vector<std::string> KernelLog::Take() {
  std::vector<std::string> messages;
  std::array<char, kRecordBytesMax> record;
  while (readable() && messages.size() < kMessagesMax) {
    ssize_t n = read(fd_, record.data(), record.size());
    if (n < 0 && (errno == EPIPE || errno == EINTR)) continue;  // EPIPE: records were lost, the next one is there
    if (n <= 0) break;
    messages.emplace_back(MessageOf({record.data(), static_cast<size_t>(n)}));
  }
  return messages;
}

std::string_view MessageOf(std::string_view record) {
  size_t semicolon = record.find(';');
  if (semicolon == std::string_view::npos) return {};
  std::string_view message = record.substr(semicolon + 1);
  return message.substr(0, message.find('\n'));
}

}  // namespace weft::nvmeof
