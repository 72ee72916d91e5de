// SPDX-License-Identifier: MIT
//
// The thread that drives a BlockTarget: looks for work as long as there is some and for `spin` longer,
// then sleeps until an event. Created and destroyed by one other thread.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "rdma/block_target.h"
#include "userland/base/status.h"

namespace weft::target {

class EngineThread {
 public:
  // backend: the target's; the thread sleeps in it. Both outlive the thread.
  static Result<std::unique_ptr<EngineThread>> Start(rdma::BlockTarget* target, rdma::BlockBackend* backend,
                                                     std::chrono::microseconds spin);
  ~EngineThread();  // ends the thread, not the target
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Share of one processor that the thread has used since the last call, 0..1000. One caller.
  int LoadPermille();

 private:
  EngineThread(rdma::BlockTarget* target, rdma::BlockBackend* backend, std::chrono::microseconds spin, int stop_fd);
  void Run();

  rdma::BlockTarget* const target_;
  rdma::BlockBackend* const backend_;
  const std::chrono::microseconds spin_;
  const int stop_fd_;   // eventfd: look at stop_
  bool woken_ = false;  // stop_fd_ is readable; the backend's Watch sets it
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  std::chrono::nanoseconds used_{0};
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

}  // namespace weft::target
