// SPDX-License-Identifier: MIT
#include "userland/meta/placement.h"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace weft {
namespace {

std::vector<PlacementTarget> Make(std::initializer_list<uint64_t> slots) {
  std::vector<PlacementTarget> targets;
  for (uint64_t n : slots) {
    PlacementTarget target;
    target.id = static_cast<uint32_t>(targets.size() + 1);
    target.slots = n;
    targets.push_back(target);
  }
  return targets;
}

// Places as many chunks as PlacementCapacity says and checks that all find distinct targets.
void Fill(std::vector<PlacementTarget>* targets, uint32_t copies) {
  uint64_t chunks = PlacementCapacity(*targets, copies);
  for (uint64_t left = chunks; left > 0; --left) {
    std::vector<size_t> chosen = PlaceChunk(*targets, copies, left);
    ASSERT_EQ(std::set<size_t>(chosen.begin(), chosen.end()).size(), copies) << left << " of " << chunks << " left";
    for (size_t i : chosen) ASSERT_LE(++(*targets)[i].used, (*targets)[i].slots);
  }
}

TEST(PlacementTest, Capacity) {
  EXPECT_EQ(PlacementCapacity(Make({10}), 1), 10U);
  EXPECT_EQ(PlacementCapacity(Make({10, 10}), 2), 10U);
  EXPECT_EQ(PlacementCapacity(Make({10, 10, 10}), 2), 15U);
  EXPECT_EQ(PlacementCapacity(Make({100, 10, 10}), 2), 20U);
  EXPECT_EQ(PlacementCapacity(Make({100, 10}), 2), 10U);
  EXPECT_EQ(PlacementCapacity(Make({10, 10, 10}), 4), 0U);
  EXPECT_EQ(PlacementCapacity(Make({}), 1), 0U);
}

TEST(PlacementTest, AllOfTheCapacityCanBePlaced) {
  for (uint32_t copies = 1; copies <= 4; ++copies) {
    std::mt19937_64 random(copies);
    for (int round = 0; round < 50; ++round) {
      std::vector<PlacementTarget> targets;
      for (uint32_t i = 0; i < copies + random() % 5; ++i) {
        targets.push_back({i + 1, random() % 60, 0, static_cast<uint32_t>(1 + random() % 300), random() % 2 ? "a" : "",
                           random() % 4 != 0});
      }
      Fill(&targets, copies);
    }
  }
}

TEST(PlacementTest, FillsEvenlyByWeightAndSize) {
  std::vector<PlacementTarget> targets = Make({100, 100, 200, 100});
  targets[3].weight = 50;
  for (int i = 0; i < 90; ++i) {
    for (size_t at : PlaceChunk(targets, 1, 400)) ++targets[at].used;
  }
  EXPECT_NEAR(targets[0].used, 20, 1);
  EXPECT_NEAR(targets[1].used, 20, 1);
  EXPECT_NEAR(targets[2].used, 40, 1);
  EXPECT_NEAR(targets[3].used, 10, 1);
}

TEST(PlacementTest, PrefersOtherZonesAndTargetsThatAreUp) {
  std::vector<PlacementTarget> targets = Make({100, 100, 100, 100});
  targets[0].zone = targets[1].zone = "a";
  targets[2].zone = targets[3].zone = "b";
  for (int i = 0; i < 40; ++i) {
    std::vector<size_t> chosen = PlaceChunk(targets, 2, 200 - i);
    ASSERT_EQ(chosen.size(), 2U);
    EXPECT_NE(targets[chosen[0]].zone, targets[chosen[1]].zone);
    for (size_t at : chosen) ++targets[at].used;
  }
  targets[2].up = false;
  targets[3].up = false;
  EXPECT_EQ(PlaceChunk(targets, 2, 160).size(), 2U);
  for (size_t at : PlaceChunk(targets, 2, 100)) EXPECT_TRUE(targets[at].up);
}

TEST(PlacementTest, DrainingTargetsTakeNothing) {
  std::vector<PlacementTarget> targets = Make({100, 100, 100});
  targets[0].draining = true;
  EXPECT_EQ(PlacementCapacity(targets, 2), 100U);
  EXPECT_EQ(PlacementCapacity(targets, 3), 0U);
  for (size_t at : PlaceChunk(targets, 2, 100)) EXPECT_NE(at, 0U);
  EXPECT_TRUE(PlaceChunk(targets, 3, 1).empty());
  EXPECT_EQ(PlaceCopy(targets, {2}), 2U);
  EXPECT_EQ(PlaceCopy(targets, {2, 3}), std::nullopt);
}

TEST(PlacementTest, OneMoreCopyGoesWhereAllOfThemTogetherWouldHaveBeenPut) {
  std::vector<PlacementTarget> targets = Make({100, 100, 100, 100});
  targets[0].zone = targets[1].zone = "a";
  targets[2].zone = targets[3].zone = "b";
  targets[2].used = 50;
  EXPECT_EQ(PlaceCopy(targets, {1}), 3U) << "another zone, emptiest";
  targets[3].up = false;
  EXPECT_EQ(PlaceCopy(targets, {1}), 2U) << "up is more than empty";
  targets[2].used = 100;
  EXPECT_EQ(PlaceCopy(targets, {1}), 1U) << "up is more than another zone";
  EXPECT_EQ(PlaceCopy(targets, {1, 2, 3, 4}), std::nullopt);
  EXPECT_EQ(PlaceCopy(targets, {99, 1}), 1U) << "copies on targets that are gone count for nothing";
}

// ---- a large pool --------------------------------------------------------------------------------

constexpr size_t kTargets = 1000;
constexpr uint64_t kSlots = 1000;
constexpr uint32_t kCopies = 3;
constexpr size_t kChunks = 25'000;

struct LargePool {
  std::vector<PlacementTarget> targets;
  std::vector<std::vector<size_t>> chunks;  // indices of targets
};

// 1,000 targets of four weights in zones of 25, filled.
LargePool MakeLargePool() {
  LargePool pool;
  for (uint32_t i = 0; i < kTargets; ++i) {
    pool.targets.push_back({i + 1, kSlots, 0, 50 + 50 * (i % 4), "zone" + std::to_string(i / 25)});
  }
  for (size_t i = 0; i < kChunks; ++i) {
    pool.chunks.push_back(PlaceChunk(pool.targets, kCopies, kChunks - i));
    for (size_t at : pool.chunks.back()) ++pool.targets[at].used;
  }
  return pool;
}

class LargePoolTest : public ::testing::Test {
 protected:
  LargePoolTest() {
    static const LargePool pool = MakeLargePool();  // once: it takes a while
    targets_ = pool.targets;
    chunks_ = pool.chunks;
  }
  // Each within 5 % of its share by weight.
  void ExpectEven() const {
    uint64_t weights = 0;
    uint64_t used = 0;
    for (const PlacementTarget& t : targets_) {
      if (t.slots > 0) weights += t.weight;
      used += t.used;
    }
    for (const PlacementTarget& t : targets_) {
      if (t.slots == 0) continue;
      double share = static_cast<double>(used) * t.weight / static_cast<double>(weights);
      ASSERT_NEAR(static_cast<double>(t.used), share, share * 0.05) << "target " << t.id << " of weight " << t.weight;
    }
  }
  void ExpectZonesRespected() const {
    for (const std::vector<size_t>& chunk : chunks_) {
      std::set<std::string> zones;
      std::set<size_t> distinct;
      for (size_t at : chunk) {
        zones.insert(targets_[at].zone);
        distinct.insert(at);
      }
      ASSERT_EQ(distinct.size(), kCopies);
      ASSERT_EQ(zones.size(), kCopies);
    }
  }

