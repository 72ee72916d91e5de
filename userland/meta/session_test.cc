// SPDX-License-Identifier: MIT
//
// Sessions, exactly-once execution, restarts, and stores that are not ours.
#include <cerrno>
#include <sys/stat.h>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kRoot = static_cast<int64_t>(kRootIno);

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { server_.Form(); }
  void TearDown() override { server_.Check(); }
  idl::Reply Do(const idl::Operation& operation) { return server_.Execute(operation); }
  Status Renew(int64_t session) {
    return server_.Run([&](StateMachine& m) { return m.CheckSession(session); });
  }
  void Close(int64_t session) {
    server_.Run([&](StateMachine& m) {
      m.CloseSession(session);
      return 0;
    });
  }

  TestServer server_;
};

TEST_F(SessionTest, OpenTellsWhatAClientNeeds) {
  auto session = server_.OpenSession("c1");
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(session->id, static_cast<int64_t>(server_.session())) << "idempotent by client";
  EXPECT_EQ(session->fence_below, session->id);
  EXPECT_EQ(session->root_ino, kRoot);
  EXPECT_EQ(session->root.mode, S_IFDIR | 0755);
  EXPECT_EQ(session->pool_blocks, 1LL << 40) << "the address space; what can be stored is StatFs'";
  EXPECT_EQ(session->chunk_blocks, 1024);
  EXPECT_EQ(session->copies, 2);
  EXPECT_EQ(session->cluster_uuid.size(), 16U);
  EXPECT_EQ(session->lease_ms, 30'000);
  ASSERT_EQ(session->targets.targets.size(), 2U);
  EXPECT_EQ(session->targets.targets[0].name, "t1");
  EXPECT_TRUE(session->targets.targets[0].up);
}

TEST_F(SessionTest, OpenErrorsAreClear) {
  idl::OpenSessionArgs args = TestServer::ClientArgs("c1");
  auto open = [&] { return server_.Run([&](StateMachine& m) { return m.OpenSession(args); }).status(); };
  args.protocol = 9;
  EXPECT_EQ(open().code(), EPROTO);
  args = TestServer::ClientArgs("c1");
  args.cluster = "other";
  EXPECT_EQ(open().code(), ENOENT);
  EXPECT_NE(open().message().find("'other'"), std::string::npos) << open().message();
  args = TestServer::ClientArgs("c1");
  args.client = "short";
  EXPECT_EQ(open().code(), EINVAL);
}

// Fence commands hand it to shells.
TEST_F(SessionTest, AHostNqnHasPlainCharacters) {
  idl::OpenSessionArgs args = TestServer::ClientArgs("c1");
  auto open = [&] { return server_.Run([&](StateMachine& m) { return m.OpenSession(args); }).status(); };
  args.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:7A0C_b-1";
  EXPECT_TRUE(open().ok()) << open().message();
  args.hostnqn = "nqn." + std::string(219, 'x');
  EXPECT_TRUE(open().ok()) << open().message();
  args.hostnqn += 'x';
  EXPECT_EQ(open().code(), EINVAL);
  EXPECT_NE(open().message().find("has 224 bytes, 223 is the most"), std::string::npos) << open().message();
  for (const char* bad : {"nqn.a;reboot", "nqn.$(id)", "nqn.`id`", "nqn.a b", "nqn.a/b", "nqn.a\n", "nqn.\xc3\xa4"}) {
    args.hostnqn = bad;
    EXPECT_EQ(open().code(), EINVAL) << bad;
    EXPECT_NE(open().message().find(bad), std::string::npos) << open().message();
    EXPECT_NE(open().message().find("/etc/nvme/hostnqn"), std::string::npos) << open().message();
  }
}

TEST_F(SessionTest, SecondClientWaitsForTheLease) {
  server_.Advance(29'000);
  ASSERT_TRUE(Renew(server_.session()).ok());
  server_.Advance(29'999);
  Status busy = server_.OpenSession("c2").status();
  EXPECT_EQ(busy.code(), EBUSY);
  EXPECT_NE(busy.message().find("host-of-c1"), std::string::npos) << busy.message();
  ASSERT_EQ(Do(op::Grant(100, 1)).error, 0) << "work renews, too";
  server_.Advance(30'000);
  auto second = server_.OpenSession("c2");
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_GT(second->id, static_cast<int64_t>(server_.session()));
  EXPECT_EQ(second->fence_below, second->id);
  EXPECT_EQ(Renew(server_.session()).code(), ESTALE);
  EXPECT_EQ(server_.machine().space().granted_blocks(), 0U);
}

TEST_F(SessionTest, LateClientGoesOnWhenNobodyElseCame) {
  ASSERT_EQ(Do(op::Grant(100, 1)).error, 0);
  server_.Advance(3'600'000);
  EXPECT_TRUE(server_.Run([&](StateMachine& m) { return m.ReclaimSession(server_.session()); }).ok());
  EXPECT_EQ(server_.machine().space().granted_blocks(), 100U);
}

TEST_F(SessionTest, CloseFreesGrantsAndOrphans) {
  int64_t file = Do(op::Create(kRoot, "f", S_IFREG | 0644)).attr.ino;
  idl::Range range = Do(op::Grant(100, 1)).ranges.at(0);
  ASSERT_EQ(Do(op::Commit(file, {op::MakeExtent(0, range.pool_block, 40)})).error, 0);
  ASSERT_EQ(Do(op::Remove(kRoot, "f")).error, 0);
  Close(server_.session());
  server_.Check();
  EXPECT_EQ(server_.machine().space().free_blocks(2), 16U * 1024);
  EXPECT_EQ(server_.machine().PoolStatus().files, 1);
  EXPECT_EQ(Renew(server_.session()).code(), ESTALE);
  Close(server_.session());
  Close(12345);
  EXPECT_EQ(server_.Run([&](StateMachine& m) { return m.ReclaimSession(server_.session()); }).status().code(), ESTALE);
  auto again = server_.OpenSession("c1");
  ASSERT_TRUE(again.ok());
  EXPECT_GT(again->id, static_cast<int64_t>(server_.session())) << "ids are never used twice";
  for (const auto& [key, value] : server_.store().contents()) {
    EXPECT_FALSE(key[0] == 'L' || key[0] == 'O' || key[0] == 'G' || key[0] == 'W') << "left behind: table " << key[0];
  }
}

TEST_F(SessionTest, EvictEndsASession) {
  int64_t before = server_.machine().events_version();
  EXPECT_TRUE(server_.Run([&](StateMachine& m) { return m.EvictSession(server_.session(), false); }).ok());
  EXPECT_GT(server_.machine().events_version(), before) << "its long poll must wake";
  EXPECT_EQ(server_.Run([&](StateMachine& m) { return m.EvictSession(server_.session(), false); }).code(), ENOENT);
  EXPECT_TRUE(server_.OpenSession("c2").ok());
}

TEST_F(SessionTest, ReplayGivesTheStoredReply) {
  idl::Request request = server_.MakeRequest(op::Create(kRoot, "f", S_IFREG | 0644), 3);
  idl::Reply first = server_.ExecuteRequest(request);
  ASSERT_EQ(first.error, 0);
  ASSERT_EQ(Do(op::Remove(kRoot, "f")).error, 0);
  EXPECT_EQ(server_.ExecuteRequest(request), first) << "not created again";
  EXPECT_EQ(Do(op::Lookup(kRoot, "f")).error, ENOENT);
  server_.Open();
  EXPECT_EQ(server_.ExecuteRequest(request), first) << "also after a restart";

  idl::Request failing = server_.MakeRequest(op::Remove(kRoot, "f"), 3);
  EXPECT_EQ(server_.ExecuteRequest(failing).error, ENOENT);
  ASSERT_EQ(Do(op::Create(kRoot, "f", S_IFREG | 0644)).error, 0);
  EXPECT_EQ(server_.ExecuteRequest(failing).error, ENOENT) << "failures are remembered as well";
  EXPECT_EQ(server_.ExecuteRequest(request).error, EINVAL) << "older than the last";
}

TEST_F(SessionTest, ReplayWithinOneBatchRunsOnce) {
  idl::Request request = server_.MakeRequest(op::Grant(10, 1), 5);
  server_.Run([&](StateMachine& m) {
    idl::Reply first = m.Execute(server_.session(), request);
    EXPECT_EQ(m.Execute(server_.session(), request), first);
    return 0;
  });
  EXPECT_EQ(server_.machine().space().granted_blocks(), 10U);
}

TEST_F(SessionTest, SlotsAreChecked) {
  idl::Request request = server_.MakeRequest(op::Create(kRoot, "f", S_IFREG | 0644));
  request.seq = 0;
  EXPECT_EQ(server_.ExecuteRequest(request).error, EINVAL);
  request.seq = -1;
  EXPECT_EQ(server_.ExecuteRequest(request).error, EINVAL);
  request.seq = 1;
  request.slot = 32;
  EXPECT_EQ(server_.ExecuteRequest(request).error, EINVAL);
  request.slot = -1;
  EXPECT_EQ(server_.ExecuteRequest(request).error, EINVAL);
  EXPECT_EQ(Do(op::Lookup(kRoot, "f")).error, ENOENT);
  idl::Request read = server_.MakeRequest(op::GetAttr(kRoot));
  read.seq = 0;
  read.slot = 77;
  EXPECT_EQ(server_.ExecuteRequest(read).error, 0) << "reading needs no slot";
  idl::Request nothing = server_.MakeRequest(idl::Operation());
  EXPECT_EQ(server_.ExecuteRequest(nothing).error, EINVAL);
  idl::Request both = server_.MakeRequest(op::GetAttr(kRoot));
  both.op.__set_remove({});
  EXPECT_EQ(server_.ExecuteRequest(both).error, EINVAL);
  EXPECT_EQ(server_.machine().Execute(999, read).error, ESTALE);
}

TEST_F(SessionTest, RestartResumes) {
  int64_t file = Do(op::Create(kRoot, "f", S_IFREG | 0644)).attr.ino;
  idl::Range range = Do(op::Grant(100, 1)).ranges.at(0);
  auto before = server_.machine().PoolStatus();
  server_.Advance(29'000);
  server_.Open();
  server_.Advance(29'000);
  EXPECT_EQ(server_.OpenSession("c2").status().code(), EBUSY) << "a restart gives a full lease";
  EXPECT_EQ(Do(op::Commit(file, {op::MakeExtent(0, range.pool_block, 40)})).error, 0);
  auto after = server_.machine().PoolStatus();
  EXPECT_EQ(after.free_blocks, before.free_blocks);
  EXPECT_EQ(after.chunks, before.chunks);
  EXPECT_EQ(after.cluster_uuid, before.cluster_uuid);
  EXPECT_GT(Do(op::Create(kRoot, "g", S_IFREG | 0644)).attr.ino, file);
}

TEST(StoreTest, ForeignStoresAreRefused) {
  MetaOptions options;
  MemoryStore foreign;
  ASSERT_TRUE(foreign.Commit({{"what", "ever"}}).ok());
  EXPECT_EQ(StateMachine::Open(&foreign, options, {}).status().code(), EINVAL);

  MemoryStore store;
  ASSERT_TRUE(StateMachine::Open(&store, options, {}).ok());
  options.cluster = "other";
  Status status = StateMachine::Open(&store, options, {}).status();
  EXPECT_EQ(status.code(), EINVAL);
  EXPECT_NE(status.message().find("'weft'"), std::string::npos) << status.message();

  Superblock newer;
  newer.format = kStoreFormat + 1;
  ASSERT_TRUE(store.Commit({{key::Superblock(), newer.Encode()}}).ok());
  status = StateMachine::Open(&store, options, {}).status();
  EXPECT_NE(status.message().find("reads format 4"), std::string::npos) << status.message();

  ASSERT_TRUE(store.Commit({{key::Superblock(), "garbage"}}).ok());
  EXPECT_EQ(StateMachine::Open(&store, options, {}).status().code(), EUCLEAN);
}

TEST(StoreTest, EveryDamagedRecordIsNoticedOrHarmless) {
  TestServer server;
  server.Form();
  int64_t dir = server.Execute(op::Create(kRoot, "d", S_IFDIR | 0755)).attr.ino;
  int64_t file = server.Execute(op::Create(dir, "f", S_IFREG | 0644)).attr.ino;
  int64_t first = server.Execute(op::Grant(100, 2)).ranges.at(0).pool_block;
  ASSERT_EQ(server.Execute(op::Commit(file, {op::MakeExtent(0, first, 10)})).error, 0);
  server.RunOnChunks([](Chunks& chunks) {
    EXPECT_EQ(chunks.AddDamage(0, 1, {3, 4}), 0);
    EXPECT_EQ(chunks.DropCopy(1, 2, true), 0);
    return 0;
  });
  std::string tables;
  for (const auto& [key, value] : server.store().contents()) tables += key[0];
  for (char table : std::string("BCDEFGIKLNPRSTWX")) EXPECT_NE(tables.find(table), std::string::npos) << table;
  for (const auto& [key, value] : std::map(server.store().contents())) {
    MemoryStore damaged = server.store();
    ASSERT_TRUE(damaged.Commit({{key, value.substr(0, value.size() / 2) + "\xff"}}).ok());
    auto machine = StateMachine::Open(&damaged, {}, server.now());
    if (!machine.ok()) {
      EXPECT_FALSE(machine.status().message().empty());
      continue;
    }
    StateMachine& m = **machine;
    m.Begin(server.now());
    for (const idl::Operation& o :
         {op::Lookup(kRoot, "d"), op::Lookup(dir, "f"), op::GetAttr(file), op::ReadDir(kRoot, 0, 4096),
          op::ReadDir(dir, 0, 4096), op::GetExtents(file, 0, 100), op::GetChunks(0, 10)}) {
      idl::Request request;
      request.op = o;
      m.Execute(server.session(), request);
    }
    EXPECT_EQ(m.Commit().code(), EUCLEAN) << "table " << key[0];
  }
}

TEST(StoreTest, ReadErrorsStopTheBatch) {
  TestServer server;
  server.Form();
  server.store().set_fault(MemoryStore::Fault::kFailReads);
  server.machine().Begin(server.now());
  EXPECT_EQ(server.machine().Execute(server.session(), server.MakeRequest(op::Create(kRoot, "f", S_IFREG))).error, EIO);
  uint64_t commits = server.store().commits();
  EXPECT_EQ(server.machine().Commit().code(), EIO);
  EXPECT_EQ(server.store().commits(), commits) << "nothing was written";
}

}  // namespace
}  // namespace weft
