// SPDX-License-Identifier: MIT
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "tests/kmod/mounted.h"

namespace weft::kmod_test {
namespace {

constexpr uint64_t kTwoChunks = ((1u << kGrantedChunks) - 1) << kFileChunks;
constexpr uint64_t kOneChunks = kTwoChunks << kGrantedChunks;

class OpenFile {
 public:
  explicit OpenFile(const std::string& name, int flags = O_RDWR)
      : fd_(open(Mounted::Path(name).c_str(), flags | O_CLOEXEC)) {
    CHECK(fd_ >= 0);
  }
  ~OpenFile() { close(fd_); }
  int fd() const { return fd_; }
  bool Write(uint64_t offset, size_t bytes) {
    return pwrite(fd_, Pattern(bytes, 1).get(), bytes, offset) == static_cast<ssize_t>(bytes);
  }

 private:
  const int fd_;
};

void GrantsByClass() {
  Mounted m;
  OpenFile two("two"), one("one");
  CHECK(two.Write(0, 8192));  // less than its window
  CHECK(one.Write(0, 65536));
  CHECK_EQ(fsync(two.fd()), 0);
  CHECK_EQ(fsync(one.fd()), 0);
  CHECK(m.world()->committed[kTwoIno] && !(m.world()->committed[kTwoIno] & ~kTwoChunks));
  CHECK(m.world()->committed[kOneIno] && !(m.world()->committed[kOneIno] & ~kOneChunks));
  CHECK_EQ(m.world()->opened, 0u);  // the grants did it
  CHECK(m.world()->granted[0] > 0 && m.world()->granted[1] > 0);

  uint32_t copies = 1;  // the next data of `two` goes to the other class, window or not
  CHECK_EQ(ioctl(two.fd(), WEFT_IOC_SET_COPIES, &copies), 0);
  m.world()->committed[kTwoIno] = 0;
  CHECK(two.Write(8192, 8192));
  CHECK_EQ(fsync(two.fd()), 0);
  CHECK(m.world()->committed[kTwoIno] & kOneChunks);
}

// One class is full, the other one is not.
void FullByClass() {
  Mounted m;
  OpenFile two("two"), one("one");
  CHECK(two.Write(0, 4096));
  uint64_t written = 0;
  while (written <= kFileBytes && one.Write(written, 65536)) written += 65536;
  CHECK_EQ(errno, ENOSPC);
  CHECK(written > (kGrantedChunks - 1) * uint64_t{kChunkBytes});
  CHECK(m.world()->released > 0);  // what two copies had idle did not help
  CHECK(two.Write(4096, 65536));
  CHECK_EQ(ftruncate(one.fd(), 0), 0);
  CHECK(one.Write(0, 65536));  // what was never committed is there again
  CHECK_EQ(fsync(one.fd()), 0);
  CHECK_EQ(fsync(two.fd()), 0);
}

// RELEASE was executed although it failed: what it named belongs to the server.
void ReleaseInDoubt() {
  Mounted m;
  OpenFile two("two"), one("one");
  CHECK(two.Write(0, 4096));
  m.world()->release_error = EIO;
  uint64_t written = 0;
  while (written <= kFileBytes && one.Write(written, 65536)) written += 65536;
  CHECK_EQ(errno, ENOSPC);
  CHECK(m.world()->released > 0);
  uint64_t granted = m.world()->granted[0];
  CHECK(two.Write(4096, 65536));
  CHECK(m.world()->granted[0] > granted);
  CHECK_EQ(fsync(two.fd()), 0);  // the agent looks whether it was granted
}

int CopiesOf(int fd) {
  uint32_t copies = 0;
  CHECK_EQ(ioctl(fd, WEFT_IOC_GET_COPIES, &copies), 0);
  return static_cast<int>(copies);
}

void Copies() {
  Mounted m;
  OpenFile file("one");
  OpenFile directory("", O_RDONLY | O_DIRECTORY);
  CHECK_EQ(CopiesOf(file.fd()), 1);
  CHECK_EQ(CopiesOf(directory.fd()), 2);
  for (uint32_t copies : {4u, 1u}) {
    for (int fd : {file.fd(), directory.fd()}) {
      CHECK_EQ(ioctl(fd, WEFT_IOC_SET_COPIES, &copies), 0);
      CHECK_EQ(CopiesOf(fd), static_cast<int>(copies));
    }
    CHECK_EQ(m.world()->copies[kOneIno], copies);
    CHECK_EQ(m.world()->copies[kRootIno], copies);
  }
  for (uint32_t copies : {0u, 5u, ~0u}) {
    CHECK_EQ(ioctl(file.fd(), WEFT_IOC_SET_COPIES, &copies), -1);
    CHECK_EQ(errno, EINVAL);
  }
  CHECK_EQ(ioctl(file.fd(), WEFT_IOC_SET_COPIES, nullptr), -1);
  CHECK_EQ(errno, EFAULT);
  CHECK_EQ(ioctl(file.fd(), WEFT_IOC_GET_COPIES, nullptr), -1);
  CHECK_EQ(errno, EFAULT);
  CHECK_EQ(ioctl(file.fd(), 0x5799, nullptr), -1);
  CHECK_EQ(errno, ENOTTY);

  pid_t child = fork();
  if (child == 0) {
    uint32_t copies = 3;
    if (setuid(65534)) _exit(99);
    _exit(ioctl(file.fd(), WEFT_IOC_SET_COPIES, &copies) ? errno : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_EQ(WEXITSTATUS(status), EPERM);
  CHECK_EQ(m.world()->copies[kOneIno], 1u);
}

}  // namespace

std::vector<Case> SpaceCases() {
  return {{"grants_by_class", GrantsByClass},
          {"full_by_class", FullByClass},
          {"release_in_doubt", ReleaseInDoubt},
          {"copies", Copies}};
}

}  // namespace weft::kmod_test
