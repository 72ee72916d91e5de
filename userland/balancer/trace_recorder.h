// SPDX-License-Identifier: MIT
//
// Records a trace of this host's block requests for a while: bpf/trace.bpf.c behind a seam, the file in front
// of it. One thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "userland/balancer/sysfs.h"
#include "userland/base/status.h"

namespace weft::balancer {

// Where records come from.
class TraceSource {
 public:
  using Sink = std::function<Status(std::span<const std::byte> record)>;
  virtual ~TraceSource() = default;
  // From now on requests are seen.
  virtual Status Start() = 0;
  // Hands records to `sink` until the time is over, stop_fd is readable (-1: never) or the sink fails; all
  // that were seen until then.
  virtual Status Run(std::chrono::milliseconds duration, int stop_fd, const Sink& sink) = 0;
  // Records that did not fit into the ring so far.
  virtual uint64_t dropped() const = 0;
};

std::unique_ptr<TraceSource> MakeTraceSource();

struct TraceSummary {
  uint64_t records = 0;
  uint64_t dropped = 0;
};

// The targets as `sysfs` knows them, then the records. They are in PATH.new until they are complete; a file that
// is at `path` stays when they could not be. EINVAL: something else than a file is there.
Result<TraceSummary> RecordTrace(TraceSource& source, const Sysfs& sysfs, const std::string& path,
                                 std::chrono::milliseconds duration, int stop_fd);

}  // namespace weft::balancer
