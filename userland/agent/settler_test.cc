// SPDX-License-Identifier: MIT
#include "userland/agent/settler.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "userland/agent/fake_meta_service.h"

namespace weft::agent {
namespace {

// A kernel whose older requests end when the test says so.
class FakeSettling {
 public:
  Settler::Kernel Kernel() {
    return {.set_chunks =
                [this](const std::vector<weft_chunk>& maps) {
                  std::lock_guard lock(mutex_);
                  log_ += fmt::format("chunks {};", maps.size());
                  return Status::Ok();
                },
            .settle = [this] { return Settle(); }};
  }
  void Hold(bool hold) {
    std::lock_guard lock(mutex_);
    held_ = hold;
    changed_.notify_all();
  }
  std::string log() const { return std::lock_guard(mutex_), log_; }
  bool WaitForTries(int tries) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return tries_ >= tries; });
  }

 private:
  Status Settle() {
    std::unique_lock lock(mutex_);
    ++tries_;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::milliseconds(5), [this] { return !held_; });
    if (held_) return Error(EAGAIN, "requests are under way");
    log_ += "settled;";
    return {};
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  int tries_ = 0;
  std::string log_;
};

class SettlerTest : public testing::Test {
 protected:
  FakeMetaService meta_;
  FakeSettling kernel_;
  Settler settler_{kernel_.Kernel(), meta_.address(), std::make_shared<MetaServerHealth>()};
};

constexpr int64_t kSession = 5;  // the fake server's first

// Opens it, so that the server knows it.
int64_t OpenSession(const Address& server) {
  MetaLink link(server, std::make_shared<MetaServerHealth>());
  idl::OpenSessionArgs args;
  args.client = std::string(16, 'c');
  auto session = link.Call([&](MetaLink::Service& service) {
    idl::Session opened;
    service.openSession(opened, args);
    return opened;
  });
  return session.ok() ? session->id : 0;
}

TEST_F(SettlerTest, TheServerHearsOfAVersionWhenNothingOlderIsUnderWay) {
  ASSERT_EQ(OpenSession(meta_.address()), kSession);
  settler_.Begin(kSession, 3, true);
  ASSERT_TRUE(meta_.WaitForSettled(3));
  kernel_.Hold(true);
  settler_.Told({weft_chunk{}, weft_chunk{}}, 7);
  ASSERT_TRUE(kernel_.WaitForTries(5));
  EXPECT_EQ(meta_.settled(), 3) << "requests of older maps are under way";
  kernel_.Hold(false);
  ASSERT_TRUE(meta_.WaitForSettled(7));
  EXPECT_TRUE(kernel_.log().ends_with("settled;chunks 2;settled;"))
      << "told again, as an older map may have come in between: " << kernel_.log();
}

TEST_F(SettlerTest, WithoutTargetsThatNeedItNothingIsAsked) {
  ASSERT_EQ(OpenSession(meta_.address()), kSession);
  settler_.Begin(kSession, 3, false);
  settler_.Told({weft_chunk{}}, 4);
  settler_.SetNeeded(true);
  ASSERT_TRUE(meta_.WaitForSettled(4));
  EXPECT_EQ(kernel_.log(), "settled;chunks 0;settled;") << "once, when they were needed";
}

TEST_F(SettlerTest, StopsWhileTheKernelWaits) {
  ASSERT_EQ(OpenSession(meta_.address()), kSession);
  kernel_.Hold(true);
  settler_.Begin(kSession, 3, true);
  ASSERT_TRUE(kernel_.WaitForTries(2));
  settler_.Stop();
  EXPECT_EQ(meta_.settled(), -1);
}

TEST_F(SettlerTest, ASessionThatTheServerHasEndedIsNoError) {
  settler_.Begin(77, 3, true);
  settler_.Stop();
}

}  // namespace
}  // namespace weft::agent
