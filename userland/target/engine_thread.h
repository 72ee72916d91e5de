// SPDX-License-Identifier: MIT
//
// The thread that drives a BlockTarget: looks for work as long as there is some and for `spin` longer,
// then sleeps until an event. Does other work of the target in between (EngineWork). Created and destroyed by one
// other thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "rdma/block_target.h"
#include "userland/base/status.h"
#include "userland/target/engine_work.h"

namespace weft::target {

class EngineThread {
 public:
  // backend: the target's; the thread sleeps in it. All outlive the thread.
  static Result<std::unique_ptr<EngineThread>> Start(rdma::BlockTarget* target, rdma::BlockBackend* backend,
                                                     EngineWork* work, std::chrono::microseconds spin);
  ~EngineThread();  // ends the thread, not the target
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Has the thread call `work`. Any thread; forgotten when the thread has ended.
  void Post(std::function<void()> work);

  // Share of one processor that the thread has used since the last call, 0..1000. One caller.
  int LoadPermille();

 private:
  EngineThread(rdma::BlockTarget* target, rdma::BlockBackend* backend, EngineWork* work, std::chrono::microseconds spin,
               int wake_fd);
  bool Sleep();
  void RunPosted();
  void Run();

  rdma::BlockTarget* const target_;
  rdma::BlockBackend* const backend_;
  EngineWork* const work_;
  const std::chrono::microseconds spin_;
  const int wake_fd_;   // eventfd: look at stop_ and posted_
  bool woken_ = false;  // wake_fd_ is readable; the backend's Watch sets it
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // under mutex_
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  std::chrono::nanoseconds used_{0};
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

}  // namespace weft::target
