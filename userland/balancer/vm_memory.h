// SPDX-License-Identifier: MIT
//
// The memory of a BPF program in the simulator: regions of the host's memory at addresses of the program's own.
// Every access goes through At(), which knows no address but those of regions: a program cannot reach
// anything else, whatever it computes. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::balancer {

class VmMemory {
 public:
  enum Access { kRead, kWrite };

  // The program's address of `bytes`, which must stay where they are as long as this object lives. Between
  // two regions there are gigabytes of nothing; the first one does not begin at 0.
  uint64_t Map(std::span<std::byte> bytes, Access most = kWrite);

  // Null: not within one region that allows it.
  std::byte* At(uint64_t address, uint64_t size, Access access) const {
    uint64_t index = (address >> kRegionShift) - 1;
    uint64_t offset = address & (kRegionMax - 1);
    if (index >= regions_.size()) return nullptr;
    const Region& region = regions_[index];
    if (size > region.bytes.size() || offset > region.bytes.size() - size) return nullptr;
    if (access == kWrite && region.most == kRead) return nullptr;
    return region.bytes.data() + offset;
  }

 private:
  static constexpr int kRegionShift = 32;
  static constexpr uint64_t kRegionMax = uint64_t{1} << kRegionShift;

  struct Region {
    std::span<std::byte> bytes;
    Access most;
  };
  std::vector<Region> regions_;
};

}  // namespace weft::balancer
