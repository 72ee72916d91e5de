// SPDX-License-Identifier: MIT
//
// The engine's threads, and the services over real connections.
#include <cerrno>
#include <future>
#include <sys/stat.h>

#include "thrift-gen/meta_constants.h"
#include "userland/base/log.h"
#include "userland/meta/engine.h"
#include "userland/meta/services.h"
#include "userland/meta/test_server.h"
#include "userland/rpc/client.h"
#include "userland/rpc/server.h"

namespace weft {
namespace {

constexpr int64_t kRoot = static_cast<int64_t>(kRootIno);

// A store whose commits wait for permission.
class GatedStore final : public Store {
 public:
  Status Get(std::string_view key, std::string* value, bool* found) override { return store_.Get(key, value, found); }
  Status Scan(std::string_view from, std::string_view to, const Visitor& visit) override {
    return store_.Scan(from, to, visit);
  }
  Result<std::unique_ptr<StoreReader>> Snapshot() override { return store_.Snapshot(); }
  Status Commit(const Changes& changes) override {
    {
      std::unique_lock lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    }
    return store_.Commit(changes);
  }

  void SetOpen(bool open) {
    std::lock_guard lock(mutex_);
    open_ = open;
    waiting_ = 0;
    changed_.notify_all();
  }
  void AwaitCommit() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }
  MemoryStore& memory() { return store_; }

 private:
  MemoryStore store_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0;
};

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(InitLog("meta_test", "critical").ok());
    auto machine = StateMachine::Open(&store_, options_, Engine::SystemClock());
    ASSERT_TRUE(machine.ok());
    engine_ = std::make_unique<Engine>(*std::move(machine), Engine::SystemClock,
                                       [this](const Status& status) { failure_.set_value(status); });
    auto server = RpcServer::Listen({"127.0.0.1", 0}, MakeMetaProcessor(engine_.get(), options_.lease_ms));
    ASSERT_TRUE(server.ok());
    server_ = *std::move(server);
  }
  void TearDown() override {
    store_.SetOpen(true);
    engine_->StopEvents();
    server_->Stop();
    engine_->Stop();
  }

  Status Register(const std::string& name) {
    RpcClient<idl::TargetServiceClient> target(server_->address(), kTargetService);
    return target
        .Call([&](idl::TargetServiceClient& service) {
          idl::TargetOrders orders;
          service.registerTarget(orders, TestServer::TargetArgs(name, 64 << 20));
          return orders;
        })
        .status();
  }
  void Form() {
    ASSERT_TRUE(Register("t1").ok());
    RpcClient<idl::AdminServiceClient> admin(server_->address(), kAdminService);
    auto pool = admin.Call([&](idl::AdminServiceClient& service) {
      idl::PoolStatus status;
      service.createPool(status, {});
      return status;
    });
    ASSERT_TRUE(pool.ok()) << pool.status().message();
    RpcClient<idl::MetaServiceClient> meta(server_->address(), kMetaService);
    auto session = Open(&meta, "c1");
    ASSERT_TRUE(session.ok()) << session.status().message();
    session_ = *session;
  }
  using MetaClient = RpcClient<idl::MetaServiceClient>;
  Result<idl::Session> Open(MetaClient* meta, const std::string& client) {
    return meta->Call([&](idl::MetaServiceClient& service) {
      idl::Session session;
      service.openSession(session, TestServer::ClientArgs(client));
      return session;
    });
  }
  Result<std::vector<idl::Reply>> Execute(MetaClient* meta, const std::vector<idl::Request>& requests) {
    return meta->Call([&](idl::MetaServiceClient& service) {
      std::vector<idl::Reply> replies;
      service.execute(replies, session_.id, requests);
      return replies;
    });
  }
  Result<idl::Events> NextEvents(MetaClient* meta, int wait_ms) {
    return meta->Call([&](idl::MetaServiceClient& service) {
      idl::Events events;
      service.nextEvents(events, session_.id, session_.targets.version, wait_ms, INT64_MAX);
      return events;
    });
  }
  static idl::Request MakeRequest(int slot, int64_t seq, const idl::Operation& operation) {
    idl::Request request;
    request.slot = slot;
    request.seq = seq;
    request.op = operation;
    return request;
  }

  GatedStore store_;
  MetaOptions options_;
  std::promise<Status> failure_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<RpcServer> server_;
  idl::Session session_;
};

