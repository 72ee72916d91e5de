// SPDX-License-Identifier: MIT
#include "userland/meta/planner.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace weft {
namespace {

constexpr CopyState kInSync = CopyState::kInSync;
constexpr CopyState kStale = CopyState::kStale;
constexpr CopyState kResyncing = CopyState::kResyncing;

Members MakeMembers(uint32_t count) {
  Members members;
  for (uint32_t id = 1; id <= count; ++id) {
    members[id].id = id;
    members[id].places = 100;
  }
  return members;
}

Chunk MakeChunk(uint32_t wanted, std::vector<std::pair<uint32_t, CopyState>> copies) {
  Chunk chunk;
  chunk.version = 1;
  chunk.copies_wanted = wanted;
  for (auto [target, state] : copies) chunk.copies.push_back({target, state, 0});
  return chunk;
}

void ExpectPlan(const ChunkPlan& plan, Action action, uint32_t target, uint32_t source = 0) {
  EXPECT_EQ(plan.action, action);
  EXPECT_EQ(plan.target, target);
  EXPECT_EQ(plan.source, source);
}

TEST(PlannerTest, AWholeChunkNeedsNothing) {
  ChunkPlan plan = PlanChunk(MakeChunk(2, {{1, kInSync}, {2, kInSync}}), MakeMembers(3));
  EXPECT_EQ(plan.action, Action::kNothing);
  EXPECT_EQ(plan.wait, Wait::kNothing);
}

TEST(PlannerTest, AStaleCopyIsResynchronised) {
  Members members = MakeMembers(3);
  Chunk chunk = MakeChunk(2, {{1, kInSync}, {2, kStale}});
  ExpectPlan(PlanChunk(chunk, members), Action::kResync, 2, 1);
  members[2].copying_in = kCopyJobsPerTarget;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTurn);
  EXPECT_EQ(PlanChunk(chunk, members).target, 2U) << "whose turn it waits for";
  members[2].copying_in = 0;
  members[1].copying_out = kCopyJobsPerTarget;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTurn);
  members[1].copying_out = 0;
  members[2].up = false;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTargetDown);
  members[2].up = true;
  members[1].up = false;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kSource);
}

TEST(PlannerTest, OneCopyIsMadeAtATime) {
  Members members = MakeMembers(4);
  EXPECT_EQ(PlanChunk(MakeChunk(3, {{1, kInSync}, {2, kResyncing}, {3, kStale}}), members).action, Action::kNothing);
  EXPECT_EQ(PlanChunk(MakeChunk(3, {{1, kInSync}, {2, kResyncing}}), members).action, Action::kNothing);
}

TEST(PlannerTest, AChunkWithAllTheCopiesItCanHaveWaitsForItsTargets) {
  Members members = MakeMembers(6);
  Chunk chunk = MakeChunk(4, {{1, kInSync}, {2, kStale}, {3, kStale}, {4, kStale}, {5, kStale}});
  for (Copy& copy : chunk.copies) copy.doubtful = copy.state == kStale;  // cannot be dropped yet
  for (uint32_t id = 2; id <= 5; ++id) members[id].draining = true;
  ChunkPlan plan = PlanChunk(chunk, members);
  EXPECT_EQ(plan.action, Action::kNothing);
  EXPECT_EQ(plan.wait, Wait::kSource) << "no turn would help";
}

TEST(PlannerTest, TheLeastBusySourceIsRead) {
  Members members = MakeMembers(4);
  members[1].copying_out = 1;
  Chunk chunk = MakeChunk(3, {{1, kInSync}, {2, kInSync}, {3, kStale}});
  ExpectPlan(PlanChunk(chunk, members), Action::kResync, 3, 2);
  EXPECT_EQ(SourcesFor(chunk, 3, members), (std::vector<uint32_t>{2, 1}));
  members[2].up = false;
  EXPECT_EQ(SourcesFor(chunk, 3, members), (std::vector<uint32_t>{1}));
}

