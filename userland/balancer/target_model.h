// SPDX-License-Identifier: MIT
//
// A target as the simulator has it: a queue in front of `servers` workers, each of which takes as long for a
// request as the trace's own target took. What was measured holds the waiting in the queue of that time, so
// of a latency that was met with n requests at the target only servers/n counts as work, when n is more.
// How long a request works depends on the trace, the seed and its number alone, not on the policy: all
// policies meet the same luck. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "userland/balancer/policy_runner.h"
#include "userland/balancer/trace_file.h"

namespace weft::balancer {

struct ModelOptions {
  uint32_t servers = 4;                // requests that a target works on at once
  std::map<std::string, double> slow;  // name or id of a target -> times as long
  uint64_t seed = 1;
};

// Work of requests by kind and size, as the trace has it. Immutable once it is made.
class WorkTimes {
 public:
  static constexpr size_t kSamplesMax = 8192;  // of one kind and size
  static constexpr uint64_t kUnknownNs = 200'000;

  void Add(uint32_t op, uint32_t bytes, uint64_t work_ns);
  bool empty() const { return samples_.empty(); }
  // One of the samples of that kind and of the size next to it; `luck` chooses. kUnknownNs: none of any kind.
  uint64_t Draw(uint32_t op, uint32_t bytes, uint64_t luck) const;

 private:
  using Class = std::pair<uint32_t, int>;  // op, log2 of the bytes
  std::map<Class, std::vector<uint64_t>> samples_;
  std::map<Class, uint64_t> seen_;
};

using TargetKey = std::pair<uint32_t, uint32_t>;  // cluster, id

// What a trace says of its targets; made once for all policies.
struct TargetProfile {
  std::string name;
  uint32_t weight = 100;
  uint32_t zone = 0;
  uint32_t flags = 0;
  double factor = 1;
  WorkTimes work;
};

// EINVAL: options name a target that the trace does not have.
Result<std::map<TargetKey, TargetProfile>> ProfileTargets(const Trace& trace, const ModelOptions& options);

class TargetModel {
 public:
  TargetModel(const TargetProfile* profile, uint32_t id, uint32_t servers)
      : profile_(profile), id_(id), servers_(servers) {}

  // A request comes at `now`. The time when it will be done: work is done in order, without pauses.
  uint64_t Accept(uint64_t now_ns, uint32_t op, uint32_t bytes, uint64_t luck);
  // The request that was accepted then is done.
  void Complete(uint32_t op, uint32_t bytes, uint64_t latency_ns);

  TargetStat Stat() const;
  const TargetProfile& profile() const { return *profile_; }
  uint64_t reads() const { return reads_; }
  uint64_t busy_ns() const { return busy_ns_; }

 private:
  const TargetProfile* profile_;
  uint32_t id_;
  uint32_t servers_;
  std::vector<uint64_t> free_at_;  // when each worker is done; a heap, the first on top
  uint32_t inflight_ = 0;
  uint64_t ewma_latency_ns_ = 0;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t bytes_ = 0;
  uint64_t busy_ns_ = 0;
};

// A well mixed number from another one (splitmix64, G. Steele et al., OOPSLA 2014).
uint64_t Mix(uint64_t value);

}  // namespace weft::balancer
