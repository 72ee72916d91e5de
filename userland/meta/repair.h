// SPDX-License-Identifier: MIT
//
// Blocks that failed their checksum: where they belong, and the REPAIR jobs that have them written anew from a copy
// that is good. The damage is a table of the store (Chunks); jobs follow from it. State machine thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "thrift-gen/AdminService.h"
#include "thrift-gen/TargetService.h"
#include "userland/meta/attempts.h"
#include "userland/meta/chunks.h"
#include "userland/meta/meter.h"
#include "userland/meta/planner.h"
#include "userland/meta/targets.h"

namespace weft {

inline constexpr size_t kRepairJobsPerTarget = 2;
inline constexpr size_t kBlocksPerItem = 4096;  // BLOCKS_PER_ITEM

class Repair {
 public:
  Repair(Chunks* chunks, Targets* targets, Attempts* attempts)
      : chunks_(chunks), targets_(targets), attempts_(attempts) {}

  // Something that the jobs follow from may have changed: damage, a chunk, a target.
  void OnChange() { changed_ = true; }
  // Several may be of one place.
  void OnReport(uint32_t target, const std::vector<idl::Damage>& damages);
  // Ignored when it is not, or no longer, a job.
  void OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms);

  void Plan(const Members& members, int64_t now_ms);
  int64_t deadline_ms() const;  // as Resync's

  void AppendJobs(uint32_t target, const Members& members, std::vector<idl::Job>* jobs) const;
  void AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const;

 private:
  using Place = std::pair<uint64_t, uint32_t>;  // chunk, target
  struct Order {
    uint32_t version = 0;
    int32_t attempt = 0;
    std::vector<uint32_t> blocks;  // rising, at least one
  };
  struct Failure {
    uint32_t version = 0;  // of the chunk: another one is worth another try
    int64_t retry_ms = 0;
  };

  void Report(uint64_t index, uint32_t target, const std::vector<int64_t>& blocks);
  Order OrderFor(const Place& place, uint32_t version, const std::set<uint32_t>& bad);

  Chunks* const chunks_;
  Targets* const targets_;
  Attempts* const attempts_;
  std::map<Place, Order> jobs_;
  std::map<Place, Failure> failures_;
  std::map<Place, uint32_t> after_;  // the last block that was tried, where there are more than one job takes
  std::set<Place> unreadable_;       // logged as such
  Meter meter_;
  bool changed_ = true;
};

}  // namespace weft