TEST(PlannerTest, AMissingCopyGoesToTheEmptiestTarget) {
  Members members = MakeMembers(4);
  members[2].used = 10;
  members[3].used = 4;
  members[4].used = 5;
  Chunk chunk = MakeChunk(2, {{1, kInSync}});
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 3, 1);
  members[4].weight = 200;
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 4, 1);
  members[4].copying_in = kCopyJobsPerTarget;
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 3, 1);
  members[3].draining = true;
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 2, 1);
  members[2].up = false;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTurn) << "4 is busy";
  members[4].used = 100;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kRoom);
  members[4].up = false;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTargets);
}

TEST(PlannerTest, ZonesGoBeforeFillAndTurns) {
  Members members = MakeMembers(3);
  members[1].zone = members[2].zone = "a";
  members[3].zone = "b";
  members[3].used = 90;
  Chunk chunk = MakeChunk(2, {{1, kInSync}});
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 3, 1);
  members[3].copying_in = kCopyJobsPerTarget;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kTurn);
  members[3].used = 100;
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 2, 1);
}

TEST(PlannerTest, ADrainingTargetGivesItsCopyAwayFirst) {
  Members members = MakeMembers(3);
  members[1].draining = true;
  ExpectPlan(PlanChunk(MakeChunk(2, {{1, kInSync}, {2, kInSync}}), members), Action::kAdd, 3, 1);
  Chunk moving = MakeChunk(2, {{1, kInSync}, {2, kInSync}, {3, kResyncing}});
  EXPECT_EQ(PlanChunk(moving, members).action, Action::kNothing);
  moving.copies[2].state = kInSync;
  ExpectPlan(PlanChunk(moving, members), Action::kDrop, 1);
  ExpectPlan(PlanChunk(MakeChunk(2, {{1, kStale}, {2, kInSync}}), members), Action::kDrop, 1);
}

TEST(PlannerTest, ALeavingCopyIsLikeOneOnADrainingTarget) {
  Members members = MakeMembers(3);
  Chunk chunk = MakeChunk(1, {{1, kInSync}, {2, kResyncing}});
  chunk.copies[0].leaving = true;
  EXPECT_EQ(PlanChunk(chunk, members).action, Action::kNothing);
  chunk.copies[1].state = kInSync;
  ExpectPlan(PlanChunk(chunk, members), Action::kDrop, 1);
  members[2].up = false;
  EXPECT_EQ(PlanChunk(chunk, members).action, Action::kNothing) << "nothing could be read any more";
}

TEST(PlannerTest, ACancelledMoveIsTakenBack) {
  Members members = MakeMembers(3);
  ExpectPlan(PlanChunk(MakeChunk(2, {{1, kInSync}, {2, kInSync}, {3, kResyncing}}), members), Action::kDrop, 3);
  members[2].used = 50;
  ExpectPlan(PlanChunk(MakeChunk(2, {{1, kInSync}, {2, kInSync}, {3, kInSync}}), members), Action::kDrop, 2);
  members[1].zone = members[3].zone = "a";
  members[2].zone = "b";
  ExpectPlan(PlanChunk(MakeChunk(2, {{1, kInSync}, {2, kInSync}, {3, kInSync}}), members), Action::kDrop, 3);
}

TEST(PlannerTest, TwoOfFourMoveThroughTheFifth) {
  Members members = MakeMembers(6);
  members[1].draining = members[2].draining = true;
  Chunk chunk = MakeChunk(4, {{1, kInSync}, {2, kInSync}, {3, kInSync}, {4, kInSync}});
  ExpectPlan(PlanChunk(chunk, members), Action::kAdd, 5, 1);
  chunk.copies.push_back({5, kInSync, 0});
  EXPECT_EQ(PlanChunk(chunk, members).action, Action::kDrop);
}

