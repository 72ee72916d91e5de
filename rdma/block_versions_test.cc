// SPDX-License-Identifier: MIT
//
// An engine with places: chunk versions in every stage of a command, the target's own work beside clients,
// checksums, other targets as peers.
#include <cerrno>
#include <cstring>

#include "rdma/block_fixture.h"
#include "rdma/places_fixture.h"

namespace weft::rdma {
namespace {

constexpr uint64_t kPlaceBytes = 4 << 20;
constexpr uint32_t kLarge = 1 << 20;

// A second initiator: another client of the session, or another target.
class OtherClient {
 public:
  OtherClient(Verbs* verbs, const InitiatorOptions& options, const TargetEndpoint& endpoint)
      : initiator_(*BlockInitiator::Create(verbs, options)), target_(endpoint.id) {
    initiator_->OnTargetState([this](uint32_t, const Status& s, uint64_t) {
      up = s.ok();
      if (up) handshakes++;
    });
    EXPECT_TRUE(initiator_->SetTarget(endpoint).ok());
  }
  void Submit(const BlockCommand& command) {
    Status s = initiator_->Submit(target_, command);
    EXPECT_TRUE(s.ok()) << s.message();
  }
  void Turn() {
    std::vector<BlockCompletion> done;
    initiator_->Kick();
    initiator_->Poll(&done);
    for (const BlockCompletion& c : done) results[c.tag] = c.result;
  }
  BlockInitiator* initiator() { return initiator_.get(); }

  bool up = false;
  int handshakes = 0;
  std::map<uint64_t, int32_t> results;

 private:
  std::unique_ptr<BlockInitiator> initiator_;
  uint32_t target_;
};

class BlockVersions : public BlockFixture {
 protected:
  BlockTargetOptions VersionedOptions() {
    BlockTargetOptions options = TargetOptions();
    options.places = &places_;
    return options;
  }
  void StartVersioned() {
    StartTarget(VersionedOptions());
    StartClient();
    Pass(20);
    ASSERT_EQ(states_.size(), 1U);
    chunk_version_ = 1;
  }
  InitiatorOptions OtherOptions() {
    InitiatorOptions options = ClientOptions();
    options.number = 1;
    return options;
  }
  InitiatorOptions PeerOptions() {
    InitiatorOptions options = ClientOptions();
    options.session = 0;
    options.peer = true;
    options.number.reset();
    return options;
  }
  void PassWith(OtherClient* other, int ms) {
    for (int i = 0; i < ms; i++) {
      clock_.now_ms++;
      for (int j = 0; j < 16; j++) {
        Turn();
        other->Turn();
      }
    }
  }
  BlockCommand ReadAt(uint64_t tag, uint32_t version, uint64_t offset = 0) {
    return {.tag = tag,
            .op = BlockOp::kRead,
            .chunk_version = version,
            .offset_bytes = offset,
            .length_bytes = 4096,
            .buffer_offset = 7 << 20};
  }
  std::vector<uint32_t> ChecksumsIn(size_t at, size_t count) {
    std::vector<uint32_t> out(count);
    memcpy(out.data(), &pool_[at], 4 * count);
    return out;
  }

  MapFloorStore floors_;
  Places places_{&floors_, kCapacity, kPlaceBytes};
};

TEST_F(BlockVersions, OlderOnesAreRefusedByEveryOpWithARange) {
  StartVersioned();
  chunk_version_ = 7;
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 8192, 0), 8192);
  chunk_version_ = 6;
  for (BlockOp op : {BlockOp::kRead, BlockOp::kWrite, BlockOp::kDiscard, BlockOp::kWriteZeroes, BlockOp::kChecksums}) {
    EXPECT_EQ(Do(op, 0, 8192, 0), -ESTALE) << static_cast<int>(op);
  }
  EXPECT_EQ(Do(BlockOp::kFlush, 0, 0, 0), 0) << "it names no version";
  EXPECT_EQ(Do(BlockOp::kRead, kPlaceBytes, 4096, 0), 4096) << "another place";
  EXPECT_EQ(target_->counters().errors, 5U);
  EXPECT_EQ(states_.size(), 1U) << "the connection stays";
}

