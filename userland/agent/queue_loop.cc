// SPDX-License-Identifier: MIT
#include "userland/agent/queue_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <utility>

#include "userland/agent/block_request.h"
#include "userland/base/adaptive_spin.h"
#include "userland/base/log.h"
#include "userland/base/yield.h"

namespace weft::agent {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kTakeMax = 64;  // requests taken at a time, so that completions never wait for long

// While targets have requests: their answer is due, and to be woken by it costs more than to look for it.
constexpr std::chrono::microseconds kSpinInFlight{2000};

}  // namespace

QueueLoop::QueueLoop(const channel::Channel* channel, channel::Queue* queue, MetaSink* sink, QueueLoopOptions options)
    : channel_(channel), queue_(queue), sink_(sink), options_(std::move(options)) {
  sqes_.resize(kTakeMax);
  done_.reserve(channel->depth());
  cqes_.reserve(channel->depth());
}

QueueLoop::~QueueLoop() {
  if (thread_.joinable()) {
    BeginStop(std::chrono::milliseconds(0));
    Join();
  }
  ports_.clear();
  closing_.clear();
  uring_ = nullptr;
  initiator_ = nullptr;  // before the memory that it has registered goes away with the channel
  if (epoll_fd_ >= 0) close(epoll_fd_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

Status QueueLoop::Start() {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return Status::Errno(errno, "epoll_create1");
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return Status::Errno(errno, "eventfd");
  // Edge-triggered: the ring and the task list say what there is to do, the descriptors only wake.
  Watch(queue_->fd(), EPOLLIN | EPOLLET);
  Watch(wake_fd_, EPOLLIN | EPOLLET);
  thread_ = std::thread([this] { Main(); });
  pthread_setname_np(thread_.native_handle(), fmt::format("weftd/q{}", queue_->index()).c_str());
  return {};
}

void QueueLoop::Watch(int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
    LogError("queue {}: cannot wait on a file descriptor: {}", queue_->index(), strerror(errno));
  }
}

void QueueLoop::Unwatch(int fd) { epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr); }

Status QueueLoop::Run(const std::function<Status(QueueLoop&)>& task) {
  std::promise<Status> promise;
  std::future<Status> result = promise.get_future();
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return Error(ECANCELED, "queue {} has stopped", queue_->index());
    tasks_.push_back({[this, &task, &promise] { promise.set_value(task(*this)); }});
    has_tasks_ = true;
  }
  Wake();
  return result.get();
}

void QueueLoop::BeginStop(std::chrono::milliseconds grace) {
  stop_deadline_ns_ = (Clock::now() + grace).time_since_epoch().count();
  stopping_ = true;
  Wake();
}

size_t QueueLoop::Join() {
  if (thread_.joinable()) thread_.join();  // not when another loop could not be started
  return in_flight_ + deferred_.size();
}

void QueueLoop::Wake() {
  // Pairs with Sleep: either it sees what was set before this, or this sees that it is asleep.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_relaxed)) eventfd_write(wake_fd_, 1);
}

void QueueLoop::Main() {
  AdaptiveSpin spin(options_.spin);
  Yielder yielder;
  spin.Worked(Clock::now());
  while (!Finished()) {
    bool worked = Turn();
    if (!Spins()) {
      Sleep();  // at once: it looks at everything itself
      continue;
    }
    KickPorts();
    Clock::time_point now = Clock::now();
    if (worked) {
      spin.Worked(now);
      if (in_flight_ == 0) yielder.Yield();  // what was waited for has come: to whoever did on this very CPU
    } else if (spin.KeepLooking(now) || (in_flight_ > 0 && now - spin.last_work() < kSpinInFlight)) {
      yielder.Yield();  // on a machine with few CPUs the kernel's and the targets' work comes first
    } else {
      bool idle = in_flight_ == 0;
      Sleep();
      // How long a target takes says nothing about how soon the kernel asks again.
      idle ? spin.Woke(Clock::now()) : spin.Worked(Clock::now());
    }
  }
  std::lock_guard lock(mutex_);
  stopped_ = true;
  for (Task& task : tasks_) task.run();
  tasks_.clear();
}

