// SPDX-License-Identifier: MIT
#include "userland/balancer/vm_memory.h"

#include <cassert>

namespace weft::balancer {

uint64_t VmMemory::Map(std::span<std::byte> bytes, Access most) {
  assert(bytes.size() < kRegionMax);
  regions_.push_back({bytes, most});
  return static_cast<uint64_t>(regions_.size()) << kRegionShift;
}

}  // namespace weft::balancer
