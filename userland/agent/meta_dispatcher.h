// SPDX-License-Identifier: MIT
//
// Metadata requests of the kernel to the metadata server and their answers back. Each of a few threads
// has a connection; a thread that is free takes everything that waits (kBatchMax at most) and makes one
// call of it. A request stays the kernel's: when the agent stops or dies before the answer is handed
// back, the next agent gets it again, and the server executes it once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "userland/agent/codec.h"
#include "userland/agent/meta_link.h"
#include "userland/agent/queue_loop.h"
#include "userland/agent/rate_limit.h"
#include "userland/agent/session_keeper.h"
#include "userland/channel/channel.h"

namespace weft::agent {

class MetaDispatcher : public MetaSink {
 public:
  static constexpr size_t kBatchMax = 32;

  MetaDispatcher(const channel::Channel* channel, SessionKeeper* session, const Address& server,
                 std::shared_ptr<MetaServerHealth> health, size_t connections);
  ~MetaDispatcher() override;
  MetaDispatcher(const MetaDispatcher&) = delete;
  MetaDispatcher& operator=(const MetaDispatcher&) = delete;

  void Start();
  // Any thread; does not block.
  void Submit(channel::Queue* queue, const weft_sqe& sqe) override;
  // Waits until nothing is unfinished, `grace` at most, then ends the threads. Returns how many were left.
  size_t Stop(std::chrono::milliseconds grace);

 private:
  struct Task {
    channel::Queue* queue;
    weft_sqe sqe;
    MetaCall call;
  };
  struct Worker {
    std::unique_ptr<MetaLink> link;
    std::thread thread;
    std::vector<std::byte> message;  // the copy that is decoded
  };

  void Main(Worker* worker);
  std::vector<Task> Take();
  // False: stopping, nothing was answered.
  bool Serve(Worker* worker, std::vector<Task>* tasks);
  Status Decode(Worker* worker, Task* task);
  bool Execute(Worker* worker, const std::vector<Task*>& batch);
  bool Mount(Worker* worker, const Task& task);
  bool Unmount(Worker* worker, const Task& task);
  std::span<std::byte> ReplyOf(const Task& task) const;
  int32_t Encode(const Task& task, const idl::Reply& reply);
  void Complete(const Task& task, int32_t result);
  void CompleteAll(const std::vector<Task*>& batch, const std::vector<int32_t>& results);
  void Refuse(const Task& task, const Status& why);

  const channel::Channel* const channel_;
  SessionKeeper* const session_;
  std::vector<Worker> workers_;

  std::mutex mutex_;  // guards all below
  std::condition_variable work_;
  std::condition_variable idle_;
  std::vector<Task> waiting_;
  size_t unfinished_ = 0;  // taken from the ring and not answered
  bool stopping_ = false;
  RateLimit refusals_;
};

}  // namespace weft::agent
