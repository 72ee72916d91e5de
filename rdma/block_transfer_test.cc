// SPDX-License-Identifier: MIT
//
// Initiator and target together: data, credits, order of life of commands.
#include <poll.h>

#include <cerrno>
#include <cstring>

#include "rdma/block_fixture.h"

namespace weft::rdma {
namespace {

using BlockTransfer = BlockFixture;

TEST_F(BlockTransfer, WritesAndReadsOfEverySize) {
  Start();
  uint64_t offset = 0;
  for (uint32_t bytes : {4096U, 8192U, 12288U, 65536U, 1U << 20}) {
    FillPool(0, bytes, bytes);
    ASSERT_EQ(Do(BlockOp::kWrite, offset, bytes, 0), static_cast<int32_t>(bytes));
    ASSERT_EQ(memcmp(&backend_.bytes()[offset], pool_.data(), bytes), 0);
    ASSERT_EQ(Do(BlockOp::kRead, offset, bytes, 2 << 20), static_cast<int32_t>(bytes));
    ASSERT_EQ(memcmp(&pool_[2 << 20], pool_.data(), bytes), 0);
    offset += bytes;
  }
}

TEST_F(BlockTransfer, SmallWritesTravelInTheCapsule) {
  Start();
  FillPool(4096, 4096, 1);
  uint64_t before = fabric_.works();
  ASSERT_EQ(Do(BlockOp::kWrite, 8192, 4096, 4096), 4096);
  EXPECT_EQ(fabric_.works() - before, 2U) << "one capsule with its data, one completion";
  EXPECT_EQ(memcmp(&backend_.bytes()[8192], &pool_[4096], 4096), 0);
}

TEST_F(BlockTransfer, FlushDiscardZeroesFua) {
  Start();
  FillPool(0, 16384, 3);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 16384, 0, kBlockFua), 16384);
  EXPECT_EQ(backend_.durable_writes(), 1U);
  EXPECT_EQ(Do(BlockOp::kFlush, 0, 0, 0), 0);
  EXPECT_EQ(backend_.flushes(), 1U);
  EXPECT_EQ(Do(BlockOp::kWriteZeroes, 4096, 4096, 0), 4096);
  EXPECT_EQ(backend_.bytes()[4095], pool_[4095]);
  EXPECT_EQ(backend_.bytes()[4096], 0);
  EXPECT_EQ(Do(BlockOp::kDiscard, 0, 8192, 0), 8192);
}

TEST_F(BlockTransfer, BadSubmissionsAreRefused) {
  Start();
  auto submit = [&](BlockCommand c) { return initiator_->Submit(kTarget, c).code(); };
  EXPECT_EQ(initiator_->Submit(99, {.length_bytes = 4096}).code(), ENODEV);
  EXPECT_EQ(submit({.length_bytes = 0}), EINVAL);
  EXPECT_EQ(submit({.length_bytes = 512}), EINVAL);
  EXPECT_EQ(submit({.offset_bytes = 1, .length_bytes = 4096}), EINVAL);
  EXPECT_EQ(submit({.length_bytes = 2 << 20}), EINVAL);
  EXPECT_EQ(submit({.length_bytes = 4096, .buffer_offset = kPoolBytes}), EINVAL);
  EXPECT_EQ(submit({.length_bytes = 4096, .buffer_offset = UINT64_MAX}), EINVAL);
  EXPECT_EQ(submit({.flags = kBlockFua, .length_bytes = 4096}), EINVAL);
  EXPECT_EQ(submit({.op = BlockOp::kFlush, .length_bytes = 4096}), EINVAL);
}

TEST_F(BlockTransfer, OutsideTheDataAreaFailsThatCommandOnly) {
  Start();
  EXPECT_EQ(Do(BlockOp::kRead, kCapacity, 4096, 0), -EIO);
  EXPECT_EQ(Do(BlockOp::kRead, kCapacity - 4096, 8192, 0), -EIO);
  EXPECT_EQ(Do(BlockOp::kWrite, 1ULL << 63, 4096, 0), -EIO);
  EXPECT_EQ(Do(BlockOp::kRead, kCapacity - 4096, 4096, 0), 4096);
  EXPECT_EQ(states_.size(), 1U) << "the connection stays";
}

TEST_F(BlockTransfer, BackendErrorsComeBack) {
  Start();
  backend_.FailNext(ENOSPC);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 8192, 0), -ENOSPC);
  backend_.FailNext(EREMOTEIO);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), -EIO);
  EXPECT_EQ(target_->counters().errors, 2U);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 8192, 0), 8192);
}

