// SPDX-License-Identifier: MIT
//
// Sessions that have ended while NVMe-oF targets may still get requests of them.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <future>
#include <latch>
#include <mutex>
#include <optional>

#include <gmock/gmock.h>

#include "userland/meta/fencer.h"
#include "userland/meta/test_server.h"

namespace weft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kLeaseMs = 30'000;
constexpr int64_t kDrainMs = 12'000;

MetaOptions WithCommand() {
  MetaOptions options = WithoutUpkeep();
  options.fence_command = true;
  return options;
}

// A pool of one target of ours and one of kind nvmeof, and the session of "c1".
class Fencing {
 public:
  explicit Fencing(const MetaOptions& options) : server(options) {
    EXPECT_TRUE(server.Register(TestServer::TargetArgs("t1", 64 * kMiB)).ok());
    auto args = Nvme();
    args.host = "";
    args.port = 0;
    EXPECT_TRUE(server.Run([&](StateMachine& m) { return m.AddNvmeTarget(args); }).ok());
    EXPECT_TRUE(server.CreatePool(2, 4 * kMiB).ok());
    auto session = Open("c1");
    EXPECT_TRUE(session.ok()) << session.status().message();
    server.set_session(session->id);
    Report(false);
  }

  static idl::RegisterTargetArgs Nvme() {
    idl::RegisterTargetArgs args = TestServer::TargetArgs("n1", 64 * kMiB);
    idl::NvmeNamespace nvme;
    nvme.uris = {"nvme+tcp://10.0.0.1/nqn.n1?nsid=1", "nvme+tcp://10.0.0.2/nqn.n1?nsid=1"};
    nvme.uuid = std::string(16, 'u');
    nvme.nguid = std::string(16, 'g');
    nvme.nsid = 1;
    args.__set_nvme(nvme);
    return args;
  }
  // By the gateway of the client.
  void Report(bool reserved) {
    EXPECT_TRUE(server.Register(Nvme()).ok());
    idl::TargetReport report;
    report.reserved = reserved;
    EXPECT_TRUE(server.Run([&](StateMachine& m) { return m.Heartbeat(Nvme().uuid, report, Nvme().instance); }).ok());
  }
  static idl::OpenSessionArgs Client(const std::string& name) {
    idl::OpenSessionArgs args = TestServer::ClientArgs(name);
    args.hostnqn = "nqn.host-of-" + name;
    args.nvme_drain_ms = kDrainMs;
    return args;
  }
  Result<idl::Session> Open(const std::string& name) {
    return server.Run([&](StateMachine& m) { return m.OpenSession(Client(name)); });
  }
  Status Renew() {
    return server.Run([&](StateMachine& m) { return m.CheckSession(server.session()); });
  }
  Status Evict(bool host_is_off = false) {
    return server.Run([&](StateMachine& m) { return m.EvictSession(server.session(), host_is_off); });
  }
  idl::PoolStatus Pool() {
    return server.Run([](StateMachine& m) { return m.PoolStatus(); });
  }
  std::string FenceOf(const std::string& name) {
    idl::PoolStatus pool = Pool();
    return std::ranges::find(pool.targets, name, &idl::TargetInfo::name)->fence;
  }
  bool Leased(const std::string& session_of, const std::string& name) {
    auto session = Open(session_of);
    return session.ok() && std::ranges::find(session->targets.targets, name, &idl::TargetAddress::name)->leased;
  }
  std::vector<FenceOrder> Orders() {
    return server.Run([](StateMachine& m) { return m.FenceOrders(); });
  }
  void Done(const FenceOrder& order, const Status& status) {
    server.Run([&](StateMachine& m) {
      m.FenceDone(order, status);
      return 0;
    });
  }

  TestServer server;
};

class FencingByLease : public testing::Test, protected Fencing {
 protected:
  FencingByLease() : Fencing(WithoutUpkeep()) {}
  void TearDown() override { server.Check(); }
};

