// SPDX-License-Identifier: MIT
#include "userland/target/engine_thread.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "userland/base/adaptive_spin.h"
#include "userland/base/yield.h"

namespace weft::target {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

Result<std::unique_ptr<EngineThread>> EngineThread::Start(rdma::BlockTarget* target, rdma::BlockBackend* backend,
                                                          EngineWork* work, std::chrono::microseconds spin) {
  int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) return Status::Errno(errno, "eventfd");
  return std::unique_ptr<EngineThread>(new EngineThread(target, backend, work, spin, wake_fd));
}

EngineThread::EngineThread(rdma::BlockTarget* target, rdma::BlockBackend* backend, EngineWork* work,
                           std::chrono::microseconds spin, int wake_fd)
    : target_(target), backend_(backend), work_(work), spin_(spin), wake_fd_(wake_fd), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "engine");
}

EngineThread::~EngineThread() {
  stop_.store(true, std::memory_order_relaxed);
  eventfd_write(wake_fd_, 1);
  thread_.join();
  close(wake_fd_);
}

void EngineThread::Post(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  eventfd_write(wake_fd_, 1);
}

void EngineThread::RunPosted() {
  eventfd_t value;
  eventfd_read(wake_fd_, &value);
  std::unique_lock lock(mutex_);
  std::vector<std::function<void()>> posted = std::exchange(posted_, {});
  lock.unlock();
  for (auto& work : posted) work();
}

void EngineThread::Run() {
  backend_->Watch(wake_fd_, &woken_);
  AdaptiveSpin spin(spin_);
  Yielder yielder;
  bool idle = false;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (std::exchange(woken_, false)) RunPosted();
    // In this order: what ended for the target's own work lets that go on.
    if (target_->Poll() + work_->Poll()) {
      idle = false;
      continue;
    }
    steady_clock::time_point now = steady_clock::now();
    if (!std::exchange(idle, true)) spin.Worked(now);
    if (spin.KeepLooking(now)) {
      yielder.Yield();  // on a small machine the peer may need this very processor to answer
      continue;
    }
    if (Sleep()) spin.Woke(steady_clock::now());
  }
}

bool EngineThread::Sleep() {
  int timeout_ms;
  int work_timeout_ms = -1;
  // The target's last: it starts what the other has given to the backend.
  if (!work_->Arm(&work_timeout_ms) || !target_->Arm(&timeout_ms) || woken_) return false;
  if (work_timeout_ms >= 0) timeout_ms = timeout_ms < 0 ? work_timeout_ms : std::min(timeout_ms, work_timeout_ms);
  backend_->Wait(timeout_ms);
  return true;
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