// Block devices are served by threads of the kernel, which may need the processor that looking takes.
bool QueueLoop::Spins() const { return options_.spin_for_devices || ports_.empty() || in_flight_ > at_ports_; }

bool QueueLoop::Finished() const {
  if (!stopping_) return false;
  if (in_flight_ == 0) return true;
  return Clock::now().time_since_epoch().count() >= stop_deadline_ns_;
}

bool QueueLoop::Turn() {
  bool worked = RunTasks();
  if (!stopping_ && TakeSubmissions()) worked = true;
  if (!deferred_.empty()) RetryDeferred(false);
  done_.clear();
  if (initiator_) {
    if (kick_) initiator_->Kick();
    kick_ = false;
    initiator_->Poll(&done_);
  }
  if (PollPorts()) worked = true;
  PushDone();
  return FlushCompletions() || worked;
}

void QueueLoop::PushDone() {
  for (const rdma::BlockCompletion& done : done_) {
    Push(done.tag, session_ended_ && done.result < 0 ? -ESTALE : done.result);
  }
  in_flight_ -= done_.size();
}

// True: something is over that a next look could follow up.
bool QueueLoop::PollPorts() {
  size_t count = 0;
  for (auto& [target, port] : ports_) count += port->Poll(&done_);
  for (auto port = closing_.begin(); port != closing_.end();) {
    count += (*port)->Poll(&done_);
    port = (*port)->in_flight() > 0 ? std::next(port) : closing_.erase(port);
  }
  at_ports_ -= count;
  return count > 0;
}

bool QueueLoop::PortsSettled() const {
  auto settled = [](const auto& port) { return port->settled(); };
  return std::ranges::all_of(ports_, [&](const auto& entry) { return settled(entry.second); }) &&
         std::ranges::all_of(closing_, settled);
}

void QueueLoop::KickPorts() {
  if (uring_) uring_->Kick();
}

DevicePort* QueueLoop::PortFor(const weft_sqe& sqe) const {
  // While a copy is made its gateway keeps the order of what is written to it.
  if ((sqe.flags & WEFT_SQE_RESYNCING) != 0) return nullptr;
  auto port = ports_.find(sqe.target);
  return port == ports_.end() ? nullptr : port->second.get();
}

// What is under way ends there.
void QueueLoop::ClosePort(std::unique_ptr<DevicePort> port) { closing_.push_back(std::move(port)); }

Status QueueLoop::SetDevice(uint32_t target, const std::optional<BlockDevice>& device) {
  if (auto known = ports_.extract(target)) ClosePort(std::move(known.mapped()));
  if (!device) {
    gone_.insert(target);
    // Its gateway has gone with it; another one has another address.
    if (initiator_) initiator_->RemoveTarget(target);
    targets_.erase(target);
    return {};
  }
  gone_.erase(target);
  if (!uring_) {
    if (Status s = OpenRing(); !s.ok()) return s;
  }
  auto may_send = [leased = device->leased, lease = options_.lease] { return !*leased || lease->holds(); };
  auto port = DevicePort::Open(*device, channel_->pool(), uring_.get(), may_send);
  if (!port.ok()) return port.status();
  ports_[target] = *std::move(port);
  return {};
}

Status QueueLoop::OpenRing() {
  auto uring = target::Uring::Create(true);
  if (!uring.ok()) return uring.status();
  std::span<std::byte> pool = channel_->pool();
  if (Status s = (*uring)->AddBuffer(pool.data(), pool.size()); !s.ok()) return s;
  uring_ = *std::move(uring);
  Unwatch(queue_->fd());
  uring_->Watch(queue_->fd(), &queue_ready_);
  uring_->WatchLevel(epoll_fd_, &epoll_ready_);
  return {};
}

