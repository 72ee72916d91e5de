// SPDX-License-Identifier: MIT
//
// The chunk table, and what clients do with it: stale copies, open chunks, changes that they are told.
#include <algorithm>
#include <cerrno>
#include <set>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kChunkBlocks = 256;
constexpr int64_t kMiB = 1 << 20;

// Three targets of 16 places of 1 MiB, two copies; chunk 0 is on targets 1 and 2.
class ChunksTest : public ::testing::Test {
 protected:
  ChunksTest() : server_(WithoutUpkeep()) {
    for (std::string name : {"t1", "t2", "t3"}) {
      EXPECT_TRUE(server_.Register(TestServer::TargetArgs(name, 16 * kMiB)).ok());
    }
    EXPECT_TRUE(server_.CreatePool(2, kMiB).ok());
    OpenSession("c1");
    EXPECT_EQ(Do(op::Grant(1, 1)).error, 0);
  }
  void TearDown() override { server_.Check(); }

  void OpenSession(const std::string& client) {
    auto session = server_.OpenSession(client);
    ASSERT_TRUE(session.ok()) << session.status().message();
    server_.set_session(session->id);
  }
  idl::Reply Do(const idl::Operation& operation) { return server_.Execute(operation); }
  const Chunks& chunks() { return server_.machine().chunks(); }
  const Chunk& At(uint64_t index) { return *chunks().Find(index); }
  CopyState State(uint64_t index, uint32_t target) { return At(index).On(target)->state; }
  template <typename F>
  auto Change(F&& call) {
    return server_.RunOnChunks(std::forward<F>(call));
  }
  int SetState(uint64_t index, uint32_t target, CopyState state) {
    return Change([&](Chunks& c) { return c.SetState(index, target, state); });
  }
  // What a client hears.
  idl::Events Events(int64_t since) {
    auto events = server_.Run([&](StateMachine& m) { return m.NextEvents(server_.session(), INT64_MAX, since); });
    EXPECT_TRUE(events.ok());
    return *events;
  }
  void Evict() {
    EXPECT_TRUE(server_.Run([&](StateMachine& m) { return m.EvictSession(server_.session(), false); }).ok());
  }

  TestServer server_;
};

TEST_F(ChunksTest, EveryChangeGivesANewVersionOfThePool) {
  uint32_t version = chunks().map_version();
  auto raised = [&](int error) {
    EXPECT_EQ(error, 0);
    EXPECT_EQ(chunks().map_version(), version + 1);
    EXPECT_EQ(At(0).version, version + 1);
    version = chunks().map_version();
  };
  raised(Do(op::MarkStale(0, static_cast<int>(At(0).version), 2)).error);
  raised(SetState(0, 2, CopyState::kResyncing));
  raised(SetState(0, 2, CopyState::kInSync));
  raised(Change([](Chunks& c) { return c.AddCopy(0, 3); }));
  raised(Change([](Chunks& c) { return c.DropCopy(0, 3, true); }));
  EXPECT_EQ(SetState(0, 2, CopyState::kInSync), 0);
  EXPECT_EQ(Change([](Chunks& c) { return c.SetLeaving(0, 2, true); }), 0);
  EXPECT_EQ(At(0).version, version) << "what clients do not see leaves their maps alone";
  EXPECT_TRUE(At(0).On(2)->leaving);
  server_.Open();
  EXPECT_EQ(At(0).version, version);
  EXPECT_TRUE(At(0).On(2)->leaving);
}

