// SPDX-License-Identifier: MIT
#include "userland/balancer/trace_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace weft::balancer {
namespace {

// What no clock and no request reaches; keeps sums of them in range.
constexpr uint64_t kTimeMaxNs = uint64_t{1} << 62;
constexpr uint64_t kLatencyMaxNs = uint64_t{1} << 42;  // 73 minutes

size_t PlaceBytes(size_t grants) {
  return sizeof(weft_trace_place) - (WEFT_TRACE_GRANTS - grants) * sizeof(weft_trace_grant);
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Result<Trace> Run() {
    if (Status s = ParseFileHead(); !s.ok()) return s;
    while (!trace_.complete && at_ + sizeof(weft_trace_head) <= bytes_.size()) {
      weft_trace_head head;
      memcpy(&head, bytes_.data() + at_, sizeof head);
      if (head.bytes < sizeof head || head.bytes % 8 != 0) return Bad("a record of {} bytes", head.bytes);
      if (head.bytes > bytes_.size() - at_) break;  // cut off within it
      if (head.time_ns > kTimeMaxNs) return Bad("a time of {} ns", head.time_ns);
      if (Status s = ParseRecord(head); !s.ok()) return s;
      at_ += head.bytes;
    }
    if (trace_.complete && at_ != bytes_.size()) return Bad("{} bytes after the end", bytes_.size() - at_);
    return std::move(trace_);
  }

 private:
  template <typename... Args>
  Status Bad(fmt::format_string<Args...> format, Args&&... args) const {
    return Error(EINVAL, "{}: byte {}: {}; record it anew with `weftctl trace record`", name_, at_,
                 fmt::format(format, std::forward<Args>(args)...));
  }

  Status ParseFileHead() {
    weft_trace_file file;
    if (bytes_.size() < sizeof file) return Bad("too short for a trace");
    memcpy(&file, bytes_.data(), sizeof file);
    if (file.magic != WEFT_TRACE_MAGIC) return Bad("not a trace of weftfs");
    if (file.version != WEFT_TRACE_VERSION) {
      return Bad("a trace of version {}; this program reads version {}", file.version, WEFT_TRACE_VERSION);
    }
    if (file.reserved != 0) return Bad("reserved bytes are not 0");
    at_ = sizeof file;
    return {};
  }

  template <typename Record>
  Status Take(const weft_trace_head& head, Record* record) const {
    if (head.bytes != sizeof(Record)) return Bad("a record of type {} with {} bytes", head.type, head.bytes);
    memcpy(record, bytes_.data() + at_, sizeof(Record));
    return {};
  }

  Status ParseRecord(const weft_trace_head& head) {
    ++records_;
    switch (head.type) {
      case WEFT_TRACE_TARGET:
        return ParseTarget(head);
      case WEFT_TRACE_READ:
        return ParseRead(head);
      case WEFT_TRACE_PLACE:
        return ParsePlace(head);
      case WEFT_TRACE_DONE:
        return ParseDone(head);
      case WEFT_TRACE_END:
        return ParseEnd(head);
      default:
        return Bad("a record of unknown type {}", head.type);
    }
  }

  Status ParseTarget(const weft_trace_head& head) {
    weft_trace_target& target = trace_.targets.emplace_back();
    if (Status s = Take(head, &target); !s.ok()) return s;
    if (memchr(target.name, 0, sizeof target.name) == nullptr) return Bad("the name of a target has no end");
    return {};
  }

  Status ParseRead(const weft_trace_head& head) {
    weft_trace_read& read = trace_.reads.emplace_back();
    if (Status s = Take(head, &read); !s.ok()) return s;
    if (read.nr == 0 || read.nr > WEFT_TRACE_COPIES) return Bad("a read with {} targets", read.nr);
    if (read.choice >= read.nr) return Bad("choice {} of {}", read.choice, read.nr);
    return {};
  }

  Status ParsePlace(const weft_trace_head& head) {
    weft_trace_place& place = trace_.places.emplace_back();
    if (head.bytes < PlaceBytes(0) || head.bytes > sizeof place) return Bad("a placement of {} bytes", head.bytes);
    memcpy(&place, bytes_.data() + at_, head.bytes);
    if (place.nr == 0 || place.nr > WEFT_TRACE_GRANTS || head.bytes != PlaceBytes(place.nr)) {
      return Bad("a placement with {} grants in {} bytes", place.nr, head.bytes);
    }
    if (place.choice >= place.nr) return Bad("choice {} of {}", place.choice, place.nr);
    for (int i = 0; i < place.nr; ++i) {
      if (place.grants[i].nr_targets > WEFT_TRACE_COPIES)
        return Bad("a grant on {} targets", place.grants[i].nr_targets);
    }
    return {};
  }

  Status ParseDone(const weft_trace_head& head) {
    weft_trace_done& done = trace_.dones.emplace_back();
    if (Status s = Take(head, &done); !s.ok()) return s;
    if (done.latency_ns > kLatencyMaxNs) return Bad("a latency of {} ns", done.latency_ns);
    return {};
  }

  Status ParseEnd(const weft_trace_head& head) {
    weft_trace_end end;
    if (Status s = Take(head, &end); !s.ok()) return s;
    if (end.records != records_ - 1) return Bad("it should have {} records and has {}", end.records, records_ - 1);
    trace_.dropped = end.dropped;
    trace_.complete = true;
    return {};
  }

  const std::span<const std::byte> bytes_;
  const std::string& name_;
  size_t at_ = 0;
  uint64_t records_ = 0;
  Trace trace_;
};

}  // namespace

