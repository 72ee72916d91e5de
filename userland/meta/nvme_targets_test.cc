// SPDX-License-Identifier: MIT
//
// Targets of kind nvmeof: made known by an operator, brought up by the gateway of a client.
#include <algorithm>
#include <cerrno>
#include <sys/stat.h>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kMiB = 1 << 20;

class NvmeTargetsTest : public ::testing::Test {
 protected:
  // As weftctl makes it known.
  static idl::RegisterTargetArgs Announcement(const std::string& name, int64_t mib = 64) {
    return TestServer::NvmeArgs(name, mib * kMiB);
  }
  // As the client that attends to it registers it.
  static idl::RegisterTargetArgs Gateway(const std::string& name, int64_t instance = 1) {
    idl::RegisterTargetArgs args = Announcement(name);
    args.host = "10.0.0.77";
    args.port = 4711;
    args.instance = instance;
    return args;
  }

  Result<idl::PoolStatus> Announce(const idl::RegisterTargetArgs& args) {
    return server_.Run([&](StateMachine& m) { return m.AddNvmeTarget(args); });
  }
  void AnnounceOk(const std::string& name) {
    auto pool = Announce(Announcement(name));
    ASSERT_TRUE(pool.ok()) << pool.status().message();
  }
  // Registers, and knows that it is a member.
  void Attend(const std::string& name, int64_t instance = 1) {
    auto args = Gateway(name, instance);
    auto orders = server_.Register(args);
    ASSERT_TRUE(orders.ok()) << orders.status().message();
    ASSERT_TRUE(server_.Heartbeat(args).ok());
  }
  void FormOf(std::vector<std::string> names, int copies) {
    for (const std::string& name : names) AnnounceOk(name);
    auto pool = server_.CreatePool(copies, 4 * kMiB);
    ASSERT_TRUE(pool.ok()) << pool.status().message();
  }
  void OpenSession() {
    auto session = server_.OpenSession("c1");
    ASSERT_TRUE(session.ok()) << session.status().message();
    server_.set_session(session->id);
  }
  void Refused(const idl::RegisterTargetArgs& args, int code, const std::string& words) {
    Status status = Announce(args).status();
    EXPECT_EQ(status.code(), code) << words << ": " << status.message();
    EXPECT_NE(status.message().find(words), std::string::npos) << words << ": " << status.message();
  }

  idl::TargetInfo Info(const std::string& name) {
    idl::PoolStatus pool = server_.Run([](StateMachine& m) { return m.PoolStatus(); });
    auto it = std::ranges::find(pool.targets, name, &idl::TargetInfo::name);
    if (it != pool.targets.end()) return *it;
    ADD_FAILURE() << "no target " << name;
    return {};
  }
  idl::TargetAddress InMap(const std::string& name) {
    idl::TargetMap map = Map();
    auto it = std::ranges::find(map.targets, name, &idl::TargetAddress::name);
    if (it != map.targets.end()) return *it;
    ADD_FAILURE() << "target " << name << " is not in the map";
    return {};
  }
  idl::TargetMap Map() {
    auto session = server_.OpenSession("c1");
    EXPECT_TRUE(session.ok()) << session.status().message();
    return session.ok() ? session->targets : idl::TargetMap();
  }

  TestServer server_;
};

TEST_F(NvmeTargetsTest, AnAnnouncementMakesItKnownNotUp) {
  AnnounceOk("n1");
  idl::TargetInfo info = Info("n1");
  EXPECT_EQ(info.id, 0);
  EXPECT_FALSE(info.up);
  EXPECT_FALSE(info.joined);
  EXPECT_EQ(info.heartbeat_age_ms, -1) << "there never was one";
  EXPECT_EQ(info.capacity_bytes, 64 * kMiB);
  EXPECT_TRUE(info.host.empty());
  ASSERT_TRUE(info.__isset.nvme);
  EXPECT_EQ(info.nvme, Announcement("n1").nvme);
  EXPECT_TRUE(info.data_path.empty());
  EXPECT_EQ(server_.machine().deadline_ms(), INT64_MAX) << "nobody waits for its heartbeats";
}

