// SPDX-License-Identifier: MIT
#include "rdma/block_initiator.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <utility>

#include "rdma/session_number.h"
#include "rdma/target_link.h"
#include "userland/base/log.h"

namespace weft::rdma {
namespace {

constexpr size_t kTargetsMax = 1024;
constexpr unsigned kTurnsPerClockRead = 16;  // while busy
constexpr int kMonotonic = CLOCK_MONOTONIC;
constexpr size_t kPollBatch = 64;
constexpr uint64_t kCmLookMs = 20;    // connection events, while there is enough else to do
constexpr uint64_t kAbsenceMs = 100;  // later than this to look at the clock: this thread did not run
constexpr uint64_t kAbsenceLoggedMs = 1000;

class BlockInitiatorImpl final : public BlockInitiator {
 public:
  explicit BlockInitiatorImpl(InitiatorOptions options)
      : options_(std::move(options)), ports_(options_.memory, options_.memory_bytes) {
    clock_ = options_.clock ? options_.clock : &steady_clock_;
    host_.options = &options_;
    host_.ports = &ports_;
    host_.number = Number();
    host_.now_ms = clock_->NowMs();
  }
  ~BlockInitiatorImpl() override;
  Status Open(Verbs* verbs);

  Status SetTarget(const TargetEndpoint& endpoint) override;
  void RemoveTarget(uint32_t id) override;
  Status Submit(uint32_t target, const BlockCommand& command) override;
  void Kick() override;
  size_t Poll(std::vector<BlockCompletion>* done) override;
  int event_fd() const override { return epoll_fd_; }
  bool ArmNotify() override;
  void NotReadable() override { slept_ = may_have_events_ = false; }
  void OnTargetState(TargetStateCallback callback) override { callback_ = std::move(callback); }

 private:
  uint32_t Number();
  void Watch(int fd);
  void HandleCmEvents();
  size_t HandleCompletions();
  void HandleTime(bool woken);
  uint64_t NextDeadline() const;
  void SetTimer(uint64_t deadline_ms);
  TargetLink* LinkOf(const Connection* connection);