TEST_F(BlockVersions, TheFloorIsDurableBeforeTheCommandRuns) {
  StartVersioned();
  uint64_t at_raise = 99;
  floors_.on_raise = [&](uint64_t, uint32_t) { at_raise = backend_.waiting() + backend_.flushes(); };
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 4096, 0);
  Run(20);
  EXPECT_EQ(at_raise, 0U);
  EXPECT_EQ(backend_.waiting(), 1U);
  floors_.fail = Error(EIO, "the label's device failed");
  chunk_version_ = 2;
  Submit(2, BlockOp::kRead, 0, 4096, 0);
  Run(20);
  EXPECT_EQ(results_[2], -EIO);
  EXPECT_EQ(backend_.waiting(), 1U);
  backend_.Hold(false);
  Run(20);
  EXPECT_EQ(results_[1], 4096);
}

TEST_F(BlockVersions, RangesOverTwoPlacesFail) {
  StartVersioned();
  EXPECT_EQ(Do(BlockOp::kRead, kPlaceBytes - 4096, 8192, 0), -EIO) << "the initiator passes EINVAL on as EIO";
  EXPECT_EQ(Do(BlockOp::kDiscard, 0, kPlaceBytes, 0), static_cast<int32_t>(kPlaceBytes));
}

TEST_F(BlockVersions, FloorsOutliveTheEngine) {
  StartVersioned();
  chunk_version_ = 9;
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
  target_.reset();
  Places later(&floors_, kCapacity, kPlaceBytes);
  BlockTargetOptions options = VersionedOptions();
  options.places = &later;
  StartTarget(options);
  chunk_version_ = 8;
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 4096, 0), -ESTALE);
  target_.reset();  // before the places
}

TEST_F(BlockVersions, WithoutAPoolEveryRangeIsStale) {
  Places places(&floors_, kCapacity, 0);
  BlockTargetOptions options = VersionedOptions();
  options.places = &places;
  StartTarget(options);
  StartClient();
  Pass(20);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), -ESTALE);
  EXPECT_EQ(Do(BlockOp::kFlush, 0, 0, 0), 0);
  places.SetPlaceBytes(kPlaceBytes);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
  target_.reset();
}

// ---- a raise waits for older commands wherever they are

TEST_F(BlockVersions, ARaiseWaitsForTheBackend) {
  StartVersioned();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  FillPool(0, 4096, 1);
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 4096, 0);
  Run(20);
  ASSERT_EQ(backend_.waiting(), 1U);
  other.Submit(ReadAt(1, 2));
  PassWith(&other, 20);
  EXPECT_EQ(backend_.waiting(), 1U) << "the read of the new version is not in the backend yet";
  EXPECT_EQ(floors_.floor(0), 2U);
  Submit(2, BlockOp::kWrite, 0, 4096, 0);  // version 1
  Run(20);
  EXPECT_EQ(results_[2], -ESTALE) << "while the newer one waits";
  backend_.Hold(false);
  PassWith(&other, 20);
  EXPECT_EQ(results_[1], 4096);
  EXPECT_EQ(other.results[1], 4096);
  EXPECT_EQ(memcmp(&pool_[7 << 20], pool_.data(), 4096), 0) << "it read what the older one wrote";
}

