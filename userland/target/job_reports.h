// SPDX-License-Identifier: MIT
//
// What the metadata server has to hear of jobs and of damage: filled by the engine thread, emptied by JobLink's.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "thrift-gen/admin_constants.h"
#include "thrift-gen/admin_types.h"

namespace weft::target {

// Blocks that one result, mismatch or item of damage names at most.
inline size_t BlocksPerItem() { return static_cast<size_t>(idl::g_admin_constants.BLOCKS_PER_ITEM); }

class JobReports {
 public:
  // Of damaged blocks so many wait to be told; of more only the log tells. They are found again by the next scrub, or
  // by whoever reads them ten minutes later (ChecksummedBackend::OnDamage).
  static constexpr size_t kDamageMax = 1 << 20;

  struct Batch {
    std::vector<idl::JobResult> results;
    std::set<uint64_t> damage;  // offsets of blocks in the data area
    bool empty() const { return results.empty() && damage.empty(); }
  };

  void AddResult(idl::JobResult result);
  void AddDamage(std::span<const uint64_t> offsets);

  // Waits for something to tell; empty after Stop.
  Batch Take();
  void GiveBack(Batch batch);  // could not be told now
  void Stop();                 // Take returns at once from now on

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Batch batch_;  // under mutex_, like all below
  bool stop_ = false;
  bool full_ = false;  // has been logged
};

}  // namespace weft::target
