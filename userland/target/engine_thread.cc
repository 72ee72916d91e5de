// SPDX-License-Identifier: MIT
#include "userland/target/engine_thread.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "userland/base/adaptive_spin.h"

namespace weft::target {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

Result<std::unique_ptr<EngineThread>> EngineThread::Start(rdma::BlockTarget* target, rdma::BlockBackend* backend,
                                                          std::chrono::microseconds spin) {
  int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) return Status::Errno(errno, "eventfd");
  return std::unique_ptr<EngineThread>(new EngineThread(target, backend, spin, stop_fd));
}

EngineThread::EngineThread(rdma::BlockTarget* target, rdma::BlockBackend* backend, std::chrono::microseconds spin,
                           int stop_fd)
    : target_(target), backend_(backend), spin_(spin), stop_fd_(stop_fd), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "engine");
}

EngineThread::~EngineThread() {
  stop_.store(true, std::memory_order_relaxed);
  eventfd_write(stop_fd_, 1);
  thread_.join();
  close(stop_fd_);
}

void EngineThread::Run() {
  backend_->Watch(stop_fd_, &woken_);
  AdaptiveSpin spin(spin_);
  bool idle = false;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (target_->Poll()) {
      idle = false;
      continue;
    }
    steady_clock::time_point now = steady_clock::now();
    if (!std::exchange(idle, true)) spin.Worked(now);
    if (spin.KeepLooking(now)) {
      sched_yield();  // on a small machine the peer may need this very processor to answer
      continue;
    }
    int timeout_ms;
    if (!target_->Arm(&timeout_ms)) continue;
    backend_->Wait(timeout_ms);
    spin.Woke(steady_clock::now());
  }
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