TEST_F(BlockVersions, ARaiseWaitsForWhoWaitsForABuffer) {
  BlockTargetOptions options = VersionedOptions();
  options.buffer_bytes = kLarge;
  StartTarget(options);
  StartClient();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  chunk_version_ = 1;
  FillPool(0, 2 * kLarge, 1);
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, kPlaceBytes, kLarge, 4 << 20);  // has the only buffer
  Submit(2, BlockOp::kWrite, 0, kLarge, 0);                 // waits for it
  Run(20);
  ASSERT_EQ(target_->counters().in_hand, 2U);
  ASSERT_EQ(backend_.waiting(), 1U);
  BlockCommand zeroes{.tag = 3, .op = BlockOp::kWriteZeroes, .chunk_version = 2, .length_bytes = 4096};
  other.Submit(zeroes);  // needs no buffer
  PassWith(&other, 20);
  EXPECT_EQ(backend_.waiting(), 1U);
  backend_.Hold(false);
  PassWith(&other, 20);
  EXPECT_EQ(results_[2], static_cast<int32_t>(kLarge));
  EXPECT_EQ(other.results[3], 4096);
  EXPECT_EQ(backend_.bytes()[0], 0) << "the newer one came last";
  EXPECT_EQ(backend_.bytes()[4096], pool_[4096]);
}

// As a RELEASE does it: what it throws away, nobody reads any more as if it were data.
TEST_F(BlockVersions, ALockAfterARaiseWaitsForAReadThatWaitsForABuffer) {
  BlockTargetOptions options = VersionedOptions();
  options.buffer_bytes = kLarge;
  StartTarget(options);
  StartClient();
  Pass(50);
  memset(&backend_.bytes()[0], 0x5a, kLarge);
  chunk_version_ = 1;
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, kPlaceBytes, kLarge, 4 << 20);  // has the only buffer
  Submit(2, BlockOp::kRead, 0, kLarge, 0);                  // waits for it
  Run(20);
  ASSERT_EQ(target_->counters().in_hand, 2U);
  ASSERT_EQ(backend_.waiting(), 1U);
  ASSERT_TRUE(places_.Track(0, 2, Places::Since::kNow).ok());
  places_.Untrack(0);
  bool discarded = false;
  BlockRange range{0, kPlaceBytes};
  places_.Lock(range, [&] {
    target_->Execute({.op = BackendOp::kDiscard, .length_bytes = static_cast<uint32_t>(range.length)}, [&](int32_t) {
      discarded = true;
      places_.Unlock(range);
    });
  });
  Run(20);
  backend_.Hold(false);
  Pass(20);
  EXPECT_TRUE(discarded);
  ASSERT_EQ(results_[2], static_cast<int32_t>(kLarge));
  EXPECT_EQ(pool_[0], 0x5a);
  EXPECT_EQ(pool_[kLarge - 1], 0x5a);
}

TEST_F(BlockVersions, ARaiseWaitsForDataThatIsFetched) {
  StartVersioned();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  FillPool(0, 8192, 1);
  BlockCommand zeroes{.tag = 1, .op = BlockOp::kWriteZeroes, .chunk_version = 2, .length_bytes = 4096};
  Submit(1, BlockOp::kWrite, 0, 8192, 0);
  other.Submit(zeroes);
  initiator_->Kick();
  other.Turn();
  fabric_.Hold();
  for (int i = 0; i < 5; i++) target_->Poll();
  EXPECT_EQ(target_->counters().in_hand, 2U);
  EXPECT_EQ(backend_.waiting(), 0U) << "nothing runs while the older one's data is fetched";
  EXPECT_EQ(floors_.floor(0), 2U);
  EXPECT_EQ(backend_.bytes()[0], 0);
  fabric_.Release();
  PassWith(&other, 5);
  EXPECT_EQ(results_[1], 8192);
  EXPECT_EQ(other.results[1], 4096);
  EXPECT_EQ(backend_.bytes()[0], 0) << "the newer one came last";
  EXPECT_EQ(backend_.bytes()[4096], pool_[4096]);
}