TEST_F(ChunksTest, MarkStaleTakesTheExactVersionAndKeepsTheLastCopy) {
  auto version = static_cast<int>(At(0).version);
  idl::Reply reply = Do(op::MarkStale(0, version, 2));
  ASSERT_EQ(reply.error, 0);
  ASSERT_EQ(reply.chunks.size(), 1U);
  int stale = reply.chunks[0].version;
  EXPECT_GT(stale, version);
  EXPECT_EQ(reply.chunks[0].copies[0].state, idl::CopyState::IN_SYNC);
  EXPECT_EQ(reply.chunks[0].copies[1].state, idl::CopyState::STALE);
  EXPECT_EQ(Do(op::MarkStale(0, version, 2)).error, ESTALE);
  EXPECT_EQ(Do(op::MarkStale(0, stale + 1, 2)).error, ESTALE) << "a version that never was";
  EXPECT_EQ(Do(op::MarkStale(0, stale, 2)).chunks.at(0).version, stale) << "stale already";
  EXPECT_EQ(Do(op::MarkStale(0, stale, 1)).error, EBUSY);
  EXPECT_EQ(Do(op::MarkStale(0, stale, 3)).error, EBUSY);
  EXPECT_EQ(Do(op::MarkStale(0, stale, 0)).error, EINVAL);
  EXPECT_EQ(Do(op::MarkStale(0, stale, 4)).error, EINVAL);
  EXPECT_EQ(Do(op::MarkStale(99, 1, 1)).error, ENOENT);
  EXPECT_EQ(Do(op::MarkStale(-1, 1, 1)).error, ENOENT);
  EXPECT_EQ(server_.machine().PoolStatus().chunks_degraded, 1);
  server_.Open();
  EXPECT_EQ(At(0).version, static_cast<uint32_t>(stale));
  EXPECT_EQ(server_.machine().PoolStatus().chunks_degraded, 1);
}

TEST_F(ChunksTest, AResyncingCopyCanBecomeStaleAgain) {
  ASSERT_EQ(Do(op::MarkStale(0, static_cast<int>(At(0).version), 2)).error, 0);
  ASSERT_EQ(SetState(0, 2, CopyState::kResyncing), 0);
  EXPECT_EQ(Do(op::MarkStale(0, static_cast<int>(At(0).version), 1)).error, EBUSY) << "it holds nothing for sure";
  ASSERT_EQ(Do(op::MarkStale(0, static_cast<int>(At(0).version), 2)).error, 0);
  EXPECT_EQ(State(0, 2), CopyState::kStale);
  ASSERT_EQ(SetState(0, 2, CopyState::kResyncing), 0);
  Change([](Chunks& c) {
    c.StaleResyncing(1);
    c.StaleResyncing(2);
    return 0;
  });
  EXPECT_EQ(State(0, 1), CopyState::kInSync);
  EXPECT_EQ(State(0, 2), CopyState::kStale);
  EXPECT_EQ(SetState(0, 1, CopyState::kStale), EBUSY);
  EXPECT_EQ(SetState(0, 3, CopyState::kStale), ENOENT);
  EXPECT_EQ(SetState(99, 1, CopyState::kStale), ENOENT);
}

TEST_F(ChunksTest, PlacesAreTakenFromTheLowestAndFreeAgainWhenReleased) {
  ASSERT_EQ(Change([](Chunks& c) { return c.AddCopy(0, 3); }), 0);
  uint64_t offset = At(0).On(3)->offset;
  uint64_t used = chunks().used_places(3);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddCopy(0, 3); }), EEXIST);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddCopy(99, 3); }), ENOENT);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddCopy(0, 77); }), ENOSPC) << "no member";
  ASSERT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 3, true); }), 0);
  uint32_t dropped = chunks().map_version();
  EXPECT_EQ(At(0).On(3), nullptr);
  EXPECT_EQ(chunks().used_places(3), used) << "until the target has let go of it";
  server_.Open();
  ASSERT_EQ(chunks().ReleasesOf(3).size(), 1U);
  EXPECT_EQ(chunks().ReleasesOf(3)[0].first, offset);
  EXPECT_EQ(chunks().ReleasesOf(3)[0].second, (ReleaseRecord{dropped, 0}));
  EXPECT_TRUE(chunks().ReleasesOf(1).empty());
  ASSERT_EQ(Change([](Chunks& c) { return c.AddCopy(0, 3); }), 0);
  EXPECT_NE(At(0).On(3)->offset, offset);
  ASSERT_EQ(Change([&](Chunks& c) { return c.ReleaseDone(3, offset); }), 0);
  EXPECT_EQ(Change([&](Chunks& c) { return c.ReleaseDone(3, offset); }), ENOENT);
  ASSERT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 3, false); }), 0);
  EXPECT_EQ(chunks().used_places(3), used - 1) << "a target that is gone releases nothing";
  ASSERT_EQ(Change([](Chunks& c) { return c.AddCopy(0, 3); }), 0);
  EXPECT_EQ(At(0).On(3)->offset, offset);
}