TEST_F(EngineTest, QueuedTasksShareABatch) {
  Form();
  store_.SetOpen(false);
  auto touch = [&](int64_t seq) {
    return engine_->Run([&](StateMachine& m) {
      m.Execute(session_.id, MakeRequest(0, seq, op::Create(kRoot, std::to_string(seq), S_IFREG)));
      return Status::Ok();
    });
  };
  auto first = std::async(std::launch::async, touch, 1);
  store_.AwaitCommit();
  uint64_t commits = store_.memory().commits();
  std::vector<std::future<Status>> others;
  for (int i = 0; i < 5; ++i) others.push_back(std::async(std::launch::async, touch, 2 + i));
  while (engine_->queued() < others.size()) std::this_thread::yield();
  EXPECT_EQ(first.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout) << "no answer before the sync";
  store_.SetOpen(true);
  EXPECT_TRUE(first.get().ok());
  for (auto& other : others) EXPECT_TRUE(other.get().ok());
  EXPECT_EQ(store_.memory().commits(), commits + 2);
}

TEST_F(EngineTest, ReadingCommitsNothing) {
  Form();
  uint64_t commits = store_.memory().commits();
  MetaClient meta(server_->address(), kMetaService);
  auto replies = Execute(&meta, {MakeRequest(0, 0, op::GetAttr(kRoot)), MakeRequest(0, 0, op::Lookup(kRoot, "x"))});
  ASSERT_TRUE(replies.ok());
  EXPECT_EQ(replies->at(0).attr.ino, kRoot);
  EXPECT_EQ(replies->at(1).error, ENOENT);
  EXPECT_EQ(store_.memory().commits(), commits);
}

TEST_F(EngineTest, FailedCommitStopsTheServer) {
  Form();
  store_.memory().set_fault(MemoryStore::Fault::kLoseCommit);
  MetaClient meta(server_->address(), kMetaService);
  auto replies = Execute(&meta, {MakeRequest(0, 1, op::Create(kRoot, "f", S_IFREG | 0644))});
  EXPECT_EQ(replies.status().code(), EIO) << "the client must not believe it";
  EXPECT_EQ(failure_.get_future().get().code(), EIO);
  EXPECT_EQ(Execute(&meta, {MakeRequest(0, 0, op::GetAttr(kRoot))}).status().code(), EIO);
}

TEST_F(EngineTest, LongPollWakesWhenTheMapChanges) {
  Form();
  MetaClient meta(server_->address(), kMetaService);
  auto begin = std::chrono::steady_clock::now();
  auto events = NextEvents(&meta, 50);
  ASSERT_TRUE(events.ok());
  EXPECT_FALSE(events->__isset.targets);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(50));

  auto poll = std::async(std::launch::async, [&] { return NextEvents(&meta, 10'000); });
  RpcClient<idl::TargetServiceClient> target(server_->address(), kTargetService);
  ASSERT_TRUE(target
                  .Call([&](idl::TargetServiceClient& service) {
                    idl::TargetOrders orders;
                    idl::RegisterTargetArgs args = TestServer::TargetArgs("t1", 64 << 20);
                    args.port = 1234;
                    service.registerTarget(orders, args);
                    return orders;
                  })
                  .ok());
  events = poll.get();
  ASSERT_TRUE(events.ok());
  ASSERT_TRUE(events->__isset.targets);
  EXPECT_EQ(events->targets.targets.at(0).port, 1234);
}

TEST_F(EngineTest, LongPollEndsWithTheSession) {
  Form();
  MetaClient meta(server_->address(), kMetaService);
  auto poll = std::async(std::launch::async, [&] { return NextEvents(&meta, 10'000); });
  RpcClient<idl::AdminServiceClient> admin(server_->address(), kAdminService);
  ASSERT_TRUE(admin.Call([&](idl::AdminServiceClient& service) { service.evictSession(session_.id, false); }).ok());
  EXPECT_EQ(poll.get().status().code(), ESTALE);
  EXPECT_EQ(Execute(&meta, {}).status().code(), ESTALE);
}

TEST_F(EngineTest, StopEndsLongPollsAndAnswersThem) {
  Form();
  MetaClient meta(server_->address(), kMetaService);
  auto poll = std::async(std::launch::async, [&] { return NextEvents(&meta, 10'000); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // either way it must end; usually it waits by now
  engine_->StopEvents();
  server_->Stop();
  EXPECT_TRUE(poll.get().ok());
  engine_->Stop();
  EXPECT_EQ(engine_->Run([](StateMachine&) { return Status::Ok(); }).code(), ESHUTDOWN);
}

TEST_F(EngineTest, VersionNamesWhatIsServed) {
  RpcClient<idl::AdminServiceClient> admin(server_->address(), kAdminService);
  auto version = admin.Call([](idl::AdminServiceClient& service) {
    idl::Version v;
    service.version(v);
    return v;
  });
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->protocol, idl::g_meta_constants.PROTOCOL_VERSION);
  EXPECT_FALSE(version->software.empty());
}

}  // namespace
}  // namespace weft