TEST_F(BlockVersions, ARaiseWaitsForADroppedConnectionsWriteInTheBackend) {
  StartVersioned();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  FillPool(0, 4096, 1);
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 4096, 0);
  Run(20);
  ASSERT_EQ(backend_.waiting(), 1U);
  initiator_->RemoveTarget(kTarget);
  PassWith(&other, 20);
  ASSERT_EQ(target_->counters().connections, 1U);
  other.Submit(ReadAt(1, 2));
  PassWith(&other, 20);
  EXPECT_EQ(backend_.waiting(), 1U);
  backend_.Hold(false);
  PassWith(&other, 20);
  EXPECT_EQ(other.results[1], 4096);
  EXPECT_EQ(memcmp(&pool_[7 << 20], pool_.data(), 4096), 0);
}

TEST_F(BlockVersions, WhoWaitedIsForgottenWithItsConnection) {
  StartVersioned();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 4096, 0);
  Run(20);
  other.Submit(ReadAt(1, 2));
  other.Submit({.tag = 2, .op = BlockOp::kWrite, .chunk_version = 2, .length_bytes = 8192});
  PassWith(&other, 20);
  ASSERT_EQ(target_->counters().in_hand, 3U);
  other.initiator()->RemoveTarget(kTarget);
  PassWith(&other, 20);
  EXPECT_EQ(target_->counters().in_hand, 1U);
  backend_.Hold(false);
  Pass(5);
  EXPECT_EQ(target_->counters().in_hand, 0U);
  EXPECT_FALSE(places_.HasReady());
  chunk_version_ = 2;
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
}

TEST_F(BlockVersions, WhoWaitedForABufferLeavesItsPlaceWithItsConnection) {
  BlockTargetOptions options = VersionedOptions();
  options.buffer_bytes = kLarge;
  StartTarget(options);
  StartClient();
  OtherClient other(client_verbs_.get(), OtherOptions(), Endpoint());
  PassWith(&other, 50);
  backend_.Hold(true);
  BlockCommand read{.op = BlockOp::kRead, .chunk_version = 1, .offset_bytes = kPlaceBytes, .length_bytes = kLarge};
  for (read.tag = 1; read.tag <= 2; read.tag++) other.Submit(read);  // one has the buffer, one waits before ours
  PassWith(&other, 5);
  chunk_version_ = 1;
  Submit(1, BlockOp::kWrite, 0, kLarge, 0);
  Run(20);
  ASSERT_EQ(target_->counters().in_hand, 3U);
  bool locked = false;
  places_.Lock({0, 4096}, [&] { locked = true; });
  EXPECT_FALSE(locked);
  initiator_->RemoveTarget(kTarget);
  PassWith(&other, 20);
  EXPECT_TRUE(locked) << "what was waiting will not happen";
  backend_.Hold(false);
  PassWith(&other, 20);
  EXPECT_EQ(other.results[1], static_cast<int32_t>(kLarge));
  EXPECT_EQ(other.results[2], static_cast<int32_t>(kLarge));
  EXPECT_EQ(target_->counters().in_hand, 0U);
}

// Under breaking connections every command is answered once, and nothing stays under way at its place.
TEST_F(BlockVersions, NothingStaysBehindWhenConnectionsBreak) {
  StartVersioned();
  std::mt19937 random(5);
  for (uint64_t n = 0; n < 60; n++) {
    chunk_version_ = 1 + n / 4;
    fabric_.BreakAfter(n % 30);
    for (uint64_t i = 0; i < 12; i++) {
      auto op = static_cast<BlockOp>(std::array{1, 2, 2, 4, 5, 6}[random() % 6]);
      Submit(n * 100 + i, op, random() % 900 * 4096, 8192, i * 8192);
    }
    size_t wanted = 12 * (n + 1);
    for (int i = 0; i < 3000 && results_.size() < wanted; i++) Pass(1);
    ASSERT_EQ(results_.size(), wanted) << n;
  }
  for (auto& [tag, result] : results_) EXPECT_TRUE(result > 0 || result == -ESTALE) << result;
  Pass(3000);  // a break that is due still, and the way back
  EXPECT_EQ(target_->counters().in_hand, 0U);
  for (uint64_t place = 0; place < kCapacity / kPlaceBytes; place++) {
    bool locked = false;
    places_.Lock({place * kPlaceBytes, kPlaceBytes}, [&] { locked = true; });
    EXPECT_TRUE(locked) << "a write is still under way at place " << place;
    places_.Unlock({place * kPlaceBytes, kPlaceBytes});
    chunk_version_ = 100;
    EXPECT_EQ(Do(BlockOp::kRead, place * kPlaceBytes, 4096, 0), 4096);
  }
}