TEST_F(ChunksTest, ATargetTakesNoMoreCopiesThanItHasPlaces) {
  std::vector<uint64_t> others;
  while (Do(op::Grant(1024, 8)).error == 0) {
  }
  int error = 0;
  for (const auto& [index, chunk] : chunks().all()) {
    if (chunk.On(3) == nullptr) error = Change([&, i = index](Chunks& c) { return c.AddCopy(i, 3); });
    if (error != 0) break;
  }
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(chunks().used_places(3), 16U);
}

TEST_F(ChunksTest, TheLastCopyInSyncIsDroppedOnlyWithItsTarget) {
  ASSERT_EQ(Do(op::MarkStale(0, static_cast<int>(At(0).version), 2)).error, 0);
  EXPECT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 1, true); }), EBUSY);
  ASSERT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 1, false); }), 0);
  EXPECT_TRUE(At(0).Lost());
  EXPECT_EQ(chunks().lost(), (std::set<uint64_t>{0}));
  EXPECT_EQ(server_.machine().PoolStatus().chunks_lost, 1);
  EXPECT_EQ(Do(op::GetChunks(0, 1)).chunks.at(0).copies.size(), 1U);
  ASSERT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 2, false); }), 0);
  EXPECT_TRUE(Do(op::GetChunks(0, 1)).chunks.at(0).copies.empty()) << "a client must not wait for its targets";
  server_.Open();
  EXPECT_EQ(chunks().lost(), (std::set<uint64_t>{0}));
}

TEST_F(ChunksTest, NothingIsGrantedFromALostChunk) {
  for (uint64_t index : std::set(chunks().on(1))) Change([=](Chunks& c) { return c.DropCopy(index, 1, false); });
  for (uint64_t index : std::set(chunks().on(2))) Change([=](Chunks& c) { return c.DropCopy(index, 2, false); });
  std::set<uint64_t> lost = chunks().lost();
  ASSERT_TRUE(lost.contains(0));
  for (idl::Reply reply = Do(op::Grant(1024, 8)); reply.error == 0; reply = Do(op::Grant(1024, 8))) {
    for (const idl::Range& range : reply.ranges) {
      EXPECT_FALSE(lost.contains(static_cast<uint64_t>(range.pool_block / kChunkBlocks)));
    }
  }
  EXPECT_EQ(server_.machine().space().free_blocks(2), 0U);
}

TEST_F(ChunksTest, AChunkOnATargetThatIsDownIsBornStaleThere) {
  server_.Advance(6000);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(server_.Heartbeat(TestServer::TargetArgs("t1", 16 * kMiB)).ok());
  std::set<uint64_t> before;
  for (const auto& [index, chunk] : chunks().all()) before.insert(index);
  while (Do(op::Grant(1024, 8)).error == 0) {
  }
  size_t born = 0;
  for (const auto& [index, chunk] : chunks().all()) {
    if (before.contains(index)) continue;
    ++born;
    for (const Copy& copy : chunk.copies) {
      EXPECT_EQ(copy.state, copy.target == 1 || chunk.On(1) == nullptr ? CopyState::kInSync : CopyState::kStale);
    }
  }
  EXPECT_GT(born, 0U);
}

