// SPDX-License-Identifier: MIT
//
// The blocks whose checksums are in doubt since an unclean stop: the device holds something, and nobody knows yet what
// its checksum is. Each is settled once: by a read that finds it out, or by whatever replaces its contents. Engine
// thread.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>

#include "userland/target/checksum_table.h"

namespace weft::target {

class BlockDoubt {
 public:
  using RegionCallback = std::function<void(uint64_t region)>;

  // sums: of the region's blocks. Those that are unknown are in doubt. False: there are none.
  bool Add(uint64_t region, std::span<const uint32_t> sums);
  bool empty() const { return regions_.empty(); }
  size_t regions() const { return regions_.size(); }
  bool Has(uint64_t block_offset) const;
  // The blocks of a range of the data area are settled; `settled` is called for regions in which nothing is in doubt
  // any more.
  void Settle(uint64_t offset, uint64_t length, const RegionCallback& settled);
  // A run of blocks in doubt, at most length_max bytes; the next call goes on behind it. False: there is none.
  bool Next(uint64_t length_max, uint64_t* offset, uint64_t* length);

 private:
  using Blocks = std::bitset<kSumsPerPage>;
  std::map<uint64_t, Blocks> regions_;  // by number
  uint64_t cursor_ = 0;                 // offset
};

}  // namespace weft::target