TEST(PlannerTest, ADoubtfulCopyIsTakenWhenNothingElseCanBeRead) {
  Members members = MakeMembers(2);
  Chunk chunk = MakeChunk(2, {{1, kInSync}, {2, kStale}});
  chunk.copies[1].doubtful = true;
  ExpectPlan(PlanChunk(chunk, members), Action::kResync, 2, 1);
  members[1].up = false;
  ExpectPlan(PlanChunk(chunk, members), Action::kPromote, 2);
  chunk.copies[1].doubtful = false;
  EXPECT_EQ(PlanChunk(chunk, members).wait, Wait::kSource);
}

TEST(PlannerTest, ALostChunkWaits) {
  EXPECT_EQ(PlanChunk(MakeChunk(2, {}), MakeMembers(3)).wait, Wait::kSource);
  EXPECT_EQ(PlanChunk(MakeChunk(2, {{1, kStale}}), MakeMembers(3)).wait, Wait::kSource);
  EXPECT_EQ(PlanChunk(MakeChunk(2, {{9, kStale}}), MakeMembers(3)).wait, Wait::kSource) << "no member";
}

// Whatever the states: a plan never takes the last copy in sync, and carried out again and again, it ends with a
// whole chunk when there are targets enough.
TEST(PlannerTest, EveryChunkBecomesWhole) {
  std::mt19937 random(1);
  auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 20'000; ++round) {
    Members members = MakeMembers(7);
    uint32_t draining = below(3);
    for (uint32_t i = 0; i < draining; ++i) members[1 + below(7)].draining = true;
    for (auto& [id, member] : members) member.zone = std::string(1, static_cast<char>('a' + below(3)));
    Chunk chunk = MakeChunk(1 + below(4), {});
    std::vector<uint32_t> ids = {1, 2, 3, 4, 5, 6, 7};
    std::shuffle(ids.begin(), ids.end(), random);
    uint32_t copies = 1 + below(kChunkCopiesMax);
    for (uint32_t i = 0; i < copies; ++i) {
      chunk.copies.push_back({ids[i], i == 0 ? kInSync : static_cast<CopyState>(1 + below(3)), 0});
      chunk.copies.back().leaving = below(4) == 0;
    }
    for (int step = 0;; ++step) {
      ASSERT_LT(step, 40) << "round " << round;
      auto resyncing = std::ranges::find(chunk.copies, kResyncing, &Copy::state);
      ChunkPlan plan = PlanChunk(chunk, members);
      if (plan.action == Action::kNothing) {
        if (resyncing == chunk.copies.end()) break;
        resyncing->state = kInSync;
        continue;
      }
      auto copy = std::ranges::find(chunk.copies, plan.target, &Copy::target);
      if (plan.action == Action::kDrop) {
        ASSERT_NE(copy, chunk.copies.end());
        chunk.copies.erase(copy);
      } else if (plan.action == Action::kResync) {
        copy->state = kResyncing;
      } else {
        ASSERT_EQ(plan.action, Action::kAdd);
        ASSERT_EQ(copy, chunk.copies.end());
        chunk.copies.push_back({plan.target, kResyncing, 0});
      }
      ASSERT_GE(chunk.Count(kInSync), 1U);
      ASSERT_LE(chunk.copies.size(), kChunkCopiesMax);
    }
    ASSERT_TRUE(chunk.Settled()) << "round " << round;
    for (const Copy& copy : chunk.copies) ASSERT_TRUE(Stays(copy, members));
  }
}

// ---- rebalance ----------------------------------------------------------------------------------------------

struct Pool {
  Members members;
  std::map<uint64_t, Chunk> chunks;
  std::map<uint32_t, std::set<uint64_t>> on;