// ---- the target's own work

TEST_F(BlockVersions, ALockedRegionHoldsWritesUntilItIsUnlocked) {
  StartVersioned();
  FillPool(0, 8192, 1);
  BlockRange region{0, 65536};
  ASSERT_TRUE(places_.Track(0, 1, Places::Since::kRaise).ok());
  bool locked = false;
  places_.Lock(region, [&] { locked = true; });
  ASSERT_TRUE(locked);
  Submit(1, BlockOp::kWrite, 4096, 8192, 0);
  Submit(2, BlockOp::kRead, 4096, 8192, 65536);
  Submit(3, BlockOp::kWrite, 65536, 8192, 0);
  Run(20);
  EXPECT_FALSE(results_.contains(1));
  EXPECT_EQ(results_[2], 8192);
  EXPECT_EQ(results_[3], 8192);
  std::vector<uint8_t> own(4096, 0x5a);
  int32_t result = 1;
  target_->Execute({.op = BackendOp::kWrite, .offset_bytes = 0, .length_bytes = 4096, .data = own.data()},
                   [&](int32_t r) { result = r; });
  Run(2);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(backend_.bytes()[17], 0x5a);
  EXPECT_FALSE(places_.Written(4096));
  places_.Unlock(region);
  Run(20);
  EXPECT_EQ(results_[1], 8192);
  EXPECT_FALSE(places_.Written(0));
  EXPECT_TRUE(places_.Written(4096));
  EXPECT_TRUE(places_.Written(8192));
  EXPECT_TRUE(places_.Written(65536));
}

TEST_F(BlockVersions, AnUnlockWakesAnEngineThatWouldSleep) {
  StartVersioned();
  places_.Lock({0, 4096}, [] {});
  Submit(1, BlockOp::kWrite, 0, 4096, 0);
  Run(20);
  int timeout_ms;
  for (int i = 0; i < 10 && !target_->Arm(&timeout_ms); i++) target_->Poll();
  places_.Unlock({0, 4096});
  EXPECT_FALSE(target_->Arm(&timeout_ms));
  Run(20);
  EXPECT_EQ(results_[1], 4096);
}

TEST_F(BlockVersions, FailedWritesAreNotNoted) {
  StartVersioned();
  ASSERT_TRUE(places_.Track(0, 1, Places::Since::kRaise).ok());
  backend_.FailNext(EIO);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 4096, 0), -EIO);
  EXPECT_FALSE(places_.Written(0));
}

TEST_F(BlockVersions, OwnWorkMaySubmitMoreFromItsCompletion) {
  StartVersioned();
  int done = 0;
  std::function<void(int32_t)> again = [&](int32_t) {
    if (++done < 10) target_->Execute({.op = BackendOp::kFlush}, again);
  };
  target_->Execute({.op = BackendOp::kFlush}, again);
  Run(20);
  EXPECT_EQ(done, 10);
  EXPECT_EQ(backend_.flushes(), 10U);
  backend_.FailNext(ENOSPC);
  int32_t result = 0;
  target_->Execute({.op = BackendOp::kWriteZeroes, .length_bytes = 4096}, [&](int32_t r) { result = r; });
  Run(2);
  EXPECT_EQ(result, -ENOSPC);
}

// ---- checksums

