// SPDX-License-Identifier: MIT
//
// A queue thread between a fake kernel and the block device of an NVMe-oF target, which is a file here.
#include "userland/agent/queue_loop.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "userland/agent/fake_initiator.h"
#include "userland/channel/fake_kernel.h"

namespace weft::agent {
namespace {

using channel::FakeKernel;
using std::chrono::milliseconds;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kDataOffset = kMiB;
constexpr uint64_t kDataBytes = 3 * kMiB;
constexpr uint64_t kBuffer = 4 * kMiB;  // of the pool
constexpr uint32_t kTarget = 7;
constexpr uint64_t kSession = 5;

class QueueLoopTest : public testing::Test, private MetaSink {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "queue_loop_test." + std::to_string(getpid());
    int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, kDataOffset + kDataBytes), 0);
    close(fd);
    auto channel = channel::Channel::Attach(&kernel_, {.cluster = "weft"});
    ASSERT_TRUE(channel.ok()) << channel.status().message();
    channel_ = *std::move(channel);
    lease_->Set(INT64_MAX);
  }
  void TearDown() override {
    if (loop_) {
      loop_->BeginStop(milliseconds(10'000));
      EXPECT_EQ(loop_->Join(), 0U);
    }
    loop_ = nullptr;
    std::filesystem::remove(path_);
  }

  void Make(milliseconds detect = std::chrono::seconds(60)) {
    QueueLoopOptions options{
        .spin = {}, .spin_for_devices = true, .detect = detect, .create_initiator = {}, .on_path = {}, .lease = lease_};
    options.on_path = [](uint32_t, const Status&, uint64_t) {};
    options.create_initiator = [this](uint64_t session) { return targets_.MakeInitiator(channel_->pool(), session); };
    loop_ = std::make_unique<QueueLoop>(channel_.get(), channel_->queue(0), static_cast<MetaSink*>(this),
                                        std::move(options));
  }
  void Start(milliseconds detect = std::chrono::seconds(60)) {
    Make(detect);
    ASSERT_TRUE(loop_->Start().ok());
    ASSERT_TRUE(loop_->Run([](QueueLoop& loop) { return loop.OpenSession(kSession, {}); }).ok());
    Status s = SetDevice(Device());
    ASSERT_TRUE(s.ok()) << s.message();
  }
  BlockDevice Device() const {
    return {.path = path_,
            .number = 1,
            .data_offset = kDataOffset,
            .data_bytes = kDataBytes,
            .write_cache = true,
            .reachable = reachable_,
            .leased = leased_};
  }
  Status SetDevice(const std::optional<BlockDevice>& device) {
    return loop_->Run([&](QueueLoop& loop) { return loop.SetDevice(kTarget, device); });
  }
  uint64_t Push(uint8_t op, uint64_t offset, uint32_t length, uint8_t flags = 0) {
    weft_sqe sqe = {};
    sqe.tag = ++tag_;
    sqe.op = op;
    sqe.flags = flags;
    sqe.target = kTarget;
    sqe.offset = offset;
    sqe.length = length;
    sqe.buf = kBuffer;
    kernel_.Push(0, sqe);
    return tag_;
  }
  int32_t Do(uint8_t op, uint64_t offset, uint32_t length) {
    return kernel_.WaitFor(Push(op, offset, length)).value_or(1);
  }
  void Fill(char value, size_t bytes) { memset(channel_->pool().data() + kBuffer, value, bytes); }
  std::string Pool(size_t bytes) { return {reinterpret_cast<const char*>(channel_->pool().data() + kBuffer), bytes}; }
  std::string File(uint64_t offset, size_t bytes) {
    std::string text(bytes, '?');
    int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(pread(fd, text.data(), bytes, static_cast<off_t>(offset)), static_cast<ssize_t>(bytes));
    close(fd);
    return text;
  }
  void Submit(channel::Queue*, const weft_sqe&) override { ADD_FAILURE() << "no metadata request was sent"; }

  FakeKernel kernel_;
  FakeTargets targets_;
  const std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
  const std::shared_ptr<std::atomic<bool>> reachable_ = std::make_shared<std::atomic<bool>>(true);
  const std::shared_ptr<std::atomic<bool>> leased_ = std::make_shared<std::atomic<bool>>(true);
  std::unique_ptr<channel::Channel> channel_;
  std::unique_ptr<QueueLoop> loop_;
  std::string path_;
  uint64_t tag_ = 0;
};

TEST_F(QueueLoopTest, OneThatWasNeverStartedIsJoined) {
  Make();
  loop_->BeginStop(milliseconds(0));
  EXPECT_EQ(loop_->Join(), 0U);
}

TEST_F(QueueLoopTest, ADeviceIsReadAndWritten) {
  Start();
  Fill('a', 8192);
  EXPECT_EQ(Do(WEFT_OP_WRITE, 4096, 8192), 8192);
  EXPECT_TRUE(File(kDataOffset + 4096, 8192) == std::string(8192, 'a'));
  EXPECT_EQ(Do(WEFT_OP_WRITE_ZEROES, 4096, 4096), 4096);
  EXPECT_EQ(Do(WEFT_OP_FLUSH, 0, 0), 0);
  EXPECT_EQ(Do(WEFT_OP_READ, 4096, 8192), 8192);
  EXPECT_TRUE(Pool(8192) == std::string(4096, '\0') + std::string(4096, 'a'));
}

TEST_F(QueueLoopTest, NothingOutsideOfTheDataAreaIsTouched) {
  Start();
  EXPECT_EQ(Do(WEFT_OP_READ, kDataBytes - 4096, 4096), 4096);
  EXPECT_EQ(Do(WEFT_OP_READ, kDataBytes - 4096, 8192), -EINVAL);
  EXPECT_EQ(Do(WEFT_OP_WRITE, kDataBytes, 4096), -EINVAL);
  EXPECT_EQ(Do(WEFT_OP_WRITE, ~uint64_t{4095}, 4096), -EINVAL);
}

TEST_F(QueueLoopTest, WhatIsUnderWayEndsWhenADeviceGoes) {
  Start();
  for (int round = 0; round < 50; ++round) {
    uint64_t tag = Push(WEFT_OP_READ, 0, 4096);
    ASSERT_TRUE(SetDevice(Device()).ok());
    EXPECT_EQ(kernel_.WaitFor(tag), 4096);
  }
}

TEST_F(QueueLoopTest, ACopyThatIsBeingMadeGoesByTheGateway) {
  Start(milliseconds(50));
  uint64_t tag = Push(WEFT_OP_WRITE, 0, 4096, WEFT_SQE_RESYNCING);
  EXPECT_EQ(kernel_.WaitFor(tag), -EHOSTDOWN) << "it is not in the map";
  EXPECT_TRUE(File(kDataOffset, 4096) == std::string(4096, '\0'));
}

TEST_F(QueueLoopTest, NobodyWaitsForADeviceThatWasTakenBack) {
  Start();  // with a time to wait that is longer than this test's patience
  targets_.Hold(true);
  rdma::TargetEndpoint gateway{.id = kTarget, .uuid = {}, .name = "gateway", .host = "10.0.0.1", .port = 1};
  ASSERT_TRUE(loop_->Run([&](QueueLoop& loop) { return loop.SetTargets({gateway}); }).ok());
  uint64_t tag = Push(WEFT_OP_WRITE, 0, 4096, WEFT_SQE_RESYNCING);
  ASSERT_TRUE(targets_.WaitInFlight(1));
  ASSERT_TRUE(SetDevice(std::nullopt).ok());
  EXPECT_EQ(kernel_.WaitFor(tag), -EHOSTDOWN) << "its gateway has gone as well";
  EXPECT_EQ(Do(WEFT_OP_READ, 0, 4096), -EHOSTDOWN);
  targets_.Hold(false);
  gateway.port = 2;
  ASSERT_TRUE(loop_->Run([&](QueueLoop& loop) { return loop.SetTargets({gateway}); }).ok());
  EXPECT_EQ(Do(WEFT_OP_READ, 0, 4096), 4096) << "it is back";
}

TEST_F(QueueLoopTest, WhoTakesADeviceOverWaitsForWhatIsUnderWay) {
  EXPECT_TRUE(AwaitNoPort(path_, milliseconds(0)).ok());
  Start();
  EXPECT_EQ(AwaitNoPort(path_, milliseconds(20)).code(), EBUSY);
  EXPECT_EQ(Do(WEFT_OP_READ, 0, 4096), 4096);
  ASSERT_TRUE(SetDevice(std::nullopt).ok());
  ASSERT_TRUE(loop_->Run([](QueueLoop&) { return Status::Ok(); }).ok());
  ASSERT_TRUE(kernel_.WaitAsleep(0));
  EXPECT_TRUE(AwaitNoPort(path_, std::chrono::seconds(20)).ok());
}

TEST_F(QueueLoopTest, RequestsWaitForTheLease) {
  Start();
  lease_->Set(0);
  Fill('b', 4096);
  uint64_t tag = Push(WEFT_OP_WRITE, 0, 4096);
  ASSERT_TRUE(kernel_.WaitAsleep(0));
  EXPECT_TRUE(File(kDataOffset, 4096) == std::string(4096, '\0')) << "another client may have taken this one's place";
  lease_->Set(INT64_MAX);
  loop_->Wake();
  EXPECT_EQ(kernel_.WaitFor(tag), 4096);
  EXPECT_TRUE(File(kDataOffset, 4096) == std::string(4096, 'b'));
}

TEST_F(QueueLoopTest, ALeaseThatDoesNotComeBackIsAsATargetOutOfReach) {
  Start(milliseconds(50));
  lease_->Set(0);
  EXPECT_EQ(Do(WEFT_OP_WRITE, 0, 4096), -EHOSTDOWN);
}

TEST_F(QueueLoopTest, WhatWaitsForTheLeaseEndsWithTheSession) {
  Start();
  lease_->Set(0);
  uint64_t tag = Push(WEFT_OP_WRITE, 0, 4096);
  ASSERT_TRUE(kernel_.WaitAsleep(0));
  ASSERT_TRUE(loop_->Run([](QueueLoop& loop) { return loop.EndSession(); }).ok());
  EXPECT_EQ(kernel_.WaitFor(tag), -ESTALE);
}

TEST_F(QueueLoopTest, ATargetThatRefusesEndedSessionsNeedsNoLease) {
  *leased_ = false;
  Start();
  lease_->Set(0);
  EXPECT_EQ(Do(WEFT_OP_READ, 0, 4096), 4096);
}

}  // namespace
}  // namespace weft::agent
