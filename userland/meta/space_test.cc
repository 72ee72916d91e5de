// SPDX-License-Identifier: MIT
#include <cerrno>
#include <random>
#include <set>
#include <sys/stat.h>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

TEST(RangeMapTest, JoinsAndSplits) {
  RangeMap map;
  std::map<uint64_t, uint64_t> told;
  auto sink = [&](uint64_t first, uint64_t blocks) {
    if (blocks == 0) {
      told.erase(first);
    } else {
      told[first] = blocks;
    }
  };
  map.Add(10, 5, sink);
  map.Add(20, 5, sink);
  map.Add(15, 5, sink);
  EXPECT_EQ(map.ranges(), (std::map<uint64_t, uint64_t>{{10, 15}}));
  EXPECT_EQ(told, map.ranges());
  map.Take(12, 3, sink);
  map.Take(10, 2, sink);
  map.Take(23, 2, sink);
  EXPECT_EQ(map.ranges(), (std::map<uint64_t, uint64_t>{{15, 8}}));
  EXPECT_EQ(told, map.ranges());
  EXPECT_EQ(map.total(), 8U);
  EXPECT_EQ(map.Contiguous(16), 7U);
  EXPECT_EQ(map.Contiguous(14), 0U);
  EXPECT_EQ(map.Contiguous(23), 0U);
  EXPECT_TRUE(map.Overlaps(10, 6));
  EXPECT_FALSE(map.Overlaps(10, 5));
}

TEST(RangeMapTest, AgreesWithASetOfBlocks) {
  std::mt19937_64 random(7);
  RangeMap map;
  std::set<uint64_t> blocks;
  for (int i = 0; i < 20'000; ++i) {
    uint64_t first = random() % 200;
    uint64_t count = 1 + random() % 8;
    bool all = true;
    bool any = false;
    for (uint64_t b = first; b < first + count; ++b) {
      all = all && blocks.contains(b);
      any = any || blocks.contains(b);
    }
    ASSERT_EQ(map.Contains(first, count), all);
    ASSERT_EQ(map.Overlaps(first, count), any);
    if (all) map.Take(first, count);
    if (!any) map.Add(first, count);
    for (uint64_t b = first; b < first + count; ++b) {
      if (all) blocks.erase(b);
      if (!any) blocks.insert(b);
    }
    ASSERT_EQ(map.total(), blocks.size());
  }
}

class SpaceTest : public ::testing::Test {
 protected:
  SpaceTest() : server_(WithoutUpkeep()) { server_.Form(); }
  void TearDown() override { server_.Check(); }
  idl::Reply Do(const idl::Operation& operation) { return server_.Execute(operation); }
  idl::StatFs StatFs() { return Do(op::StatFs()).statfs; }

  TestServer server_;
  static constexpr int64_t kChunkBlocks = 1024;
  static constexpr int64_t kPoolBlocks = 16 * kChunkBlocks;
};

TEST_F(SpaceTest, GrantsComeFromSeveralChunksAndNeverCrossOne) {
  idl::Reply reply = Do(op::Grant(4096, 8));
  ASSERT_EQ(reply.error, 0);
  std::set<int64_t> chunks;
  int64_t total = 0;
  for (const idl::Range& range : reply.ranges) {
    EXPECT_EQ(range.pool_block / kChunkBlocks, (range.pool_block + range.blocks - 1) / kChunkBlocks);
    chunks.insert(range.pool_block / kChunkBlocks);
    total += range.blocks;
  }
  EXPECT_EQ(chunks.size(), 8U);
  EXPECT_EQ(total, 4096);
  EXPECT_EQ(StatFs().granted_blocks, 4096);
  EXPECT_EQ(StatFs().free_blocks, kPoolBlocks - 4096);
}

TEST_F(SpaceTest, ConsecutiveGrantsContinueEachOther) {
  idl::Reply first = Do(op::Grant(2048, 8));
  idl::Reply second = Do(op::Grant(2048, 8));
  ASSERT_EQ(first.ranges.size(), 8U);
  ASSERT_EQ(second.ranges.size(), 8U);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(first.ranges[i].pool_block + first.ranges[i].blocks, second.ranges[i].pool_block);
  }
}

