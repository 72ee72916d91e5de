// SPDX-License-Identifier: MIT
//
// The operations of the checker: what each does to the file and to the model.
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "tests/tools/weft_fsx/checker.h"

namespace weft::test {
namespace {

struct AlignedBuffer {
  explicit AlignedBuffer(uint64_t bytes)
      : data(static_cast<uint8_t*>(aligned_alloc(kDirectAlignBytes, bytes)), free), size(bytes) {}
  std::span<uint8_t> span() { return {data.get(), size}; }
  std::unique_ptr<uint8_t, void (*)(void*)> data;
  uint64_t size;
};

constexpr uint64_t kPageBytes = 4096;

}  // namespace

void Checker::Read() {
  Range range = Anywhere();
  Note("read %#lx+%#lx", range.offset, range.length);
  std::vector<uint8_t> bytes(range.length);
  int64_t n = subject_.Read(range.offset, bytes);
  uint64_t want = range.offset >= model_.size() ? 0 : std::min(range.length, model_.size() - range.offset);
  ExpectCount(n, want);
  if (failure_.empty()) Compare(range.offset, bytes.data(), want);
}

void Checker::SpliceRead() {
  Range range = InsideFile();
  Note("splice %#lx+%#lx", range.offset, range.length);
  std::vector<uint8_t> bytes(range.length);
  int64_t n = subject_.SpliceRead(range.offset, bytes);
  ExpectCount(n, range.length);
  if (failure_.empty()) Compare(range.offset, bytes.data(), range.length);
}

void Checker::Write() {
  Range range = Anywhere();
  Note("write %#lx+%#lx", range.offset, range.length);
  auto bytes = RandomBytes(range.length);
  ExpectCount(subject_.Write(range.offset, bytes), range.length);
  ModelWrite(range.offset, bytes);
}

void Checker::Append() {
  uint64_t length = std::min(Length(), options_.size_max_bytes - model_.size());
  Note("append %#lx+%#lx", model_.size(), length);
  auto bytes = RandomBytes(length);
  ExpectCount(subject_.Append(bytes), length);
  ModelWrite(model_.size(), bytes);
}

void Checker::DirectRead() {
  Range range = AlignedRange();
  Note("dread %#lx+%#lx", range.offset, range.length);
  AlignedBuffer buffer(range.length);
  int64_t n = subject_.DirectRead(range.offset, buffer.span());
  uint64_t want = range.offset >= model_.size() ? 0 : std::min(range.length, model_.size() - range.offset);
  ExpectCount(n, want);
  if (failure_.empty()) Compare(range.offset, buffer.data.get(), want);
}

void Checker::DirectWrite() {
  Range range = AlignedRange();
  Note("dwrite %#lx+%#lx", range.offset, range.length);
  auto bytes = RandomBytes(range.length);
  AlignedBuffer buffer(range.length);
  memcpy(buffer.data.get(), bytes.data(), bytes.size());
  ExpectCount(subject_.DirectWrite(range.offset, buffer.span()), range.length);
  ModelWrite(range.offset, bytes);
}

void Checker::MappedRead() {
  if (model_.empty()) return;
  Range range = InsideFile();
  // Up to the end of the last page: what lies behind the end of file must read as zeroes.
  uint64_t end = range.offset + range.length;
  if (end == model_.size()) end = (end + kPageBytes - 1) & ~(kPageBytes - 1);
  Note("mread %#lx+%#lx", range.offset, end - range.offset);
  std::vector<uint8_t> bytes(end - range.offset);
  int result = subject_.MappedRead(range.offset, bytes);
  if (result != 0) return Fail("mmap: %s", strerror(-result));
  Compare(range.offset, bytes.data(), range.length);
  for (uint64_t i = range.length; i < bytes.size() && failure_.empty(); i++) {
    if (bytes[i] != 0) Fail("byte %#lx behind the end of file reads %#x in a mapping", range.offset + i, bytes[i]);
  }
}

void Checker::MappedWrite() {
  if (model_.empty()) return;
  Range range = InsideFile();
  constexpr int kFlags[] = {0, 0, MS_SYNC, MS_ASYNC};
  int flags = kFlags[Below(4)];
  Note("mwrite %#lx+%#lx msync %d", range.offset, range.length, flags);
  auto bytes = RandomBytes(range.length);
  int result = subject_.MappedWrite(range.offset, bytes, flags);
  if (result != 0) return Fail("mmap or msync: %s", strerror(-result));
  ModelWrite(range.offset, bytes);
}

void Checker::CopyRange() {
  if (model_.size() < 2) return;
  Range from = InsideFile();
  uint64_t to = Below(options_.size_max_bytes - from.length);
  if (OneIn(2)) {
    from.offset &= ~(kPageBytes - 1);
    to &= ~(kPageBytes - 1);
  }
  // One call must not overlap itself.
  if (to < from.offset + from.length && from.offset < to + from.length) return;
  Note("copy %#lx+%#lx to %#lx", from.offset, from.length, to);
  int64_t n = subject_.CopyRange(from.offset, to, from.length);
  if (Unsupported(n)) return;
  if (n <= 0 || n > int64_t(from.length)) return Fail("copy_file_range gave %ld", n);
  std::vector<uint8_t> bytes(model_.begin() + from.offset, model_.begin() + from.offset + n);
  ModelWrite(to, bytes);
}

void Checker::Truncate() {
  uint64_t size = OneIn(4) ? Below(options_.size_max_bytes) : Below(model_.size() + model_.size() / 4 + 10000);
  size = std::min(size, options_.size_max_bytes);
  if (OneIn(3)) size &= ~(kPageBytes - 1);
  Note("truncate %#lx to %#lx", model_.size(), size);
  int result = subject_.Truncate(size);
  if (result != 0) return Fail("ftruncate: %s", strerror(-result));
  model_.resize(size);
}

void Checker::Preallocate() {
  Range range = Anywhere();
  bool keep = OneIn(2);
  Note("fallocate %#lx+%#lx%s", range.offset, range.length, keep ? " keep size" : "");
  int result = subject_.Allocate(keep ? FALLOC_FL_KEEP_SIZE : 0, range.offset, range.length);
  if (Unsupported(result)) return;
  if (result != 0) return Fail("fallocate: %s", strerror(-result));
  if (!keep && range.offset + range.length > model_.size()) model_.resize(range.offset + range.length);
}

void Checker::PunchHole() {
  Range range = Anywhere();
  if (OneIn(2)) range.offset &= ~(kPageBytes - 1);
  Note("punch %#lx+%#lx", range.offset, range.length);
  int result = subject_.Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range.offset, range.length);
  if (Unsupported(result)) return;
  if (result != 0) return Fail("punch hole: %s", strerror(-result));
  ModelZero(range.offset, range.length);
}