TEST_F(NvmeTargetsTest, ACheckSaysWhatWouldBeRefusedAndChangesNothing) {
  auto check = [&](const idl::RegisterTargetArgs& args) {
    return server_.Run([&](StateMachine& m) { return m.AddNvmeTarget(args, true); }).status();
  };
  FormOf({"n1"}, 1);
  ASSERT_TRUE(server_.Register(TestServer::TargetArgs("gone", 64 * kMiB)).ok());
  auto fresh = Announcement("n2");
  EXPECT_TRUE(check(fresh).ok());
  EXPECT_TRUE(check(Announcement("n1")).ok()) << "as it is";
  EXPECT_EQ(server_.machine().PoolStatus().targets.size(), 2U);
  fresh.name = "n1";
  EXPECT_EQ(check(fresh).code(), EEXIST);
  fresh.name = "n2";
  fresh.capacity_bytes = 2 * kMiB;
  Status small = check(fresh);
  EXPECT_EQ(small.code(), EINVAL);
  EXPECT_NE(small.message().find("a chunk of this pool takes 4.0 MiB"), std::string::npos) << small.message();
  Refused(fresh, EINVAL, "a chunk of this pool takes 4.0 MiB");
  EXPECT_EQ(server_.machine().PoolStatus().targets.size(), 2U) << "what is refused is not known afterwards";
}

// Its label was overwritten, and it is announced as another target.
TEST_F(NvmeTargetsTest, TheNamespaceOfAMemberCannotBeAnotherTarget) {
  FormOf({"n1"}, 1);
  auto again = Announcement("n2");
  again.nvme.uuid = Announcement("n1").nvme.uuid;
  EXPECT_TRUE(Announce(again).ok()) << "only half of what it calls itself";
  auto same = Announcement("n3");
  same.nvme.uuid = Announcement("n1").nvme.uuid;
  same.nvme.nguid = Announcement("n1").nvme.nguid;
  Refused(same, EEXIST, "is target 'n1' of the pool already");
  Refused(same, EEXIST, "weftctl target remove n1 --lost");
  for (std::string* id : {&same.nvme.uuid, &same.nvme.nguid}) id->assign(16, '\0');
  auto nameless = Announcement("n4");
  for (std::string* id : {&nameless.nvme.uuid, &nameless.nvme.nguid}) id->assign(16, '\0');
  EXPECT_TRUE(Announce(same).ok());
  EXPECT_TRUE(Announce(nameless).ok()) << "without identifiers none can be told from another";
}

TEST_F(NvmeTargetsTest, EachFieldOfItsNamespaceIsChecked) {
  struct Mistake {
    std::function<void(idl::NvmeNamespace*)> make;
    const char* words;
  };
  const Mistake kMistakes[] = {
      {[](auto* nvme) { nvme->uris.clear(); }, "0 paths"},
      {[](auto* nvme) { nvme->uris.assign(9, "nvme+tcp://h/nqn.x"); }, "9 paths"},
      {[](auto* nvme) { nvme->uris.emplace_back(); }, "a path of 0 bytes"},
      {[](auto* nvme) { nvme->uris[0] = std::string(513, 'x'); }, "a path of 513 bytes"},
      {[](auto* nvme) { nvme->uuid = "short"; }, "5 and 16 bytes, not 16"},
      {[](auto* nvme) { nvme->nguid = std::string(17, 'g'); }, "16 and 17 bytes, not 16"},
      {[](auto* nvme) { nvme->nsid = 0; }, "namespace 0"},
      {[](auto* nvme) { nvme->nsid = -1; }, "namespace -1"},
      {[](auto* nvme) { nvme->data_path = static_cast<idl::DataPath::type>(3); }, "data path 3"},
      {[](auto* nvme) { nvme->data_path = static_cast<idl::DataPath::type>(-1); }, "data path -1"},
  };
  for (const Mistake& mistake : kMistakes) {
    auto args = Announcement("n1");
    mistake.make(&args.nvme);
    Refused(args, EINVAL, mistake.words);
    Refused(args, EINVAL, "'n1'");
  }
  EXPECT_TRUE(server_.machine().PoolStatus().targets.empty());
}

