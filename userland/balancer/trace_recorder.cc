// SPDX-License-Identifier: MIT
#include "userland/balancer/trace_recorder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "userland/balancer/trace_file.h"

namespace weft::balancer {
namespace {

uint64_t TimeOfDayNs() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

Status AddTargets(const Sysfs& sysfs, TraceWriter* writer) {
  Result<std::vector<TargetCounters>> targets = sysfs.Targets();
  if (!targets.ok()) return targets.status();
  for (const TargetCounters& counters : *targets) {
    weft_trace_target target = {};
    target.head.cluster = counters.cluster_number;
    target.id = counters.id;
    target.weight = counters.weight;
    target.zone = counters.zone;
    target.flags = counters.flags;
    memcpy(target.name, counters.name.data(), std::min(counters.name.size(), sizeof target.name - 1));
    if (Status s = writer->AddTarget(target); !s.ok()) return s;
  }
  return {};
}

Result<TraceSummary> Record(TraceSource& source, const Sysfs& sysfs, std::chrono::milliseconds duration, int stop_fd,
                            TraceWriter* writer) {
  if (Status s = AddTargets(sysfs, writer); !s.ok()) return s;
  Status s = source.Run(duration, stop_fd, [&](std::span<const std::byte> record) { return writer->Add(record); });
  if (!s.ok()) return s;
  TraceSummary summary = {.records = writer->records(), .dropped = source.dropped()};
  if (Status finished = writer->Finish(summary.dropped); !finished.ok()) return finished;
  return summary;
}

}  // namespace

Result<TraceSummary> RecordTrace(TraceSource& source, const Sysfs& sysfs, const std::string& path,
                                 std::chrono::milliseconds duration, int stop_fd) {
  // The module must be there before its functions can be looked for, and the programs before the file.
  if (Result<BalancerState> loaded = sysfs.Balancer(); !loaded.ok()) return loaded.status();
  if (Status s = source.Start(); !s.ok()) return s;
  struct stat there;
  if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    return Error(EINVAL, "{} is no file; name one that may be replaced", path);
  }
  std::string unfinished = path + ".new";
  Result<std::unique_ptr<TraceWriter>> writer = TraceWriter::Create(unfinished, TimeOfDayNs());
  if (!writer.ok()) return writer.status();
  Result<TraceSummary> summary = Record(source, sysfs, duration, stop_fd, writer->get());
  if (summary.ok() && rename(unfinished.c_str(), path.c_str()) != 0) summary = Status::Errno(errno, path);
  if (!summary.ok()) unlink(unfinished.c_str());
  return summary;
}

}  // namespace weft::balancer
