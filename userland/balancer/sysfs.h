// SPDX-License-Identifier: MIT
//
// What weft.ko tells in /sys/fs/weft: the balancer's policy and counters, and those of each target of
// each mounted cluster. Reads files only, keeps no state; use from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "userland/base/status.h"

namespace weft::balancer {

inline constexpr const char* kSysfsRoot = "/sys/fs/weft";

struct BalancerState {
  std::string policy;   // in force
  uint64_t picks = 0;   // choices made by programs
  uint64_t faults = 0;  // illegal answers
};

// How often latencies were met, as kmod/histogram.h counts them.
class LatencyCounts {
 public:
  struct Bucket {
    uint64_t end_ns;  // 0: no end
    uint64_t count;
    bool operator==(const Bucket&) const = default;
  };
  LatencyCounts() = default;
  explicit LatencyCounts(std::vector<Bucket> buckets) : buckets_(std::move(buckets)) {}

  // The latency that `percent` of the requests do not exceed, up to 25 % too high; 0: no request.
  uint64_t PercentileNs(uint64_t percent) const;
  bool operator==(const LatencyCounts&) const = default;

 private:
  std::vector<Bucket> buckets_;  // in order of time
};

struct TargetCounters {
  std::string cluster;
  uint32_t cluster_number = 0;  // what policies and traces call it by
  uint32_t id = 0;
  std::string name;
  bool up = false;
  uint64_t inflight = 0;  // requests of this host, now
  uint64_t reads = 0;     // requests
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t write_bytes = 0;
  uint64_t errors = 0;
  uint64_t ewma_latency_ns = 0;
  LatencyCounts read_latency;
  LatencyCounts write_latency;
  uint32_t weight = 100;
  uint32_t zone = 0;
  uint32_t flags = 0;  // WEFT_TARGET_LOCAL, _REPORTED
  bool operator==(const TargetCounters&) const = default;
};

// "state inflight reads writes read_bytes write_bytes errors ewma_latency_ns"; fields that a newer module
// appends are ignored. EINVAL names the text. Cluster, id and name are not in it.
Result<TargetCounters> ParseTargetStat(std::string_view line);

// Lines of "END_NS COUNT". EINVAL names the line.
Result<LatencyCounts> ParseLatencyCounts(std::string_view text);

class Sysfs {
 public:
  Sysfs() : Sysfs(kSysfsRoot) {}
  explicit Sysfs(std::string root) : root_(std::move(root)) {}

  // ENODEV: the module is not loaded, for both.
  Result<BalancerState> Balancer() const;
  // Sorted by cluster and id. Empty: nothing is mounted.
  Result<std::vector<TargetCounters>> Targets() const;

 private:
  Status ReadTarget(const std::string& dir, TargetCounters* target) const;
  std::string root_;
};

}  // namespace weft::balancer