TEST_F(SpaceTest, EverythingCanBeGrantedThenNothing) {
  std::vector<idl::Range> all;
  for (;;) {
    idl::Reply reply = Do(op::Grant(700, 3));
    if (reply.error != 0) {
      EXPECT_EQ(reply.error, ENOSPC);
      break;
    }
    all.insert(all.end(), reply.ranges.begin(), reply.ranges.end());
  }
  EXPECT_EQ(StatFs().free_blocks, 0);
  EXPECT_EQ(StatFs().granted_blocks, kPoolBlocks);
  EXPECT_EQ(server_.machine().chunks().all().size(), 16U);
  EXPECT_EQ(Do(op::Release(all[3].pool_block + 1, 1)).error, 0);
  idl::Reply reply = Do(op::Grant(100, 4));
  ASSERT_EQ(reply.ranges.size(), 1U);
  EXPECT_EQ(reply.ranges[0].pool_block, all[3].pool_block + 1);
  EXPECT_EQ(reply.ranges[0].blocks, 1);
}

TEST_F(SpaceTest, FragmentsAreFound) {
  std::vector<idl::Range> all;
  while (StatFs().free_blocks > 0) {
    for (const idl::Range& range : Do(op::Grant(1024, 8)).ranges) all.push_back(range);
  }
  int64_t freed = 0;
  for (const idl::Range& range : all) {
    for (int64_t b = range.pool_block; b < range.pool_block + range.blocks; b += 2, ++freed) {
      ASSERT_EQ(Do(op::Release(b, 1)).error, 0);
    }
  }
  server_.Check();
  int64_t got = 0;
  for (idl::Reply reply = Do(op::Grant(500, 64)); reply.error == 0; reply = Do(op::Grant(500, 64))) {
    EXPECT_LE(reply.ranges.size(), 64U);
    for (const idl::Range& range : reply.ranges) got += range.blocks;
  }
  EXPECT_EQ(got, freed);
}

TEST_F(SpaceTest, GrantAndReleaseErrors) {
  EXPECT_EQ(Do(op::Grant(0, 1)).error, EINVAL);
  EXPECT_EQ(Do(op::Grant(1, 0)).error, EINVAL);
  idl::Range range = Do(op::Grant(10, 1)).ranges.at(0);
  EXPECT_EQ(range.blocks, 10) << "small wishes are met exactly";
  EXPECT_EQ(Do(op::Release(range.pool_block + 10, 1)).error, EINVAL);
  EXPECT_EQ(Do(op::Release(range.pool_block, 11)).error, EINVAL);
  EXPECT_EQ(Do(op::Release(range.pool_block, 0)).error, EINVAL);
  EXPECT_EQ(Do(op::Release(-1, 1)).error, EINVAL);
  EXPECT_EQ(Do(op::Release(range.pool_block, INT64_MAX)).error, EINVAL);
  EXPECT_EQ(Do(op::Release(range.pool_block, 10)).error, 0);
  EXPECT_EQ(Do(op::Release(range.pool_block, 10)).error, EINVAL);
  EXPECT_EQ(StatFs().free_blocks, kPoolBlocks);
}

TEST_F(SpaceTest, ReleaseIsAllOrNothing) {
  idl::Range range = Do(op::Grant(10, 1)).ranges.at(0);
  idl::Operation release = op::Release(range.pool_block, 5);
  release.release.ranges.push_back(op::Release(range.pool_block + 100, 5).release.ranges[0]);
  EXPECT_EQ(Do(release).error, EINVAL);
  EXPECT_EQ(StatFs().granted_blocks, 10);
}

TEST_F(SpaceTest, ChunksAreMadeWhenGranted) {
  EXPECT_TRUE(Do(op::GetChunks(0, 100)).chunks.empty());
  ASSERT_EQ(Do(op::Grant(4096, 8)).error, 0);
  std::vector<idl::Chunk> chunks = Do(op::GetChunks(0, 100)).chunks;
  ASSERT_EQ(chunks.size(), 8U);
  std::set<std::pair<int32_t, int64_t>> places;
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].index, static_cast<int64_t>(i));
    EXPECT_EQ(chunks[i].version, static_cast<int>(i + 1));
    ASSERT_EQ(chunks[i].copies.size(), 2U);
    EXPECT_NE(chunks[i].copies[0].target, chunks[i].copies[1].target);
    for (const idl::Copy& copy : chunks[i].copies) {
      EXPECT_EQ(copy.state, idl::CopyState::IN_SYNC);
      EXPECT_EQ(copy.offset % (kChunkBlocks * 4096), 0);
      EXPECT_LT(copy.offset, 64 << 20);
      EXPECT_TRUE(places.insert({copy.target, copy.offset}).second) << "two chunks at one place";
    }
  }
  EXPECT_EQ(Do(op::GetChunks(3, 2)).chunks.at(1).index, 4);
  EXPECT_EQ(Do(op::GetChunks(-1, 2)).error, EINVAL);
  EXPECT_EQ(Do(op::GetChunks(0, 0)).error, EINVAL);
}