TEST_F(BlockVersions, ChecksumsTellBlocksApart) {
  StartVersioned();
  FillPool(0, 3 * 4096, 1);
  memset(&pool_[4096], 0, 4096);
  EXPECT_EQ(Do(BlockOp::kWrite, 8192, 3 * 4096, 0), 3 * 4096);
  memset(&pool_[1 << 20], 0xee, 32);
  EXPECT_EQ(Do(BlockOp::kChecksums, 8192, 3 * 4096, 1 << 20), 12);
  std::vector<uint32_t> sums = ChecksumsIn(1 << 20, 4);
  EXPECT_EQ(sums[1], 0x98f94189U) << "CRC-32C of 4096 zeroes";
  EXPECT_NE(sums[0], sums[2]);
  EXPECT_EQ(sums[3], 0xeeeeeeee) << "nothing behind the answer";
  EXPECT_EQ(Do(BlockOp::kChecksums, kPlaceBytes, kPlaceBytes, 1 << 20), static_cast<int32_t>(kPlaceBytes / 1024));
  EXPECT_EQ(target_->counters().reads, 0U);
  EXPECT_EQ(Do(BlockOp::kChecksums, kPlaceBytes - 4096, 8192, 1 << 20), -EIO) << "of two places";
}

TEST_F(BlockVersions, ABlockThatDoesNotMatchIsBadMessage) {
  StartVersioned();
  FillPool(0, 8192, 1);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 8192, 0), 8192);
  backend_.Corrupt(4096);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 8192, 0), -EBADMSG);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
  EXPECT_EQ(Do(BlockOp::kWrite, 4096, 4096, 0), 4096);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 8192, 0), 8192) << "written anew";
  int32_t result = 1;
  target_->Execute({.op = BackendOp::kPoison, .offset_bytes = 4096, .length_bytes = 4096},
                   [&](int32_t r) { result = r; });
  Run(2);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 8192, 0), -EBADMSG);
}

// ---- peers

TEST_F(BlockVersions, PeersAreBesideSessions) {
  StartVersioned();
  EXPECT_EQ(fence_.highest(), 5U);
  OtherClient peer(client_verbs_.get(), PeerOptions(), Endpoint());
  OtherClient second(client_verbs_.get(), PeerOptions(), Endpoint());
  for (int i = 0; i < 50; i++) {
    PassWith(&peer, 1);
    second.Turn();
  }
  EXPECT_TRUE(peer.up) << "session 0 is not fenced";
  EXPECT_TRUE(second.up);
  EXPECT_EQ(target_->counters().connections, 3U) << "peers do not replace one another, nor the session";
  EXPECT_EQ(fence_.highest(), 5U);
  EXPECT_EQ(states_.size(), 1U);

  chunk_version_ = 1;
  FillPool(0, 4096, 1);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 4096, 0), 4096);
  peer.Submit(ReadAt(1, 2));
  PassWith(&peer, 10);
  EXPECT_EQ(peer.results[1], 4096);
  EXPECT_EQ(memcmp(&pool_[7 << 20], pool_.data(), 4096), 0);
  EXPECT_EQ(Do(BlockOp::kWrite, 0, 4096, 0), -ESTALE) << "a client that does not know of version 2";
  peer.Submit(ReadAt(2, 1));
  PassWith(&peer, 10);
  EXPECT_EQ(peer.results[2], -ESTALE);
}

TEST_F(BlockVersions, APeerLivesThroughANewSession) {
  StartVersioned();
  OtherClient peer(client_verbs_.get(), PeerOptions(), Endpoint());
  PassWith(&peer, 50);
  auto options = ClientOptions();
  options.session = 6;
  OtherClient newer(client_verbs_.get(), options, Endpoint());
  for (int i = 0; i < 50; i++) {
    PassWith(&newer, 1);
    peer.Turn();
  }
  ASSERT_TRUE(newer.up);
  EXPECT_EQ(fence_.highest(), 6U);
  ASSERT_EQ(states_.size(), 2U);
  EXPECT_EQ(states_[1].code(), ESTALE);
  peer.Submit(ReadAt(1, 1));
  PassWith(&peer, 10);
  EXPECT_EQ(peer.results[1], 4096);
  EXPECT_EQ(peer.handshakes, 1) << "its connection stayed";
}