  const InitiatorOptions options_;
  std::optional<SessionNumber> session_number_;
  const SteadyClock steady_clock_;
  const Clock* clock_;
  int epoll_fd_ = -1;
  int timer_fd_ = -1;
  uint64_t timer_ms_ = UINT64_MAX;  // what timer_fd_ is set to
  std::unique_ptr<CmChannel> channel_;
  InitiatorPorts ports_;
  size_t watched_ports_ = 0;
  LinkHost host_;
  std::map<uint32_t, std::unique_ptr<TargetLink>> links_;  // by id of the target
  std::vector<TargetLink*> table_;                         // by TargetLink::IndexOf
  TargetStateCallback callback_;
  std::array<WorkCompletion, kPollBatch> batch_;  // of HandleCompletions; kept, as looking costs less than making it
  unsigned turns_ = 0;                            // since the clock was looked at
  unsigned turns_per_look_ = kTurnsPerClockRead;
  bool armed_ = false;  // may have slept, since then
  uint64_t cm_looked_ms_ = 0;
  uint64_t due_ms_ = UINT64_MAX;  // when this thread was to look at the clock again
  bool connecting_ = false;       // a link is: its events matter at once
  bool slept_ = true;             // since the last Poll
  bool may_have_events_ = true;   // of completion queues: they were not looked for in vain since they could come
};

BlockInitiatorImpl::~BlockInitiatorImpl() {
  links_.clear();
  if (timer_fd_ >= 0) close(timer_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

uint32_t BlockInitiatorImpl::Number() {
  if (options_.number) return *options_.number;
  if (options_.peer) return std::random_device()();  // no other peer of a target may have it
  session_number_.emplace(options_.session);
  return session_number_->value();
}

Status BlockInitiatorImpl::Open(Verbs* verbs) {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return Status::Errno(errno, "epoll_create1");
  timer_fd_ = timerfd_create(kMonotonic, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer_fd_ < 0) return Status::Errno(errno, "timerfd_create");
  Result<std::unique_ptr<CmChannel>> channel = verbs->CreateCmChannel();
  if (!channel.ok()) return channel.status();
  channel_ = *std::move(channel);
  host_.channel = channel_.get();
  Watch(timer_fd_);
  Watch(channel_->event_fd());
  return Status::Ok();
}

void BlockInitiatorImpl::Watch(int fd) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
}

Status BlockInitiatorImpl::SetTarget(const TargetEndpoint& endpoint) {
  if (endpoint.host.empty() || endpoint.port == 0) {
    return Error(EINVAL, "target {} has no address: \"{}\" port {}", endpoint.name, endpoint.host, endpoint.port);
  }
  host_.now_ms = clock_->NowMs();
  connecting_ = true;
  if (auto found = links_.find(endpoint.id); found != links_.end()) {
    found->second->SetEndpoint(endpoint);
    return Status::Ok();
  }
  auto free = std::ranges::find(table_, nullptr);
  if (free == table_.end()) {
    if (table_.size() == kTargetsMax) {
      return Error(ENOSPC, "target {}: more than {} targets", endpoint.name, kTargetsMax);
    }
    free = table_.insert(table_.end(), nullptr);
  }
  auto index = static_cast<uint16_t>(free - table_.begin());
  auto link = std::make_unique<TargetLink>(&host_, endpoint, index);
  table_[index] = link.get();
  links_.emplace(endpoint.id, std::move(link));
  return Status::Ok();
}

void BlockInitiatorImpl::RemoveTarget(uint32_t id) {
  auto found = links_.find(id);
  if (found == links_.end()) return;
  found->second->Abort(EHOSTDOWN);
  std::erase(host_.stirred, found->second.get());
  *std::ranges::find(table_, found->second.get()) = nullptr;
  links_.erase(found);
}

Status BlockInitiatorImpl::Submit(uint32_t target, const BlockCommand& command) {
  auto found = links_.find(target);
  if (found == links_.end()) return Error(ENODEV, "there is no target {}", target);
  uint32_t data_bytes = command.data_bytes();
  uint32_t length_max = command.op == BlockOp::kRead || command.op == BlockOp::kWrite ? kDataBytesMax : kRangeBytesMax;
  uint8_t flags = command.op == BlockOp::kWrite || command.op == BlockOp::kWriteZeroes ? kBlockFua : 0;
  if (options_.peer && !command.answered_by_data()) {
    return Error(EINVAL, "op {} as a peer: READ and CHECKSUMS are possible", static_cast<int>(command.op));
  }
  if (command.flags & ~flags) return Error(EINVAL, "flags {:#x} of op {}", command.flags, static_cast<int>(command.op));
  if (command.op == BlockOp::kFlush) {
    if (command.length_bytes || command.offset_bytes) return Error(EINVAL, "flush with an offset or a length");
  } else if (command.length_bytes == 0 || command.length_bytes % kBlockAlign || command.offset_bytes % kBlockAlign ||
             command.length_bytes > length_max) {
    return Error(EINVAL, "offset {} length {}: multiples of {} are possible, {} at most", command.offset_bytes,
                 command.length_bytes, kBlockAlign, length_max);
  }
  if (data_bytes > 0 &&
      (command.buffer_offset > options_.memory_bytes || data_bytes > options_.memory_bytes - command.buffer_offset)) {
    return Error(EINVAL, "buffer offset {} length {} is outside the registered memory of {} bytes",
                 command.buffer_offset, data_bytes, options_.memory_bytes);
  }
  found->second->Submit(command);
  return Status::Ok();
}

void BlockInitiatorImpl::Kick() {
  for (TargetLink* link : host_.stirred) link->Kick();
  host_.stirred.clear();
}

size_t BlockInitiatorImpl::Poll(std::vector<BlockCompletion>* done) {
  bool found = HandleCompletions() > 0;
  // Every system call counts in the time of a command: what a sleep was ended for is looked for only
  // when it was no completion.
  bool woken = slept_ && !found;
  slept_ = false;
  if (woken || ++turns_ >= turns_per_look_) HandleTime(woken);
  Kick();  // receives to post again, credits that came back
  size_t count = host_.done.size();
  done->insert(done->end(), host_.done.begin(), host_.done.end());
  host_.done.clear();
  while (!host_.news.empty()) {
    auto news = std::move(host_.news);
    host_.news.clear();
    for (const TargetNews& item : news) {
      if (callback_) callback_(item.id, item.path, item.incarnation);
    }
  }
  return count;
}

size_t BlockInitiatorImpl::HandleCompletions() {
  size_t total = 0;
  for (const auto& port : ports_.all()) {
    size_t count;
    do {
      count = port->completions->Poll(batch_);
      for (size_t i = 0; i < count; i++) {
        uint16_t index = TargetLink::IndexOf(batch_[i].id);
        if (index < table_.size() && table_[index]) table_[index]->OnCompletion(batch_[i]);
      }
      total += count;
    } while (count == batch_.size());
  }
  if (total > 0) may_have_events_ = true;
  return total;
}

void BlockInitiatorImpl::HandleCmEvents() {
  CmEvent event;
  while (channel_->NextEvent(&event)) {
    if (event.type == CmEvent::Type::kRequest) continue;  // nobody listens on this channel
    if (TargetLink* link = LinkOf(event.connection)) link->OnEvent(event);
  }
  for (; watched_ports_ < ports_.all().size(); watched_ports_++) {
    Watch(ports_.all()[watched_ports_]->completions->event_fd());
  }
}

TargetLink* BlockInitiatorImpl::LinkOf(const Connection* connection) {
  for (auto& [id, link] : links_) {
    if (link->Owns(connection)) return link.get();
  }
  return nullptr;
}

// Once per millisecond, and when a sleep was ended for something else than a completion.
void BlockInitiatorImpl::HandleTime(bool woken) {
  uint64_t now_ms = clock_->NowMs();
  // When turns are slow, each of them is timed: many of them together are no absence.
  bool slow = now_ms > host_.now_ms + 1 && !std::exchange(armed_, false);
  turns_per_look_ = slow ? 1 : std::min(2 * turns_per_look_, kTurnsPerClockRead);
  turns_ = 0;
  if (now_ms == host_.now_ms && !woken) return;
  host_.now_ms = now_ms;
  if (now_ms > due_ms_ && now_ms - due_ms_ >= kAbsenceMs) {
    uint64_t absent_ms = now_ms - due_ms_;
    for (auto& [id, link] : links_) link->Excuse(absent_ms);
    if (absent_ms >= kAbsenceLoggedMs && !links_.empty()) {
      LogWarning("this thread did not run for {} ms; targets are given as much more time", absent_ms);
    }
  }
  due_ms_ = now_ms;
  if (woken && timer_ms_ <= now_ms) {
    uint64_t expirations;
    if (read(timer_fd_, &expirations, sizeof expirations) > 0) timer_ms_ = UINT64_MAX;
  }
  if (woken || connecting_ || now_ms >= cm_looked_ms_ + kCmLookMs) {
    cm_looked_ms_ = now_ms;
    HandleCmEvents();
  }
  connecting_ = false;
  for (auto& [id, link] : links_) {
    if (link->deadline_ms() <= now_ms) link->OnTime();
    connecting_ = connecting_ || link->connecting();
  }
}

uint64_t BlockInitiatorImpl::NextDeadline() const {
  uint64_t deadline = UINT64_MAX;
  for (const auto& [id, link] : links_) deadline = std::min(deadline, link->deadline_ms());
  return deadline;
}

void BlockInitiatorImpl::SetTimer(uint64_t deadline_ms) {
  if (deadline_ms >= timer_ms_) return;  // it fires early, which costs one turn
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(deadline_ms / 1000);
  spec.it_value.tv_nsec = static_cast<long>(deadline_ms % 1000 * 1000000);
  timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr);
  timer_ms_ = deadline_ms;
}

bool BlockInitiatorImpl::ArmNotify() {
  slept_ = armed_ = true;
  Kick();
  for (const auto& port : ports_.all()) {
    // One that comes after the caller has looked makes event_fd readable, and the next sleep a short one.
    if (port->armed && may_have_events_ && port->completions->TakeEvent()) port->armed = false;
    if (port->armed) continue;
    // What was sent retires with the next answer.
    if (!port->completions->Arm(CompletionQueue::Wake::kSolicited).ok()) return false;
    port->armed = true;
  }
  if (HandleCompletions() || !host_.done.empty() || !host_.news.empty()) return false;
  uint64_t deadline_ms = NextDeadline();
  if (deadline_ms <= clock_->NowMs()) return false;
  if (deadline_ms != UINT64_MAX) SetTimer(deadline_ms);
  due_ms_ = deadline_ms;
  may_have_events_ = true;
  return true;
}

Status Check(const InitiatorOptions& options) {
  if (!options.memory || options.memory_bytes == 0) return Error(EINVAL, "no memory to register");
  if (options.depth_per_target == 0 || options.depth_per_target >= kDepthMax) {
    return Error(EINVAL, "depth_per_target {}: 1 to {} are possible", options.depth_per_target, kDepthMax - 1);
  }
  if (options.peer && options.session) return Error(EINVAL, "session {} of a peer: it has none", options.session);
  if (options.detect_ms == 0) return Error(EINVAL, "detect_ms is 0");
  if (options.cluster_key.empty()) return Error(EINVAL, "no cluster key");
  return Status::Ok();
}

}  // namespace

uint32_t BlockCommand::data_bytes() const {
  if (op == BlockOp::kRead || op == BlockOp::kWrite) return length_bytes;
  return op == BlockOp::kChecksums ? length_bytes / kBlockAlign * sizeof(uint32_t) : 0;
}

Result<std::unique_ptr<BlockInitiator>> BlockInitiator::Create(Verbs* verbs, InitiatorOptions options) {
  if (Status s = Check(options); !s.ok()) return s;
  auto initiator = std::make_unique<BlockInitiatorImpl>(std::move(options));
  if (Status s = initiator->Open(verbs); !s.ok()) return s;
  return std::unique_ptr<BlockInitiator>(std::move(initiator));
}

}  // namespace weft::rdma
