// SPDX-License-Identifier: MIT
//
// How the pool is looked after in the background: Resync (copies), Repair (bad blocks), Scrub, and the places that
// targets have to let go of. Told of what happened to targets and chunks, it decides once in a batch, before the
// commit; targets fetch the resulting lists of jobs. State machine thread.
//
// Lists are declarative: all that a target is to work at now, each job named by (kind, chunk, version, attempt).
// Whatever crashes, the list follows from the store. Of COPY the attempt is 0: one that ends leaves the chunk with
// another version, and it goes on when the server is started again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "userland/meta/attempts.h"
#include "userland/meta/repair.h"
#include "userland/meta/resync.h"
#include "userland/meta/scrub.h"

namespace weft {

inline constexpr size_t kReleaseJobsPerTarget = 64;  // in one list

class Upkeep {
 public:
  // begin_operation: what changes from now on is not part of an operation that could be taken back.
  // settled: no client has a request of an older version of the map under way. Copies on NVMe-oF targets, which would
  // not refuse it, are not made or let go of before.
  Upkeep(Tables* tables, Chunks* chunks, Space* space, Targets* targets, std::function<void()> begin_operation,
         std::function<uint32_t()> settled)
      : chunks_(chunks),
        targets_(targets),
        begin_operation_(std::move(begin_operation)),
        settled_(std::move(settled)),
        resync_(tables, chunks, space, targets),
        repair_(chunks, targets, &attempts_),
        scrub_(tables, chunks, targets, &attempts_) {}

  // starts: how often this store has been opened.
  void Load(int64_t now_ms, uint64_t starts);
  // Acts on what has happened since the last call.
  void Run(int64_t now_ms, int64_t now_s);
  // When Run has something to do without anything else happening; INT64_MAX: never.
  int64_t deadline_ms() const { return deadline_ms_; }

  // What targets say; the caller knows that they are members.
  void OnProgress(uint32_t target, const std::vector<idl::JobProgress>& jobs, int64_t now_ms);
  void OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms);
  void OnDamage(uint32_t target, const std::vector<idl::Damage>& damages) { repair_.OnReport(target, damages); }

  void OnSettled();  // what `settled` says has changed

  void SetRebalancing(bool on) { resync_.SetRebalancing(on); }
  void StartScrub(int64_t now_s) { scrub_.Start(now_s); }
  void StopScrub() { scrub_.Stop(); }
  // The pool was formed: as if it had been scrubbed.
  void OnFormed(int64_t now_s) { scrub_.OnFormed(now_s); }
  int64_t scrubbed_s() const { return scrub_.ended_s(); }

  std::vector<idl::Job> JobsOf(uint32_t target) const;
  std::vector<idl::TaskInfo> Tasks(int64_t now_ms) const;
  Members CurrentMembers() const { return resync_.CurrentMembers(); }

 private:
  // A RELEASE that has failed.
  struct ReleaseRetry {
    int32_t attempt = 0;
    int64_t at_ms = 0;  // INT64_MAX: it is ordered again
  };

  bool TakeTargetChanges(int64_t now_ms);
  bool TakeChunkChanges();
  void AppendReleases(uint32_t target, std::vector<idl::Job>* jobs) const;
  bool IsNvme(uint32_t target) const;
  void HoldUnsettled(uint32_t target, std::vector<idl::Job>* jobs) const;
  void OnReleased(uint32_t target, const idl::JobResult& result, int64_t now_ms);
  void RetryReleases(int64_t now_ms);
  int64_t release_deadline_ms() const;

  Chunks* const chunks_;
  Targets* const targets_;
  const std::function<void()> begin_operation_;
  const std::function<uint32_t()> settled_;
  mutable bool held_ = false;  // jobs were left out of a list
  Attempts attempts_;
  Resync resync_;
  Repair repair_;
  Scrub scrub_;
  std::map<std::pair<uint32_t, uint64_t>, ReleaseRetry> release_retry_;  // by target and offset
  uint32_t seen_version_ = 0;                                            // of the map
  int64_t deadline_ms_ = INT64_MAX;
};

}  // namespace weft
