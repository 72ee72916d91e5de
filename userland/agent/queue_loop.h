// SPDX-License-Identifier: MIT
//
// The thread of one channel queue: block requests from the submission ring to the targets and their
// completions back, metadata requests to the sink. One loop looks at the ring and at the initiator while
// there is work, for spin_us longer, then announces its sleep and waits in epoll. Nothing is allocated
// on the way of a block request.
//
// A block request belongs to the kernel until it is taken out of the ring, then to the initiator under
// its tag, until its completion has been handed back. Everything but Start, Run, BeginStop and Join
// happens in the thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "rdma/block_initiator.h"
#include "userland/agent/device_port.h"
#include "userland/agent/lease.h"
#include "userland/agent/rate_limit.h"
#include "userland/base/status.h"
#include "userland/channel/channel.h"

namespace weft::agent {

// Takes metadata requests over; answers them itself through Queue::Complete.
class MetaSink {
 public:
  virtual ~MetaSink() = default;
  virtual void Submit(channel::Queue* queue, const weft_sqe& sqe) = 0;  // does not block
};

using InitiatorFactory = std::function<Result<std::unique_ptr<rdma::BlockInitiator>>(uint64_t session)>;

struct QueueLoopOptions {
  std::chrono::microseconds spin{0};
  bool spin_for_devices = true;  // also when only block devices have requests, or are there to have some
  // How long a request may wait for the lease, or for a target that is not in the map yet.
  std::chrono::milliseconds detect{5000};
  InitiatorFactory create_initiator;
  rdma::BlockInitiator::TargetStateCallback on_path;  // a path went up or down
  std::shared_ptr<const Lease> lease;                 // of the session
};

class QueueLoop {
 public:
  QueueLoop(const channel::Channel* channel, channel::Queue* queue, MetaSink* sink, QueueLoopOptions options);
  ~QueueLoop();
  QueueLoop(const QueueLoop&) = delete;
  QueueLoop& operator=(const QueueLoop&) = delete;

  Status Start();

  // Runs `task` in the thread and waits for it. ECANCELED: the loop has stopped. Any thread but this one.
  Status Run(const std::function<Status(QueueLoop&)>& task);

  // Takes no more requests; the thread ends when those taken are finished, after `grace` at the latest.
  void BeginStop(std::chrono::milliseconds grace);
  // Looks again at what waits for the lease.
  void Wake();
  // Waits for the end. Returns how many were left: the kernel keeps them for the next agent.
  size_t Join();

  // ---- for tasks ----
  // Block requests flow from here on, under this session.
  Status OpenSession(uint64_t session, const std::vector<rdma::TargetEndpoint>& targets);
  Status SetTargets(const std::vector<rdma::TargetEndpoint>& targets);
  // Requests for copies of the target that are in sync go to its block device from here on; nothing: it has been out of
  // reach for the detection time, so what is under way and what comes fails with -EHOSTDOWN, and does not wait again.
  Status SetDevice(uint32_t target, const std::optional<BlockDevice>& device);
  // The server has ended the session: what is unfinished and what is to come is -ESTALE.
  Status EndSession();
  // After UNMOUNT.
  Status CloseSession();
  size_t at_ports() const { return at_ports_; }  // requests under way at block devices

 private:
  struct Deferred {
    weft_sqe sqe;
    bool for_lease;  // else for its target, which the map does not have yet
    std::chrono::steady_clock::time_point deadline;
  };

  void Main();
  bool Turn();  // one look at everything; true: something was done
  bool Spins() const;
  void Sleep();
  void Watch(int fd, uint32_t events);
  void Unwatch(int fd);
  DevicePort* PortFor(const weft_sqe& sqe) const;
  void ClosePort(std::unique_ptr<DevicePort> port);
  Status OpenRing();
  bool PollPorts();
  bool PortsSettled() const;
  void KickPorts();
  void SleepFor(int wait_ms);
  void LookAtEpoll(int wait_ms);
  void PushDone();
  bool TakeSubmissions();
  // deadline: of one that has waited already
  void SubmitBlock(const weft_sqe& sqe, std::chrono::steady_clock::time_point deadline = {});
  void RetryDeferred(bool targets_changed);
  bool RunTasks();
  bool Finished() const;
  void Push(uint64_t tag, int32_t result);
  bool FlushCompletions();
  void Defer(const weft_sqe& sqe, bool for_lease, std::chrono::steady_clock::time_point deadline);
  void GiveUp(const Deferred& entry);

  struct Task {
    std::function<void()> run;
  };

  const channel::Channel* const channel_;
  channel::Queue* const queue_;
  MetaSink* const sink_;
  const QueueLoopOptions options_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  std::thread thread_;

  // The thread's own.
  std::unique_ptr<rdma::BlockInitiator> initiator_;
  std::map<uint32_t, rdma::TargetEndpoint> targets_;
  bool session_ended_ = false;
  // Once there was a port the thread sleeps in its ring, which submits what was prepared on the way: one system call.
  std::unique_ptr<target::Uring> uring_;
  bool queue_ready_ = false;
  bool epoll_ready_ = false;
  std::map<uint32_t, std::unique_ptr<DevicePort>> ports_;  // by target
  std::vector<std::unique_ptr<DevicePort>> closing_;       // get nothing new
  std::set<uint32_t> gone_;                                // targets whose device was taken back
  size_t in_flight_ = 0;                                   // block requests that the initiator and the ports have
  size_t at_ports_ = 0;                                    // of these: the ports
  std::vector<weft_sqe> sqes_;
  std::vector<rdma::BlockCompletion> done_;
  std::vector<weft_cqe> cqes_;
  std::vector<Deferred> deferred_;
  bool kick_ = false;
  RateLimit bad_requests_;
  RateLimit lease_over_;

  std::atomic<bool> asleep_ = false;     // the thread may be in epoll: write wake_fd_
  std::atomic<bool> has_tasks_ = false;  // looked at before the ring, so that a task overtakes later requests
  std::mutex mutex_;                     // guards the two below
  std::vector<Task> tasks_;
  bool stopped_ = false;                // the thread runs no more tasks
  std::atomic<bool> stopping_ = false;  // takes no more requests
  std::atomic<int64_t> stop_deadline_ns_ = 0;
};

}  // namespace weft::agent
