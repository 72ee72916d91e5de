// SPDX-License-Identifier: MIT
#include "tests/tools/weft_fsx/subject.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace weft::test {
namespace {

constexpr uint64_t kPageBytes = 4096;

int64_t OrErrno(int64_t result) { return result < 0 ? -errno : result; }

}  // namespace

Subject::Subject(std::string path, bool direct) : path_(std::move(path)), direct_(direct) {}
Subject::~Subject() { Close(); }

void Subject::Close() {
  for (int* fd : {&fd_, &append_fd_, &direct_fd_}) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
}

int Subject::Open(int extra_flags) {
  fd_ = open(path_.c_str(), O_RDWR | extra_flags, 0644);
  if (fd_ < 0) return -errno;
  append_fd_ = open(path_.c_str(), O_WRONLY | O_APPEND);
  if (append_fd_ < 0) return -errno;
  if (direct_) {
    direct_fd_ = open(path_.c_str(), O_RDWR | O_DIRECT);
    if (direct_fd_ < 0) return -errno;
  }
  return 0;
}

int Subject::Create() { return Open(O_CREAT | O_TRUNC); }

int Subject::Reopen() {
  Close();
  return Open(0);
}

int64_t Subject::Size() {
  struct stat st {};
  if (fstat(fd_, &st) != 0) return -errno;
  return st.st_size;
}

int64_t Subject::Read(uint64_t offset, std::span<uint8_t> bytes) {
  return OrErrno(pread(fd_, bytes.data(), bytes.size(), offset));
}

int64_t Subject::Write(uint64_t offset, std::span<const uint8_t> bytes) {
  return OrErrno(pwrite(fd_, bytes.data(), bytes.size(), offset));
}

int64_t Subject::Append(std::span<const uint8_t> bytes) {
  return OrErrno(write(append_fd_, bytes.data(), bytes.size()));
}

int64_t Subject::DirectRead(uint64_t offset, std::span<uint8_t> bytes) {
  return OrErrno(pread(direct_fd_, bytes.data(), bytes.size(), offset));
}

int64_t Subject::DirectWrite(uint64_t offset, std::span<const uint8_t> bytes) {
  return OrErrno(pwrite(direct_fd_, bytes.data(), bytes.size(), offset));
}

int Subject::MappedRead(uint64_t offset, std::span<uint8_t> bytes) {
  uint64_t start = offset & ~(kPageBytes - 1);
  uint64_t length = offset + bytes.size() - start;
  void* map = mmap(nullptr, length, PROT_READ, MAP_SHARED, fd_, start);
  if (map == MAP_FAILED) return -errno;
  memcpy(bytes.data(), static_cast<uint8_t*>(map) + (offset - start), bytes.size());
  munmap(map, length);
  return 0;
}

int Subject::MappedWrite(uint64_t offset, std::span<const uint8_t> bytes, int msync_flags) {
  uint64_t start = offset & ~(kPageBytes - 1);
  uint64_t length = offset + bytes.size() - start;
  void* map = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, start);
  if (map == MAP_FAILED) return -errno;
  memcpy(static_cast<uint8_t*>(map) + (offset - start), bytes.data(), bytes.size());
  int result = 0;
  if (msync_flags != 0 && msync(map, length, msync_flags) != 0) result = -errno;
  munmap(map, length);
  return result;
}

int64_t Subject::SpliceRead(uint64_t offset, std::span<uint8_t> bytes) {
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) return -errno;
  fcntl(pipe_fds[1], F_SETPIPE_SZ, 1 << 20);
  loff_t at = offset;
  int64_t total = 0;
  while (total < int64_t(bytes.size())) {
    int64_t n = OrErrno(splice(fd_, &at, pipe_fds[1], nullptr, bytes.size() - total, 0));
    if (n < 0) total = n;
    if (n <= 0) break;
    for (int64_t drained = 0; drained < n;) {
      ssize_t piece = read(pipe_fds[0], bytes.data() + total, n - drained);
      if (piece <= 0) break;
      drained += piece;
      total += piece;
    }
  }
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  return total;
}

int64_t Subject::CopyRange(uint64_t from, uint64_t to, uint64_t length) {
  loff_t in = from, out = to;
  return OrErrno(copy_file_range(fd_, &in, fd_, &out, length, 0));
}

int Subject::Truncate(uint64_t size) { return OrErrno(ftruncate(fd_, size)); }

int Subject::Allocate(int mode, uint64_t offset, uint64_t length) {
  return OrErrno(fallocate(fd_, mode, offset, length));
}

int Subject::Sync(bool data_only) { return OrErrno(data_only ? fdatasync(fd_) : fsync(fd_)); }

int Subject::ForgetPages() {
  int result = Sync(false);
  if (result != 0) return result;
  return -posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
}

int64_t Subject::Seek(uint64_t offset, int whence) { return OrErrno(lseek(fd_, offset, whence)); }

}  // namespace weft::test
