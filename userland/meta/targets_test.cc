// SPDX-License-Identifier: MIT
//
// Registration, heartbeats, forming the pool.
#include <cerrno>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kMiB = 1 << 20;

class TargetsTest : public ::testing::Test {
 protected:
  idl::RegisterTargetArgs Args(const std::string& name, int64_t mib = 64) {
    return TestServer::TargetArgs(name, mib * kMiB);
  }
  void Refused(const idl::RegisterTargetArgs& args, int code, const std::string& words) {
    Status status = server_.Register(args).status();
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_NE(status.message().find(words), std::string::npos) << status.message();
  }
  idl::TargetMap Map() {
    auto session = server_.OpenSession("c1");
    EXPECT_TRUE(session.ok()) << session.status().message();
    server_.set_session(session->id);
    return session->targets;
  }

  TestServer server_;
};

TEST_F(TargetsTest, RegistrationIsChecked) {
  auto args = Args("t1");
  args.protocol = 7;
  Refused(args, EPROTO, "protocol 7");
  args = Args("t1");
  args.cluster = "other";
  Refused(args, EINVAL, "'other'");
  for (std::string name : {std::string(), std::string("a b"), std::string(32, 'x'), std::string("a/b")}) {
    args = Args("t1");
    args.name = name;
    Refused(args, EINVAL, "target name");
  }
  args = Args("t1");
  args.uuid = "short";
  Refused(args, EINVAL, "UUID");
  args = Args("t1");
  args.port = 0;
  Refused(args, EINVAL, "address");
  args = Args("t1");
  args.host = "";
  Refused(args, EINVAL, "address");
  args = Args("t1");
  args.capacity_bytes = 4096;
  Refused(args, EINVAL, "4096");
  args = Args("t1");
  args.weight = 0;
  Refused(args, EINVAL, "weight");
  args = Args("t1");
  args.cluster_uuid = std::string(16, 'z');
  Refused(args, EINVAL, "another cluster");
}

