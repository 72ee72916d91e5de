// SPDX-License-Identifier: MIT
//
// TraceSource by libbpf: the programs of bpf/trace.bpf.c and their ring buffer.
#include <bpf/libbpf.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "bpf/trace.skel.h"
#include "userland/balancer/libbpf_log.h"
#include "userland/balancer/trace_recorder.h"

namespace weft::balancer {
namespace {

// The ring wakes its reader when it is a quarter full. Less than that is fetched once in a while, so that
// the file grows while it is watched; nothing waits for it.
constexpr std::chrono::milliseconds kFetchEvery{200};
constexpr int kRecordsAtOnce = 4096;  // then the clock is looked at: records may come faster than they are written

class RingSource : public TraceSource {
 public:
  ~RingSource() override {
    ring_buffer__free(ring_);
    trace_bpf__destroy(programs_);
  }

  Status Start() override {
    LibbpfLog log;
    programs_ = trace_bpf__open_and_load();
    if (programs_ == nullptr) return Failed("the kernel refused the tracing programs", errno, log);
    ring_ = ring_buffer__new(bpf_map__fd(programs_->maps.records), OnRecord, this, nullptr);
    if (ring_ == nullptr) return Failed("the ring buffer cannot be mapped", errno, log);
    if (int error = trace_bpf__attach(programs_)) return Failed("the tracing programs cannot be attached", -error, log);
    return {};
  }

  Status Run(std::chrono::milliseconds duration, int stop_fd, const Sink& sink) override {
    sink_ = &sink;
    auto end = std::chrono::steady_clock::now() + duration;
    for (int taken = 0;;) {
      Result<bool> more = Wait(end, stop_fd, taken < kRecordsAtOnce ? kFetchEvery : std::chrono::milliseconds(0));
      if (!more.ok()) return more.status();
      if (!*more) break;
      if (Status s = Take(&taken); !s.ok()) return s;
    }
    // What is in the ring now is all that there will be.
    trace_bpf__detach(programs_);
    for (int taken = kRecordsAtOnce; taken == kRecordsAtOnce;) {
      if (Status s = Take(&taken); !s.ok()) return s;
    }
    return {};
  }

  uint64_t dropped() const override { return programs_->bss->dropped; }

 private:
  // How many records were `taken`; fewer than kRecordsAtOnce: the ring was empty.
  Status Take(int* taken) {
    *taken = ring_buffer__consume_n(ring_, kRecordsAtOnce);
    if (*taken >= 0) return {};
    return failed_.ok() ? Status::Errno(-*taken, "reading the trace's ring buffer") : failed_;
  }

  // For records, `most` at most. True: there may be some, and there will be more.
  Result<bool> Wait(std::chrono::steady_clock::time_point end, int stop_fd, std::chrono::milliseconds most) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd fds[] = {{.fd = ring_buffer__epoll_fd(ring_), .events = POLLIN, .revents = 0},
                    {.fd = stop_fd, .events = POLLIN, .revents = 0}};
    int ready = poll(fds, std::size(fds), static_cast<int>(std::min(left, most).count()));
    if (ready < 0 && errno != EINTR) return Status::Errno(errno, "waiting for records");
    return ready <= 0 || fds[1].revents == 0;
  }

  static int OnRecord(void* self, void* data, size_t bytes) {
    auto* source = static_cast<RingSource*>(self);
    source->failed_ = (*source->sink_)({static_cast<const std::byte*>(data), bytes});
    return source->failed_.ok() ? 0 : -source->failed_.code();
  }

  static Status Failed(std::string_view what, int error, const LibbpfLog& log) {
    if (error == EPERM) return Error(EPERM, "{}: recording needs root (CAP_BPF and CAP_PERFMON){}", what, log.Tail());
    return Status::Errno(error, fmt::format("{}{}", what, log.Tail()));
  }

  trace_bpf* programs_ = nullptr;
  ring_buffer* ring_ = nullptr;
  const Sink* sink_ = nullptr;
  Status failed_;
};

}  // namespace

std::unique_ptr<TraceSource> MakeTraceSource() { return std::make_unique<RingSource>(); }

}  // namespace weft::balancer
