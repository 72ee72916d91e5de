// SPDX-License-Identifier: MIT
#include "rdma/places.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "rdma/places_fixture.h"

namespace weft::rdma {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kPlace = 64 * kBlock;
constexpr uint64_t kCapacity = 8 * kPlace + 5 * kBlock;  // the rest is no place

using Verdict = Places::Verdict;
using Since = Places::Since;

Access Read(uint64_t block, uint32_t version, uint64_t blocks = 1) {
  return {.range = {block * kBlock, blocks * kBlock}, .writes = false, .version = version};
}
Access Write(uint64_t block, uint32_t version, uint64_t blocks = 1) {
  return {.range = {block * kBlock, blocks * kBlock}, .writes = true, .version = version};
}

class PlacesTest : public ::testing::Test {
 protected:
  Verdict Enter(const Access& access, uint64_t waiter = 0) { return places_.Enter(access, waiter, &error_); }
  void Do(const Access& access) {
    ASSERT_EQ(Enter(access), Verdict::kGo);
    places_.Leave(access, true);
  }
  std::vector<uint64_t> Ready() {
    std::vector<uint64_t> all;
    for (uint64_t waiter; places_.NextReady(&waiter);) all.push_back(waiter);
    return all;
  }

  MapFloorStore store_;
  Places places_{&store_, kCapacity, kPlace};
  int error_ = 0;
};

TEST_F(PlacesTest, OlderVersionsAreRefused) {
  Do(Read(0, 7));
  EXPECT_EQ(store_.floor(0), 7U);
  EXPECT_EQ(Enter(Read(0, 6)), Verdict::kRefuse);
  EXPECT_EQ(error_, ESTALE);
  EXPECT_EQ(Enter(Write(0, 6)), Verdict::kRefuse);
  Do(Write(0, 7));
  EXPECT_EQ(store_.raises, 1U) << "the same version again costs nothing";
  Do(Read(64, 3));
  EXPECT_EQ(store_.floor(1), 3U) << "each place has its own";
}

TEST_F(PlacesTest, VersionZeroLooksAndDoesNothingElse) {
  EXPECT_EQ(Enter(Write(0, 0)), Verdict::kRefuse);
  EXPECT_EQ(error_, ESTALE);
  ASSERT_EQ(Enter(Write(0, 1)), Verdict::kGo);
  ASSERT_EQ(Enter(Read(0, 2), 20), Verdict::kWait);
  EXPECT_EQ(Enter(Read(0, 0)), Verdict::kGo) << "it waits for nobody";
  places_.Leave(Write(0, 1), true);
  EXPECT_EQ(Ready(), std::vector<uint64_t>{20}) << "nobody waits for it";
  places_.Leave(Read(0, 0), true);
  EXPECT_EQ(Enter(Read(63, 0, 2)), Verdict::kRefuse);
  EXPECT_EQ(error_, EINVAL);
  EXPECT_EQ(store_.raises, 2U);
}

TEST_F(PlacesTest, TheFloorIsRaisedBeforeTheCommandWaits) {
  ASSERT_EQ(Enter(Write(0, 1)), Verdict::kGo);
  EXPECT_EQ(Enter(Read(0, 2), 9), Verdict::kWait);
  EXPECT_EQ(store_.floor(0), 2U);
  EXPECT_EQ(Enter(Write(5, 1)), Verdict::kRefuse) << "nothing older begins while the newer one waits";
}

TEST_F(PlacesTest, AFloorThatIsNotDurableIsAnErrorWithAReason) {
  store_.fail = Error(ENOSPC, "label: disk full");
  EXPECT_EQ(Enter(Read(0, 2)), Verdict::kRefuse);
  EXPECT_EQ(error_, EIO);
  EXPECT_EQ(places_.store_error(), "label: disk full");
  EXPECT_EQ(places_.Track(0, 2, Since::kRaise).code(), EIO);
  store_.fail = Status::Ok();
  Do(Read(0, 1));
}

TEST_F(PlacesTest, RangesOutsideOnePlaceAreRefused) {
  for (const Access& access : {Read(63, 1, 2), Read(0, 1, 65), Write(8 * 64, 1), Write(1ULL << 40, 1),
                               Access{.range = {UINT64_MAX - kBlock + 1, kBlock}, .version = 1}}) {
    EXPECT_EQ(Enter(access), Verdict::kRefuse) << access.range.offset;
    EXPECT_EQ(error_, EINVAL);
  }
  EXPECT_EQ(store_.raises, 0U);
  Do(Write(0, 1, 64));
  Do(Write(7 * 64, 1, 64));
}

TEST_F(PlacesTest, WithoutAPoolNothingIsServed) {
  Places places(&store_, kCapacity, 0);
  int error = 0;
  EXPECT_EQ(places.Enter(Read(0, 1), 0, &error), Verdict::kRefuse);
  EXPECT_EQ(error, ESTALE);
  EXPECT_EQ(places.Track(0, 1, Since::kRaise).code(), EINVAL);
  places.SetPlaceBytes(kPlace);
  EXPECT_EQ(places.Enter(Read(0, 1), 0, &error), Verdict::kGo);
}

TEST_F(PlacesTest, WhoRaisesWaitsForTheOlderOnes) {
  ASSERT_EQ(Enter(Read(0, 1)), Verdict::kGo);
  ASSERT_EQ(Enter(Write(9, 1)), Verdict::kGo);
  EXPECT_EQ(Enter(Write(64, 5)), Verdict::kGo) << "another place does not matter";
  ASSERT_EQ(Enter(Read(0, 2), 20), Verdict::kWait);
  ASSERT_EQ(Enter(Write(30, 2), 21), Verdict::kWait) << "the same version waits as well";
  places_.Leave(Read(0, 1), false);
  EXPECT_FALSE(places_.HasReady());
  places_.Leave(Write(9, 1), false);
  EXPECT_EQ(Ready(), (std::vector<uint64_t>{20, 21}));
  EXPECT_EQ(Enter(Read(0, 2), 20), Verdict::kGo);
  EXPECT_EQ(Enter(Write(30, 2), 21), Verdict::kGo);
}

TEST_F(PlacesTest, WhoWaitedTooLongIsRefused) {
  ASSERT_EQ(Enter(Read(0, 1)), Verdict::kGo);
  ASSERT_EQ(Enter(Read(0, 2), 20), Verdict::kWait);
  ASSERT_EQ(Enter(Read(0, 3), 21), Verdict::kWait);
  EXPECT_EQ(Ready(), std::vector<uint64_t>{20}) << "at once: its version is too old now";
  EXPECT_EQ(Enter(Read(0, 2), 20), Verdict::kRefuse);
  EXPECT_EQ(error_, ESTALE);
  places_.Leave(Read(0, 1), false);
  EXPECT_EQ(Ready(), std::vector<uint64_t>{21});
}

TEST_F(PlacesTest, ForgottenWaitersAreNotNamed) {
  ASSERT_EQ(Enter(Read(0, 1)), Verdict::kGo);
  ASSERT_EQ(Enter(Read(0, 2), 20), Verdict::kWait);
  ASSERT_EQ(Enter(Read(0, 2), 21), Verdict::kWait);
  places_.Forget(20);
  places_.Leave(Read(0, 1), false);
  places_.Forget(21);  // named already
  EXPECT_EQ(Ready(), std::vector<uint64_t>{});
  Do(Write(0, 3));
}

TEST_F(PlacesTest, ALockWaitsForWritesUnderWayAndHoldsNewOnes) {
  ASSERT_EQ(Enter(Write(2, 1, 4)), Verdict::kGo);
  ASSERT_EQ(Enter(Read(2, 1)), Verdict::kGo);
  int locked = 0;
  places_.Lock({4 * kBlock, 8 * kBlock}, [&] { locked++; });
  EXPECT_EQ(locked, 0);
  EXPECT_EQ(Enter(Write(5, 1), 30), Verdict::kWait) << "a lock that waits is not starved by new writes";
  EXPECT_EQ(Enter(Read(5, 1), 31), Verdict::kGo) << "reads do not matter";
  EXPECT_EQ(Enter(Write(3, 1), 32), Verdict::kGo) << "beside it";
  places_.Leave(Write(2, 1, 4), true);
  EXPECT_EQ(locked, 1);
  EXPECT_EQ(Ready(), std::vector<uint64_t>{});
  places_.Unlock({4 * kBlock, 8 * kBlock});
  EXPECT_EQ(Ready(), std::vector<uint64_t>{30});
  EXPECT_EQ(Enter(Write(5, 1), 30), Verdict::kGo);
}

TEST_F(PlacesTest, ALockWaitsForWhatIsBelowTheFloor) {
  Access old = Read(0, 5);
  ASSERT_EQ(Enter(old), Verdict::kGo);
  int locked = 0;
  places_.Lock({0, kBlock}, [&] { locked++; });
  EXPECT_EQ(locked, 1) << "reads of the same version do not matter";
  places_.Unlock({0, kBlock});
  ASSERT_TRUE(places_.Track(0, 6, Since::kNow).ok());
  places_.Untrack(0);
  places_.Lock({0, kPlace}, [&] { locked++; });
  EXPECT_EQ(locked, 1);
  places_.Leave(old, true);
  EXPECT_EQ(locked, 2);
}

TEST_F(PlacesTest, ALargeWriteIsNotStarvedByALineOfLocks) {
  int locked = 0;
  for (uint64_t i = 0; i < 3; i++) places_.Lock({i * 8 * kBlock, 8 * kBlock}, [&] { locked++; });
  ASSERT_EQ(locked, 3);
  ASSERT_EQ(Enter(Write(0, 1, 64), 40), Verdict::kWait);
  places_.Unlock({0, 8 * kBlock});
  places_.Lock({24 * kBlock, 8 * kBlock}, [&] { locked++; });
  EXPECT_EQ(locked, 3) << "it came after the write";
  places_.Unlock({8 * kBlock, 8 * kBlock});
  places_.Unlock({16 * kBlock, 8 * kBlock});
  ASSERT_EQ(Ready(), std::vector<uint64_t>{40});
  EXPECT_EQ(locked, 3);
  ASSERT_EQ(Enter(Write(0, 1, 64), 40), Verdict::kGo);
  places_.Leave(Write(0, 1, 64), true);
  EXPECT_EQ(locked, 4);
}

TEST_F(PlacesTest, ALockGoesOnWhenTheWriteBeforeItIsForgottenOrRefused) {
  int locked = 0;
  auto count = [&] { locked++; };
  places_.Lock({0, kBlock}, count);
  ASSERT_EQ(Enter(Write(0, 1, 4), 40), Verdict::kWait);
  places_.Lock({2 * kBlock, kBlock}, count);
  EXPECT_EQ(locked, 1);
  places_.Forget(40);
  EXPECT_EQ(locked, 2);
  ASSERT_EQ(Enter(Write(0, 1, 4), 41), Verdict::kWait);
  places_.Lock({3 * kBlock, kBlock}, count);
  EXPECT_EQ(locked, 2);
  Do(Read(0, 2));
  EXPECT_EQ(Ready(), std::vector<uint64_t>{41});
  EXPECT_EQ(Enter(Write(0, 1, 4), 41), Verdict::kRefuse);
  EXPECT_EQ(locked, 3);
}

TEST_F(PlacesTest, LocksThatOverlapAreHeldInTurnAndMayBeTakenBack) {
  std::vector<int> order;
  BlockRange first{0, 4 * kBlock};
  BlockRange second{2 * kBlock, 4 * kBlock};
  BlockRange third{4 * kBlock, 4 * kBlock};
  places_.Lock(first, [&] { order.push_back(1); });
  places_.Lock(second, [&] { order.push_back(2); });
  places_.Lock(third, [&] { order.push_back(3); });
  EXPECT_EQ(order, std::vector<int>{1});
  places_.Unlock(second);  // not held yet
  EXPECT_EQ(order, (std::vector<int>{1, 3}));
  places_.Unlock(first);
  places_.Unlock(third);
  EXPECT_EQ(order, (std::vector<int>{1, 3}));
}

TEST_F(PlacesTest, WhoIsToldThatItIsLockedMayLockAndUnlock) {
  BlockRange range{0, kBlock};
  int locked = 0;
  std::function<void()> again = [&] {
    places_.Unlock(range);
    if (++locked < 100) places_.Lock(range, again);
  };
  ASSERT_EQ(Enter(Write(0, 1)), Verdict::kGo);
  places_.Lock(range, again);
  places_.Lock({0, 2 * kBlock}, [&] { places_.Unlock({0, 2 * kBlock}); });
  places_.Leave(Write(0, 1), true);
  EXPECT_EQ(locked, 100);
  Do(Write(0, 1));
}

TEST_F(PlacesTest, WhatIsWrittenSinceTheRaiseIsNoted) {
  Do(Write(1, 4));
  ASSERT_TRUE(places_.Track(0, 5, Since::kRaise).ok());
  EXPECT_EQ(store_.floor(0), 5U);
  EXPECT_FALSE(places_.Written(kBlock)) << "under an older version";
  Do(Write(2, 5, 3));
  Do(Read(9, 5));
  Access failed = Write(20, 5);
  ASSERT_EQ(Enter(failed), Verdict::kGo);
  places_.Leave(failed, false);
  std::set<uint64_t> written;
  for (uint64_t block = 0; block < 128; block++) {
    if (places_.Written(block * kBlock)) written.insert(block);
  }
  EXPECT_EQ(written, (std::set<uint64_t>{2, 3, 4}));
}

// A client may have the new map before the target has the job.
TEST_F(PlacesTest, AWriteOfTheNewVersionBeforeTheJobCounts) {
  Do(Write(1, 4));
  Do(Write(2, 5));
  ASSERT_TRUE(places_.Track(0, 5, Since::kRaise).ok());
  EXPECT_FALSE(places_.Written(1 * kBlock));
  EXPECT_TRUE(places_.Written(2 * kBlock));
  places_.Untrack(0);
  Do(Write(3, 5));
  ASSERT_TRUE(places_.Track(0, 5, Since::kRaise).ok()) << "the job was called off and came again";
  EXPECT_TRUE(places_.Written(2 * kBlock));
  EXPECT_TRUE(places_.Written(3 * kBlock));
}

// The copy's source may refuse such a write: then both copies have what the source has.
TEST_F(PlacesTest, AnOlderWriteThatEndsLaterIsNotNoted) {
  ASSERT_EQ(Enter(Write(1, 4)), Verdict::kGo);
  ASSERT_TRUE(places_.Track(0, 5, Since::kRaise).ok());
  places_.Leave(Write(1, 4), true);
  EXPECT_FALSE(places_.Written(kBlock));
}

TEST_F(PlacesTest, ANewerVersionBeginsAnew) {
  ASSERT_TRUE(places_.Track(0, 5, Since::kRaise).ok());
  Do(Write(1, 5));
  Do(Write(2, 6));
  EXPECT_FALSE(places_.Written(1 * kBlock));
  EXPECT_TRUE(places_.Written(2 * kBlock));
  EXPECT_EQ(places_.Track(0, 5, Since::kRaise).code(), ESTALE);
  ASSERT_TRUE(places_.Track(0, 6, Since::kRaise).ok());
  EXPECT_TRUE(places_.Written(2 * kBlock));
}

TEST_F(PlacesTest, WhatAnEarlierProcessSawIsNotKnown) {
  Do(Write(1, 5));
  Places later(&store_, kCapacity, kPlace);
  Status s = later.Track(0, 5, Since::kRaise);
  EXPECT_EQ(s.code(), ESTALE);
  EXPECT_NE(s.message().find("version 5 is not known any more"), std::string::npos) << s.message();
  EXPECT_TRUE(later.Track(0, 5, Since::kNow).ok());
  EXPECT_TRUE(later.Track(64 * kBlock, 6, Since::kRaise).ok());
}

TEST_F(PlacesTest, RepairCountsFromNow) {
  Do(Write(1, 5));
  ASSERT_TRUE(places_.Track(0, 5, Since::kNow).ok());
  EXPECT_FALSE(places_.Written(1 * kBlock));
  Do(Write(2, 5));
  EXPECT_TRUE(places_.Written(2 * kBlock));
  EXPECT_EQ(places_.Track(0, 5, Since::kNow).code(), EBUSY);
  EXPECT_EQ(places_.Track(0, 5, Since::kRaise).code(), ESTALE) << "block 1 is not noted";
  places_.Untrack(0);
  EXPECT_EQ(places_.Track(0, 5, Since::kRaise).code(), ESTALE);
  EXPECT_FALSE(places_.Written(2 * kBlock));
}

TEST_F(PlacesTest, TrackNamesItsErrors) {
  EXPECT_EQ(places_.Track(kBlock, 5, Since::kRaise).code(), EINVAL);
  EXPECT_EQ(places_.Track(8 * kPlace, 5, Since::kRaise).code(), EINVAL);
  Do(Read(0, 6));
  EXPECT_EQ(places_.Track(0, 5, Since::kRaise).code(), ESTALE);
  EXPECT_EQ(places_.Track(0, 5, Since::kNow).code(), ESTALE);
}

TEST_F(PlacesTest, NotesOfMoreRaisesThanAreKeptAreForgottenTheOldestFirst) {
  constexpr uint64_t kPlaces = 20000;
  MapFloorStore store;
  Places places(&store, kPlaces * kBlock, kBlock);
  int error = 0;
  ASSERT_TRUE(places.Track(0, 1, Since::kRaise).ok());
  for (uint64_t i = 1; i < kPlaces; i++) {
    ASSERT_EQ(places.Enter(Write(i, 1), 0, &error), Verdict::kGo);
    places.Leave(Write(i, 1), true);
  }
  EXPECT_EQ(places.Track(kBlock, 1, Since::kRaise).code(), ESTALE);
  EXPECT_TRUE(places.Track((kPlaces - 1) * kBlock, 1, Since::kRaise).ok());
  ASSERT_EQ(places.Enter(Write(0, 1), 0, &error), Verdict::kGo);
  places.Leave(Write(0, 1), true);
  EXPECT_TRUE(places.Written(0)) << "what is tracked is kept";
}

// Any order of events: never two versions under way, never a write in a held region, everybody gets a turn.
TEST_F(PlacesTest, RandomOrderKeepsThePromises) {
  std::mt19937 random(7);
  std::map<uint64_t, Access> under_way;
  std::map<uint64_t, Access> waiting;
  std::map<uint64_t, BlockRange> held;
  std::map<uint64_t, BlockRange> wanted;
  auto overlap = [](const BlockRange& a, const BlockRange& b) {
    return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
  };
  uint64_t next = 1;
  uint32_t version = 1;
  auto enter = [&](uint64_t id, const Access& access) {
    Verdict verdict = Enter(access, id);
    waiting.erase(id);
    if (verdict == Verdict::kWait) waiting[id] = access;
    if (verdict == Verdict::kRefuse) {
      ASSERT_LT(access.version, store_.floor(0));
    }
    if (verdict != Verdict::kGo) return;
    ASSERT_EQ(access.version, store_.floor(0));
    for (const auto& [other, running] : under_way) ASSERT_EQ(running.version, access.version);
    for (const auto& [lock, range] : held) ASSERT_FALSE(access.writes && overlap(range, access.range));
    under_way[id] = access;
  };
  auto lock = [&](uint64_t id, BlockRange range) {
    wanted[id] = range;
    places_.Lock(range, [&, id, range] {
      for (const auto& [other, running] : under_way) ASSERT_FALSE(running.writes && overlap(running.range, range));
      for (const auto& [other, region] : held) ASSERT_FALSE(overlap(region, range));
      wanted.erase(id);
      held[id] = range;
    });
  };
  auto end_one = [&] {
    if (under_way.empty()) return;
    auto one = std::next(under_way.begin(), static_cast<ptrdiff_t>(random() % under_way.size()));
    Access access = one->second;
    under_way.erase(one);
    places_.Leave(access, true);
  };
  auto unlock_one = [&] {
    if (held.empty()) return;
    auto one = std::next(held.begin(), static_cast<ptrdiff_t>(random() % held.size()));
    BlockRange range = one->second;
    held.erase(one);
    places_.Unlock(range);
  };
  auto serve = [&] {
    for (uint64_t id; places_.NextReady(&id);) {
      ASSERT_TRUE(waiting.contains(id));
      enter(id, Access(waiting[id]));
    }
  };
  for (int step = 0; step < 200000; step++) {
    uint64_t block = random() % 60;
    uint64_t blocks = 1 + random() % (random() % 8 ? 4 : 64 - block);
    blocks = std::min(blocks, 64 - block);
    switch (random() % 8) {
      case 0:
      case 1:
        if (under_way.size() + waiting.size() > 40) break;
        if (random() % 50 == 0) version++;
        enter(next++, random() % 3 ? Write(block, version - (version > 1 && random() % 9 == 0 ? 1 : 0), blocks)
                                   : Read(block, version, blocks));
        break;
      case 2:
        if (held.size() + wanted.size() > 4) break;
        lock(next++, {block * kBlock, blocks * kBlock});
        break;
      case 3:
        unlock_one();
        break;
      case 4:
        if (waiting.empty() || random() % 4) break;
        places_.Forget(waiting.begin()->first);
        waiting.erase(waiting.begin());
        break;
      case 5:
        serve();
        break;
      default:
        end_one();
    }
    if (HasFatalFailure()) FAIL() << "step " << step;
  }
  for (int i = 0; i < 10000 && under_way.size() + waiting.size() + held.size() + wanted.size() > 0; i++) {
    end_one();
    unlock_one();
    serve();
  }
  EXPECT_TRUE(under_way.empty() && waiting.empty() && held.empty() && wanted.empty()) << "somebody waits for ever";
}

}  // namespace
}  // namespace weft::rdma