TEST_F(FencingByLease, NobodyComesBeforeItsLastRequestsAreOver) {
  EXPECT_EQ(FenceOf("n1"), "lease");
  EXPECT_EQ(FenceOf("t1"), "");
  EXPECT_TRUE(Leased("c1", "n1"));
  EXPECT_FALSE(Leased("c1", "t1"));
  ASSERT_EQ(server.Execute(op::Grant(100, 1)).error, 0);
  server.Advance(kLeaseMs);
  Status status = Open("c2").status();
  EXPECT_EQ(status.code(), EBUSY);
  EXPECT_THAT(status.message(), HasSubstr("NVMe-oF targets may get requests of it for 12000 ms more"));
  EXPECT_THAT(status.message(), HasSubstr("--host-is-off 1"));
  EXPECT_EQ(Renew().code(), ESTALE) << "for its client it is over: another one knows that it is to come";
  EXPECT_GT(server.machine().space().granted_blocks(), 0U) << "it may be writing there";
  ASSERT_EQ(Pool().sessions.size(), 1U);
  EXPECT_TRUE(Pool().sessions[0].ended);
  EXPECT_EQ(Pool().sessions[0].gone_in_ms, kDrainMs);
  EXPECT_EQ(server.machine().deadline_ms(), server.now().mono_ms + kDrainMs);
  server.Advance(kDrainMs - 1);
  EXPECT_EQ(Open("c2").status().code(), EBUSY);
  server.Advance(1);
  EXPECT_THAT(Pool().sessions, IsEmpty());
  EXPECT_EQ(server.machine().space().granted_blocks(), 0U);
  EXPECT_TRUE(Open("c2").ok());
}

TEST_F(FencingByLease, OneThatHasBeenSilentForLongEnoughIsNotWaitedFor) {
  server.Advance(kLeaseMs + kDrainMs);
  EXPECT_TRUE(Open("c2").ok());
}

