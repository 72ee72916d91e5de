// SPDX-License-Identifier: MIT
//
// For tests: one initiator and one target on a FakeFabric, with a clock that the test moves.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "rdma/block_initiator.h"
#include "rdma/block_target.h"
#include "rdma/fake_fabric.h"
#include "rdma/memory_backend.h"

namespace weft::rdma {

class FakeClock final : public Clock {
 public:
  uint64_t NowMs() const override { return now_ms; }
  uint64_t now_ms = 1000;
};

class BlockFixture : public ::testing::Test {
 protected:
  static constexpr uint64_t kCapacity = 16 << 20;
  static constexpr size_t kPoolBytes = 8 << 20;
  static constexpr uint32_t kTarget = 3;
  const std::string kClientHost = "10.0.0.1";
  const std::string kTargetHost = "10.0.0.2";

  BlockFixture() : pool_(kPoolBytes), key_(32, 0x11), backend_(kCapacity) {
    uuid_.fill(0x77);
    client_verbs_ = fabric_.AddHost(kClientHost);
    target_verbs_ = fabric_.AddHost(kTargetHost);
  }

  BlockTargetOptions TargetOptions() {
    BlockTargetOptions options{.host = kTargetHost, .port = 7471, .uuid = uuid_, .cluster_key = key_};
    options.depth_max = 32;
    options.depth_total = 64;
    options.buffer_bytes = 4 << 20;
    options.clock = &clock_;
    return options;
  }
  InitiatorOptions ClientOptions() {
    InitiatorOptions options{.memory = pool_.data(), .memory_bytes = pool_.size(), .session = 5, .cluster_key = key_};
    options.depth_per_target = 16;
    options.detect_ms = 5000;
    options.number = 0;
    options.clock = &clock_;
    return options;
  }
  TargetEndpoint Endpoint() { return {.id = kTarget, .uuid = uuid_, .name = "t3", .host = kTargetHost, .port = 7471}; }

  void StartTarget() { StartTarget(TargetOptions()); }
  void StartTarget(const BlockTargetOptions& options) {
    auto target = BlockTarget::Create(target_verbs_.get(), &backend_, &fence_, options);
    ASSERT_TRUE(target.ok()) << target.status().message();
    target_ = *std::move(target);
  }
  void StartClient() { StartClient(ClientOptions()); }
  void StartClient(const InitiatorOptions& options) {
    auto initiator = BlockInitiator::Create(client_verbs_.get(), options);
    ASSERT_TRUE(initiator.ok()) << initiator.status().message();
    initiator_ = *std::move(initiator);
    initiator_->OnTargetState([this](uint32_t, const Status& s, uint64_t) { states_.push_back(s); });
    ASSERT_TRUE(initiator_->SetTarget(Endpoint()).ok());
  }
  void Start() {
    StartTarget();
    StartClient();
    Pass(20);
    ASSERT_EQ(states_.size(), 1U);
    ASSERT_TRUE(states_[0].ok()) << states_[0].message();
  }

  void Turn() {
    initiator_->Kick();
    std::vector<BlockCompletion> done;
    initiator_->Poll(&done);
    for (const BlockCompletion& c : done) {
      EXPECT_FALSE(results_.contains(c.tag)) << "tag " << c.tag << " completed twice";
      results_[c.tag] = c.result;
    }
    if (target_) target_->Poll();
  }
  void Run(int turns) {
    for (int i = 0; i < turns; i++) Turn();
  }
  // Moves the clock in steps of 1 ms, as connections and time limits are looked at that often.
  void Pass(uint64_t ms) {
    for (uint64_t i = 0; i < ms; i++) {
      clock_.now_ms++;
      Run(16);
    }
  }
  void Submit(uint64_t tag, BlockOp op, uint64_t offset, uint32_t length, uint64_t buffer, uint8_t flags = 0) {
    Status s = initiator_->Submit(kTarget, {.tag = tag,
                                            .op = op,
                                            .flags = flags,
                                            .chunk_version = chunk_version_,
                                            .offset_bytes = offset,
                                            .length_bytes = length,
                                            .buffer_offset = buffer});
    ASSERT_TRUE(s.ok()) << s.message();
  }
  int32_t Do(BlockOp op, uint64_t offset, uint32_t length, uint64_t buffer, uint8_t flags = 0) {
    uint64_t tag = next_tag_++;
    Submit(tag, op, offset, length, buffer, flags);
    for (int i = 0; i < 200 && !results_.contains(tag); i++) Pass(1);
    EXPECT_TRUE(results_.contains(tag));
    return results_[tag];
  }
  void FillPool(size_t at, size_t bytes, uint32_t seed) {
    std::mt19937 random(seed);
    for (size_t i = 0; i < bytes; i++) pool_[at + i] = static_cast<uint8_t>(random());
  }

  FakeFabric fabric_;
  FakeClock clock_;
  std::vector<uint8_t> pool_;
  std::vector<uint8_t> key_;
  std::array<uint8_t, 16> uuid_;
  MemoryBackend backend_;
  VolatileFence fence_;
  std::unique_ptr<Verbs> client_verbs_;
  std::unique_ptr<Verbs> target_verbs_;
  std::unique_ptr<BlockTarget> target_;
  std::unique_ptr<BlockInitiator> initiator_;
  std::map<uint64_t, int32_t> results_;
  std::vector<Status> states_;
  uint64_t next_tag_ = 1000000;
  uint32_t chunk_version_ = 0;  // of what is submitted
};

}  // namespace weft::rdma