TEST_F(ChunksTest, ChangesAreToldInTheirOrder) {
  int64_t since = chunks().map_version();
  EXPECT_FALSE(Events(since).__isset.chunks);
  int64_t woken = server_.machine().events_version();
  ASSERT_EQ(Do(op::MarkStale(3, static_cast<int>(At(3).version), 1)).error, 0);
  ASSERT_EQ(Do(op::MarkStale(1, static_cast<int>(At(1).version), 1)).error, 0);
  ASSERT_EQ(SetState(3, At(3).copies[0].target, CopyState::kResyncing), 0);
  EXPECT_GT(server_.machine().events_version(), woken) << "long polls must wake";
  idl::Events events = Events(since);
  ASSERT_EQ(events.chunks.size(), 2U);
  EXPECT_EQ(events.chunks[0].index, 1);
  EXPECT_EQ(events.chunks[1].index, 3);
  EXPECT_EQ(events.chunks[1].copies[0].state, idl::CopyState::RESYNCING);
  EXPECT_EQ(events.chunks_version, static_cast<int64_t>(chunks().map_version()));
  EXPECT_FALSE(Events(events.chunks_version).__isset.chunks);
  auto session = server_.Run([&](StateMachine& m) { return m.ReclaimSession(server_.session()); });
  EXPECT_EQ(session->chunks_version, events.chunks_version);
}

TEST_F(ChunksTest, ManyChangesAreToldInParts) {
  TestServer server;
  ASSERT_TRUE(server.Register(TestServer::TargetArgs("t1", 600 * kMiB)).ok());
  ASSERT_TRUE(server.CreatePool(1, kMiB).ok());
  auto session = server.OpenSession("c");
  server.set_session(session->id);
  for (int i = 0; i < 600; ++i) ASSERT_EQ(server.Execute(op::Grant(kChunkBlocks, 1)).error, 0);
  std::vector<int64_t> versions;
  int64_t since = 0;
  for (;;) {
    auto events = server.Run([&](StateMachine& m) { return m.NextEvents(server.session(), INT64_MAX, since); });
    since = events->chunks_version;
    if (!events->__isset.chunks) break;
    EXPECT_LE(events->chunks.size(), 256U);
    for (const idl::Chunk& chunk : events->chunks) versions.push_back(chunk.version);
  }
  EXPECT_EQ(versions.size(), 600U);
  EXPECT_TRUE(std::ranges::is_sorted(versions));
}

// ---- open chunks ---------------------------------------------------------------------------------

TEST_F(ChunksTest, AGrantOpensItsChunks) {
  idl::Reply reply = Do(op::Grant(1024, 4));
  std::set<uint64_t> granted{0};
  for (const idl::Range& range : reply.ranges) granted.insert(static_cast<uint64_t>(range.pool_block / kChunkBlocks));
  EXPECT_EQ(server_.machine().open_chunks().of(server_.session()), granted);
  server_.Open();
  EXPECT_EQ(server_.machine().open_chunks().of(server_.session()), granted);
  EXPECT_EQ(server_.machine().PoolStatus().sessions.at(0).open_chunks, static_cast<int64_t>(granted.size()));
}

TEST_F(ChunksTest, ChunksAreOpenedAndClosed) {
  const OpenChunks& open = server_.machine().open_chunks();
  EXPECT_EQ(Do(op::OpenChunks({1, 2, 2})).error, 0);
  EXPECT_EQ(open.of(server_.session()), (std::set<uint64_t>{0, 1, 2}));
  EXPECT_EQ(Do(op::OpenChunks({3, 99})).error, ENOENT);
  EXPECT_EQ(open.of(server_.session()), (std::set<uint64_t>{0, 1, 2})) << "all or none";
  EXPECT_EQ(Do(op::CloseChunks({0, 1, 99})).error, 0) << "one that is gone is closed";
  EXPECT_EQ(open.of(server_.session()), (std::set<uint64_t>{2}));
  EXPECT_EQ(Do(op::OpenChunks(std::vector<int64_t>(257, 1))).error, EINVAL);
  EXPECT_EQ(Do(op::CloseChunks(std::vector<int64_t>(257, 1))).error, EINVAL);
}

