// SPDX-License-Identifier: MIT
//
// The file under test, opened in the three ways that applications use at once: buffered, appending and
// O_DIRECT. Every call gives 0 or a positive count, or a negative errno. Used by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace weft::test {

inline constexpr uint64_t kDirectAlignBytes = 4096;

class Subject {
 public:
  explicit Subject(std::string path, bool direct);
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  int Create();
  int Reopen();
  int64_t Size();

  int64_t Read(uint64_t offset, std::span<uint8_t> bytes);
  int64_t Write(uint64_t offset, std::span<const uint8_t> bytes);
  int64_t Append(std::span<const uint8_t> bytes);
  int64_t DirectRead(uint64_t offset, std::span<uint8_t> bytes);  // aligned, also in memory
  int64_t DirectWrite(uint64_t offset, std::span<const uint8_t> bytes);
  // Reads through a mapping to the end of the last page: what lies behind the end of file comes too.
  int MappedRead(uint64_t offset, std::span<uint8_t> bytes);
  int MappedWrite(uint64_t offset, std::span<const uint8_t> bytes, int msync_flags);
  int64_t SpliceRead(uint64_t offset, std::span<uint8_t> bytes);
  int64_t CopyRange(uint64_t from, uint64_t to, uint64_t length);
  int Truncate(uint64_t size);
  int Allocate(int mode, uint64_t offset, uint64_t length);
  int Sync(bool data_only);
  int ForgetPages();                          // of this file, after writing them back
  int64_t Seek(uint64_t offset, int whence);  // SEEK_DATA, SEEK_HOLE

 private:
  int Open(int extra_flags);
  void Close();

  const std::string path_;
  const bool direct_;
  int fd_ = -1;
  int append_fd_ = -1;
  int direct_fd_ = -1;
};

}  // namespace weft::test
