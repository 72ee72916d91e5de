// SPDX-License-Identifier: MIT
//
// The checksums of all blocks of a target's data area, in memory: a thousandth of its capacity (a page of zeroes
// that nobody touches costs nothing). Their form is that of the checksum area (label.h), so a page of it is written
// from here. Engine thread.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <span>
#include <vector>

#include "userland/target/label.h"

namespace weft::target {

inline constexpr uint32_t kSumUnknown = 0;
inline constexpr uint32_t kSumBad = 2;
inline constexpr uint64_t kSumsPerPage = kPageBytes / sizeof(uint32_t);

// What stands for a block of 4 KiB with these contents: neither of the two above.
uint32_t SumOf(const uint8_t* block);

class ChecksumTable {
 public:
  explicit ChecksumTable(uint64_t capacity_bytes);
  ~ChecksumTable();
  ChecksumTable(const ChecksumTable&) = delete;
  ChecksumTable& operator=(const ChecksumTable&) = delete;

  bool ok() const { return sums_ != MAP_FAILED; }
  uint64_t blocks() const { return blocks_; }
  uint64_t regions() const { return pages_; }
  // Of `length` bytes from `offset` of the data area on, both multiples of 4096.
  std::span<uint32_t> Of(uint64_t offset, uint64_t length);
  uint8_t* page(uint64_t region) { return static_cast<uint8_t*>(sums_) + region * kPageBytes; }
  // Takes over a page that was read. in_doubt: only what it says of bad blocks is believed.
  void Load(uint64_t region, const uint8_t* page, bool in_doubt);

 private:
  uint64_t blocks_;
  uint64_t pages_;
  void* sums_;
};

}  // namespace weft::target
