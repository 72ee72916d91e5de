// SPDX-License-Identifier: MIT
//
// A policy as the simulator asks it: the questions of kmod/balancer.h, answered by the interpreter or by what
// the module does itself. Illegal answers are replaced, counted, and end the policy after
// kPolicyFaultsMax of them, as in kmod/balancer.c. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "bpf/trace_record.h"
#include "userland/base/status.h"

namespace weft::balancer {

inline constexpr uint64_t kPolicyFaultsMax = 64;  // WEFT_BALANCER_FAULTS_MAX; simulator_test.cc asserts it

// struct weft_target_stat of kmod/balancer.h.
struct TargetStat {
  uint32_t id = 0;
  uint32_t state = 0;
  uint32_t inflight = 0;
  uint32_t weight = 0;
  uint32_t zone = 0;
  uint32_t queue_depth = 0;
  uint32_t load = 0;
  uint32_t flags = 0;
  uint32_t device_latency_us = 0;
  uint32_t report_age_ms = 0;
  uint16_t paths_usable = 0;
  uint16_t paths = 0;
  uint64_t ewma_latency_ns = 0;
  uint64_t requests = 0;
  uint64_t bytes = 0;
  uint64_t errors = 0;
};

// The simulated cluster, as policies see it.
class PolicyWorld {
 public:
  virtual ~PolicyWorld() = default;
  virtual uint64_t NowNs() = 0;
  virtual uint32_t Random() = 0;
  // False: there is no such target.
  virtual bool Stat(uint32_t cluster, uint32_t target, TargetStat* stat) = 0;
};

class PolicyRunner {
 public:
  virtual ~PolicyRunner() = default;
  virtual std::string name() const = 0;
  // Always a legal index. An error: the program did what no program may; the verifier would refuse it.
  virtual Result<uint32_t> PickRead(const weft_trace_read& read) = 0;
  virtual Result<uint32_t> PickPlace(const weft_trace_place& place) = 0;
  virtual Status Done(const weft_trace_done& done) = 0;
  virtual uint64_t faults() const { return 0; }
};

// `world` must outlive the runner.
std::unique_ptr<PolicyRunner> MakeBuiltinRunner();
Result<std::unique_ptr<PolicyRunner>> MakeBpfRunner(std::span<const std::byte> object, const std::string& name,
                                                    PolicyWorld* world);
// By a name that ships or, with a '/', the path of an object.
Result<std::unique_ptr<PolicyRunner>> MakeRunner(const std::string& policy, PolicyWorld* world);

}  // namespace weft::balancer
