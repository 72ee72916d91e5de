// SPDX-License-Identifier: MIT
//
// A target and a well-behaved initiator beside a peer that sends garbage.
#include <cstring>

#include "rdma/block_fixture.h"
#include "rdma/garbage_peer.h"
#include "rdma/places_fixture.h"

namespace weft::rdma {
namespace {

using Garbage = BlockFixture;

TEST_F(Garbage, TheTargetServesOn) {
  Start();
  auto other = fabric_.AddHost("10.0.0.66");
  for (uint32_t seed = 1; seed <= 20; seed++) {
    FillPool(0, 65536, seed);
    ASSERT_EQ(Do(BlockOp::kWrite, 0, 65536, 0), 65536);
    GarbagePeer peer(
        other.get(),
        {.host = kTargetHost, .port = 7471, .key = key_, .session = 5, .seed = seed, .turn = [this] { Pass(1); }});
    Status s = peer.Run();
    ASSERT_TRUE(s.ok()) << "seed " << seed << ": " << s.message();
    ASSERT_EQ(Do(BlockOp::kRead, 0, 65536, 1 << 20), 65536);
    ASSERT_EQ(memcmp(&pool_[1 << 20], pool_.data(), 65536), 0) << "seed " << seed;
    ASSERT_EQ(states_.size(), 1U) << "the good connection was never disturbed";
  }
  Pass(10);
  EXPECT_EQ(target_->counters().connections, 1U);
  EXPECT_EQ(target_->counters().in_hand, 0U);
  EXPECT_EQ(fabric_.connections(), 1U);
}

TEST_F(Garbage, NoChunkVersionIsRaised) {
  MapFloorStore floors;
  Places places(&floors, kCapacity, 4 << 20);
  BlockTargetOptions options = TargetOptions();
  options.places = &places;
  StartTarget(options);
  StartClient();
  Pass(20);
  chunk_version_ = 3;
  FillPool(0, 65536, 1);
  ASSERT_EQ(Do(BlockOp::kWrite, 0, 65536, 0), 65536);
  auto other = fabric_.AddHost("10.0.0.66");
  for (uint32_t seed = 1; seed <= 10; seed++) {
    GarbagePeer peer(
        other.get(),
        {.host = kTargetHost, .port = 7471, .key = key_, .session = 5, .seed = seed, .turn = [this] { Pass(1); }});
    Status s = peer.Run();
    ASSERT_TRUE(s.ok()) << "seed " << seed << ": " << s.message();
  }
  EXPECT_EQ(floors.raises, 1U);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 65536, 1 << 20), 65536);
  EXPECT_EQ(memcmp(&pool_[1 << 20], pool_.data(), 65536), 0);
  Pass(10);
  EXPECT_EQ(target_->counters().in_hand, 0U);
  target_.reset();  // before the places
}

TEST_F(Garbage, WithoutTheKeyNothingIsReached) {
  Start();
  auto other = fabric_.AddHost("10.0.0.66");
  GarbagePeer peer(other.get(),
                   {.host = kTargetHost, .port = 7471, .key = {}, .session = UINT64_MAX, .turn = [this] { Pass(1); }});
  Status s = peer.Run();
  EXPECT_TRUE(s.ok()) << s.message();
  EXPECT_EQ(fence_.highest(), 5U) << "a claimed session raises no fence";
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
}

TEST_F(Garbage, SilentPeersAreDropped) {
  Start();
  auto other = fabric_.AddHost("10.0.0.66");
  auto channel = *other->CreateCmChannel();
  std::vector<std::unique_ptr<Connection>> silent;
  std::unique_ptr<CompletionQueue> queue;
  int rejected = 0;
  for (int i = 0; i < 20; i++) {
    auto connection = *channel->Resolve(kTargetHost, 7471, 1000);
    CmEvent event;
    while (!channel->NextEvent(&event) || event.connection != connection.get()) Pass(1);
    if (!queue) queue = *connection->device()->CreateCompletionQueue(100);
    ASSERT_TRUE(connection->CreateQueues({.completions = queue.get(), .send_depth = 4, .receive_depth = 4}).ok());
    std::array<uint8_t, kConnectBytes> bytes;
    Encode(Connect{.session = 5, .depth = 2}, bytes);
    ASSERT_TRUE(connection->Connect(bytes).ok());
    while (!channel->NextEvent(&event) || event.connection != connection.get()) Pass(1);
    if (event.type == CmEvent::Type::kRejected) rejected++;
    silent.push_back(std::move(connection));
  }
  EXPECT_EQ(rejected, 4) << "a few at a time may be unproven";
  EXPECT_EQ(target_->counters().connections, 17U);
  Pass(7000);
  EXPECT_EQ(target_->counters().connections, 1U);
}

}  // namespace
}  // namespace weft::rdma