void QueueLoop::Sleep() {
  if (!queue_->Arm() && !stopping_) {
    KickPorts();
    return queue_->Disarm();
  }
  asleep_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool must_look = has_tasks_ || Finished() || (initiator_ && !initiator_->ArmNotify()) || !PortsSettled();
  if (must_look) {
    KickPorts();
  } else {
    int wait_ms = -1;
    if (!deferred_.empty() || stopping_) {
      auto until = stopping_ ? Clock::time_point(Clock::duration(stop_deadline_ns_))
                             : std::ranges::min(deferred_, {}, &Deferred::deadline).deadline;
      auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      wait_ms = static_cast<int>(std::max<int64_t>(left.count(), 0));
    }
    SleepFor(wait_ms);
  }
  asleep_.store(false, std::memory_order_relaxed);
  queue_->Disarm();
}

// What happened is found by looking; but events of the initiator need not be looked for without cause.
void QueueLoop::SleepFor(int wait_ms) {
  if (!uring_) return LookAtEpoll(wait_ms);
  uring_->Wait(wait_ms);
  uring_->Reap();
  if (std::exchange(epoll_ready_, false)) {
    LookAtEpoll(0);
  } else if (initiator_) {
    initiator_->NotReadable();
  }
}

void QueueLoop::LookAtEpoll(int wait_ms) {
  epoll_event events[4];
  int count = epoll_wait(epoll_fd_, events, std::size(events), wait_ms);
  if (initiator_ && std::none_of(events, events + std::max(count, 0), [this](const epoll_event& event) {
        return event.data.fd == initiator_->event_fd();
      })) {
    initiator_->NotReadable();
  }
}

bool QueueLoop::RunTasks() {
  if (!has_tasks_.load(std::memory_order_acquire)) return false;
  std::vector<Task> tasks;
  {
    std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
    has_tasks_ = false;
  }
  for (Task& task : tasks) task.run();
  return true;
}

bool QueueLoop::TakeSubmissions() {
  size_t count = queue_->Take(sqes_);
  for (size_t i = 0; i < count; ++i) {
    const weft_sqe& sqe = sqes_[i];
    if (sqe.op == WEFT_OP_META) {
      sink_->Submit(queue_, sqe);
    } else {
      SubmitBlock(sqe);
    }
  }
  return count > 0;
}

void QueueLoop::SubmitBlock(const weft_sqe& sqe, Clock::time_point deadline) {
  rdma::BlockCommand command;
  Status status = ToBlockCommand(sqe, channel_->pool().size(), &command);
  if (status.ok() && initiator_ == nullptr) status = Error(ESTALE, "there is no session");
  if (status.ok() && session_ended_) return Push(sqe.tag, -ESTALE);
  DevicePort* port = PortFor(sqe);
  if (status.ok() && port && !port->may_send()) return Defer(sqe, true, deadline);
  if (status.ok()) status = port ? port->Submit(command) : initiator_->Submit(sqe.target, command);
  if (status.ok()) {
    ++in_flight_;
    if (port) ++at_ports_;
    kick_ = true;
    return;
  }
  if (status.code() == ENODEV && gone_.contains(sqe.target)) return Push(sqe.tag, -EHOSTDOWN);
  // The kernel's chunk map may be newer than the target map: nextEvents brings the target soon.
  if (status.code() == ENODEV) return Defer(sqe, false, deadline);
  Push(sqe.tag, -status.code());
  uint64_t missed = 0;
  if (bad_requests_.Pass(&missed)) {
    LogError("queue {}: refused a request op={} target={} tag={:#x}: {} (and {} more)", queue_->index(), sqe.op,
             sqe.target, sqe.tag, status.message(), missed);
  }
}

void QueueLoop::Defer(const weft_sqe& sqe, bool for_lease, Clock::time_point deadline) {
  if (deadline == Clock::time_point()) deadline = Clock::now() + options_.detect;
  deferred_.push_back({sqe, for_lease, deadline});
}

