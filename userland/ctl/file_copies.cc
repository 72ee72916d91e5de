// SPDX-License-Identifier: MIT
#include "userland/ctl/file_copies.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "kmod/uapi/weft.h"

namespace weft::ctl {
namespace {

Status Call(const std::string& path, unsigned long request, uint32_t* copies) {
  // Not blocking: a FIFO would wait for a writer.
  int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, path);
  int error = ioctl(fd, request, copies) == 0 ? 0 : errno;
  close(fd);
  if (error == ENOTTY) return Error(ENOTTY, "{}: not a file or directory of a weft file system", path);
  if (error == EPERM || error == EACCES) {
    return Error(error, "{}: only its owner and root may set its copies", path);
  }
  return error == 0 ? Status::Ok() : Status::Errno(error, path);
}

}  // namespace

Result<uint32_t> GetFileCopies(const std::string& path) {
  uint32_t copies = 0;
  if (Status s = Call(path, WEFT_IOC_GET_COPIES, &copies); !s.ok()) return s;
  return copies;
}

Status SetFileCopies(const std::string& path, uint32_t copies) { return Call(path, WEFT_IOC_SET_COPIES, &copies); }

}  // namespace weft::ctl
