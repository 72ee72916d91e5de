// SPDX-License-Identifier: MIT
#include "userland/agent/fake_meta_service.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <utility>

#include <thrift/processor/TMultiplexedProcessor.h>
#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/transport/TBufferTransports.h>

#include "userland/rpc/client.h"

namespace weft::agent {
namespace {

constexpr int64_t kFirstSession = 5;
constexpr auto kPatience = std::chrono::seconds(20);

[[noreturn]] void Throw(int code, const std::string& message) {
  idl::ServiceError error;
  error.__set_code(code);
  error.__set_message(message);
  throw error;
}

// Set by a handler: the reply of the call that this thread serves is lost, and its connection with it.
thread_local bool drop_reply = false;

class LossyProcessor : public apache::thrift::TProcessor {
 public:
  using Protocol = apache::thrift::protocol::TProtocol;
  explicit LossyProcessor(std::shared_ptr<apache::thrift::TProcessor> inner) : inner_(std::move(inner)) {}

  bool process(std::shared_ptr<Protocol> in, std::shared_ptr<Protocol> out, void* context) override {
    auto reply = std::make_shared<apache::thrift::transport::TMemoryBuffer>();
    auto reply_protocol = std::make_shared<apache::thrift::protocol::TCompactProtocol>(reply);
    bool more = inner_->process(in, reply_protocol, context);
    if (std::exchange(drop_reply, false)) return false;
    uint8_t* bytes = nullptr;
    uint32_t count = 0;
    reply->getBuffer(&bytes, &count);
    out->getTransport()->write(bytes, count);
    out->getTransport()->flush();
    return more;
  }

 private:
  const std::shared_ptr<apache::thrift::TProcessor> inner_;
};

}  // namespace

class FakeMetaService::Handler : public idl::MetaServiceIf {
 public:
  explicit Handler(FakeMetaService* fake) : fake_(fake) {}

  void openSession(idl::Session& reply, const idl::OpenSessionArgs& args) override {
    std::lock_guard lock(fake_->mutex_);
    if (fake_->refuse_open_ != 0) Throw(fake_->refuse_open_, "session 1 of host other is alive");
    if (args.client.size() != 16) Throw(EINVAL, "client");
    if (fake_->session_ == 0) fake_->session_ = kFirstSession + static_cast<int64_t>(fake_->closed_);
    ++fake_->opened_;
    reply = fake_->MakeSession();
  }

  void reclaimSession(idl::Session& reply, const int64_t session) override {
    std::lock_guard lock(fake_->mutex_);
    ++fake_->reclaimed_;
    if (fake_->session_ == 0 && fake_->opened_ == 0) fake_->session_ = session;  // of an agent before this test
    Check(session);
    reply = fake_->MakeSession();
  }

  void closeSession(const int64_t session) override {
    std::lock_guard lock(fake_->mutex_);
    ++fake_->closed_;
    fake_->session_ = 0;
  }

  void execute(std::vector<idl::Reply>& replies, const int64_t session,
               const std::vector<idl::Request>& requests) override {
    std::unique_lock lock(fake_->mutex_);
    ++fake_->calls_;
    fake_->largest_batch_ = std::max(fake_->largest_batch_, requests.size());
    fake_->changed_.notify_all();
    fake_->changed_.wait(lock, [&] { return !fake_->blocked_ || fake_->killed_; });
    Check(session);
    for (const idl::Request& request : requests) replies.push_back(One(request));
    drop_reply = std::exchange(fake_->lose_reply_, false);
  }

  void chunksSettled(const int64_t session, const int64_t version) override {
    std::lock_guard lock(fake_->mutex_);
    Check(session);
    fake_->settled_ = version;
    fake_->changed_.notify_all();
  }

  void nextEvents(idl::Events& events, const int64_t session, const int64_t version, const int32_t wait_ms,
                  const int64_t chunks_version) override {
    std::unique_lock lock(fake_->mutex_);
    ++fake_->event_calls_;
    fake_->changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] {
      return fake_->map_version_ > version || fake_->chunks_version_ > chunks_version || fake_->session_ != session ||
             fake_->killed_;
    });
    Check(session);
    if (fake_->map_version_ > version) events.__set_targets(fake_->MakeMap());
    std::vector<idl::Chunk> changed;
    for (const auto& [index, chunk] : fake_->chunks_) {
      if (chunk.version > chunks_version) changed.push_back(chunk);
    }
    if (!changed.empty()) events.__set_chunks(changed);
    events.chunks_version = fake_->chunks_version_;
  }

 private:
  void Check(int64_t session) {
    if (session == 0 || session != fake_->session_) Throw(ESTALE, fmt::format("session {} is unknown", session));
  }

  idl::Reply One(const idl::Request& request) {
    auto replay = fake_->replies_.find({request.slot, request.seq});
    if (request.seq != 0 && replay != fake_->replies_.end()) return replay->second;
    ++fake_->executed_;
    idl::Reply reply = fake_->execute_(request);
    if (request.seq != 0) fake_->replies_[{request.slot, request.seq}] = reply;
    return reply;
  }

  FakeMetaService* const fake_;
};

