// SPDX-License-Identifier: MIT
#include "userland/target/write_intents.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace weft::target {
namespace {

constexpr uint64_t kRegions = 2000;

class WriteIntentsTest : public ::testing::Test, public AreaWriter {
 protected:
  void Open(IntentLimits limits) {
    intents_ = std::make_unique<WriteIntents>(static_cast<AreaWriter*>(this), area_, kRegions, limits);
  }
  void WriteIntentPage(uint64_t, const uint8_t*, Done done) override { queue_.emplace_back(std::move(done), 0); }
  void WriteSums(uint64_t, bool, Done done) override {
    sums_++;
    queue_.emplace_back(std::move(done), sums_error_);
  }
  void Flush(Done done) override {
    flushes_++;
    queue_.emplace_back(std::move(done), 0);
  }
  void Run() {
    while (!queue_.empty()) {
      auto [done, result] = std::move(queue_.front());
      queue_.pop_front();
      done(result);
    }
  }
  void Write(uint64_t region) {
    if (!intents_->Begin(region, [](int32_t) {})) Run();
    intents_->End(region);
  }
  size_t Dirty() {
    size_t count = 0;
    for (uint64_t region = 0; region < kRegions; region++) count += intents_->IsDirty(region);
    return count;
  }

  std::vector<uint8_t> area_ = std::vector<uint8_t>(kPageBytes);
  std::unique_ptr<WriteIntents> intents_;
  std::deque<std::pair<Done, int32_t>> queue_;
  int32_t sums_error_ = 0;
  int sums_ = 0;
  int flushes_ = 0;
};

TEST_F(WriteIntentsTest, MoreThanTheLimitAreCleanedAtOnce) {
  Open({.dirty_max = 100, .batch_max = 4, .pressed_max = 64});
  for (uint64_t region = 0; region < 1000; region++) Write(region);
  intents_->Tick(1000);
  Run();
  EXPECT_LE(Dirty(), 100U) << "however fast somebody writes, a crash leaves no more in doubt";
  EXPECT_GT(Dirty(), 0U) << "the rest was just written";
  EXPECT_LE(flushes_, 20) << "in larger batches";
  intents_->Tick(1250);
  EXPECT_TRUE(queue_.empty());
}

TEST_F(WriteIntentsTest, ADeviceThatFailsIsTriedNowAndThen) {
  Open({});
  Write(0);
  sums_error_ = -EIO;
  for (uint64_t now_ms = 0; now_ms <= 20'000; now_ms += 250) {
    intents_->Tick(now_ms);
    Run();
  }
  EXPECT_GE(sums_, 3);
  EXPECT_LE(sums_, 5);
  sums_error_ = 0;
  for (uint64_t now_ms = 20'250; now_ms <= 26'000; now_ms += 250) {
    intents_->Tick(now_ms);
    Run();
  }
  EXPECT_FALSE(intents_->IsDirty(0));
}

TEST_F(WriteIntentsTest, WhatWasDirtyAtTheStartStaysSoUntilItIsSettled) {
  area_[0] = 0b101;
  Open({});
  EXPECT_EQ(intents_->deadline_ms(), UINT64_MAX);
  Write(0);
  intents_->Tick(10'000);
  intents_->Tick(20'000);
  Run();
  EXPECT_TRUE(intents_->IsDirty(0));
  EXPECT_TRUE(intents_->IsDirty(2));
  intents_->CleanAll();
  EXPECT_TRUE(intents_->clean());
  intents_->Settled(0);
  intents_->Tick(30'000);
  Run();
  EXPECT_FALSE(intents_->IsDirty(0));
  EXPECT_TRUE(intents_->IsDirty(2));
}

}  // namespace
}  // namespace weft::target