void Checker::ZeroRange() {
  Range range = Anywhere();
  bool keep = OneIn(2);
  Note("zero %#lx+%#lx%s", range.offset, range.length, keep ? " keep size" : "");
  int result = subject_.Allocate(FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), range.offset, range.length);
  if (Unsupported(result)) return;
  if (result != 0) return Fail("zero range: %s", strerror(-result));
  if (!keep && range.offset + range.length > model_.size()) model_.resize(range.offset + range.length);
  ModelZero(range.offset, range.length);
}

void Checker::Sync() {
  bool data_only = OneIn(2);
  Note("%s", data_only ? "fdatasync" : "fsync");
  int result = subject_.Sync(data_only);
  if (result != 0) Fail("%s", strerror(-result));
}

void Checker::Reopen() {
  Note("close and open");
  int result = subject_.Reopen();
  if (result != 0) Fail("%s", strerror(-result));
}

void Checker::ForgetPages() {
  Note("fsync and forget pages");
  int result = subject_.ForgetPages();
  if (result != 0) Fail("%s", strerror(-result));
}

void Checker::DropCaches() {
  Note("drop caches");
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (fd < 0 || write(fd, "3", 1) != 1) Fail("/proc/sys/vm/drop_caches: %s", strerror(errno));
  if (fd >= 0) close(fd);
}

void Checker::WalkHoles() {
  Note("walk holes");
  uint64_t at = 0;
  while (at < model_.size() && failure_.empty()) {
    int64_t data = subject_.Seek(at, SEEK_DATA);
    if (data < 0 && data != -ENXIO) return Fail("SEEK_DATA from %#lx: %s", at, strerror(-data));
    uint64_t hole_end = data == -ENXIO ? model_.size() : uint64_t(data);
    if (hole_end < at || hole_end > model_.size()) return Fail("SEEK_DATA from %#lx gave %#lx", at, hole_end);
    for (uint64_t i = at; i < hole_end; i++) {
      if (model_[i] != 0) return Fail("byte %#lx is in a hole (%#lx..%#lx) but was written", i, at, hole_end);
    }
    if (data == -ENXIO) return;
    int64_t hole = subject_.Seek(data, SEEK_HOLE);
    // Equal: the pages that made a preallocated range look like data were dropped in between.
    if (hole < data || hole > int64_t(model_.size())) return Fail("SEEK_HOLE from data at %#lx gave %ld", data, hole);
    at = hole == data ? (uint64_t(data) / kPageBytes + 1) * kPageBytes : uint64_t(hole);
  }
  int64_t behind = subject_.Seek(model_.size(), SEEK_DATA);
  if (behind != -ENXIO) Fail("SEEK_DATA at the end of file gave %ld, not ENXIO", behind);
}

}  // namespace weft::test