TEST_F(SpaceTest, GrantsAreOfTheClassThatWasAskedFor) {
  EXPECT_EQ(Do(op::Grant(1, 1, -1)).error, EINVAL);
  EXPECT_EQ(Do(op::Grant(1, 1, 5)).error, EINVAL);
  EXPECT_EQ(Do(op::Grant(1, 1, 3)).error, ENOSPC) << "there are two targets";
  const Chunks& chunks = server_.machine().chunks();
  for (int copies : {1, 2, 0}) {
    idl::Reply reply = Do(op::Grant(3000, 4, copies));
    ASSERT_EQ(reply.error, 0);
    for (const idl::Range& range : reply.ranges) {
      const Chunk& chunk = *chunks.Find(static_cast<uint64_t>(range.pool_block / kChunkBlocks));
      EXPECT_EQ(chunk.copies_wanted, copies == 0 ? 2U : static_cast<uint32_t>(copies));
      EXPECT_EQ(chunk.copies.size(), chunk.copies_wanted);
    }
  }
}

TEST_F(SpaceTest, WhatCanBeStoredCountsThePoolsCopies) {
  idl::StatFs empty = StatFs();
  EXPECT_EQ(empty.blocks, kPoolBlocks);
  ASSERT_EQ(Do(op::Grant(kChunkBlocks, 1, 1)).error, 0);
  EXPECT_EQ(server_.machine().chunks().all().size(), 8U) << "of one copy";
  EXPECT_EQ(StatFs().free_blocks, kPoolBlocks - 4 * kChunkBlocks) << "two of them take the place of one of two copies";
  EXPECT_EQ(StatFs().blocks, StatFs().free_blocks + StatFs().granted_blocks);
  EXPECT_EQ(server_.machine().space().free_blocks(1), 31U * kChunkBlocks);
}

TEST_F(SpaceTest, SpareChunksAreDeletedAndTheirPlacesReleased) {
  std::vector<idl::Range> all;
  for (idl::Reply reply = Do(op::Grant(4096, 8)); reply.error == 0; reply = Do(op::Grant(4096, 8))) {
    all.insert(all.end(), reply.ranges.begin(), reply.ranges.end());
  }
  const StateMachine& machine = server_.machine();
  ASSERT_EQ(machine.chunks().all().size(), 16U);
  for (const idl::Range& range : all) ASSERT_EQ(Do(op::Release(range.pool_block, range.blocks)).error, 0);
  EXPECT_EQ(machine.chunks().all().size(), 8U) << "some are kept for the next grant";
  EXPECT_EQ(machine.open_chunks().of(server_.session()).size(), 8U);
  EXPECT_EQ(machine.chunks().used_places(1), 16U) << "until the target has let go of them";
  EXPECT_EQ(StatFs().free_blocks, 8 * kChunkBlocks);
  server_.Check();
  server_.FinishReleases();
  EXPECT_EQ(machine.chunks().used_places(1), 8U);
  EXPECT_EQ(StatFs().free_blocks, kPoolBlocks);
  std::set<int64_t> indexes;
  for (idl::Reply reply = Do(op::Grant(4096, 8)); reply.error == 0; reply = Do(op::Grant(4096, 8))) {
    for (const idl::Range& range : reply.ranges) indexes.insert(range.pool_block / kChunkBlocks);
  }
  EXPECT_EQ(indexes.size(), 16U);
  EXPECT_EQ(*indexes.rbegin(), 23) << "an index does not come again soon";
}

TEST(SpaceLimitsTest, WhatWasDeletedCanBeWrittenAgainAtOnce) {
  MemoryStore store;
  auto machine = *StateMachine::Open(&store, {}, {});
  machine->Begin({});
  ASSERT_TRUE(machine->RegisterTarget(TestServer::TargetArgs("t1", 64 << 20)).ok());
  idl::CreatePoolArgs args;
  args.chunk_bytes = 1 << 20;
  ASSERT_TRUE(machine->CreatePool(args).ok());
  uint64_t session = machine->OpenSession(TestServer::ClientArgs("c"))->id;
  idl::Request request;
  for (request.seq = 1; request.seq <= 2; ++request.seq) {
    request.op = op::Grant(64 * 256, 64);
    idl::Reply reply = machine->Execute(session, request);
    ASSERT_EQ(reply.error, 0);
    EXPECT_EQ(machine->space().free_blocks(1), 0U);
    for (const idl::Range& range : reply.ranges) {
      ++request.seq;
      request.op = op::Release(range.pool_block, range.blocks);
      ASSERT_EQ(machine->Execute(session, request).error, 0);
    }
    EXPECT_EQ(machine->space().free_blocks(1), 64U * 256);
  }
}

