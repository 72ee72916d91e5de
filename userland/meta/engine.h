// SPDX-License-Identifier: MIT
//
// Drives the state machine: one thread takes everything that arrived while the last commit was made,
// executes it as one batch, commits it with one sync and only then lets the callers go on. Network threads
// call Run and wait. When a commit fails the store's state is unknown: every caller gets EIO, on_failure is
// told, and nothing is executed any more until the server has been started again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <thread>
#include <type_traits>
#include <vector>

#include "userland/meta/state_machine.h"

namespace weft {

class Engine {
 public:
  using Clock = std::function<MetaNow()>;
  static MetaNow SystemClock();

  // on_failure: called once, by the engine's thread.
  Engine(std::unique_ptr<StateMachine> machine, Clock clock, std::function<void(const Status&)> on_failure);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Executes call(StateMachine&), which returns a Status or a Result, and gives its result back when its
  // effects are durable. ESHUTDOWN after Stop, EIO after a failed commit. Any thread but the engine's.
  template <typename F>
  std::invoke_result_t<F, StateMachine&> Run(F&& call) {
    std::optional<std::invoke_result_t<F, StateMachine&>> result;
    Task task;
    task.execute = [&](StateMachine& machine) { result.emplace(call(machine)); };
    if (Status status = Submit(&task); !status.ok()) return status;
    return *std::move(result);
  }

  // Tasks that wait for the running batch to end.
  size_t queued() const;

  // See StateMachine::events_version, as of the last commit.
  int64_t events_version() const;
  // Waits until it differs from `seen`, wait_ms have passed or StopEvents was called (false).
  bool AwaitEvents(int64_t seen, int wait_ms);
  // Waits for StopEvents alone; true: it was called.
  bool AwaitStop(std::chrono::milliseconds wait);
  // StopEvents was called: whoever works for long should end.
  bool events_stopped() const;
  // Ends all AwaitEvents, now and later: for shutting down.
  void StopEvents();

  // Executes what is queued, then ends the thread. Idempotent.
  void Stop();

 private:
  struct Task {
    std::function<void(StateMachine&)> execute;
    Status status;  // set by the engine when it was not carried out
    std::binary_semaphore done{0};
  };

  Status Submit(Task* task);
  void Loop();
  // Waits for tasks or the state machine's deadline; false: stopped and nothing is left.
  bool TakeBatch(std::vector<Task*>* batch);
  Status ExecuteBatch(const std::vector<Task*>& batch);
  void Finish(const std::vector<Task*>& batch, const Status& status);

  const std::unique_ptr<StateMachine> machine_;  // engine's thread only
  const Clock clock_;
  const std::function<void(const Status&)> on_failure_;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Task*> queue_;  // guarded by mutex_
  bool stopping_ = false;     // guarded by mutex_
  Status failure_;            // guarded by mutex_

  mutable std::mutex events_mutex_;
  std::condition_variable events_changed_;
  int64_t events_version_ = 0;   // guarded by events_mutex_
  bool events_stopped_ = false;  // guarded by events_mutex_

  std::thread thread_;
};

}  // namespace weft
