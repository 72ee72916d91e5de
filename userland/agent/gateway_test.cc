// SPDX-License-Identifier: MIT
//
// Gateways: their paths, their states, those of a session.
#include "userland/agent/gateway.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "userland/agent/gateway_fixture.h"

namespace weft::agent {
namespace {

using nvmeof::Endpoint;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using SteadyClock = std::chrono::steady_clock;

// ---- one gateway --------------------------------------------------------------------------------------------

TEST_F(GatewayTest, ConnectsAllPathsAndServes) {
  AddNamespace();
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  EXPECT_TRUE(AwaitConnected(first_));
  EXPECT_TRUE(AwaitConnected(second_));
  EXPECT_EQ(kernel_->fabric.settings(first_, kNqn)->hostnqn, "nqn.me");
  EXPECT_EQ(LastState().device, "/dev/test1.0");
  const target::TargetServerOptions& options = server->options;
  EXPECT_EQ(options.cluster, "lab");
  EXPECT_EQ(options.name, "n1");
  EXPECT_EQ(options.zone, "r1");
  EXPECT_EQ(options.weight, 30U);
  EXPECT_EQ(options.backing.path, "/dev/test1.0");
  EXPECT_FALSE(options.backing.create) << "only weftctl makes targets";
  EXPECT_EQ(options.backing.layout, target::Layout::kPlain);
  EXPECT_TRUE(options.write_cache);
  EXPECT_EQ(options.cluster_key, (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(options.address, "10.0.0.77");
  EXPECT_EQ(options.meta.ToString(), "10.0.0.99:7470");
  ASSERT_TRUE(options.nvme);
  EXPECT_EQ(*options.nvme, Target().nvme);
  ASSERT_TRUE(gateway_->served_at());
  EXPECT_EQ(gateway_->served_at()->ToString(), "10.0.0.77:4711");
  gateway_->Stop();
  EXPECT_TRUE(server->closed);
  EXPECT_FALSE(gateway_->served_at());
  EXPECT_EQ(LastState().status.code(), EHOSTDOWN);
  EXPECT_EQ(LastState().device, "");
  EXPECT_TRUE(Connected()) << "the next agent needs the paths, too";
}

TEST_F(GatewayTest, ItsAddressIsTheOneThatTheStorageNodeIsReachedFrom) {
  const Endpoint local{nvmeof::Transport::kTcp, "127.0.0.1", 4420};
  kernel_->fabric.AddSubsystem(kNqn, {local});
  AddNamespace();
  options_.rdma_address = "";
  idl::TargetAddress target = Target();
  target.nvme.uris = {Text(local)};
  gateway_ = std::make_unique<Gateway>(options_, session_, target, Listener());
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(gateway_->served_at()->host, "127.0.0.1");
}

TEST_F(GatewayTest, WaitsForTheNamespaceToAppear) {
  kernel_->fabric.SetHidden(kNqn, false, 2);
  AddNamespace();
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(StateCount(), 1U) << "it was never told to be missing";
}

TEST_F(GatewayTest, IsTriedWhenItHasRegistered) {
  AddNamespace();
  Start();
  auto server = AwaitServer();
  EXPECT_FALSE(gateway_->WaitTried(SteadyClock::now()));
  server->callbacks.on_registered();
  EXPECT_TRUE(gateway_->WaitTried(SteadyClock::now()));
}

TEST_F(GatewayTest, ANodeThatIsNotReachedIsTriedAgain) {
  AddNamespace();
  kernel_->fabric.SetReachable(first_, false);
  kernel_->fabric.SetReachable(second_, false);
  Start();
  ASSERT_TRUE(AwaitState(ETIMEDOUT, false));
  EXPECT_THAT(LastState().status.message(), HasSubstr("10.0.0.1:4420"));
  EXPECT_TRUE(gateway_->WaitTried(SteadyClock::now() + SharedFabric::kPatience)) << "a mount does not wait for it";
  EXPECT_FALSE(gateway_->served_at());
  kernel_->fabric.SetReachable(second_, true);
  EXPECT_TRUE(AwaitUp());
}

TEST_F(GatewayTest, ANamespaceOfAnotherLabelIsRefused) {
  AddNamespace();
  {
    std::lock_guard lock(kernel_->mutex);
    record_.labels["/dev/test1.0"] = UuidOf(9);
  }
  Start();
  ASSERT_TRUE(AwaitState(EINVAL, false));
  EXPECT_THAT(LastState().status.message(), HasSubstr("is labelled as target 09090909-"));
  EXPECT_THAT(LastState().status.message(), HasSubstr("target 'n1' is 01010101-"));
  EXPECT_FALSE(gateway_->served_at());
  EXPECT_TRUE(gateway_->WaitTried(SteadyClock::now() + SharedFabric::kPatience));
  {
    std::lock_guard lock(kernel_->mutex);
    for (const auto& server : record_.servers) EXPECT_FALSE(server->linked) << "it has registered";
    record_.labels["/dev/test1.0"] = UuidOf(1);
  }
  EXPECT_TRUE(AwaitUp()) << "somebody has put it right";
}

TEST_F(GatewayTest, AnotherNamespaceOfTheSubsystemIsNotTaken) {
  AddNamespace(2);
  AddNamespace(1);
  idl::TargetAddress target = Target();
  gateway_ = std::make_unique<Gateway>(options_, session_, target, Listener());
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(LastState().device, "/dev/test1.0");
}

TEST_F(GatewayTest, WithoutIdentifiersItGoesByTheNumber) {
  AddNamespace(2);
  AddNamespace(1);
  idl::TargetAddress target = Target();
  target.nvme.uuid = target.nvme.nguid = std::string(16, '\0');
  gateway_ = std::make_unique<Gateway>(options_, session_, target, Listener());
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(LastState().device, "/dev/test1.0");
}

TEST_F(GatewayTest, AUriThatIsNoneIsTold) {
  idl::TargetAddress target = Target();
  target.nvme.uris[1] = "nvme+fc://x/nqn.x";
  gateway_ = std::make_unique<Gateway>(options_, session_, target, Listener());
  ASSERT_TRUE(AwaitState(EINVAL, false));
  EXPECT_THAT(LastState().status.message(), HasSubstr("nvme+fc://"));
  EXPECT_EQ(gateway_->nqn(), "");
}

TEST_F(GatewayTest, OnePathIsEnoughAndTheOtherIsTriedAgain) {
  AddNamespace();
  options_.times.missing = milliseconds(1);
  kernel_->fabric.SetReachable(second_, false);
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  EXPECT_FALSE(kernel_->fabric.connected(second_, kNqn));
  kernel_->fabric.SetReachable(second_, true);
  EXPECT_TRUE(AwaitConnected(second_));
  EXPECT_FALSE(server->closed);
  EXPECT_EQ(StateCount(), 1U);
}

// A request waits on it for as long as its timeouts say.
TEST_F(GatewayTest, APathThatSomebodyElseConnectedGetsItsTimeouts) {
  nvmeof::Endpoint third{first_.transport, "10.0.3.1", first_.port};
  kernel_->fabric.AddSubsystem(kNqn, {first_, second_, third});
  AddNamespace();
  Start();
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(AwaitConnected(second_));
  ASSERT_TRUE(kernel_->AwaitLooks());
  kernel_->fabric.ClearCalls();
  ASSERT_TRUE(kernel_->fabric.Connect(third, kNqn, {}).ok());
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_THAT(kernel_->fabric.calls(), testing::Contains("timeouts " + std::string(kNqn)));
}

TEST_F(GatewayTest, APathThatHangsHoldsNobodyUp) {
  AddNamespace();
  kernel_->Block(second_);
  Start();
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(kernel_->AwaitBlocked());
  kernel_->fabric.SetReachable(first_, false);
  EXPECT_TRUE(AwaitState(EHOSTDOWN, true)) << "the state of the path that stands is looked at meanwhile";
  gateway_->Stop();
  EXPECT_FALSE(kernel_->fabric.connected(second_, kNqn)) << "Stop has waited for the kernel";
}

TEST_F(GatewayTest, StopsWhileItsFirstPathIsConnected) {
  AddNamespace();
  kernel_->Block(first_);
  Start();
  ASSERT_TRUE(kernel_->AwaitBlocked());
  EXPECT_FALSE(gateway_->Stop(SteadyClock::now())) << "the kernel is still at it";
  gateway_ = nullptr;
  EXPECT_EQ(ServerCount(), 0U);
  EXPECT_FALSE(kernel_->fabric.connected(first_, kNqn));
  kernel_->Unblock();
}

TEST_F(GatewayTest, StopsWhileItWaitsForTheNamespace) {
  options_.times.retry_min = options_.times.retry_max = hours(1);
  Start();
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_TRUE(gateway_->Stop(SteadyClock::now() + SharedFabric::kPatience));
  EXPECT_EQ(StateCount(), 0U);
}

TEST_F(GatewayTest, StopsWhileItWaitsToTryAgain) {
  options_.times.retry_min = options_.times.retry_max = hours(1);
  kernel_->fabric.SetReachable(first_, false);
  kernel_->fabric.SetReachable(second_, false);
  Start();
  ASSERT_TRUE(AwaitState(ETIMEDOUT, false));
  EXPECT_TRUE(gateway_->Stop(SteadyClock::now() + SharedFabric::kPatience));
}

TEST_F(GatewayTest, PathsThatAreToldOfLaterAreConnected) {
  AddNamespace();
  options_.times.missing = milliseconds(0);
  idl::TargetAddress target = Target();
  target.nvme.uris = {Text(first_)};
  gateway_ = std::make_unique<Gateway>(options_, session_, target, Listener());
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_FALSE(kernel_->fabric.connected(second_, kNqn));
  gateway_->Update(Target());
  EXPECT_TRUE(AwaitConnected(second_));
  EXPECT_EQ(ServerCount(), 1U);
}

TEST_F(GatewayTest, AShortOutageIsToldAndSatOut) {
  AddNamespace();
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  kernel_->fabric.SetAnaState(second_, "inaccessible");
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_EQ(StateCount(), 2U) << "there is another path, which is all that is told";
  kernel_->fabric.SetReachable(first_, false);
  ASSERT_TRUE(AwaitState(EHOSTDOWN, true));
  EXPECT_TRUE(gateway_->served_at());
  kernel_->fabric.SetReachable(first_, true);
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(StateCount(), 4U);
  EXPECT_FALSE(server->closed);
  EXPECT_EQ(ServerCount(), 1U);
}

TEST_F(GatewayTest, ALongOutageEndsTheServerAndItIsOpenedAgain) {
  AddNamespace();
  options_.detect = milliseconds(1);
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  kernel_->fabric.SetReachable(first_, false);
  kernel_->fabric.SetReachable(second_, false);
  ASSERT_TRUE(AwaitState(EHOSTDOWN, false));
  ASSERT_TRUE(AwaitClosed(server));
  EXPECT_FALSE(gateway_->served_at());
  kernel_->fabric.SetReachable(second_, true);
  ASSERT_TRUE(AwaitUp());
  EXPECT_NE(AwaitServer(2), server);
  EXPECT_TRUE(gateway_->served_at());
}

TEST_F(GatewayTest, ANamespaceThatIsAnotherDeviceNowIsOpenedAgain) {
  AddNamespace(1, 100);
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  AddNamespace(1, 200);
  ASSERT_TRUE(AwaitClosed(server)) << "its descriptor is of the device that has gone";
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(LastState().device, "/dev/test1.200");
  EXPECT_EQ(AwaitServer(2)->options.backing.path, "/dev/test1.200");
}

TEST_F(GatewayTest, ANamespaceThatVanishesIsTold) {
  AddNamespace();
  Start();
  ASSERT_TRUE(AwaitUp());
  kernel_->fabric.RemoveNamespace(kNqn, 1);
  ASSERT_TRUE(AwaitState(ENODEV, false));
}

TEST_F(GatewayTest, ControllersThatWereDeletedAreMadeAgain) {
  AddNamespace();
  options_.times.missing = milliseconds(1);
  Start();
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(AwaitConnected(second_));
  ASSERT_TRUE(kernel_->fabric.Disconnect(kNqn).ok());  // as `nvme disconnect` does
  EXPECT_TRUE(AwaitConnected(first_));
  EXPECT_TRUE(AwaitConnected(second_));
  EXPECT_TRUE(AwaitUp());
}

TEST_F(GatewayTest, ErrorsAreOfThePathsOnlyWhenThereIsNone) {
  AddNamespace();
  Start();
  auto server = AwaitServer();
  const auto& translate = server->options.translate;
  for (int error : {EIO, ENODEV, ENXIO, ENOLINK, ETIMEDOUT, ENOSPC, EILSEQ}) EXPECT_EQ(translate(-error), -error);
  EXPECT_EQ(translate(4096), 4096);
  kernel_->fabric.SetReachable(first_, false);
  kernel_->fabric.SetReachable(second_, false);
  ASSERT_TRUE(AwaitState(EHOSTDOWN, true));
  for (int error : {EIO, ENODEV, ENXIO, ENOLINK, ETIMEDOUT}) EXPECT_EQ(translate(-error), -EHOSTDOWN);
  for (int error : {ENOSPC, EILSEQ, EROFS, EINVAL}) EXPECT_EQ(translate(-error), -error) << "the namespace has said it";
  EXPECT_EQ(translate(4096), 4096);
  kernel_->fabric.SetReachable(second_, true);
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(translate(-EIO), -EIO);
  kernel_->fabric.RemoveNamespace(kNqn, 1);
  ASSERT_TRUE(AwaitState(ENODEV, false));
  EXPECT_EQ(translate(-EIO), -EHOSTDOWN);
}

TEST_F(GatewayTest, ReportsItsPaths) {
  AddNamespace();
  kernel_->fabric.SetAnaState(second_, "non-optimized");
  Start();
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(AwaitConnected(second_));
  ASSERT_TRUE(kernel_->AwaitLooks());
  idl::TargetReport report;
  AwaitServer()->options.add_to_report(&report);
  EXPECT_EQ(report.data_path, "agent");
  ASSERT_EQ(report.paths.size(), 2U);
  EXPECT_EQ(report.paths[0].endpoint, "rdma 10.0.0.1:4420");
  EXPECT_EQ(report.paths[0].controller, "nvme0");
  EXPECT_EQ(report.paths[0].state, "live");
  EXPECT_EQ(report.paths[0].ana_state, "optimized");
  EXPECT_EQ(report.paths[1].ana_state, "non-optimized");
  ASSERT_TRUE(report.__isset.traits);
  EXPECT_EQ(report.traits.block_bytes, 512);
  EXPECT_EQ(report.traits.atomic_write_bytes, 2048);
  EXPECT_TRUE(report.traits.write_cache);
}

TEST_F(GatewayTest, ReportsTheDataPathInForce) {
  AddNamespace();
  options_.data_path = [](uint32_t target) { return target == 1 ? "direct" : ""; };
  Start();
  idl::TargetReport report;
  AwaitServer()->options.add_to_report(&report);
  EXPECT_EQ(report.data_path, "direct");
}

TEST_F(GatewayTest, ARefusalByTheMetadataServerEndsIt) {
  AddNamespace();
  Start();
  auto server = AwaitServer();
  server->callbacks.on_refused(Error(EINVAL, "target 'n1' was removed from the pool as lost"));
  ASSERT_TRUE(AwaitState(EINVAL, false));
  EXPECT_THAT(LastState().status.message(), HasSubstr("removed from the pool as lost"));
  EXPECT_TRUE(gateway_->WaitTried(SteadyClock::now()));
  ASSERT_TRUE(AwaitClosed(server));
  gateway_->Stop();
  EXPECT_EQ(ServerCount(), 1U) << "it has tried again";
}

// ---- those of a session ---------------------------------------------------------------------------------------

TEST_F(GatewayTest, TheMapBeginsAndEndsThem) {
  AddNamespace(1);
  AddNamespace(2);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  SetMap({1, 2});
  ASSERT_TRUE(AwaitUp(2));
  EXPECT_EQ(ServerCount(), 2U) << "the first was begun anew";
  SetMap({2});
  EXPECT_TRUE(AwaitState(EHOSTDOWN, false, 1));
  EXPECT_TRUE(Connected()) << "the other one uses the subsystem";
  SetMap({});
  gateways_->Stop(false);
  EXPECT_TRUE(Connected()) << "the first is not ours any more: it may be somebody else's now";
}

TEST_F(GatewayTest, TheLastTargetOfASubsystemTakesItsPathsAlong) {
  AddNamespace(1);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  SetMap({});
  gateways_->Stop(false);
  EXPECT_FALSE(Connected());
}

TEST_F(GatewayTest, ATargetThatLeavesIsNotWaitedFor) {
  AddNamespace(1);
  StartAll({1});
  auto server = AwaitServer();
  Hold(true);
  SetMap({});
  EXPECT_EQ(gateways_->BeginStop(), "target 'n1'");
  EXPECT_TRUE(Connected()) << "its requests are under way";
  Hold(false);
  gateways_->Stop(false);
  EXPECT_TRUE(server->closed);
  EXPECT_FALSE(Connected());
  EXPECT_EQ(gateways_->BeginStop(), "");
}

TEST_F(GatewayTest, ATargetThatComesBackWaitsForItsEnd) {
  options_.open_server = [this](const target::TargetServerOptions& options) {
    {
      std::lock_guard lock(kernel_->mutex);
      for (const auto& before : record_.servers) EXPECT_TRUE(before->closed);
    }
    return OpenServer(options);
  };
  AddNamespace(1);
  StartAll({1});
  AwaitServer();
  Hold(true);
  SetMap({});
  std::thread end([this] { Hold(false); });
  SetMap({1});
  end.join();
  AwaitServer(2);
  EXPECT_TRUE(AwaitUp(1));
}

TEST_F(GatewayTest, APathThatAnotherTargetWaitsBehindStays) {
  StartAll({1, 2});
  ASSERT_TRUE(AwaitConnected(first_));
  SetMap({2});
  EXPECT_TRUE(Connected());
  AddNamespace(2);
  EXPECT_TRUE(AwaitUp(2));
}

TEST_F(GatewayTest, TheMapSaysWhereTheyServeHere) {
  AddNamespace(1);
  kernel_->fabric.SetHidden(kNqn, true);
  StartAll({1, 2});
  ASSERT_TRUE(AwaitUp(1));
  idl::TargetMap map;
  for (uint32_t id : {1U, 2U}) {
    map.targets.push_back(Target(id));
    map.targets.back().host = "10.9.9.9";  // of the client before this one
    map.targets.back().port = 9;
  }
  idl::TargetAddress& other = map.targets.emplace_back();
  other.id = 3;
  other.host = "10.0.0.3";
  other.port = 7471;
  gateways_->Localize(&map);
  EXPECT_EQ(map.targets[0].host, "10.0.0.77");
  EXPECT_EQ(map.targets[0].port, kPort);
  EXPECT_EQ(map.targets[1].host, "");
  EXPECT_EQ(map.targets[1].port, 0);
  EXPECT_EQ(map.targets[2], other);
}

TEST_F(GatewayTest, WaitsForAllToBeTried) {
  AddNamespace(1);
  StartAll({1});
  auto server = AwaitServer();
  gateways_->WaitTried(milliseconds(0));
  server->callbacks.on_registered();
  gateways_->WaitTried(hours(1));
}

TEST_F(GatewayTest, TargetsThatCannotBeAttendedToAreLeftOut) {
  AddNamespace(1);
  gateways_ = std::make_unique<Gateways>(options_, Listener());
  idl::TargetMap map;
  map.targets.assign(5, Target());
  for (int i = 0; i < 5; ++i) map.targets[static_cast<size_t>(i)].id = i + 1;
  map.targets[1].uuid = "short";
  map.targets[2].nvme.uuid = "short";
  map.targets[3].nvme.nguid = "";
  map.targets[4].__isset.nvme = false;
  gateways_->SetMap(map);
  ASSERT_TRUE(AwaitUp(1));
  gateways_->Stop(false);
  std::lock_guard lock(kernel_->mutex);
  EXPECT_EQ(record_.states.size(), 1U);
}

TEST_F(GatewayTest, AnUnmountDisconnectsASubsystemThatIsTheirsAlone) {
  AddNamespace(1);
  AddNamespace(2);
  StartAll({1, 2});
  ASSERT_TRUE(AwaitUp(1));
  ASSERT_TRUE(AwaitUp(2));
  gateways_->Stop(true);
  EXPECT_FALSE(Connected()) << "each took the other's namespace for a stranger's";
}

TEST_F(GatewayTest, AnUnmountLeavesWhatSomebodyElseUses) {
  AddNamespace(1);
  AddNamespace(2);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  gateways_->Stop(true);
  EXPECT_TRUE(Connected());
}

TEST_F(GatewayTest, AnUnmountAfterTheSessionWasEndedDisconnects) {
  AddNamespace(1);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  gateways_->Stop(false);
  EXPECT_TRUE(Connected());
  gateways_->Stop(true);
  EXPECT_FALSE(Connected());
}

TEST_F(GatewayTest, ANewSessionBeginsThemAnew) {
  AddNamespace(1);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  gateways_->Stop(false);
  ASSERT_TRUE(AwaitState(EHOSTDOWN, false));
  SetMap({1});
  EXPECT_EQ(ServerCount(), 1U) << "a map of the session before";
  gateways_->SetSession(session_);
  SetMap({1});
  EXPECT_TRUE(AwaitUp(1));
}

TEST_F(GatewayTest, AnUnmountThatDoesNotWaitDisconnectsLater) {
  AddNamespace(1);
  StartAll({1});
  AwaitServer();
  Hold(true);
  gateways_->Abandon();
  EXPECT_EQ(gateways_->BeginStop(), "target 'n1'");
  EXPECT_TRUE(Connected());
  Hold(false);
  gateways_->Stop(false);
  EXPECT_FALSE(Connected());
}

TEST_F(GatewayTest, AnUnmountDoesNotWaitForAPathThatHangs) {
  AddNamespace(1);
  kernel_->Block(second_);
  StartAll({1});
  ASSERT_TRUE(AwaitUp(1));
  ASSERT_TRUE(kernel_->AwaitBlocked());
  gateways_->Stop(true);
  EXPECT_FALSE(kernel_->fabric.connected(first_, kNqn));
  EXPECT_FALSE(kernel_->fabric.connected(second_, kNqn));
}

}  // namespace
}  // namespace weft::agent