TEST_F(SpaceTest, AFilesLastBlockFreesItsChunk) {
  int64_t file = Do(op::Create(1, "f", S_IFREG | 0644)).attr.ino;
  std::vector<idl::Extent> extents;
  int64_t at = 0;
  for (idl::Reply reply = Do(op::Grant(4096, 8)); reply.error == 0; reply = Do(op::Grant(4096, 8))) {
    for (const idl::Range& range : reply.ranges) {
      extents.push_back(op::MakeExtent(at, range.pool_block, static_cast<int>(range.blocks)));
      at += range.blocks;
    }
  }
  ASSERT_EQ(Do(op::Commit(file, extents)).error, 0);
  EXPECT_EQ(server_.machine().space().used_blocks(), static_cast<uint64_t>(kPoolBlocks));
  EXPECT_EQ(StatFs().free_blocks, 0);
  ASSERT_EQ(Do(op::SetSize(file, 0)).error, 0);
  EXPECT_EQ(server_.machine().chunks().all().size(), 8U);
  EXPECT_EQ(server_.machine().space().used_blocks(), 0U);
}

TEST_F(SpaceTest, SpareChunksOfOneClassMakeRoomForAnother) {
  std::vector<idl::Range> all;
  for (idl::Reply reply = Do(op::Grant(4096, 8)); reply.error == 0; reply = Do(op::Grant(4096, 8))) {
    all.insert(all.end(), reply.ranges.begin(), reply.ranges.end());
  }
  for (const idl::Range& range : all) {
    if (range.pool_block >= 2 * kChunkBlocks) continue;
    ASSERT_EQ(Do(op::Release(range.pool_block, range.blocks)).error, 0);
  }
  ASSERT_EQ(server_.machine().chunks().all().size(), 16U);
  EXPECT_EQ(Do(op::Grant(1, 1, 1)).error, ENOSPC);
  EXPECT_EQ(server_.machine().chunks().all().size(), 14U);
  server_.Open();
  server_.FinishReleases();
  EXPECT_EQ(Do(op::Grant(1, 1, 1)).error, 0);
}

TEST_F(SpaceTest, GrantsPreferChunksOfWhichAllCopiesAreGood) {
  ASSERT_EQ(Do(op::Grant(1, 1)).error, 0);
  const Chunks& chunks = server_.machine().chunks();
  std::set<int64_t> bad;
  for (int64_t index = 0; index < 8; ++index) {
    ASSERT_EQ(Do(op::MarkStale(index, static_cast<int>(chunks.Find(index)->version), 1)).error, 0);
    bad.insert(index);
  }
  int64_t good = 0;
  int64_t total = 0;
  for (idl::Reply reply = Do(op::Grant(700, 4)); reply.error == 0; reply = Do(op::Grant(700, 4))) {
    for (const idl::Range& range : reply.ranges) {
      bool is_bad = bad.contains(range.pool_block / kChunkBlocks);
      if (!is_bad) good += range.blocks;
      if (is_bad) {
        EXPECT_EQ(good, 8 * kChunkBlocks) << "while there were better ones";
      }
      total += range.blocks;
    }
  }
  EXPECT_EQ(total, kPoolBlocks - 1);
}

TEST_F(SpaceTest, BlocksOfAChunkThatDoesNotExistAreRefused) {
  int64_t file = Do(op::Create(1, "f", S_IFREG | 0644)).attr.ino;
  EXPECT_EQ(Do(op::Commit(file, {op::MakeExtent(0, (1LL << 40) - 1, 1)})).error, EINVAL);
  EXPECT_EQ(Do(op::Commit(file, {op::MakeExtent(0, 1LL << 40, 1)})).error, EINVAL);
  EXPECT_EQ(Do(op::Release((1LL << 40) - 1, 1)).error, EINVAL);
}

}  // namespace
}  // namespace weft
