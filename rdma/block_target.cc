// SPDX-License-Identifier: MIT
#include "rdma/block_target.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rdma/block_target_engine.h"

namespace weft::rdma {
namespace {

constexpr int kBacklog = 128;
constexpr unsigned kTurnsPerClockRead = 16;
constexpr uint64_t kCheckMs = 1000;  // how often time limits are looked at

Status Check(const BlockTargetOptions& options) {
  if (options.cluster_key.empty()) return Error(EINVAL, "no cluster key");
  if (options.depth_max < 2 || options.depth_max > kDepthMax) {
    return Error(EINVAL, "depth of {}: 2 to {} are possible", options.depth_max, kDepthMax);
  }
  if (options.depth_total < options.depth_max || options.depth_total > 65536) {
    return Error(EINVAL, "total depth of {}: {} to 65536 are possible", options.depth_total, options.depth_max);
  }
  if (options.inline_max > kInlineBytesMax) {
    return Error(EINVAL, "inline maximum of {} bytes: {} at most", options.inline_max, kInlineBytesMax);
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<BlockTarget>> BlockTarget::Create(Verbs* verbs, BlockBackend* backend, Fence* fence,
                                                         BlockTargetOptions options) {
  if (Status s = Check(options); !s.ok()) return s;
  auto engine = std::make_unique<BlockTargetEngine>(backend, fence, std::move(options));
  if (Status s = engine->Open(verbs); !s.ok()) return s;
  return std::unique_ptr<BlockTarget>(std::move(engine));
}

BlockTargetEngine::BlockTargetEngine(BlockBackend* backend, Fence* fence, BlockTargetOptions options)
    : options_(std::move(options)),
      backend_(backend),
      fence_(fence),
      replies_(size_t{options_.depth_total} * kHeldPerCredit * kCompletionBytes),
      commands_(size_t{options_.depth_total} * kHeldPerCredit),
      waiting_(commands_.size()),
      credits_free_(options_.depth_total) {
  clock_ = options_.clock ? options_.clock : &steady_clock_;
  now_ms_ = clock_->NowMs();
  free_commands_.reserve(commands_.size());
  for (size_t i = commands_.size(); i > 0; i--) free_commands_.push_back(static_cast<uint32_t>(i - 1));
}

Status BlockTargetEngine::Open(Verbs* verbs) {
  Result<std::unique_ptr<BufferPool>> pool = BufferPool::Create(options_.buffer_bytes);
  if (!pool.ok()) return pool.status();
  pool_ = *std::move(pool);
  if (Status s = backend_->AddBuffer(pool_->memory(), pool_->bytes()); !s.ok()) return s;
  Result<std::unique_ptr<CmChannel>> channel = verbs->CreateCmChannel();
  if (!channel.ok()) return channel.status();
  channel_ = *std::move(channel);
  backend_->Watch(channel_->event_fd(), &cm_ready_);
  Result<std::unique_ptr<Listener>> listener = channel_->Listen(options_.host, options_.port, kBacklog);
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  return Status::Ok();
}

BlockTargetEngine::~BlockTargetEngine() {
  listener_.reset();
  while (!by_number_.empty()) DropQuietly(by_number_.begin()->second);
  while (!connections_.empty() || !own_.empty()) {  // the storage still writes to or from our memory
    backend_->Kick();
    if (HandleBackend() == 0 && backend_->Arm()) backend_->Wait(-1);
  }
}

size_t BlockTargetEngine::Poll() {
  if (slept_) now_ms_ = clock_->NowMs();  // what comes now is not as old as the last look at the clock
  size_t work = HandleWorkCompletions();
  work += ServePlaces();
  backend_->Kick();
  work += HandleBackend();
  work += ServePlaces();
  FlushSends();
  if (cm_ready_) {
    cm_ready_ = false;
    HandleCmEvents();
    FlushSends();
    work++;
  }
  if (slept_ || ++turns_ % kTurnsPerClockRead == 0) HandleTime();
  slept_ = false;
  return work;
}

size_t BlockTargetEngine::HandleWorkCompletions() {
  size_t total = 0;
  for (const auto& port : ports_) {
    size_t count = port->completions()->Poll(completions_);
    total += count;
    for (size_t i = 0; i < count; i++) {
      const WorkCompletion& completion = completions_[i];
      auto found = by_number_.find(completion.connection);
      ServedConnection* connection = found == by_number_.end() ? nullptr : found->second;
      if (completion.receive) {
        auto slot = static_cast<uint32_t>(completion.id);
        port->Taken(slot);
        if (connection) {
          OnMessage(connection, slot, completion.bytes);
        } else {
          port->GiveBack(slot);
        }
      } else if (completion.status != WorkStatus::kSuccess) {
        if (ServedConnection::KindOf(completion.id) == ServedConnection::SendKind{}) {  // a receive: its slot is ours
          auto slot = static_cast<uint32_t>(completion.id);
          port->Taken(slot);
          port->GiveBack(slot);
        }
        if (connection) Drop(connection, completion.detail);
      } else if (connection) {
        OnSent(connection, completion.id);
      }
    }
    if (Status s = port->PostReturned(); !s.ok()) limiter_.Warn(now_ms_, s.message());
  }
  return total;
}

size_t BlockTargetEngine::HandleBackend() {
  size_t count = backend_->Poll(backend_done_);
  for (size_t i = 0; i < count; i++) {
    if ((backend_done_[i].cookie & kOwnCookie) == 0) {
      OnBackendDone(static_cast<uint32_t>(backend_done_[i].cookie), backend_done_[i].result);
    } else if (auto own = own_.extract(backend_done_[i].cookie)) {
      own.mapped()(backend_done_[i].result);
    }
  }
  return count;
}

void BlockTargetEngine::Execute(const BackendRequest& request, std::function<void(int32_t)> done) {
  BackendRequest own = request;
  own.cookie = own_next_++;
  own_.emplace(own.cookie, std::move(done));
  backend_->Submit(own);
}

void BlockTargetEngine::FlushSends() {
  for (size_t i = 0; i < touched_.size(); i++) {
    ServedConnection* connection = touched_[i];
    if (!connection) continue;  // dropped meanwhile
    connection->touched = false;
    if (Status s = connection->Flush(); !s.ok()) {
      touched_[i] = nullptr;
      Drop(connection, s.message());
      continue;
    }
    if (connection->blocked == connection->has_queued()) continue;
    connection->blocked = connection->has_queued();
    connections_blocked_ += connection->blocked ? 1 : -1;
  }
  touched_.clear();
}

void BlockTargetEngine::Touch(ServedConnection* connection) {
  if (!connection->touched) touched_.push_back(connection);
  connection->touched = true;
}

void BlockTargetEngine::HandleTime() {
  now_ms_ = clock_->NowMs();
  if (now_ms_ < next_check_ms_) return;
  next_check_ms_ = now_ms_ + kCheckMs;
  std::vector<ServedConnection*> all;
  for (const auto& [number, connection] : by_number_) all.push_back(connection);
  for (ServedConnection* connection : all) CheckSilence(connection);
}

bool BlockTargetEngine::Arm(int* timeout_ms) {
  slept_ = true;
  for (const auto& port : ports_) {
    if (std::exchange(port->event_ready, false) && port->completions()->TakeEvent()) port->armed.reset();
    auto wake = NeedsSends() ? CompletionQueue::Wake::kAny : CompletionQueue::Wake::kSolicited;
    if (port->armed && *port->armed >= wake) continue;
    if (!port->completions()->Arm(wake).ok()) return false;
    port->armed = wake;
  }
  if (HandleWorkCompletions() || !touched_.empty() || !backend_->Arm()) return false;
  if (options_.places && options_.places->HasReady()) return false;
  *timeout_ms = by_number_.empty() ? -1 : static_cast<int>(kCheckMs);
  return true;
}

}  // namespace weft::rdma
