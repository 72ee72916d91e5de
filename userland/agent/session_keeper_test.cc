// SPDX-License-Identifier: MIT
//
// When a session is closed at the metadata server, and when it is left to it.
#include "userland/agent/session_keeper.h"

#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "userland/agent/fake_meta_service.h"
#include "userland/agent/gateway_fixture.h"

namespace weft::agent {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// With the gateway of one target, which ends as the agent has it end.
class SessionKeeperTest : public GatewayTest, private SessionListener {
 protected:
  SessionKeeperTest() {
    AddNamespace();
    gateways_ = std::make_unique<Gateways>(options_, Listener());
  }
  ~SessionKeeperTest() override {
    Hold(false);
    if (closing_.joinable()) closing_.join();
    keeper_ = std::nullopt;
  }

  void StartKeeper(milliseconds drain) {
    keeper_.emplace(SessionOptions{.server = meta_.address(),
                                   .cluster = "lab",
                                   .client = UuidOf(0x11),
                                   .host = "here",
                                   .hostnqn = "nqn.me",
                                   .nvme_drain = drain},
                    health_, static_cast<SessionListener*>(this));
    keeper_->Start();
  }
  void CloseInBackground() {
    closing_ = std::thread([this] { closed_ = keeper_->Close(&link_); });
  }
  Status AwaitCloseReturned() {
    closing_.join();
    return closed_;
  }
  bool AwaitClosingLooks(int count) {
    return kernel_->Await([&] { return looks_ >= count; });
  }

  Status OnSessionOpen(const idl::Session&) override {
    gateways_->SetSession(session_);
    SetMap({1});
    if (!fail_open_) return {};
    AwaitServer();
    Hold(true);
    return Error(EKEYREJECTED, "wrong key");
  }
  void OnTargets(const idl::TargetMap&) override {}
  void OnChunks(const std::vector<idl::Chunk>&, int64_t) override {}
  void OnLease(int64_t) override {}
  void OnSessionEnded() override {
    gateways_->BeginStop();
    ended_ = true;
    kernel_->Changed();
  }
  std::string OnSessionClosing() override {
    std::string busy = gateways_->BeginStop();
    std::lock_guard lock(kernel_->mutex);
    ++looks_;
    kernel_->changed.notify_all();
    return busy;
  }
  void OnSessionClosed() override {
    EXPECT_TRUE(gateways_->BeginStop().empty() || meta_.closed() == 0) << "the next client is in";
    gateways_->Abandon();
  }

  FakeMetaService meta_;
  std::shared_ptr<MetaServerHealth> health_ = std::make_shared<MetaServerHealth>();
  MetaLink link_{meta_.address(), health_};
  std::optional<SessionKeeper> keeper_;
  std::thread closing_;
  Status closed_;           // of closing_
  bool fail_open_ = false;  // OnSessionOpen, when the gateway serves, whose requests then do not end
  int looks_ = 0;           // OnSessionClosing; under kernel_->mutex
  std::atomic<bool> ended_ = false;
};

TEST_F(SessionKeeperTest, ASessionIsClosedWhenItsGatewaysHaveEnded) {
  StartKeeper(hours(1));
  ASSERT_TRUE(keeper_->Open(&link_).ok());
  auto server = AwaitServer();
  Hold(true);
  CloseInBackground();
  ASSERT_TRUE(AwaitClosingLooks(3));
  EXPECT_EQ(meta_.closed(), 0U) << "requests are under way";
  EXPECT_NE(keeper_->live_session(), 0) << "it is renewed meanwhile";
  Hold(false);
  EXPECT_TRUE(AwaitCloseReturned().ok());
  EXPECT_TRUE(server->closed);
  EXPECT_EQ(meta_.closed(), 1U);
  EXPECT_EQ(keeper_->live_session(), 0);
}

TEST_F(SessionKeeperTest, ASessionWhoseGatewaysDoNotEndIsLeftToTheServer) {
  StartKeeper(milliseconds(0));
  ASSERT_TRUE(keeper_->Open(&link_).ok());
  auto server = AwaitServer();
  Hold(true);
  EXPECT_TRUE(keeper_->Close(&link_).ok()) << "the unmount goes on";
  EXPECT_EQ(meta_.closed(), 0U);
  EXPECT_EQ(keeper_->live_session(), 0) << "it is still renewed";
  EXPECT_TRUE(keeper_->Close(&link_).ok());
  EXPECT_EQ(meta_.closed(), 0U);

  std::thread end([this] { Hold(false); });
  EXPECT_TRUE(keeper_->Open(&link_).ok());
  end.join();
  EXPECT_NE(AwaitServer(2), server);
  EXPECT_TRUE(server->closed);
  EXPECT_TRUE(keeper_->Close(&link_).ok());
  EXPECT_EQ(meta_.closed(), 1U);
}

TEST_F(SessionKeeperTest, AnAgentThatIsStoppedDoesNotWait) {
  StartKeeper(hours(1));
  ASSERT_TRUE(keeper_->Open(&link_).ok());
  AwaitServer();
  Hold(true);
  CloseInBackground();
  ASSERT_TRUE(AwaitClosingLooks(1));
  keeper_->BeginStop();
  EXPECT_TRUE(AwaitCloseReturned().ok());
  EXPECT_EQ(meta_.closed(), 0U);
}

TEST_F(SessionKeeperTest, AMountThatFailsIsNoDifferent) {
  StartKeeper(milliseconds(0));
  fail_open_ = true;
  EXPECT_EQ(keeper_->Open(&link_).status().code(), EKEYREJECTED);
  EXPECT_EQ(meta_.closed(), 0U);
  Hold(false);
  fail_open_ = false;
  ASSERT_TRUE(keeper_->Open(&link_).ok());
  EXPECT_TRUE(keeper_->Close(&link_).ok());
  EXPECT_EQ(meta_.closed(), 1U);
}

TEST_F(SessionKeeperTest, ASessionThatTheServerHasEndedIsClosedNoEarlier) {
  StartKeeper(hours(1));
  ASSERT_TRUE(keeper_->Open(&link_).ok());
  AwaitServer();
  Hold(true);
  meta_.EndSession();
  ASSERT_TRUE(kernel_->Await([&] { return ended_.load(); }));
  CloseInBackground();
  ASSERT_TRUE(AwaitClosingLooks(3));
  EXPECT_EQ(meta_.closed(), 0U) << "the server may still be waiting for its requests";
  Hold(false);
  EXPECT_TRUE(AwaitCloseReturned().ok());
  EXPECT_EQ(meta_.closed(), 1U);
}

}  // namespace
}  // namespace weft::agent
