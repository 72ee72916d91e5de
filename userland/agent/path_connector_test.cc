// SPDX-License-Identifier: MIT
#include "userland/agent/path_connector.h"

#include <cerrno>
#include <thread>

#include <gtest/gtest.h>

#include "userland/agent/shared_fabric.h"

namespace weft::agent {
namespace {

using nvmeof::Endpoint;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

constexpr const char* kNqn = "nqn.2026-01.test:store";

class PathConnectorTest : public ::testing::Test {
 protected:
  PathConnectorTest() { kernel_->fabric.AddSubsystem(kNqn, {first_, second_}); }
  ~PathConnectorTest() override { kernel_->Unblock(); }

  PathConnector::Outcome Wait(PathConnector* connector) {
    EXPECT_TRUE(kernel_->AwaitLentBack());
    while (!connector->outcome().ended) std::this_thread::yield();  // the last that its thread does
    return connector->outcome();
  }

  const Endpoint first_{nvmeof::Transport::kRdma, "10.0.0.1", 4420};
  const Endpoint second_{nvmeof::Transport::kRdma, "10.0.1.1", 4420};
  const std::vector<nvmeof::Uri> paths_{{first_, kNqn}, {second_, kNqn}};
  std::shared_ptr<SharedFabric> kernel_ = std::make_shared<SharedFabric>();
};

TEST_F(PathConnectorTest, TriesAllPathsAndTellsOfTheFirstThatFails) {
  nvmeof::HostSettings host;
  host.hostnqn = "nqn.me";
  PathConnector connector(Maker(kernel_), host);
  EXPECT_TRUE(connector.outcome().ended) << "nothing has begun";
  kernel_->fabric.SetReachable(first_, false);
  connector.Begin(paths_, milliseconds(0));
  PathConnector::Outcome outcome = Wait(&connector);
  EXPECT_EQ(outcome.connected, 1U);
  EXPECT_EQ(outcome.error.code(), ETIMEDOUT);
  EXPECT_NE(outcome.error.message().find("10.0.0.1:4420"), std::string::npos) << outcome.error.message();
  EXPECT_EQ(kernel_->fabric.settings(second_, kNqn)->hostnqn, "nqn.me");
}

TEST_F(PathConnectorTest, AfterARoundThereIsAPause) {
  PathConnector connector(Maker(kernel_), {});
  connector.Begin(paths_, hours(1));
  EXPECT_EQ(Wait(&connector).connected, 2U);
  kernel_->fabric.ClearCalls();
  connector.Begin(paths_, hours(1));
  EXPECT_TRUE(connector.outcome().ended);
  EXPECT_TRUE(kernel_->fabric.calls().empty());
}

TEST_F(PathConnectorTest, OneRoundAtATimeWhoseProgressShows) {
  kernel_->Block(second_);
  PathConnector connector(Maker(kernel_), {});
  connector.Begin(paths_, milliseconds(0));
  ASSERT_TRUE(kernel_->AwaitBlocked());
  EXPECT_EQ(connector.outcome().connected, 1U);
  EXPECT_FALSE(connector.outcome().ended);
  connector.Begin(paths_, milliseconds(0));
  EXPECT_EQ(kernel_->fabric.calls().size(), 1U) << "a second round has begun";
  kernel_->Unblock();
  EXPECT_EQ(Wait(&connector).connected, 2U);
}

TEST_F(PathConnectorTest, NobodyWaitsForWhatIsLetGo) {
  kernel_->Block(first_);
  auto connector = std::make_unique<PathConnector>(Maker(kernel_), nvmeof::HostSettings());
  connector->Begin(paths_, milliseconds(0));
  ASSERT_TRUE(kernel_->AwaitBlocked());
  EXPECT_FALSE(connector->LetGo(SteadyClock::now()));
  connector = nullptr;
  kernel_->Unblock();
  ASSERT_TRUE(kernel_->AwaitLentBack()) << "its thread goes on for ever";
  EXPECT_TRUE(kernel_->fabric.connected(first_, kNqn)) << "the kernel could not be stopped";
  EXPECT_FALSE(kernel_->fabric.connected(second_, kNqn)) << "nobody wants that any more";
}

TEST_F(PathConnectorTest, LettingGoWaitsAsLongAsItIsTold) {
  PathConnector connector(Maker(kernel_), {});
  EXPECT_TRUE(connector.LetGo(SteadyClock::now())) << "nothing is under way";
  kernel_->Block(first_);
  connector.Begin(paths_, milliseconds(0));
  ASSERT_TRUE(kernel_->AwaitBlocked());
  kernel_->Unblock();
  EXPECT_TRUE(connector.LetGo(SteadyClock::now() + seconds(10)));
}

}  // namespace
}  // namespace weft::agent