Result<Trace> ParseTrace(std::span<const std::byte> bytes, const std::string& name) {
  return Parser(bytes, name).Run();
}

Result<Trace> ReadTrace(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0) return Status::Errno(errno, path);
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0 ||
      static_cast<uint64_t>(status.st_size) > kTraceBytesMax) {
    close(fd);
    return Error(EINVAL, "{} is not a file with a trace (1 byte to {} GiB)", path, kTraceBytesMax >> 30);
  }
  auto size = static_cast<size_t>(status.st_size);
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  int error = errno;
  close(fd);
  if (map == MAP_FAILED) return Status::Errno(error, path);
  Result<Trace> trace = ParseTrace({static_cast<const std::byte*>(map), size}, path);
  munmap(map, size);
  return trace;
}

Result<std::unique_ptr<TraceWriter>> TraceWriter::Create(const std::string& path, uint64_t started_ns) {
  FILE* file = fopen(path.c_str(), "wbe");
  if (file == nullptr) return Status::Errno(errno, path);
  std::unique_ptr<TraceWriter> writer(new TraceWriter(path, file));
  weft_trace_file head = {
      .magic = WEFT_TRACE_MAGIC, .version = WEFT_TRACE_VERSION, .reserved = 0, .started_ns = started_ns};
  if (Status s = writer->Write(&head, sizeof head); !s.ok()) return s;
  return writer;
}

TraceWriter::~TraceWriter() {
  if (file_ != nullptr) fclose(file_);
}

Status TraceWriter::Write(const void* bytes, size_t count) {
  if (fwrite(bytes, 1, count, file_) == count) return {};
  return Status::Errno(errno, path_);
}

Status TraceWriter::AddTarget(weft_trace_target target) {
  target.head.type = WEFT_TRACE_TARGET;
  target.head.bytes = sizeof target;
  target.name[sizeof target.name - 1] = 0;
  return Add(std::as_bytes(std::span(&target, 1)));
}

Status TraceWriter::Add(std::span<const std::byte> record) {
  weft_trace_head head;
  if (record.size() < sizeof head) return Error(EINVAL, "a record of {} bytes", record.size());
  memcpy(&head, record.data(), sizeof head);
  if (head.bytes < sizeof head || head.bytes > record.size()) {
    return Error(EINVAL, "a record of {} bytes says that it has {}", record.size(), head.bytes);
  }
  last_ns_ = std::max<uint64_t>(last_ns_, head.time_ns);
  ++records_;
  return Write(record.data(), head.bytes);
}

Status TraceWriter::Finish(uint64_t dropped) {
  weft_trace_end end = {};
  end.head = {.type = WEFT_TRACE_END, .bytes = sizeof end, .cluster = 0, .time_ns = last_ns_};
  end.records = records_;
  end.dropped = dropped;
  if (Status s = Write(&end, sizeof end); !s.ok()) return s;
  FILE* file = file_;
  file_ = nullptr;
  if (fclose(file) != 0) return Status::Errno(errno, path_);
  return {};
}

}  // namespace weft::balancer
