// SPDX-License-Identifier: MIT
#include "userland/agent/meta_dispatcher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "userland/agent/block_request.h"
#include "userland/base/log.h"

namespace weft::agent {
namespace {

constexpr int kErrnoMax = 4095;  // what the kernel takes for an error

// The result of a request that the server could not carry out at all.
int32_t ResultOf(const Status& status) { return status.code() <= kErrnoMax ? -status.code() : -EIO; }

}  // namespace

MetaDispatcher::MetaDispatcher(const channel::Channel* channel, SessionKeeper* session, const Address& server,
                               std::shared_ptr<MetaServerHealth> health, size_t connections)
    : channel_(channel), session_(session), workers_(connections) {
  waiting_.reserve(WEFT_META_SLOTS);
  for (Worker& worker : workers_) {
    worker.link = std::make_unique<MetaLink>(server, health);
    worker.message.resize(WEFT_META_REQ_BYTES);
  }
}

MetaDispatcher::~MetaDispatcher() { Stop(std::chrono::milliseconds(0)); }

void MetaDispatcher::Start() {
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker* worker = &workers_[i];
    worker->thread = std::thread([this, worker] { Main(worker); });
    pthread_setname_np(worker->thread.native_handle(), fmt::format("weftd/meta{}", i).c_str());
  }
}

void MetaDispatcher::Submit(channel::Queue* queue, const weft_sqe& sqe) {
  std::lock_guard lock(mutex_);
  waiting_.push_back({.queue = queue, .sqe = sqe, .call = {}});
  ++unfinished_;
  work_.notify_one();
}

size_t MetaDispatcher::Stop(std::chrono::milliseconds grace) {
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, grace, [&] { return unfinished_ == 0; });
  stopping_ = true;
  work_.notify_all();
  lock.unlock();
  for (Worker& worker : workers_) worker.link->Interrupt();
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
  }
  return unfinished_;
}

void MetaDispatcher::Main(Worker* worker) {
  for (;;) {
    std::vector<Task> tasks = Take();
    if (tasks.empty()) return;
    if (!Serve(worker, &tasks)) return;
    std::lock_guard lock(mutex_);
    unfinished_ -= tasks.size();
    if (unfinished_ == 0) idle_.notify_all();
  }
}

std::vector<MetaDispatcher::Task> MetaDispatcher::Take() {
  std::unique_lock lock(mutex_);
  work_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
  if (stopping_) return {};
  size_t count = std::min(waiting_.size(), kBatchMax);
  std::vector<Task> tasks(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.begin() + count));
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  return tasks;
}

bool MetaDispatcher::Serve(Worker* worker, std::vector<Task>* tasks) {
  std::vector<Task*> batch;
  std::vector<Task*> alone;
  for (Task& task : *tasks) {
    if (Status s = Decode(worker, &task); !s.ok()) {
      Refuse(task, s);
      Complete(task, -EINVAL);
    } else if (task.call.op == WEFT_META_MOUNT || task.call.op == WEFT_META_UNMOUNT) {
      alone.push_back(&task);
    } else {
      batch.push_back(&task);
    }
  }
  if (!batch.empty() && !Execute(worker, batch)) return false;
  for (Task* task : alone) {
    bool answered = task->call.op == WEFT_META_MOUNT ? Mount(worker, *task) : Unmount(worker, *task);
    if (!answered) return false;
  }
  return true;
}

Status MetaDispatcher::Decode(Worker* worker, Task* task) {
  const weft_sqe& sqe = task->sqe;
  if (Status s = CheckMetaRequest(sqe, channel_->pool().size()); !s.ok()) return s;
  // A copy: what was checked cannot change afterwards.
  std::span<std::byte> message(worker->message.data(), sqe.length);
  memcpy(message.data(), channel_->pool().data() + sqe.buf, sqe.length);
  if (Status s = DecodeRequest(message, &task->call); !s.ok()) return s;
  task->call.request.__set_slot(static_cast<int32_t>(sqe.meta_slot));
  task->call.request.__set_seq(static_cast<int64_t>(sqe.meta_seq));
  return {};
}