TEST_F(BlockVersions, APeersNewConnectionReplacesItsOld) {
  StartVersioned();
  OtherClient peer(client_verbs_.get(), PeerOptions(), Endpoint());
  PassWith(&peer, 50);
  backend_.Hold(true);
  peer.Submit(ReadAt(1, 1));
  PassWith(&peer, 5);
  fabric_.BreakAll();
  PassWith(&peer, 200);
  EXPECT_FALSE(peer.results.contains(1));
  backend_.Hold(false);
  PassWith(&peer, 2000);
  EXPECT_EQ(peer.results[1], 4096);
  EXPECT_EQ(target_->counters().connections, 2U);
}

TEST_F(BlockVersions, PeersOnlyRead) {
  StartVersioned();
  OtherClient peer(client_verbs_.get(), PeerOptions(), Endpoint());
  for (BlockOp op : {BlockOp::kWrite, BlockOp::kDiscard, BlockOp::kWriteZeroes, BlockOp::kFlush}) {
    EXPECT_EQ(peer.initiator()->Submit(kTarget, {.op = op, .length_bytes = 4096}).code(), EINVAL);
  }
  auto options = PeerOptions();
  options.session = 5;
  EXPECT_EQ(BlockInitiator::Create(client_verbs_.get(), options).status().code(), EINVAL);
}

// ---- incarnations

TEST_F(BlockVersions, AFlushForAnotherIncarnationIsStale) {
  BlockTargetOptions options = VersionedOptions();
  options.incarnation = 77;
  StartTarget(options);
  OtherClient client(client_verbs_.get(), OtherOptions(), Endpoint());
  StartClient();
  PassWith(&client, 50);
  auto flush = [&](uint64_t tag, uint64_t incarnation) {
    client.Submit({.tag = tag, .op = BlockOp::kFlush, .incarnation = incarnation});
    PassWith(&client, 5);
    return client.results[tag];
  };
  EXPECT_EQ(flush(1, 77), 0);
  EXPECT_EQ(flush(2, 0), 0) << "any";
  EXPECT_EQ(backend_.flushes(), 2U);
  EXPECT_EQ(flush(3, 78), -ESTALE);
  EXPECT_EQ(backend_.flushes(), 2U) << "not sent";
}

// Its host lost power: a flush that was sent, or queued, before is not carried out by the next incarnation.
TEST_F(BlockVersions, AFlushThatWasQueuedOverAPowerLossIsStale) {
  BlockTargetOptions options = VersionedOptions();
  options.incarnation = 77;
  StartTarget(options);
  OtherClient client(client_verbs_.get(), OtherOptions(), Endpoint());
  StartClient();
  PassWith(&client, 50);
  ASSERT_TRUE(client.up);
  backend_.Hold(true);
  client.Submit({.tag = 1, .op = BlockOp::kFlush, .incarnation = 77});
  client.Submit({.tag = 2, .op = BlockOp::kRead, .chunk_version = 1, .length_bytes = 4096});
  PassWith(&client, 5);
  ASSERT_EQ(backend_.waiting(), 2U);
  backend_.Hold(false);
  target_.reset();
  uint64_t flushes = backend_.flushes();
  client.Submit({.tag = 3, .op = BlockOp::kFlush, .incarnation = 77});
  PassWith(&client, 5);
  options.incarnation = 78;
  StartTarget(options);
  PassWith(&client, 1500);
  EXPECT_EQ(client.results[1], -ESTALE);
  EXPECT_EQ(client.results[3], -ESTALE);
  EXPECT_EQ(client.results[2], 4096) << "everything else is sent again";
  EXPECT_EQ(backend_.flushes(), flushes);
}

}  // namespace
}  // namespace weft::rdma
