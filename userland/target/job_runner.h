// SPDX-License-Identifier: MIT
//
// Does what the metadata server wants done with the places of this target (place_job.h): begins what is new in
// its list, calls off what is missing from it, and tells each result once. Driven by the engine thread beside the
// BlockTarget; `Progress` from any thread.
//
// What ended stays ended while it is in the list. At most one job works on a place.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "rdma/clock.h"
#include "userland/target/engine_work.h"
#include "userland/target/place_job.h"

namespace weft::target {

class JobRunner final : public EngineWork {
 public:
  using ResultCallback = std::function<void(idl::JobResult result)>;

  // All outlive the runner, but for the engine: when that is destroyed its last requests end, into jobs.
  JobRunner(rdma::Places* places, PeerReader* peers, ResultCallback on_result, const rdma::Clock* clock = nullptr);
  ~JobRunner() override;

  // Called when a place begins to be scrubbed; before the first list.
  void OnScrub(std::function<void(rdma::BlockRange place)> callback) { host_.on_scrub = std::move(callback); }
  void SetEngine(rdma::BlockTarget* engine) { host_.engine = engine; }  // before the first list
  void SetJobs(const idl::Jobs& jobs);

  size_t Poll() override;
  bool Arm(int* timeout_ms) override;

  std::vector<idl::JobProgress> Progress();

 private:
  using Key = std::tuple<idl::JobKind::type, int64_t, int32_t, int32_t>;  // kind, chunk, version, attempt
  static Key KeyOf(const idl::Job& job) { return {job.kind, job.chunk, job.version, job.attempt}; }
  std::unique_ptr<PlaceJob> Make(const idl::Job& job);
  void StartWaiting();
  void End(PlaceJob* job);
  void NoteProgress();

  const ResultCallback on_result_;
  const rdma::SteadyClock steady_clock_;
  const rdma::Clock* clock_;
  JobHost host_;
  std::vector<std::unique_ptr<PlaceJob>> running_;
  std::vector<idl::Job> waiting_;  // of the list, in its order
  std::set<Key> ended_;            // of the list
  std::mutex mutex_;
  std::vector<idl::JobProgress> progress_;  // under mutex_
};

}  // namespace weft::target