TEST_F(BlockTransfer, MoreCommandsThanCreditsWaitInside) {
  Start();
  backend_.Hold(true);
  for (uint64_t tag = 0; tag < 200; tag++) Submit(tag, BlockOp::kRead, tag * 4096, 4096, tag * 4096);
  Run(50);
  EXPECT_EQ(backend_.waiting(), 16U) << "depth_per_target";
  EXPECT_EQ(target_->counters().in_hand, 16U);
  backend_.Hold(false);
  Run(200);
  EXPECT_EQ(results_.size(), 200U);
  for (auto& [tag, result] : results_) EXPECT_EQ(result, 4096) << tag;
  EXPECT_EQ(target_->counters().in_hand, 0U);
}

TEST_F(BlockTransfer, MoreDataThanBuffersWaitsAtTheTarget) {
  auto options = TargetOptions();
  options.buffer_bytes = 1 << 20;
  StartTarget(options);
  StartClient();
  for (uint64_t tag = 0; tag < 40; tag++) {
    Submit(tag, tag % 2 ? BlockOp::kRead : BlockOp::kWrite, (tag % 12) << 20, 1 << 20, (tag % 7) << 20);
  }
  Pass(20);
  EXPECT_EQ(results_.size(), 40U);
  for (auto& [tag, result] : results_) EXPECT_EQ(result, 1 << 20) << tag;
}

TEST_F(BlockTransfer, RandomCommandsKeepDataIntact) {
  Start();
  std::mt19937 random(42);
  std::vector<uint8_t> model(kCapacity);
  constexpr uint32_t kLanes = 8;  // each with its own buffer and its own eighth of the target
  for (int round = 0; round < 300; round++) {
    std::array<std::pair<uint64_t, uint32_t>, kLanes> at;
    bool write = random() % 2;
    for (uint32_t lane = 0; lane < kLanes; lane++) {
      uint32_t bytes = 4096 * (1 + random() % (random() % 3 ? 4 : 64));
      uint64_t offset = (kCapacity / kLanes) * lane + 4096 * (random() % 400);
      at[lane] = {offset, bytes};
      if (write) {
        FillPool(lane << 20, bytes, random());
        memcpy(&model[offset], &pool_[lane << 20], bytes);
      }
      Submit(next_tag_++, write ? BlockOp::kWrite : BlockOp::kRead, offset, bytes, lane << 20);
    }
    if (random() % 10 == 0) fabric_.BreakAfter(random() % 20);
    size_t wanted = results_.size() + kLanes;
    for (int i = 0; i < 3000 && results_.size() < wanted; i++) Pass(1);
    ASSERT_EQ(results_.size(), wanted) << "round " << round;
    for (uint32_t lane = 0; lane < kLanes && !write; lane++) {
      ASSERT_EQ(memcmp(&model[at[lane].first], &pool_[lane << 20], at[lane].second), 0) << "round " << round;
    }
  }
  for (auto& [tag, result] : results_) ASSERT_GT(result, 0);
  EXPECT_EQ(backend_.bytes(), model);
}

// Both sides sleep whenever they may and are woken by events only; time stands still, and the network
// does nothing before both sleep.
TEST_F(BlockTransfer, SleepersAreWokenForAllThatMatters) {
  auto options = TargetOptions();
  options.buffer_bytes = 1 << 20;  // so that commands wait for one another's buffer
  StartTarget(options);
  StartClient();
  clock_.now_ms++;
  bool client_sleeps = false;
  bool target_sleeps = false;
  auto turn = [&] {
    pollfd fd{.fd = initiator_->event_fd(), .events = POLLIN, .revents = 0};
    if (!client_sleeps || poll(&fd, 1, 0) == 1) {
      std::vector<BlockCompletion> done;
      initiator_->Kick();
      initiator_->Poll(&done);
      for (auto& c : done) results_[c.tag] = c.result;
      client_sleeps = done.empty() && initiator_->ArmNotify();
    }
    if (target_sleeps) target_sleeps = !backend_.WaitIsOver();
    int timeout_ms;
    if (!target_sleeps) target_sleeps = target_->Poll() == 0 && target_->Arm(&timeout_ms);
  };
  auto run = [&] {
    for (int i = 0; i < 100; i++) {
      fabric_.Hold();
      for (int j = 0; j < 4; j++) turn();
      fabric_.Release();
    }
  };
  for (int i = 0; i < 200; i++) turn();
  ASSERT_EQ(states_.size(), 1U) << "not connected";
  ASSERT_TRUE(client_sleeps && target_sleeps);
  for (uint64_t tag = 1; tag <= 60; tag++) {
    uint32_t bytes = tag % 3 == 0 ? 4096 : 1 << 20;
    Submit(tag, tag % 2 ? BlockOp::kRead : BlockOp::kWrite, (tag % 12) << 20, bytes, (tag % 7) << 20);
    initiator_->Kick();
    client_sleeps = initiator_->ArmNotify();
    if (tag % 5 == 0) {
      run();
      ASSERT_EQ(results_.size(), tag) << "something was slept through";
    }
  }
}

}  // namespace
}  // namespace weft::rdma
