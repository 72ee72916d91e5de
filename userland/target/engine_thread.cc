// SPDX-License-Identifier: MIT
#include "userland/target/engine_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace weft::target {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

Result<std::unique_ptr<EngineThread>> EngineThread::Start(rdma::BlockTarget* target, std::chrono::microseconds spin) {
  int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) return Status::Errno(errno, "eventfd");
  return std::unique_ptr<EngineThread>(new EngineThread(target, spin, stop_fd));
}

EngineThread::EngineThread(rdma::BlockTarget* target, std::chrono::microseconds spin, int stop_fd)
    : target_(target), spin_(spin), stop_fd_(stop_fd), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "engine");
}

EngineThread::~EngineThread() {
  stop_.store(true, std::memory_order_relaxed);
  eventfd_write(stop_fd_, 1);
  thread_.join();
  close(stop_fd_);
}

void EngineThread::Run() {
  bool idle = false;
  steady_clock::time_point idle_since;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (target_->Poll()) {
      idle = false;
      continue;
    }
    steady_clock::time_point now = steady_clock::now();
    if (!idle) {
      idle = true;
      idle_since = now;
    }
    if (now - idle_since < spin_) {
      sched_yield();  // on a small machine the peer may need this very processor to answer
      continue;
    }
    int timeout_ms;
    if (target_->Arm(&timeout_ms)) Sleep(timeout_ms);
  }
}

void EngineThread::Sleep(int timeout_ms) {
  std::array<pollfd, 2> fds{
      {{.fd = target_->event_fd(), .events = POLLIN, .revents = 0}, {.fd = stop_fd_, .events = POLLIN, .revents = 0}}};
  poll(fds.data(), fds.size(), timeout_ms);  // EINTR: as good as an event
}

int EngineThread::LoadPermille() {
  clockid_t clock;
  timespec time{};
  if (pthread_getcpuclockid(thread_.native_handle(), &clock) || clock_gettime(clock, &time)) return 0;
  nanoseconds used = std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
  steady_clock::time_point now = steady_clock::now();
  auto elapsed = std::max<int64_t>(1, std::chrono::duration_cast<nanoseconds>(now - asked_).count());
  int64_t load = (used - used_).count() * 1000 / elapsed;
  used_ = used;
  asked_ = now;
  return static_cast<int>(std::clamp<int64_t>(load, 0, 1000));
}

}  // namespace weft::target