TEST_F(FencingByLease, AnEvictedClientMayWriteUntilItsLeaseIsOver) {
  server.Advance(10'000);
  ASSERT_TRUE(Evict().ok());
  EXPECT_EQ(Pool().sessions.at(0).gone_in_ms, kLeaseMs + kDrainMs - 10'000) << "since it was heard of last";
  EXPECT_EQ(Renew().code(), ESTALE);
  EXPECT_EQ(Open("c2").status().code(), EBUSY);
  EXPECT_TRUE(Evict().ok()) << "once more does no harm";
  EXPECT_TRUE(Evict(true).ok());
  EXPECT_TRUE(Open("c2").ok());
  EXPECT_EQ(Evict(true).code(), ENOENT);
}

TEST_F(FencingByLease, WithoutSuchTargetsInThePoolNothingIsWaitedFor) {
  TestServer plain(WithoutUpkeep());
  plain.Form();
  ASSERT_TRUE(plain.Run([&](StateMachine& m) { return m.EvictSession(plain.session(), false); }).ok());
  EXPECT_TRUE(plain.Run([](StateMachine& m) { return m.OpenSession(Client("c2")); }).ok());
}

TEST_F(FencingByLease, ItsClientMayMountAgainAtOnce) {
  ASSERT_TRUE(Evict().ok());
  auto again = Open("c1");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_GT(again->id, static_cast<int64_t>(server.session()));
}

TEST_F(FencingByLease, ItsClientMayCloseIt) {
  ASSERT_TRUE(Evict().ok());
  server.Run([&](StateMachine& m) {
    m.CloseSession(server.session());
    return 0;
  });
  EXPECT_TRUE(Open("c2").ok());
}

TEST_F(FencingByLease, ARestartOfTheServerWaitsAnew) {
  ASSERT_TRUE(Evict().ok());
  server.Advance(kLeaseMs + kDrainMs - 1);
  server.Open();
  EXPECT_EQ(Renew().code(), ESTALE) << "it stays ended";
  EXPECT_EQ(Open("c2").status().code(), EBUSY);
  server.Advance(kLeaseMs + kDrainMs);
  EXPECT_TRUE(Open("c2").ok());
}

// Its kernel goes on for as long as it was told when it mounted.
TEST_F(FencingByLease, AShorterLeaseIsForSessionsToCome) {
  server.options().lease_ms = 1000;
  server.Open();
  EXPECT_EQ(Open("c1")->lease_ms, 1000) << "one that mounts again is told anew";
  server.options().lease_ms = kLeaseMs;
  server.Open();
  EXPECT_EQ(Open("c1")->lease_ms, kLeaseMs);
  server.options().lease_ms = 1000;
  server.Open();
  auto reclaimed = server.Run([&](StateMachine& m) { return m.ReclaimSession(server.session()); });
  ASSERT_TRUE(reclaimed.ok());
  EXPECT_EQ(reclaimed->lease_ms, kLeaseMs);
  server.Advance(kLeaseMs - 1);
  EXPECT_THAT(Open("c2").status().message(), HasSubstr("in use by session"));
  ASSERT_TRUE(Evict().ok());
  server.Advance(kDrainMs);
  EXPECT_EQ(Open("c2").status().code(), EBUSY);
  server.Advance(1);
  EXPECT_TRUE(Open("c2").ok());
}

TEST_F(FencingByLease, AReservationMakesItUnnecessary) {
  int64_t version = server.machine().events_version();
  Report(true);
  EXPECT_GT(server.machine().events_version(), version) << "the client need not mind its lease any more";
  EXPECT_EQ(FenceOf("n1"), "reservation");
  EXPECT_FALSE(Leased("c1", "n1"));
  ASSERT_TRUE(Evict().ok());
  EXPECT_TRUE(Open("c2").ok());
  server.Open();
  EXPECT_EQ(FenceOf("n1"), "lease") << "until its gateway says so again";
}

class FencingByCommand : public testing::Test, protected Fencing {
 protected:
  FencingByCommand() : Fencing(WithCommand()) {}
  void TearDown() override { server.Check(); }
};

TEST_F(FencingByCommand, ItTakesTheHostOutAndLetsItInAgain) {
  EXPECT_EQ(FenceOf("n1"), "command");
  EXPECT_TRUE(Leased("c1", "n1")) << "the command may fail";
  EXPECT_THAT(Orders(), IsEmpty());
  ASSERT_TRUE(Evict().ok());
  EXPECT_EQ(Open("c2").status().code(), EAGAIN) << "the command is running";
  auto orders = Orders();
  ASSERT_EQ(orders.size(), 1U);
  EXPECT_TRUE(orders[0].fence);
  EXPECT_EQ(orders[0].hostnqn, "nqn.host-of-c1");
  ASSERT_EQ(orders[0].targets.size(), 1U) << "targets of ours need none";
  EXPECT_EQ(orders[0].targets[0].name, "n1");
  EXPECT_EQ(orders[0].targets[0].uris, Nvme().nvme.uris);
  int64_t version = server.machine().events_version();
  Done(orders[0], {});
  EXPECT_GT(server.machine().events_version(), version) << "who waits must look again";
  EXPECT_THAT(Orders(), IsEmpty());
  auto second = Open("c2");
  ASSERT_TRUE(second.ok()) << second.status().message();
  server.Run([&](StateMachine& m) {
    m.CloseSession(second->id);
    return 0;
  });

  server.Open();
  EXPECT_EQ(Open("c1").status().code(), EAGAIN);
  orders = Orders();
  ASSERT_EQ(orders.size(), 1U);
  EXPECT_FALSE(orders[0].fence);
  EXPECT_EQ(orders[0].hostnqn, "nqn.host-of-c1");
  Done(orders[0], {});
  EXPECT_TRUE(Open("c1").ok());
  EXPECT_THAT(Orders(), IsEmpty());
}

TEST_F(FencingByCommand, WhereItFailsTheLeaseIsWaitedFor) {
  ASSERT_TRUE(Evict().ok());
  auto orders = Orders();
  ASSERT_EQ(orders.size(), 1U);
  Done(orders[0], Error(EIO, "/etc/weft/fence: exit status 3"));
  Status status = Open("c2").status();
  EXPECT_EQ(status.code(), EBUSY);
  EXPECT_THAT(status.message(), HasSubstr("(fence command: /etc/weft/fence: exit status 3)"));
  EXPECT_EQ(Pool().sessions.at(0).fence_error, "/etc/weft/fence: exit status 3");
  EXPECT_EQ(Orders().size(), 1U) << "it is tried again";
  server.Advance(kLeaseMs + kDrainMs);
  EXPECT_TRUE(Open("c2").ok());
  EXPECT_THAT(Orders(), IsEmpty());
}

TEST_F(FencingByCommand, AHostThatCannotBeLetInIsToldWhy) {
  ASSERT_TRUE(Evict().ok());
  Done(Orders().at(0), {});
  EXPECT_EQ(Open("c1").status().code(), EAGAIN);
  Done(Orders().at(0), Error(EIO, "no route"));
  Status status = Open("c1").status();
  EXPECT_EQ(status.code(), EBUSY);
  EXPECT_THAT(status.message(), HasSubstr("which fails: no route"));
}

TEST_F(FencingByCommand, ItRunsAgainAfterARestartOfTheServer) {
  ASSERT_TRUE(Evict().ok());
  server.Open();
  EXPECT_EQ(Orders().size(), 1U);
}

// Its engine and thread are real, the command is not.
TEST(Fencer, RunsTheCommandForEachTargetUntilItSucceeds) {
  MemoryStore store;
  MetaOptions options = WithCommand();
  auto machine = StateMachine::Open(&store, options, Engine::SystemClock());
  ASSERT_TRUE(machine.ok());
  Engine engine(*std::move(machine), Engine::SystemClock, [](const Status&) {});
  auto run = [&](auto call) { return engine.Run(call); };
  auto args = Fencing::Nvme();
  args.host = "";
  args.port = 0;
  ASSERT_TRUE(run([&](StateMachine& m) { return m.AddNvmeTarget(args); }).ok());
  idl::CreatePoolArgs pool;
  pool.copies = 1;
  pool.chunk_bytes = 4 * kMiB;
  ASSERT_TRUE(run([&](StateMachine& m) { return m.CreatePool(pool); }).ok());
  auto session = run([&](StateMachine& m) { return m.OpenSession(Fencing::Client("c1")); });
  ASSERT_TRUE(session.ok()) << session.status().message();

  std::mutex mutex;
  std::vector<std::vector<std::string>> commands;
  std::latch twice(2);
  std::optional<Fencer> fencer;
  fencer.emplace(
      &engine, "/etc/weft/fence",
      [&](const std::vector<std::string>& command) {
        std::lock_guard lock(mutex);
        commands.push_back(command);
        if (commands.size() <= 2) twice.count_down();
        return commands.size() == 1 ? Error(EIO, "not yet") : Status::Ok();
      },
      std::chrono::milliseconds(1));
  ASSERT_TRUE(run([&](StateMachine& m) { return m.EvictSession(session->id, false); }).ok());
  twice.wait();
  int64_t seen = engine.events_version();
  auto sessions = [](StateMachine& m) { return Result<size_t>(m.PoolStatus().sessions.size()); };
  while (*run(sessions) > 0) {
    ASSERT_TRUE(engine.AwaitEvents(seen, 20'000));
    seen = engine.events_version();
  }
  engine.StopEvents();
  fencer.reset();
  std::vector<std::string> command{"/etc/weft/fence", "fence", "nqn.host-of-c1", "n1"};
  command.insert(command.end(), args.nvme.uris.begin(), args.nvme.uris.end());
  EXPECT_THAT(commands, ElementsAre(command, command));
}

// An engine of its own with a pool of NVMe-oF targets, and the session of "c1".
class FencerAtWork : public testing::Test {
 protected:
  FencerAtWork() {
    auto machine = StateMachine::Open(&store_, WithCommand(), Engine::SystemClock());
    EXPECT_TRUE(machine.ok());
    engine_.emplace(*std::move(machine), Engine::SystemClock, [](const Status&) {});
    for (const char* name : {"n1", "n2"}) {
      auto add = [&](StateMachine& m) { return m.AddNvmeTarget(TestServer::NvmeArgs(name, 64 * kMiB)); };
      EXPECT_TRUE(engine_->Run(add).ok());
    }
    idl::CreatePoolArgs pool;
    pool.copies = 1;
    pool.chunk_bytes = 4 * kMiB;
    EXPECT_TRUE(engine_->Run([&](StateMachine& m) { return m.CreatePool(pool); }).ok());
    auto session = Open();
    EXPECT_TRUE(session.ok()) << session.status().message();
    session_ = session.ok() ? session->id : 0;
  }
  ~FencerAtWork() override {
    engine_->StopEvents();
    fencer_.reset();
  }
  Result<idl::Session> Open() {
    return engine_->Run([](StateMachine& m) { return m.OpenSession(Fencing::Client("c1")); });
  }
  void Evict() {
    EXPECT_TRUE(engine_->Run([&](StateMachine& m) { return m.EvictSession(session_, false); }).ok());
  }

  MemoryStore store_;
  std::optional<Engine> engine_;
  std::optional<Fencer> fencer_;
  int64_t session_ = 0;
};

TEST_F(FencerAtWork, WhatComesUpDuringACommandIsNotSleptOver) {
  std::atomic<int> commands = 0;
  std::promise<void> let_in;
  fencer_.emplace(&*engine_, "/etc/weft/fence", [&](const std::vector<std::string>& command) {
    // Of the second target, so that nothing follows.
    if (++commands == 2) {
      EXPECT_EQ(Open().status().code(), EAGAIN) << "it is to be let in";
    }
    if (commands == 4) {
      EXPECT_EQ(command.at(1), "allow");
      let_in.set_value();
    }
    return Status::Ok();
  });
  Evict();
  EXPECT_EQ(let_in.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  engine_->StopEvents();
  fencer_.reset();
}

TEST_F(FencerAtWork, WhenTheServerStopsNoFurtherCommandIsRun) {
  std::atomic<int> commands = 0;
  fencer_.emplace(&*engine_, "/etc/weft/fence", [&](const std::vector<std::string>&) {
    ++commands;
    engine_->StopEvents();
    return Status::Ok();
  });
  Evict();
  fencer_.reset();
  EXPECT_EQ(commands.load(), 1);
  auto sessions = engine_->Run([](StateMachine& m) { return Result<size_t>(m.PoolStatus().sessions.size()); });
  EXPECT_EQ(*sessions, 1U) << "it is not kept away everywhere";
}

}  // namespace
}  // namespace weft