TEST_F(ChunksTest, ADeadClientsChunksAreMadeEqual) {
  ASSERT_EQ(Do(op::OpenChunks({1})).error, 0);
  ASSERT_EQ(Do(op::OpenChunks({2})).error, 0);
  ASSERT_EQ(Do(op::CloseChunks({2})).error, 0);
  uint32_t closed = At(2).version;
  uint32_t before = chunks().map_version();
  Evict();
  for (uint64_t index : {0, 1}) {
    EXPECT_GT(At(index).version, before) << index;
    EXPECT_EQ(At(index).Count(CopyState::kInSync), 1U) << index;
    for (const Copy& copy : At(index).copies) {
      EXPECT_EQ(copy.doubtful, copy.state == CopyState::kStale);
      if (copy.doubtful) {
        EXPECT_GT(copy.target, std::ranges::find(At(index).copies, CopyState::kInSync, &Copy::state)->target);
      }
    }
  }
  EXPECT_EQ(At(2).version, closed);
  EXPECT_TRUE(server_.machine().open_chunks().all().empty());
  OpenSession("c2");
}

// umount -f, mount: the session is the same one, and its clean end will say nothing of the first mount's writes.
TEST_F(ChunksTest, AMountOnTopOfAForcedUnmountMakesCopiesEqual) {
  ASSERT_FALSE(server_.machine().open_chunks().of(server_.session()).empty());
  uint64_t index = *server_.machine().open_chunks().of(server_.session()).begin();
  uint32_t version = At(index).version;
  OpenSession("c1");
  EXPECT_GT(At(index).version, version);
  EXPECT_EQ(std::ranges::count(At(index).copies, CopyState::kInSync, &Copy::state), 1);
  EXPECT_TRUE(server_.machine().open_chunks().all().empty());
  uint32_t map_version = chunks().map_version();
  OpenSession("c1");
  EXPECT_EQ(chunks().map_version(), map_version) << "opened again because the answer was lost";
}

TEST_F(ChunksTest, ACleanCloseLeavesTheCopiesAlone) {
  uint32_t version = chunks().map_version();
  server_.Run([&](StateMachine& m) {
    m.CloseSession(server_.session());
    return 0;
  });
  EXPECT_EQ(chunks().map_version(), version);
  EXPECT_TRUE(server_.machine().open_chunks().all().empty());
  OpenSession("c2");
}

TEST_F(ChunksTest, TheCopyThatIsKeptIsOnATargetThatIsUp) {
  server_.Advance(6000);
  ASSERT_TRUE(server_.Heartbeat(TestServer::TargetArgs("t2", 16 * kMiB)).ok());
  Evict();
  EXPECT_EQ(State(0, 2), CopyState::kInSync);
  EXPECT_EQ(State(0, 1), CopyState::kStale);
}

TEST_F(ChunksTest, ADoubtfulCopyCanBePromotedUntilSomebodyWrites) {
  EXPECT_EQ(Change([](Chunks& c) { return c.Promote(0); }), ENODATA);
  EXPECT_EQ(Change([](Chunks& c) { return c.Promote(99); }), ENOENT);
  Evict();
  ASSERT_TRUE(At(0).On(2)->doubtful);
  ASSERT_EQ(Change([](Chunks& c) { return c.Promote(0); }), 0);
  EXPECT_EQ(State(0, 2), CopyState::kInSync);
  EXPECT_EQ(State(0, 1), CopyState::kStale) << "they may differ: one of them only";
  EXPECT_TRUE(At(0).On(1)->doubtful);
  OpenSession("c2");
  ASSERT_EQ(Do(op::OpenChunks({0})).error, 0);
  EXPECT_FALSE(At(0).On(1)->doubtful) << "it misses what is written from now on";
  EXPECT_EQ(Change([](Chunks& c) { return c.Promote(0); }), ENODATA);
}

TEST_F(ChunksTest, AGrantMakesDoubtfulCopiesStale) {
  Evict();
  ASSERT_TRUE(At(0).On(2)->doubtful);
  OpenSession("c2");
  while (Do(op::Grant(1024, 8)).error == 0) {
  }
  EXPECT_FALSE(At(0).On(2)->doubtful);
}

TEST_F(ChunksTest, DoubtEndsWhenACopyFallsBehindOrIsInSync) {
  Evict();
  ASSERT_EQ(SetState(0, 2, CopyState::kResyncing), 0);
  EXPECT_TRUE(At(0).On(2)->doubtful) << "it has everything still";
  Change([](Chunks& c) {
    c.StaleResyncing(2);
    return 0;
  });
  EXPECT_FALSE(At(0).On(2)->doubtful);
  ASSERT_EQ(SetState(0, 2, CopyState::kResyncing), 0);
  ASSERT_EQ(SetState(0, 2, CopyState::kInSync), 0);
  EXPECT_FALSE(At(0).On(2)->doubtful);
  EXPECT_FALSE(chunks().unsettled().contains(0));
  OpenSession("c2");
}