  std::optional<Move> Pick(bool* blocked) {
    for (auto& [id, member] : members) member.used = member.staying = on[id].size();
    return PickMove(
        chunks, members, [this](uint32_t id) -> const std::set<uint64_t>& { return on[id]; }, blocked);
  }
  void Put(uint64_t index, std::vector<uint32_t> targets) {
    chunks[index] = MakeChunk(static_cast<uint32_t>(targets.size()), {});
    for (uint32_t target : targets) {
      chunks[index].copies.push_back({target, kInSync, 0});
      on[target].insert(index);
    }
  }
  // Until none is worth it.
  int Run() {
    bool blocked = false;
    int moves = 0;
    while (std::optional<Move> move = Pick(&blocked)) {
      ++moves;
      for (Copy& copy : chunks[move->chunk].copies) {
        if (copy.target == move->from) copy.target = move->to;
      }
      on[move->from].erase(move->chunk);
      on[move->to].insert(move->chunk);
      if (moves > 10'000) return -1;
    }
    EXPECT_FALSE(blocked);
    return moves;
  }
};

TEST(RebalanceTest, EvensOutByWeight) {
  Pool pool;
  pool.members = MakeMembers(4);
  pool.members[4].weight = 200;
  for (uint64_t i = 0; i < 50; ++i) pool.Put(i, {1, 2});
  int moves = pool.Run();
  EXPECT_GT(moves, 0);
  EXPECT_LT(moves, 70);
  for (uint32_t id : {1, 2, 3}) EXPECT_NEAR(static_cast<double>(pool.on[id].size()), 20, 2);
  EXPECT_NEAR(static_cast<double>(pool.on[4].size()), 40, 3);
}

TEST(RebalanceTest, ADifferenceOfOneChunkStays) {
  Pool pool;
  pool.members = MakeMembers(2);
  pool.Put(0, {1});
  EXPECT_EQ(pool.Run(), 0);
  pool.Put(1, {1});
  EXPECT_EQ(pool.Run(), 1);
}

TEST(RebalanceTest, ZonesAreKept) {
  Pool pool;
  pool.members = MakeMembers(3);
  pool.members[1].zone = "a";
  pool.members[2].zone = pool.members[3].zone = "b";
  for (uint64_t i = 0; i < 30; ++i) pool.Put(i, {1, 2});
  pool.Run();
  EXPECT_EQ(pool.on[1].size(), 30U) << "nobody else is in zone a";
  EXPECT_EQ(pool.on[2].size(), 15U);
  EXPECT_EQ(pool.on[3].size(), 15U);
}

TEST(RebalanceTest, BusyTargetsBlock) {
  Pool pool;
  pool.members = MakeMembers(2);
  for (uint64_t i = 0; i < 10; ++i) pool.Put(i, {1});
  pool.members[2].copying_in = kCopyJobsPerTarget;
  bool blocked = false;
  EXPECT_FALSE(pool.Pick(&blocked));
  EXPECT_TRUE(blocked);
}

TEST(RebalanceTest, TargetsThatAreDownOrDrainingTakeNoPart) {
  Pool pool;
  pool.members = MakeMembers(3);
  for (uint64_t i = 0; i < 10; ++i) pool.Put(i, {1});
  pool.members[2].up = false;
  pool.members[3].draining = true;
  EXPECT_EQ(pool.Run(), 0);
}

TEST(RebalanceTest, EndsFromAnyStart) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    Pool pool;
    uint32_t count = 2 + random() % 8;
    pool.members = MakeMembers(count);
    for (auto& [id, member] : pool.members) {
      member.weight = 50 + random() % 200;
      member.places = 200 + random() % 200;
    }
    for (uint64_t i = 0; i < 150; ++i) {
      uint32_t first = 1 + random() % count;
      uint32_t second = 1 + random() % count;
      first == second ? pool.Put(i, {first}) : pool.Put(i, {first, second});
    }
    ASSERT_GE(pool.Run(), 0) << "round " << round;
    for (const auto& [index, chunk] : pool.chunks) {
      if (chunk.copies.size() == 2) {
        ASSERT_NE(chunk.copies[0].target, chunk.copies[1].target);
      }
    }
  }
}

}  // namespace
}  // namespace weft