FakeMetaService::FakeMetaService() : handler_(std::make_shared<Handler>(this)) {
  execute_ = [](const idl::Request&) {
    idl::Reply reply;
    idl::Attr attr;
    attr.ino = 77;
    attr.mode = S_IFREG | 0644;
    attr.nlink = 1;
    reply.__set_attr(attr);
    return reply;
  };
  Restart();
}

FakeMetaService::~FakeMetaService() { Kill(); }

void FakeMetaService::Kill() {
  {
    std::lock_guard lock(mutex_);
    killed_ = true;
    changed_.notify_all();
  }
  server_ = nullptr;
}

void FakeMetaService::Restart() {
  {
    std::lock_guard lock(mutex_);
    killed_ = false;
  }
  auto processor = std::make_shared<apache::thrift::TMultiplexedProcessor>();
  processor->registerProcessor(std::string(kMetaService), std::make_shared<idl::MetaServiceProcessor>(handler_));
  auto server = RpcServer::Listen(address_, std::make_shared<LossyProcessor>(processor));
  if (!server.ok()) throw std::runtime_error(server.status().message());
  server_ = *std::move(server);
  address_ = server_->address();
}

void FakeMetaService::OnExecute(std::function<idl::Reply(const idl::Request&)> handler) {
  std::lock_guard lock(mutex_);
  execute_ = std::move(handler);
}

void FakeMetaService::LoseNextReply() {
  std::lock_guard lock(mutex_);
  lose_reply_ = true;
}

void FakeMetaService::Block(bool block) {
  std::lock_guard lock(mutex_);
  blocked_ = block;
  changed_.notify_all();
}

void FakeMetaService::RefuseOpen(int code) {
  std::lock_guard lock(mutex_);
  refuse_open_ = code;
}

void FakeMetaService::EndSession() {
  std::lock_guard lock(mutex_);
  session_ = 0;
  changed_.notify_all();
}

void FakeMetaService::SetTargets(std::vector<int32_t> ids) {
  std::lock_guard lock(mutex_);
  targets_ = std::move(ids);
  ++map_version_;
  changed_.notify_all();
}

void FakeMetaService::SetChunk(const idl::Chunk& chunk) {
  std::lock_guard lock(mutex_);
  idl::Chunk& stored = chunks_[chunk.index] = chunk;
  stored.version = static_cast<int32_t>(++chunks_version_);
  changed_.notify_all();
}

void FakeMetaService::DeleteChunk(int64_t index) {
  std::lock_guard lock(mutex_);
  chunks_.erase(index);
  ++chunks_version_;
  changed_.notify_all();
}

bool FakeMetaService::WaitForBatch(size_t requests) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return largest_batch_ >= requests; });
}

bool FakeMetaService::WaitForCalls(size_t executes) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return calls_ >= executes; });
}

int64_t FakeMetaService::settled() const { return std::lock_guard(mutex_), settled_; }

bool FakeMetaService::WaitForSettled(int64_t version) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return settled_ >= version; });
}

size_t FakeMetaService::executed() const { return std::lock_guard(mutex_), executed_; }
size_t FakeMetaService::opened() const { return std::lock_guard(mutex_), opened_; }
size_t FakeMetaService::closed() const { return std::lock_guard(mutex_), closed_; }
size_t FakeMetaService::event_calls() const { return std::lock_guard(mutex_), event_calls_; }
size_t FakeMetaService::reclaimed() const { return std::lock_guard(mutex_), reclaimed_; }

idl::TargetMap FakeMetaService::MakeMap() const {
  idl::TargetMap map;
  map.version = map_version_;
  for (int32_t id : targets_) {
    idl::TargetAddress target;
    target.id = id;
    target.uuid = std::string(16, static_cast<char>(id));
    target.name = fmt::format("t{}", id);
    target.host = "10.0.0.1";
    target.port = 7471;
    target.weight = 100;
    target.zone = id % 2 == 0 ? "even" : "odd";
    target.up = true;
    map.targets.push_back(target);
  }
  return map;
}

idl::Session FakeMetaService::MakeSession() const {
  idl::Session session;
  session.id = session_;
  session.root_ino = 1;
  session.pool_blocks = 1 << 20;
  session.chunk_blocks = 1 << 14;
  session.copies = 2;
  session.cluster_uuid = std::string(16, 'c');
  session.lease_ms = FakeMetaService::kLeaseMs;
  session.root.ino = 1;
  session.root.mode = S_IFDIR | 0755;
  session.root.nlink = 2;
  session.targets = MakeMap();
  session.chunks_version = chunks_version_;
  return session;
}

}  // namespace weft::agent
