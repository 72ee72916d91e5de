// SPDX-License-Identifier: MIT
#include "userland/target/floor_table.h"

#include <sys/uio.h>
#include <unistd.h>

#include <bit>
#include <cassert>
#include <cerrno>
#include <cstdlib>

#include "userland/target/label.h"

namespace weft::target {

static_assert(std::endian::native == std::endian::little, "the table is kept as it is on the device");

Result<std::unique_ptr<FloorTable>> FloorTable::Open(int fd, uint64_t offset, uint64_t bytes) {
  auto* floors = static_cast<uint32_t*>(aligned_alloc(kPageBytes, bytes));
  if (!floors) return Error(ENOMEM, "no {} bytes for the floors of places", bytes);
  std::unique_ptr<FloorTable> table(new FloorTable(fd, offset, bytes, floors));
  auto* at = reinterpret_cast<uint8_t*>(floors);
  for (uint64_t done = 0; done < bytes;) {
    ssize_t count = pread(fd, at + done, bytes - done, static_cast<off_t>(offset + done));
    if (count <= 0) return Status::Errno(count < 0 ? errno : EIO, "read the floors of places");
    done += static_cast<uint64_t>(count);
  }
  return table;
}

FloorTable::FloorTable(int fd, uint64_t offset, uint64_t bytes, uint32_t* floors)
    : fd_(fd), offset_(offset), bytes_(bytes), floors_(floors) {}

void FloorTable::Free::operator()(uint32_t* memory) const { free(memory); }

uint32_t FloorTable::floor(uint64_t place) const {
  assert(place < bytes_ / sizeof(uint32_t));
  return floors_[place];
}

Status FloorTable::Raise(uint64_t place, uint32_t version) {
  assert(version > floor(place));
  uint32_t before = floors_[place];
  floors_[place] = version;
  uint64_t page = place * sizeof(uint32_t) / kPageBytes * kPageBytes;
  iovec vector{reinterpret_cast<uint8_t*>(floors_.get()) + page, kPageBytes};
  auto at = static_cast<off_t>(offset_ + page);
  ssize_t count = pwritev2(fd_, &vector, 1, at, RWF_DSYNC);
  if (count == static_cast<ssize_t>(kPageBytes)) return Status::Ok();
  int error = count < 0 ? errno : EIO;
  // What is on the device now may be the one or the other; the command that asked is refused either way.
  floors_[place] = before;
  return Status::Errno(error, fmt::format("write the floor of place {}", place));
}

}  // namespace weft::target
