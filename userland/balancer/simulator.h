// SPDX-License-Identifier: MIT
//
// Replays a trace against modelled targets under a policy: what `weftctl balancer simulate` does.
//
// Reads are chosen by the policy. They come when the trace says, but no more are in flight than the trace had
// at its busiest (or as told), because an application waits for its answers. Writes go where they went, when
// they did; back to back, they keep their place among the reads and count for the depth as well.
// Placements are asked and counted; they change nothing else. The same trace, options and policy give the
// same result on every machine. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "userland/balancer/policy_runner.h"
#include "userland/balancer/target_model.h"
#include "userland/balancer/trace_file.h"

namespace weft::balancer {

struct SimulationOptions {
  ModelOptions model;
  uint32_t depth = 0;         // reads in flight at most; 0: as many as the trace had at its busiest
  bool back_to_back = false;  // requests come as soon as `depth` allows, which is of writes too
};

struct SimulatedTarget {
  std::string name;
  uint64_t reads = 0;
  uint64_t placed_blocks = 0;  // of new data
  double busy = 0;             // part of the time that its workers worked, 0..1
};

struct SimulationResult {
  std::string policy;
  uint64_t reads = 0;
  uint64_t places = 0;
  uint64_t faults = 0;  // illegal answers
  double reads_per_s = 0;
  // latencies of reads
  uint64_t mean_ns = 0;
  uint64_t p50_ns = 0;
  uint64_t p90_ns = 0;
  uint64_t p99_ns = 0;
  uint64_t max_ns = 0;
  std::vector<SimulatedTarget> targets;
};

class Simulator {
 public:
  // The trace must outlive the simulator. EINVAL: it has no reads, or options name what it does not have.
  static Result<std::unique_ptr<Simulator>> Create(const Trace* trace, const SimulationOptions& options);

  // By a name that ships or, with a '/', the path of an object.
  Result<SimulationResult> Run(const std::string& policy) const;
  // The same with a runner of one's own.
  using RunnerMaker = std::function<Result<std::unique_ptr<PolicyRunner>>(PolicyWorld*)>;
  Result<SimulationResult> Run(const RunnerMaker& make_runner) const;

  uint32_t depth() const { return options_.depth; }

  // What comes from outside of the targets, in order of time.
  struct Arrival {
    enum Kind { kRead, kWrite, kPlace } kind;
    uint64_t at_ns;
    size_t index;  // in the trace's reads, dones or places
  };

 private:
  Simulator(const Trace* trace, const SimulationOptions& options) : trace_(trace), options_(options) {}
  void CollectArrivals();
  uint32_t BusiestDepth() const;

  const Trace* const trace_;
  SimulationOptions options_;
  std::map<TargetKey, TargetProfile> profiles_;
  std::vector<Arrival> arrivals_;
};

}  // namespace weft::balancer
