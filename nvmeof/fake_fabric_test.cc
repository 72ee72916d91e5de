// SPDX-License-Identifier: MIT
#include "nvmeof/fake_fabric.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kNqn = "nqn.x";
const Endpoint kFirst{Transport::kRdma, "10.0.0.1", 4420};
const Endpoint kSecond{Transport::kTcp, "10.0.0.2", 4420};

class FakeFabricTest : public testing::Test {
 protected:
  FakeFabricTest() {
    fabric_.AddSubsystem(kNqn, {kFirst, kSecond});
    AddNamespace(1);
  }
  void AddNamespace(uint32_t nsid) {
    Namespace ns;
    ns.nsid = nsid;
    ns.bytes = 1 << 30;
    fabric_.AddNamespace(kNqn, ns);
  }

  FakeFabric fabric_;
};

TEST_F(FakeFabricTest, ConnectsAndDisconnects) {
  EXPECT_THAT(*fabric_.Namespaces(kNqn), IsEmpty());
  HostSettings host;
  host.reconnect_s = 9;
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, host).ok());
  EXPECT_TRUE(fabric_.Connect(kSecond, kNqn, {}).ok());
  EXPECT_TRUE(fabric_.Connect(kSecond, kNqn, {}).ok());
  EXPECT_EQ(fabric_.settings(kFirst, kNqn)->reconnect_s, 9u);
  auto namespaces = fabric_.Namespaces(kNqn);
  ASSERT_THAT(*namespaces, SizeIs(1));
  EXPECT_EQ(namespaces->front().device, "/dev/nvme0n1");
  EXPECT_THAT(namespaces->front().paths, SizeIs(2));
  EXPECT_TRUE(namespaces->front().reachable());
  EXPECT_TRUE(fabric_.Disconnect(kNqn).ok());
  EXPECT_FALSE(fabric_.connected(kFirst, kNqn));
  EXPECT_THAT(*fabric_.Namespaces(kNqn), IsEmpty());
  EXPECT_THAT(fabric_.calls(), ElementsAre("connect rdma 10.0.0.1:4420 nqn.x", "connect tcp 10.0.0.2:4420 nqn.x",
                                           "connect tcp 10.0.0.2:4420 nqn.x", "disconnect nqn.x"));
}

TEST_F(FakeFabricTest, Refuses) {
  EXPECT_EQ(fabric_.Connect({Transport::kTcp, "10.0.0.3", 4420}, kNqn, {}).code(), ECONNREFUSED);
  Status status = fabric_.Connect(kFirst, "nqn.y", {});
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr("rdma 10.0.0.1:4420 has no subsystem nqn.y"));

  fabric_.AllowOnly(kNqn, {"nqn.host"});
  EXPECT_EQ(fabric_.Connect(kFirst, kNqn, {}).code(), EACCES);
  EXPECT_THAT(*fabric_.Discover(kFirst, {}), SizeIs(1));
  HostSettings host;
  host.hostnqn = "nqn.host";
  EXPECT_THAT(*fabric_.Discover(kFirst, host), SizeIs(2));

  fabric_.RequireKey(kNqn, "DHHC-1:a");
  EXPECT_EQ(fabric_.Connect(kFirst, kNqn, host).code(), EKEYREJECTED);
  host.dhchap_key = "DHHC-1:b";
  EXPECT_EQ(fabric_.Connect(kFirst, kNqn, host).code(), EKEYREJECTED);
  host.dhchap_key = "DHHC-1:a";
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, host).ok());
}

TEST_F(FakeFabricTest, PathsBreakAndComeBack) {
  fabric_.SetReachable(kSecond, false);
  EXPECT_EQ(fabric_.Connect(kSecond, kNqn, {}).code(), ETIMEDOUT);
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, {}).ok());
  fabric_.SetReachable(kFirst, false);
  EXPECT_EQ(fabric_.Namespaces(kNqn)->front().paths.front().state, "connecting");
  EXPECT_FALSE(fabric_.Namespaces(kNqn)->front().reachable());
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, {}).ok());  // it is there
  fabric_.SetReachable(kFirst, true);
  fabric_.SetAnaState(kFirst, "inaccessible");
  EXPECT_FALSE(fabric_.Namespaces(kNqn)->front().reachable());
  fabric_.SetAnaState(kFirst, "non-optimized");
  EXPECT_TRUE(fabric_.Namespaces(kNqn)->front().reachable());
  fabric_.RemoveSubsystem(kNqn);
  EXPECT_FALSE(fabric_.connected(kFirst, kNqn));
}

TEST_F(FakeFabricTest, FailsAsItIsTold) {
  fabric_.FailConnect(kFirst, Error(EBUSY, "busy"));
  EXPECT_EQ(fabric_.Connect(kFirst, kNqn, {}).code(), EBUSY);
  fabric_.FailConnect(kFirst, {});
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, {}).ok());
}

TEST_F(FakeFabricTest, NamespacesAppearLater) {
  fabric_.SetHidden(kNqn, false, 2);
  AddNamespace(2);
  EXPECT_TRUE(fabric_.Connect(kFirst, kNqn, {}).ok());
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(1));
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(1));
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(2));
  fabric_.SetHidden(kNqn, true);
  AddNamespace(3);
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(2));
  EXPECT_TRUE(fabric_.Rescan(kNqn).ok());
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(3));
  fabric_.RemoveNamespace(kNqn, 1);
  EXPECT_THAT(*fabric_.Namespaces(kNqn), SizeIs(2));
}

}  // namespace
}  // namespace weft::nvmeof