// ---- damage --------------------------------------------------------------------------------------

TEST_F(ChunksTest, DamageIsKeptUntilItIsRepaired) {
  EXPECT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {3, 5}); }), 0);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {5, 255}); }), 0);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {1, 256}); }), EINVAL);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {-1}); }), EINVAL);
  EXPECT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 3, {1}); }), ENOENT);
  EXPECT_EQ(Change([](Chunks& c) { return c.RepairDamage(99, 3, {3}); }), ENOENT);
  EXPECT_EQ(chunks().DamageOf(0, 2), (std::set<uint32_t>{3, 5, 255}));
  EXPECT_EQ(server_.machine().PoolStatus().bad_blocks, 3);
  server_.Open();
  EXPECT_EQ(chunks().DamageOf(0, 2), (std::set<uint32_t>{3, 5, 255}));
  EXPECT_EQ(Change([](Chunks& c) { return c.RepairDamage(0, 2, {3, 4}); }), 0);
  EXPECT_EQ(chunks().DamageOf(0, 2), (std::set<uint32_t>{5, 255}));
  EXPECT_EQ(Change([](Chunks& c) { return c.RepairDamage(0, 2, {5, 255}); }), 0);
  EXPECT_EQ(chunks().bad_blocks(), 0U);
}

TEST_F(ChunksTest, DamageGoesWithTheCopy) {
  ASSERT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {3}); }), 0);
  ASSERT_EQ(Do(op::MarkStale(0, static_cast<int>(At(0).version), 2)).error, 0);
  EXPECT_EQ(chunks().bad_blocks(), 1U);
  ASSERT_EQ(SetState(0, 2, CopyState::kResyncing), 0);
  EXPECT_EQ(chunks().bad_blocks(), 0U) << "all of it is written anew";
  ASSERT_EQ(Change([](Chunks& c) { return c.AddDamage(0, 2, {3}); }), 0);
  ASSERT_EQ(Change([](Chunks& c) { return c.DropCopy(0, 2, true); }), 0);
  EXPECT_TRUE(chunks().damage().empty());
}

// ---- taking back ---------------------------------------------------------------------------------

TEST_F(ChunksTest, AFailingOperationLeavesNothing) {
  // One good range and a bad one: the chunk that became free is deleted and comes back.
  int64_t first = Do(op::Grant(kChunkBlocks * 9, 9)).ranges.at(0).pool_block;
  idl::Operation release = op::Release(first, 1);
  release.release.ranges.push_back(op::Release(first + 100'000, 5).release.ranges[0]);
  std::map<uint64_t, Chunk> before = chunks().all();
  uint32_t version = chunks().map_version();
  EXPECT_EQ(Do(release).error, EINVAL);
  EXPECT_EQ(chunks().all(), before);
  EXPECT_EQ(chunks().map_version(), version);
}

TEST_F(ChunksTest, TheLastVersionIsRefused) {
  Counters counters;
  MemoryStore store = server_.store();
  std::optional<Counters> stored;
  for (const auto& [key, value] : store.contents()) {
    if (key == key::Counters()) {
      ASSERT_TRUE(Counters::Decode(value, &counters));
    }
  }
  counters.map_version = UINT32_MAX;
  ASSERT_TRUE(store.Commit({{key::Counters(), counters.Encode()}}).ok());
  auto machine = StateMachine::Open(&store, {}, server_.now());
  ASSERT_TRUE(machine.ok());
  (*machine)->Begin(server_.now());
  EXPECT_EQ((*machine)->Execute(server_.session(), server_.MakeRequest(op::MarkStale(0, 1, 2))).error, EIO);
  EXPECT_EQ((*machine)->Commit().code(), EOVERFLOW);
}

}  // namespace
}  // namespace weft