  std::vector<PlacementTarget> targets_;
  std::vector<std::vector<size_t>> chunks_;
};

TEST_F(LargePoolTest, IsEvenByWeightAndRespectsZones) {
  ExpectEven();
  ExpectZonesRespected();
}

TEST_F(LargePoolTest, RemovingATargetMovesItsShareOnly) {
  constexpr size_t kGone = 503;
  double weights = 0;
  for (const PlacementTarget& t : targets_) weights += t.weight;
  double share = static_cast<double>(kChunks * kCopies) * targets_[kGone].weight / weights;
  targets_[kGone].slots = targets_[kGone].used = 0;
  size_t moved = 0;
  for (std::vector<size_t>& chunk : chunks_) {
    for (size_t& at : chunk) {
      if (at != kGone) continue;
      std::vector<uint32_t> have;
      for (size_t other : chunk) {
        if (other != kGone) have.push_back(targets_[other].id);
      }
      std::optional<size_t> to = PlaceCopy(targets_, have);
      ASSERT_TRUE(to.has_value());
      at = *to;
      ++targets_[at].used;
      ++moved;
    }
  }
  EXPECT_LE(static_cast<double>(moved), share * 1.1);
  EXPECT_GT(moved, 0U);
  ExpectEven();
  ExpectZonesRespected();
}

// Integers only, so that every compiler and processor places alike. When this changes, existing pools place
// new chunks differently: harmless, but let it be on purpose.
TEST_F(LargePoolTest, PlacementIsTheSameEverywhere) {
  EXPECT_EQ(chunks_[0], (std::vector<size_t>{3, 27, 51}));
  EXPECT_EQ(chunks_[1], (std::vector<size_t>{7, 31, 55}));
  EXPECT_EQ(chunks_[999], (std::vector<size_t>{974, 990, 3}));
  EXPECT_EQ(chunks_[12'345], (std::vector<size_t>{530, 554, 576}));
  uint64_t sum = 14695981039346656037ULL;  // FNV-1a of all of them
  for (const std::vector<size_t>& chunk : chunks_) {
    for (size_t at : chunk) sum = (sum ^ at) * 1099511628211ULL;
  }
  EXPECT_EQ(sum, 1642030096693446010ULL);
}

}  // namespace
}  // namespace weft
