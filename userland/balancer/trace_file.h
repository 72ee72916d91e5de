// SPDX-License-Identifier: MIT
//
// Traces of block requests as files; the format is bpf/trace_record.h. A file that is read may hold anything:
// every number is checked. Values and writers belong to one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bpf/trace_record.h"
#include "userland/base/status.h"

namespace weft::balancer {

struct Trace {
  std::vector<weft_trace_target> targets;
  std::vector<weft_trace_read> reads;
  std::vector<weft_trace_place> places;
  std::vector<weft_trace_done> dones;
  uint64_t dropped = 0;   // records that the recorder lost
  bool complete = false;  // the file has its END
};

// When a request that came back had begun.
inline uint64_t BeginNs(const weft_trace_done& done) {
  return done.head.time_ns - std::min<uint64_t>(done.latency_ns, done.head.time_ns);
}

inline constexpr uint64_t kTraceBytesMax = uint64_t{4} << 30;

// EINVAL names the file, the byte and what is wrong there. A file that was cut off is read as far as it goes.
Result<Trace> ParseTrace(std::span<const std::byte> bytes, const std::string& name);
Result<Trace> ReadTrace(const std::string& path);

// Writes a trace, buffered. Errors of the file are told by the call that meets them.
class TraceWriter {
 public:
  // Replaces a file that is there.
  static Result<std::unique_ptr<TraceWriter>> Create(const std::string& path, uint64_t started_ns);
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  Status AddTarget(weft_trace_target target);
  // A whole record, longer than its head says perhaps. EINVAL: it is none.
  Status Add(std::span<const std::byte> record);
  // Adds END and closes the file.
  Status Finish(uint64_t dropped);

  uint64_t records() const { return records_; }

 private:
  TraceWriter(std::string path, FILE* file) : path_(std::move(path)), file_(file) {}
  Status Write(const void* bytes, size_t count);

  const std::string path_;
  FILE* file_;
  uint64_t records_ = 0;
  uint64_t last_ns_ = 0;
};

}  // namespace weft::balancer
