// SPDX-License-Identifier: MIT
//
// The order of requests that touch the same bytes: one that writes comes after all that came before it, one that
// reads after those that write. Requests that do not meet do not wait for each other, and as everyone waits for
// earlier ones only, nobody waits for ever. Engine thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::target {

class RangeOrder {
 public:
  explicit RangeOrder(uint64_t capacity_bytes);

  // id: small, the caller's, of nothing that is in here. False: Remove of another one will name it.
  bool Add(uint32_t id, uint64_t offset, uint64_t length, bool writes);
  // It has ended. Appends those that may go now.
  void Remove(uint32_t id, std::vector<uint32_t>* ready);
  size_t waiting() const { return waiting_; }

 private:
  struct Entry {
    uint64_t offset = 0;
    uint64_t end = 0;
    bool writes = false;
    uint32_t blockers = 0;
    uint64_t asked = 0;                // the last Add that looked at it
    std::vector<uint32_t> dependents;  // that it blocks
  };

  std::vector<Entry> entries_;                  // by id
  std::vector<std::vector<uint32_t>> regions_;  // ids, by region of the data area
  uint64_t adds_ = 0;
  size_t waiting_ = 0;
};

}  // namespace weft::target