bool MetaDispatcher::Execute(Worker* worker, const std::vector<Task*>& batch) {
  int64_t session = session_->live_session();
  std::vector<int32_t> results(batch.size(), -ESTALE);
  if (session == 0) {
    CompleteAll(batch, results);
    return true;
  }
  std::vector<idl::Request> requests;
  requests.reserve(batch.size());
  for (Task* task : batch) requests.push_back(task->call.request);
  auto replies = worker->link->Call([&](MetaLink::Service& service) {
    std::vector<idl::Reply> answer;
    service.execute(answer, session, requests);
    return answer;
  });
  if (replies.ok() && replies->size() != batch.size()) {
    replies = Error(EIO, "metadata server {}: {} replies to {} requests", worker->link->server().ToString(),
                    replies->size(), batch.size());
  }
  if (!replies.ok()) {
    const Status& why = replies.status();
    if (why.code() == ECANCELED) return false;
    if (why.code() == ESTALE) session_->Ended(session);
    if (why.code() != ESTALE) Refuse(*batch[0], why);
    std::fill(results.begin(), results.end(), why.code() == EPROTO ? -EIO : ResultOf(why));
  } else {
    for (size_t i = 0; i < batch.size(); ++i) results[i] = Encode(*batch[i], (*replies)[i]);
  }
  CompleteAll(batch, results);
  return true;
}

bool MetaDispatcher::Mount(Worker* worker, const Task& task) {
  Result<idl::Session> session = session_->Open(worker->link.get());
  Result<size_t> bytes = session.ok() ? EncodeMount(*session, ReplyOf(task)) : session.status();
  if (!session.ok() && session.status().code() == ECANCELED) return false;
  if (session.ok() && !bytes.ok()) {
    Status closed = session_->Close(worker->link.get());
    if (!closed.ok()) LogWarning("closing session {}: {}", session->id, closed.message());
  }
  if (!bytes.ok()) LogError("mount: {}", bytes.status().message());
  Complete(task, bytes.ok() ? static_cast<int32_t>(*bytes) : ResultOf(bytes.status()));
  return true;
}

bool MetaDispatcher::Unmount(Worker* worker, const Task& task) {
  Status closed = session_->Close(worker->link.get());
  if (closed.code() == ECANCELED) return false;
  if (!closed.ok()) LogError("unmount: {}", closed.message());
  Complete(task, closed.ok() ? 0 : ResultOf(closed));
  return true;
}

std::span<std::byte> MetaDispatcher::ReplyOf(const Task& task) const {
  return channel_->pool().subspan(task.sqe.buf + WEFT_META_REQ_BYTES, WEFT_META_REP_BYTES);
}

int32_t MetaDispatcher::Encode(const Task& task, const idl::Reply& reply) {
  if (reply.error > 0 && reply.error <= kErrnoMax) return -reply.error;
  Result<size_t> bytes = reply.error == 0 ? EncodeReply(task.call, reply, ReplyOf(task))
                                          : Error(EIO, "{}: error {}", MetaOpName(task.call.op), reply.error);
  if (bytes.ok()) return static_cast<int32_t>(*bytes);
  Refuse(task, bytes.status().Annotate("reply of the metadata server"));
  return -EIO;
}

void MetaDispatcher::Complete(const Task& task, int32_t result) {
  weft_cqe cqe = {};
  cqe.tag = task.sqe.tag;
  cqe.epoch = channel_->epoch();
  cqe.result = result;
  if (Status s = task.queue->Complete({&cqe, 1}); !s.ok()) LogError("{}", s.message());
}

void MetaDispatcher::CompleteAll(const std::vector<Task*>& batch, const std::vector<int32_t>& results) {
  // One system call for each queue that the requests came from.
  std::vector<weft_cqe> cqes;
  cqes.reserve(batch.size());
  for (size_t q = 0; q < channel_->queue_count(); ++q) {
    channel::Queue* queue = channel_->queue(q);
    cqes.clear();
    for (size_t i = 0; i < batch.size(); ++i) {
      if (batch[i]->queue != queue) continue;
      weft_cqe cqe = {};
      cqe.tag = batch[i]->sqe.tag;
      cqe.epoch = channel_->epoch();
      cqe.result = results[i];
      cqes.push_back(cqe);
    }
    if (Status s = queue->Complete(cqes); !s.ok()) LogError("{}", s.message());
  }
}

void MetaDispatcher::Refuse(const Task& task, const Status& why) {
  std::lock_guard lock(mutex_);
  uint64_t missed = 0;
  if (!refusals_.Pass(&missed)) return;
  LogError("metadata request tag={:#x}: {} (and {} more)", task.sqe.tag, why.message(), missed);
}

}  // namespace weft::agent
