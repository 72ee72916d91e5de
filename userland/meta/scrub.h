// SPDX-License-Identifier: MIT
//
// The background scrub: walks all chunks in order, a few at a time, and has every copy in sync verified by its
// target; the first copy's target (the lead) also compares its checksums with those of the others. Copies that
// differ become stale, and are made equal by Resync. A chunk with a copy in sync that could not be verified, for its
// target is down or the job failed, is visited again; until then the scrub has not ended. How far it is stands in the
// store: after a restart it goes on there. State machine thread.
#pragma once

#include <cstdint>
#include <deque>
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

inline constexpr uint32_t kScrubJobsPerTarget = 2;

class Scrub {
 public:
  Scrub(Tables* tables, Chunks* chunks, Targets* targets, Attempts* attempts)
      : tables_(tables), chunks_(chunks), targets_(targets), attempts_(attempts) {}

  void Load();
  void OnFormed(int64_t now_s);
  void Start(int64_t now_s);
  void Stop();

  void OnChunk(uint64_t index, const Members& members);
  void OnTarget(uint32_t id, const Members& members, int64_t now_ms);
  // Ignored when it is not, or no longer, a job.
  void OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms);

  void Plan(const Members& members, int64_t now_ms, int64_t now_s);
  // When Plan has something to do without anything else happening; INT64_MAX: never.
  int64_t deadline_ms(int64_t now_ms, int64_t now_s) const;

  void AppendJobs(uint32_t target, const Members& members, std::vector<idl::Job>* jobs) const;
  void AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const;
  int64_t ended_s() const { return record_.ended_s; }

 private:
  struct Running {
    uint32_t version = 0;
    int32_t attempt = 0;
    uint32_t lead = 0;
    std::set<uint32_t> pending;  // targets that have not answered
    bool missed = false;         // a copy in sync was not verified
    bool failed = false;         // as a job failed
    int tries = 0;
  };
  using RunningAt = std::map<uint64_t, Running>::iterator;

  // Has the copies verified whose targets are up. False: there are none.
  bool Begin(uint64_t index, const Chunk& chunk, const Members& members, int tries);
  // Calls it off.
  void Drop(RunningAt running);
  // All targets have answered, or are down.
  void End(RunningAt running, int64_t now_ms);
  // It is visited (again) when a target or the chunk changes.
  void Miss(uint64_t index, int tries) { missed_[index] = tries; }
  void Visited(uint64_t index, bool skipped);
  // Missed ones whose turn it is.
  void Revisit(const Members& members, int64_t now_ms);
  void OnMismatches(uint64_t index, uint32_t lead, const idl::JobResult& result);
  // No target of the chunk has as many scrub jobs as it may have.
  bool HasTurn(const Chunk& chunk) const;
  void Advance(const Members& members, int64_t now_ms, int64_t now_s);
  void Save();

  Tables* const tables_;
  Chunks* const chunks_;
  Targets* const targets_;
  Attempts* const attempts_;
  ScrubRecord record_;
  ScrubRecord stored_;
  uint64_t next_ = 0;  // chunk to begin next
  std::map<uint64_t, Running> running_;
  std::map<uint32_t, uint32_t> busy_;               // jobs by target
  std::map<uint64_t, int> missed_;                  // -> tries that failed
  std::set<uint64_t> due_;                          // of them: something has changed
  std::deque<std::pair<int64_t, uint64_t>> later_;  // of them: when to try again after a failure
  uint64_t done_ = 0;                               // chunks
  uint64_t skipped_ = 0;
  Meter meter_;
};

}  // namespace weft