TEST_F(TargetsTest, NamesAreUnique) {
  ASSERT_TRUE(server_.Register(Args("t1")).ok());
  EXPECT_TRUE(server_.Register(Args("t1")).ok()) << "the same target again";
  auto other = Args("t1");
  other.uuid = std::string(16, 'o');
  Refused(other, EEXIST, "'t1'");
  server_.Advance(6'000);
  EXPECT_TRUE(server_.Register(other).ok()) << "the old one is gone and held nothing";
  EXPECT_EQ(server_.Heartbeat(Args("t1")).status().code(), ESTALE);
}

TEST_F(TargetsTest, PoolCreationIsChecked) {
  EXPECT_EQ(server_.CreatePool(0, 0).status().code(), ENOENT);
  EXPECT_EQ(server_.OpenSession("c1").status().code(), ENODEV);
  ASSERT_TRUE(server_.Register(Args("t1")).ok());
  ASSERT_TRUE(server_.Register(Args("t2")).ok());
  EXPECT_EQ(server_.CreatePool(0, 0, {"t3"}).status().code(), ENOENT);
  EXPECT_EQ(server_.CreatePool(0, 0, {"t1", "t1"}).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(3, 0).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(5, 0).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(-1, 0).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(2, 3 * kMiB).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(2, kMiB / 2).status().code(), EINVAL);
  EXPECT_EQ(server_.CreatePool(2, 128 * kMiB).status().code(), EINVAL) << "no chunk fits";
  auto pool = server_.CreatePool(0, 0, {"t2"});
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  EXPECT_TRUE(pool->formed);
  EXPECT_EQ(pool->copies, 1);
  EXPECT_EQ(pool->chunk_bytes, 64 * kMiB);
  EXPECT_EQ(pool->pool_blocks, 64 * kMiB / 4096);
  EXPECT_EQ(pool->free_blocks, pool->pool_blocks);
  EXPECT_EQ(pool->files, 1);
  ASSERT_EQ(pool->targets.size(), 2U);
  EXPECT_EQ(pool->targets[0].id, 0);
  EXPECT_EQ(pool->targets[1].id, 1);
  EXPECT_EQ(server_.CreatePool(0, 0).status().code(), EEXIST);
  EXPECT_EQ(server_.Heartbeat(Args("t1"))->id, 0);
  auto orders = server_.Heartbeat(Args("t2"));
  EXPECT_EQ(orders->id, 1);
  EXPECT_EQ(orders->cluster_uuid, pool->cluster_uuid);
  EXPECT_GT(orders->heartbeat_ms, 0);
}

TEST_F(TargetsTest, TwoCopiesByDefault) {
  ASSERT_TRUE(server_.Register(Args("t1", 200)).ok());
  ASSERT_TRUE(server_.Register(Args("t2", 130)).ok());
  auto pool = server_.CreatePool(0, 0);
  ASSERT_TRUE(pool.ok());
  EXPECT_EQ(pool->copies, 2);
  EXPECT_EQ(pool->pool_blocks * 4096, 128 * kMiB);
}

TEST_F(TargetsTest, MembersAreRecognized) {
  server_.Form();
  std::string cluster = server_.machine().PoolStatus().cluster_uuid;
  auto args = Args("t1");
  args.cluster_uuid = cluster;
  args.port = 9999;
  args.host = "10.0.0.9";
  ASSERT_TRUE(server_.Register(args).ok());
  EXPECT_EQ(Map().targets[0].port, 9999);
  server_.Open();
  EXPECT_EQ(Map().targets[0].host, "10.0.0.9") << "stored";
  args.capacity_bytes -= 1;
  Refused(args, EINVAL, "shrunk");
  auto stranger = Args("t9");
  stranger.cluster_uuid = cluster;
  Refused(stranger, EINVAL, "not in its pool");
  auto impostor = Args("t2");
  impostor.uuid = std::string(16, 'i');
  server_.Advance(60'000);
  Refused(impostor, EEXIST, "'t2'");
  args.capacity_bytes = 1 << 30;
  EXPECT_TRUE(server_.Register(args).ok()) << "it may grow";
  EXPECT_EQ(server_.machine().PoolStatus().targets[0].capacity_bytes, 64 * kMiB) << "without gaining space";
}

TEST_F(TargetsTest, SilenceMeansDown) {
  server_.Form();
  int64_t version = Map().version;
  auto events = [&] {
    return server_.Run([&](StateMachine& m) { return m.NextEvents(server_.session(), version, INT64_MAX); });
  };
  EXPECT_FALSE(events()->__isset.targets);
  EXPECT_EQ(server_.machine().deadline_ms(), server_.now().mono_ms + 5'000);
  server_.Advance(4'000);
  ASSERT_TRUE(server_.Heartbeat(Args("t1")).ok());
  int64_t before = server_.machine().events_version();
  server_.Advance(1'000);
  auto down = events();
  EXPECT_GT(server_.machine().events_version(), before);
  ASSERT_TRUE(down->__isset.targets);
  EXPECT_GT(down->targets.version, version);
  EXPECT_TRUE(down->targets.targets[0].up);
  EXPECT_FALSE(down->targets.targets[1].up);
  version = down->targets.version;
  ASSERT_TRUE(server_.Heartbeat(Args("t2")).ok());
  EXPECT_TRUE(events()->targets.targets[1].up);
}

TEST_F(TargetsTest, LoadIsToldWhenItChangesMuch) {
  server_.Form();
  int64_t version = Map().version;
  ASSERT_TRUE(server_.Heartbeat(Args("t1"), 99).ok());
  EXPECT_EQ(Map().version, version);
  ASSERT_TRUE(server_.Heartbeat(Args("t1"), 100).ok());
  EXPECT_GT(Map().version, version);
  EXPECT_EQ(Map().targets[0].load, 100);
  ASSERT_TRUE(server_.Heartbeat(Args("t1"), 5'000).ok());
  EXPECT_EQ(Map().targets[0].load, 1000);
}

TEST_F(TargetsTest, MapVersionRisesAcrossRestarts) {
  server_.Form();
  int64_t version = Map().version;
  server_.Open();
  EXPECT_GT(Map().version, version);
  EXPECT_TRUE(Map().targets[0].up) << "until the contrary is known";
  server_.Advance(5'000);
  EXPECT_FALSE(Map().targets[0].up);
}

TEST_F(TargetsTest, NewChunksAvoidTargetsThatAreDown) {
  for (std::string name : {"t1", "t2", "t3"}) ASSERT_TRUE(server_.Register(Args(name, 256)).ok());
  ASSERT_TRUE(server_.CreatePool(2, 4 * kMiB).ok());
  Map();
  for (std::string name : {"t1", "t2", "t3"}) ASSERT_TRUE(server_.Heartbeat(Args(name)).ok());  // they have joined
  server_.Advance(4'500);
  ASSERT_TRUE(server_.Heartbeat(Args("t1")).ok());
  ASSERT_TRUE(server_.Heartbeat(Args("t3")).ok());
  server_.Advance(1'000);
  ASSERT_EQ(server_.Execute(op::Grant(2048, 8)).error, 0);
  for (const idl::Chunk& chunk : server_.Execute(op::GetChunks(0, 100)).chunks) {
    for (const idl::Copy& copy : chunk.copies) EXPECT_NE(copy.target, 2);
  }
}

}  // namespace
}  // namespace weft