TEST_F(NvmeTargetsTest, WhatIsNoAnnouncementIsRefused) {
  Refused(TestServer::TargetArgs("t1", 64 * kMiB), EINVAL, "described by its namespace");
  Refused(Gateway("n1"), EINVAL, "no host of its own");
  auto args = Announcement("n1");
  args.name = "a b";
  Refused(args, EINVAL, "target name");
  args = Announcement("n1");
  args.capacity_bytes = 4096;
  Refused(args, EINVAL, "4096");
  args = Announcement("n1");
  args.cluster_uuid = std::string(16, 'z');
  Refused(args, EINVAL, "another cluster");
  args.cluster_uuid = server_.machine().PoolStatus().cluster_uuid;
  EXPECT_TRUE(Announce(args).ok()) << "weftctl has labelled it before anybody knows it";
}

TEST_F(NvmeTargetsTest, NamesAreUnique) {
  AnnounceOk("n1");
  AnnounceOk("n1");
  auto other = Announcement("n2");
  other.name = "n1";
  server_.Advance(60'000);
  Refused(other, EEXIST, "'n1'");
  auto rdma = TestServer::TargetArgs("t1", 64 * kMiB);
  rdma.name = "n1";
  EXPECT_EQ(server_.Register(rdma).status().code(), EEXIST) << "it is not gone because it is not up";
  rdma.name = "t1";
  ASSERT_TRUE(server_.Register(rdma).ok());
  other.name = "t1";
  Refused(other, EEXIST, "'t1'");
}

TEST_F(NvmeTargetsTest, ItsKindCannotChange) {
  AnnounceOk("n1");
  auto rdma = TestServer::TargetArgs("n1", 64 * kMiB);
  Status status = server_.Register(rdma).status();
  EXPECT_EQ(status.code(), EINVAL);
  EXPECT_NE(status.message().find("is an NVMe-oF target"), std::string::npos) << status.message();
  ASSERT_TRUE(server_.Register(TestServer::TargetArgs("t1", 64 * kMiB)).ok());
  Refused(Announcement("t1"), EINVAL, "is not an NVMe-oF target");
}

TEST_F(NvmeTargetsTest, AGatewayBringsItUp) {
  FormOf({"n1", "n2"}, 2);
  EXPECT_FALSE(InMap("n1").up);
  EXPECT_TRUE(InMap("n1").host.empty());
  int64_t version = Map().version;
  auto orders = server_.Register(Gateway("n1"));
  ASSERT_TRUE(orders.ok()) << orders.status().message();
  EXPECT_EQ(orders->id, 1);
  EXPECT_EQ(orders->cluster_uuid, server_.machine().PoolStatus().cluster_uuid);
  EXPECT_EQ(orders->chunk_bytes, 4 * kMiB);
  EXPECT_GT(Map().version, version);
  idl::TargetAddress address = InMap("n1");
  EXPECT_TRUE(address.up);
  EXPECT_EQ(address.host, "10.0.0.77");
  EXPECT_EQ(address.port, 4711);
  EXPECT_EQ(address.nvme, Announcement("n1").nvme);
  ASSERT_TRUE(server_.Heartbeat(Gateway("n1")).ok());
  EXPECT_TRUE(Info("n1").joined);
  server_.Advance(5'000);
  EXPECT_FALSE(InMap("n1").up) << "its client went away";
  Attend("n1", 2);
  EXPECT_TRUE(InMap("n1").up) << "another one took over";
}

TEST_F(NvmeTargetsTest, WhatAGatewayKnowsOfItIsOlderThanWhatIsAnnounced) {
  FormOf({"n1"}, 1);
  Attend("n1");
  auto moved = Announcement("n1");
  moved.name = "far";
  moved.zone = "r2";
  moved.weight = 10;
  moved.nvme.uris.push_back("nvme+rdma://10.0.1.1/nqn.n1?nsid=1");
  ASSERT_TRUE(Announce(moved).ok());
  auto other = Announcement("n2");  // takes the name that is free now
  other.name = "n1";
  ASSERT_TRUE(Announce(other).ok());
  auto orders = server_.Register(Gateway("n1", 2));
  ASSERT_TRUE(orders.ok()) << orders.status().message();
  idl::TargetInfo info = Info("far");
  EXPECT_EQ(info.id, 1);
  EXPECT_TRUE(info.up);
  EXPECT_EQ(info.zone, "r2");
  EXPECT_EQ(info.weight, 10);
  EXPECT_EQ(info.nvme, moved.nvme);
}

TEST_F(NvmeTargetsTest, AGatewayOfWhatNobodyHasAnnouncedIsRefused) {
  Status status = server_.Register(Gateway("n1")).status();
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_NE(status.message().find("weftctl target add"), std::string::npos) << status.message();
  EXPECT_TRUE(server_.machine().PoolStatus().targets.empty());

  FormOf({"n1", "n2"}, 1);
  Attend("n1");
  ASSERT_TRUE(server_.Run([](StateMachine& m) { return m.RemoveTarget("n1", false); }).ok());
  EXPECT_EQ(server_.Heartbeat(Gateway("n1")).status().code(), ESTALE);
  EXPECT_EQ(server_.Register(Gateway("n1")).status().code(), ENOENT)
      << "its gateway has not heard yet that it was removed";
  AnnounceOk("n1");
  EXPECT_EQ(Info("n1").id, 3) << "drained, it may come back";
}

TEST_F(NvmeTargetsTest, AnnouncedAgainItMoves) {
  FormOf({"n1"}, 1);
  Attend("n1");
  int64_t version = Map().version;
  AnnounceOk("n1");
  EXPECT_EQ(Map().version, version) << "nothing is new";
  auto args = Announcement("n1");
  args.nvme.uris = {"nvme+tcp://10.9.9.9:8009/nqn.n1?nsid=1", "nvme+tcp://10.9.9.8:8009/nqn.n1?nsid=1"};
  args.zone = "r9";
  ASSERT_TRUE(Announce(args).ok());
  EXPECT_GT(Map().version, version);
  idl::TargetAddress address = InMap("n1");
  EXPECT_EQ(address.nvme.uris, args.nvme.uris);
  EXPECT_EQ(address.zone, "r9");
  EXPECT_TRUE(address.up) << "its gateway serves on";
  EXPECT_EQ(address.port, 4711);
  args.capacity_bytes -= 1;
  Refused(args, EINVAL, "shrunk");
  server_.Open();
  EXPECT_EQ(InMap("n1").nvme.uris, args.nvme.uris) << "stored";
}

TEST_F(NvmeTargetsTest, AnAnnouncementTellsTheTargetNothing) {
  AnnounceOk("n1");
  AnnounceOk("n2");
  ASSERT_TRUE(server_.CreatePool(1, 4 * kMiB, {"n1"}).ok());
  auto stranger = Gateway("n2");
  ASSERT_TRUE(server_.Register(stranger).ok());
  ASSERT_TRUE(server_.Run([](StateMachine& m) { return m.AddTarget("n2"); }).ok());
  ASSERT_TRUE(Announce(Announcement("n2")).ok());
  ASSERT_TRUE(server_.Heartbeat(stranger).ok());
  EXPECT_FALSE(Info("n2").joined) << "this heartbeat is the first that it is told with";
  ASSERT_TRUE(server_.Heartbeat(stranger).ok());
  EXPECT_TRUE(Info("n2").joined);
}

TEST_F(NvmeTargetsTest, WhatWasRemovedAsLostStaysAway) {
  FormOf({"n1", "n2"}, 1);
  Attend("n1");
  EXPECT_EQ(server_.Run([](StateMachine& m) { return m.RemoveTarget("n1", true); }).status().code(), EBUSY);
  server_.Advance(5'000);
  ASSERT_TRUE(server_.Run([](StateMachine& m) { return m.RemoveTarget("n1", true); }).ok());
  Refused(Announcement("n1"), EINVAL, "removed from the pool as lost");
  EXPECT_EQ(server_.Register(Gateway("n1")).status().code(), EINVAL);
}

TEST_F(NvmeTargetsTest, APoolIsFormedOfWhatIsNotUpYet) {
  AnnounceOk("n1");
  AnnounceOk("n2");
  EXPECT_EQ(server_.CreatePool(2, 4 * kMiB, {"n1", "n3"}).status().code(), ENOENT);
  auto pool = server_.CreatePool(2, 4 * kMiB);
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  EXPECT_EQ(pool->copies, 2);
  EXPECT_EQ(pool->free_blocks * 4096, 64 * kMiB);
  for (const char* name : {"n1", "n2"}) {
    EXPECT_NE(Info(name).id, 0);
    EXPECT_FALSE(Info(name).up);
    EXPECT_FALSE(Info(name).joined);
  }
}

TEST_F(NvmeTargetsTest, AChunkThatWasMadeBeforeServesWhenAGatewayRegisters) {
  FormOf({"n1", "n2"}, 2);
  OpenSession();
  ASSERT_EQ(server_.Execute(op::Grant(16, 1)).error, 0);
  Attend("n1");
  Attend("n2");
  idl::Reply reply = server_.Execute(op::GetChunks(0, 100));
  ASSERT_FALSE(reply.chunks.empty());
  for (const idl::Chunk& chunk : reply.chunks) {
    ASSERT_EQ(chunk.copies.size(), 2U);
    for (const idl::Copy& copy : chunk.copies) EXPECT_EQ(copy.state, idl::CopyState::IN_SYNC);
  }
  EXPECT_TRUE(Info("n1").up);
  EXPECT_TRUE(Info("n2").up);
  EXPECT_EQ(server_.machine().PoolStatus().chunks_degraded, 0);
}

TEST_F(NvmeTargetsTest, AddedToAPoolItJoins) {
  server_.Form();
  int64_t version = Map().version;
  auto pool = Announce(Announcement("n1"));
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  EXPECT_EQ(Info("n1").id, 3);
  EXPECT_FALSE(Info("n1").joined);
  EXPECT_GT(Map().version, version) << "a client learns that it is to attend to it";
  ASSERT_EQ(server_.Execute(op::Grant(2048, 8)).error, 0);
  EXPECT_TRUE(server_.machine().chunks().on(3).empty()) << "it gets nothing before it serves";
  Attend("n1");
  EXPECT_TRUE(Info("n1").joined);
  AnnounceOk("n1");
  EXPECT_EQ(Info("n1").id, 3) << "it is a member already";

  auto small = Announcement("n2", 2);
  Refused(small, EINVAL, "a chunk of this pool takes 4.0 MiB");
}

TEST_F(NvmeTargetsTest, TheDataPathIsChosen) {
  server_.Form();
  AnnounceOk("n1");
  auto set = [this](const std::string& name, int path) {
    return server_.Run([&](StateMachine& m) { return m.SetDataPath(name, static_cast<idl::DataPath::type>(path)); });
  };
  EXPECT_EQ(set("t1", idl::DataPath::AGENT).status().code(), EINVAL);
  EXPECT_EQ(set("t9", idl::DataPath::AGENT).status().code(), ENOENT);
  EXPECT_EQ(set("n1", 3).status().code(), EINVAL);
  int64_t version = Map().version;
  ASSERT_TRUE(set("n1", idl::DataPath::AUTO).ok());
  EXPECT_EQ(Map().version, version) << "it was that already";
  auto pool = set("n1", idl::DataPath::AGENT);
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  EXPECT_GT(Map().version, version);
  EXPECT_EQ(InMap("n1").nvme.data_path, idl::DataPath::AGENT);
  EXPECT_EQ(Info("n1").nvme.data_path, idl::DataPath::AGENT);
  Attend("n1");
  EXPECT_EQ(InMap("n1").nvme.data_path, idl::DataPath::AGENT) << "its gateway does not know that yet";
  server_.Open();
  EXPECT_EQ(InMap("n1").nvme.data_path, idl::DataPath::AGENT);
}

TEST_F(NvmeTargetsTest, NothingHasADataPathBeforeThereIsAPool) {
  AnnounceOk("n1");
  auto set = server_.Run([](StateMachine& m) { return m.SetDataPath("n1", idl::DataPath::AGENT); });
  EXPECT_EQ(set.status().code(), ENODEV);
}

TEST_F(NvmeTargetsTest, PathsAreShownWhileItIsUp) {
  FormOf({"n1"}, 1);
  Attend("n1");
  idl::TargetReport report;
  report.data_path = "agent";
  report.paths.resize(2);
  report.paths[0].controller = "nvme3";
  report.paths[0].state = "live";
  report.paths[1].controller = "nvme4";
  report.paths[1].state = "connecting";
  idl::NvmeTraits traits;
  traits.block_bytes = 512;
  report.__set_traits(traits);
  auto args = Gateway("n1");
  ASSERT_TRUE(server_.Run([&](StateMachine& m) { return m.Heartbeat(args.uuid, report, args.instance); }).ok());
  EXPECT_EQ(Info("n1").paths, report.paths);
  EXPECT_EQ(Info("n1").data_path, "agent");
  EXPECT_EQ(Info("n1").traits, traits);
  report.paths.pop_back();
  ASSERT_TRUE(server_.Run([&](StateMachine& m) { return m.Heartbeat(args.uuid, report, args.instance); }).ok());
  EXPECT_EQ(Info("n1").paths.size(), 1U);
  server_.Advance(5'000);
  EXPECT_FALSE(Info("n1").up);
  EXPECT_TRUE(Info("n1").paths.empty());
  EXPECT_TRUE(Info("n1").data_path.empty());
  EXPECT_FALSE(Info("n1").__isset.traits);
}

// Nobody at such a target refuses a client whose map is old, so the clients are waited for.
TEST_F(NvmeTargetsTest, ACopyIsMadeWhenNoClientGoesByAnOlderMap) {
  FormOf({"n1", "n2"}, 2);
  OpenSession();
  Attend("n1");
  Attend("n2");
  idl::Reply granted = server_.Execute(op::Grant(16, 1));
  ASSERT_EQ(granted.error, 0);
  auto chunks = server_.Execute(op::GetChunks(0, 1)).chunks;
  ASSERT_EQ(chunks.size(), 1U);
  ASSERT_EQ(chunks[0].copies.size(), 2U);
  auto jobs = [this](const std::string& name) {
    auto args = Gateway(name);
    auto list = server_.Run([&](StateMachine& m) { return m.NextJobs(args.uuid, args.instance); });
    EXPECT_TRUE(list.ok());
    return list.ok() ? *list : idl::Jobs();
  };
  std::string stale = chunks[0].copies[1].target == Info("n1").id ? "n1" : "n2";
  int64_t version = jobs(stale).version;
  ASSERT_EQ(server_.Execute(op::MarkStale(0, chunks[0].version, 2)).error, 0);
  server_.Advance(1);
  idl::Chunk now = server_.Execute(op::GetChunks(0, 1)).chunks.at(0);
  EXPECT_EQ(now.copies[1].state, idl::CopyState::RESYNCING);
  auto copies = [&] {
    auto list = jobs(stale).jobs;
    return std::ranges::count(list, idl::JobKind::COPY, &idl::Job::kind);
  };
  EXPECT_EQ(copies(), 0) << "the client may have writes under way that do not go there";
  auto settled = [&](int64_t to) {
    return server_.Run([&](StateMachine& m) { return m.ChunksSettled(server_.session(), to); });
  };
  ASSERT_TRUE(settled(now.version - 1).ok());
  EXPECT_EQ(copies(), 0);
  int64_t before = jobs(stale).version;
  ASSERT_TRUE(settled(now.version).ok());
  EXPECT_EQ(copies(), 1);
  EXPECT_GT(jobs(stale).version, before) << "who waits for the list is told";
  EXPECT_GT(before, version);
  EXPECT_EQ(server_.Run([](StateMachine& m) { return m.ChunksSettled(99, 1); }).code(), ESTALE);
}

TEST_F(NvmeTargetsTest, ARestartedServerKnowsThem) {
  FormOf({"n1", "n2"}, 1);
  Attend("n1");
  server_.Open();
  idl::TargetInfo attended = Info("n1");
  EXPECT_EQ(attended.nvme, Announcement("n1").nvme);
  EXPECT_TRUE(attended.up) << "until the contrary is known";
  ASSERT_TRUE(server_.Heartbeat(Gateway("n1")).ok()) << "its gateway need not register again";
  idl::TargetInfo other = Info("n2");
  EXPECT_EQ(other.nvme, Announcement("n2").nvme);
  EXPECT_FALSE(other.up) << "no client has ever attended to it";
  EXPECT_EQ(other.heartbeat_age_ms, -1);
  Attend("n2");
  EXPECT_TRUE(Info("n2").up);
  server_.Check();
}

}  // namespace
}  // namespace weft