void QueueLoop::RetryDeferred(bool targets_changed) {
  auto now = Clock::now();
  std::vector<Deferred> waiting;
  waiting.swap(deferred_);
  for (Deferred& entry : waiting) {
    if (session_ended_) {
      Push(entry.sqe.tag, -ESTALE);
    } else if (entry.for_lease ? options_.lease->holds() : targets_changed && targets_.contains(entry.sqe.target)) {
      SubmitBlock(entry.sqe, entry.deadline);
    } else if (entry.deadline <= now) {
      GiveUp(entry);
    } else {
      deferred_.push_back(entry);
    }
  }
}

void QueueLoop::GiveUp(const Deferred& entry) {
  uint64_t missed = 0;
  if (!entry.for_lease) {
    LogError("target {} is not in the map of the metadata server", entry.sqe.target);
  } else if (lease_over_.Pass(&missed)) {
    LogWarning("the lease is over and the metadata server is out of reach: a request for target {} waits (and {} more)",
               entry.sqe.target, missed);
  }
  Push(entry.sqe.tag, -EHOSTDOWN);
}

void QueueLoop::Push(uint64_t tag, int32_t result) {
  weft_cqe cqe = {};
  cqe.tag = tag;
  cqe.epoch = channel_->epoch();
  cqe.result = result;
  cqes_.push_back(cqe);
}

bool QueueLoop::FlushCompletions() {
  if (cqes_.empty()) return false;
  if (Status s = queue_->Complete(cqes_); !s.ok()) LogError("{}", s.message());
  cqes_.clear();
  return true;
}

Status QueueLoop::OpenSession(uint64_t session, const std::vector<rdma::TargetEndpoint>& targets) {
  if (Status s = CloseSession(); !s.ok()) return s;
  auto created = options_.create_initiator(session);
  if (!created.ok()) return created.status();
  initiator_ = *std::move(created);
  session_ended_ = false;
  initiator_->OnTargetState(options_.on_path);
  Watch(initiator_->event_fd(), EPOLLIN);
  return SetTargets(targets);
}

Status QueueLoop::SetTargets(const std::vector<rdma::TargetEndpoint>& targets) {
  if (initiator_ == nullptr || session_ended_) return {};
  std::map<uint32_t, rdma::TargetEndpoint> next;
  for (const rdma::TargetEndpoint& target : targets) next[target.id] = target;
  for (const auto& [id, target] : targets_) {
    if (!next.contains(id)) initiator_->RemoveTarget(id);
  }
  Status first;
  for (const auto& [id, target] : next) {
    auto known = targets_.find(id);
    if (known != targets_.end() && known->second.host == target.host && known->second.port == target.port &&
        known->second.uuid == target.uuid) {
      continue;
    }
    Status s = initiator_->SetTarget(target);
    if (!s.ok() && first.ok()) first = s.Annotate(target.name);
  }
  targets_ = std::move(next);
  if (!deferred_.empty()) RetryDeferred(true);
  return first;
}

Status QueueLoop::EndSession() {
  session_ended_ = true;
  if (initiator_) {
    for (const auto& [id, target] : targets_) initiator_->RemoveTarget(id);
  }
  targets_.clear();
  RetryDeferred(false);
  return {};
}

Status QueueLoop::CloseSession() {
  if (initiator_ == nullptr) return {};
  if (in_flight_ > 0) {
    // The kernel unmounts last; whatever it still waits for is told that the session is gone.
    LogWarning("queue {}: session closed with {} block requests unfinished", queue_->index(), in_flight_);
    if (Status s = EndSession(); !s.ok()) return s;
    done_.clear();
    initiator_->Poll(&done_);
    PushDone();
  }
  Unwatch(initiator_->event_fd());
  initiator_ = nullptr;
  targets_.clear();
  return {};
}

}  // namespace weft::agent
