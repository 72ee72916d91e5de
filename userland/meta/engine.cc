// SPDX-License-Identifier: MIT
#include "userland/meta/engine.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <time.h>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr size_t kBatchTasksMax = 1024;
constexpr int64_t kWaitMsMax = 3'600'000;

}  // namespace

MetaNow Engine::SystemClock() {
  // Of the machine, not of the process: time spent in suspend counts for leases.
  timespec mono;
  timespec wall;
  clock_gettime(CLOCK_BOOTTIME, &mono);
  clock_gettime(CLOCK_REALTIME, &wall);
  return {mono.tv_sec * 1000 + mono.tv_nsec / 1'000'000, wall.tv_sec * 1'000'000'000 + wall.tv_nsec};
}

Engine::Engine(std::unique_ptr<StateMachine> machine, Clock clock, std::function<void(const Status&)> on_failure)
    : machine_(std::move(machine)), clock_(std::move(clock)), on_failure_(std::move(on_failure)) {
  events_version_ = machine_->events_version();
  thread_ = std::thread([this] { Loop(); });
}

Engine::~Engine() {
  StopEvents();
  Stop();
}

Status Engine::Submit(Task* task) {
  {
    std::lock_guard lock(mutex_);
    if (!failure_.ok()) return Error(EIO, "metadata server has stopped: {}", failure_.message());
    if (stopping_) return Error(ESHUTDOWN, "metadata server is shutting down");
    queue_.push_back(task);
    if (queue_.size() == 1) arrived_.notify_one();
  }
  task->done.acquire();
  return std::move(task->status);
}

bool Engine::TakeBatch(std::vector<Task*>* batch) {
  batch->clear();
  int64_t wait_ms = std::clamp<int64_t>(machine_->deadline_ms() - clock_().mono_ms, 0, kWaitMsMax);
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return stopping_ || !queue_.empty(); });
  if (queue_.empty()) return !stopping_;
  if (queue_.size() <= kBatchTasksMax) {
    batch->swap(queue_);
  } else {
    batch->assign(queue_.begin(), queue_.begin() + kBatchTasksMax);
    queue_.erase(queue_.begin(), queue_.begin() + kBatchTasksMax);
  }
  return true;
}

Status Engine::ExecuteBatch(const std::vector<Task*>& batch) {
  machine_->Begin(clock_());
  for (Task* task : batch) task->execute(*machine_);
  return machine_->Commit();
}

void Engine::Finish(const std::vector<Task*>& batch, const Status& status) {
  for (Task* task : batch) {
    task->status = status;
    task->done.release();  // the task may be gone after this
  }
}

void Engine::Loop() {
  std::vector<Task*> batch;
  while (TakeBatch(&batch)) {
    Status status = ExecuteBatch(batch);
    if (!status.ok()) {
      LogError("commit failed, the server stops: {}", status.message());
      std::vector<Task*> waiting;
      {
        std::lock_guard lock(mutex_);
        failure_ = status;
        waiting.swap(queue_);
      }
      StopEvents();
      Finish(batch, Error(EIO, "metadata server has stopped: {}", status.message()));
      Finish(waiting, Error(EIO, "metadata server has stopped: {}", status.message()));
      on_failure_(status);
      return;
    }
    int64_t events = machine_->events_version();
    Finish(batch, status);
    std::lock_guard lock(events_mutex_);
    if (events != events_version_) {
      events_version_ = events;
      events_changed_.notify_all();
    }
  }
}

size_t Engine::queued() const {
  std::lock_guard lock(mutex_);
  return queue_.size();
}

int64_t Engine::events_version() const {
  std::lock_guard lock(events_mutex_);
  return events_version_;
}

bool Engine::AwaitEvents(int64_t seen, int wait_ms) {
  std::unique_lock lock(events_mutex_);
  events_changed_.wait_for(lock, std::chrono::milliseconds(wait_ms),
                           [&] { return events_stopped_ || events_version_ != seen; });
  return !events_stopped_;
}

bool Engine::AwaitStop(std::chrono::milliseconds wait) {
  std::unique_lock lock(events_mutex_);
  return events_changed_.wait_for(lock, wait, [&] { return events_stopped_; });
}

bool Engine::events_stopped() const {
  std::lock_guard lock(events_mutex_);
  return events_stopped_;
}

void Engine::StopEvents() {
  std::lock_guard lock(events_mutex_);
  events_stopped_ = true;
  events_changed_.notify_all();
}

void Engine::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    arrived_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace weft
