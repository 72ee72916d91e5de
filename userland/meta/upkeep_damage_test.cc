// SPDX-License-Identifier: MIT
//
// The pool with blocks that are bad: damage and its repair, scrub, copies that differ.
#include <cerrno>

#include "thrift-gen/admin_constants.h"
#include "userland/meta/test_pool.h"

namespace weft {
namespace {

class UpkeepDamageTest : public ::testing::Test {
 protected:
  // A scrub begins. Returns the name of the target that compares its copy with those of the others.
  std::string Scrub() {
    EXPECT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
    for (const std::string& name : pool_.Names()) {
      if (!pool_.Jobs(name).at(0).peers.empty()) return name;
    }
    ADD_FAILURE() << "no target compares";
    return "";
  }

  // What it finds: a block of each of the other targets differs. blocks: of the first other one, the second, ...
  idl::JobResult Differs(const std::string& lead, const std::vector<int64_t>& blocks) {
    idl::JobResult result = TestPool::ResultOf(pool_.Jobs(lead).at(0));
    for (const std::string& name : pool_.Names()) {
      if (name == lead) continue;
      idl::Mismatch& mismatch = result.mismatches.emplace_back();
      mismatch.peer = static_cast<int32_t>(pool_.Id(name));
      mismatch.blocks = {blocks.at(result.mismatches.size() - 1)};
    }
    return result;
  }

  TestPool pool_;
};

TEST_F(UpkeepDamageTest, AMismatchOfACopyThatBecameStaleInTheSameBatchDoesNoHarm) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  std::string lead = Scrub();
  std::string other = lead == "t1" ? "t2" : "t1";
  idl::JobResult result = Differs(lead, {1});
  pool_.server().BeginBatch();
  pool_.MarkStale(index, lead);
  pool_.Finish(lead, result);
  pool_.server().EndBatch();
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(other))->state, CopyState::kInSync);
}

TEST_F(UpkeepDamageTest, ACopyWithTheOnlyGoodBlockIsNotDropped) {
  pool_.Form(3, 2);
  uint64_t index = pool_.MakeChunk();
  Chunk chunk = pool_.ChunkAt(index);
  std::string from = pool_.NameOf(chunk.copies[0].target);
  std::string stays = pool_.NameOf(chunk.copies[1].target);
  uint32_t id = pool_.Id(from);
  ASSERT_TRUE(pool_.Admin([&](StateMachine& m) { return m.DrainTarget(from, false); }).ok());
  std::string to;
  for (std::string name : {"t1", "t2", "t3"}) {
    if (name != from && name != stays) to = name;
  }
  // The new copy is made from that which stays, and both have the same bad block.
  pool_.Damage(stays, static_cast<int64_t>(chunk.copies[1].offset), {9});
  idl::JobResult result;
  for (const idl::Job& job : pool_.Jobs(to)) {
    if (job.kind == idl::JobKind::COPY && job.chunk == static_cast<int64_t>(index)) result = TestPool::ResultOf(job);
  }
  result.bad_blocks = {9};
  pool_.Finish(to, result);
  EXPECT_NE(pool_.ChunkAt(index).On(id), nullptr);
  pool_.Work();
  EXPECT_EQ(pool_.ChunkAt(index).On(id), nullptr) << "the others were repaired from it";
  EXPECT_EQ(pool_.Status().bad_blocks, 0);
  pool_.ExpectWhole();
}

TEST_F(UpkeepDamageTest, OfADeadClientsCopiesOneWithoutBadBlocksIsKept) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  ASSERT_EQ(pool_.server().Execute(op::OpenChunks({static_cast<int64_t>(index)})).error, 0);
  auto offset = static_cast<int64_t>(pool_.ChunkAt(index).On(pool_.Id("t1"))->offset);
  pool_.Damage("t1", offset, {1});
  ASSERT_TRUE(
      pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session(), false); }).ok());
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kInSync);
  EXPECT_NE(pool_.ChunkAt(index).On(pool_.Id("t1"))->state, CopyState::kInSync);
}

TEST_F(UpkeepDamageTest, DamageIsRepairedFromAnotherCopy) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  Copy copy = *pool_.ChunkAt(index).On(pool_.Id("t2"));
  pool_.Damage("t2", static_cast<int64_t>(copy.offset), {3, 5});
  EXPECT_EQ(pool_.Status().bad_blocks, 2);
  std::vector<idl::Job> jobs = pool_.Jobs("t2");
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(jobs[0].kind, idl::JobKind::REPAIR);
  EXPECT_EQ(static_cast<uint32_t>(jobs[0].version), pool_.ChunkAt(index).version);
  EXPECT_EQ(jobs[0].blocks, (std::vector<int64_t>{3, 5}));
  ASSERT_EQ(jobs[0].peers.size(), 1U);
  pool_.server().Open();
  pool_.Advance(0);
  ASSERT_EQ(pool_.Jobs("t2").size(), 1U) << "damage is remembered";
  pool_.Finish("t2", jobs[0]);
  EXPECT_EQ(pool_.Status().bad_blocks, 2) << "it may have been another's";
  pool_.Finish("t2", pool_.Jobs("t2").at(0));
  EXPECT_EQ(pool_.Status().bad_blocks, 0);
  EXPECT_TRUE(pool_.Jobs("t2").empty());
}

TEST_F(UpkeepDamageTest, ARepairMakesGoodWhatItNamed) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  auto offset = static_cast<int64_t>(pool_.ChunkAt(index).On(pool_.Id("t2"))->offset);
  pool_.Damage("t2", offset, {3});
  idl::Job first = pool_.Jobs("t2").at(0);
  pool_.Damage("t2", offset, {4});
  EXPECT_EQ(pool_.Jobs("t2").at(0), first) << "what is under way is not disturbed";
  pool_.Finish("t2", first);
  EXPECT_EQ(pool_.Status().bad_blocks, 1);
  idl::Job second = pool_.Jobs("t2").at(0);
  EXPECT_EQ(second.blocks, (std::vector<int64_t>{4}));
  EXPECT_EQ(second.version, first.version);
  EXPECT_NE(second.attempt, first.attempt);
  pool_.Finish("t2", first);
  EXPECT_EQ(pool_.Status().bad_blocks, 1) << "a result that came twice";
  pool_.Finish("t2", second, EIO);
  EXPECT_TRUE(pool_.Jobs("t2").empty());
  pool_.Advance(10'000);
  EXPECT_NE(pool_.Jobs("t2").at(0).attempt, second.attempt);
  pool_.Finish("t2", pool_.Jobs("t2").at(0));
  EXPECT_EQ(pool_.Status().bad_blocks, 0);
}

TEST_F(UpkeepDamageTest, MoreBadBlocksThanAJobTakes) {
  pool_.Create(2, 64 << 20);
  uint64_t index = pool_.MakeChunk();
  auto offset = static_cast<int64_t>(pool_.ChunkAt(index).On(pool_.Id("t2"))->offset);
  std::vector<idl::Damage> damages(3);
  for (int64_t i = 0; i < 3; ++i) {
    damages[i].offset = offset;
    for (int64_t block = 0; block < 4000; ++block) damages[i].blocks.push_back(i * 4000 + block);
  }
  const idl::RegisterTargetArgs& args = pool_.Args("t2");
  ASSERT_TRUE(
      pool_.server().Run([&](StateMachine& m) { return m.ReportDamage(args.uuid, args.instance, damages); }).ok());
  EXPECT_EQ(pool_.Status().bad_blocks, 12'000);
  size_t jobs = 0;
  for (; !pool_.Jobs("t2").empty() && jobs < 10; ++jobs) {
    idl::Job job = pool_.Jobs("t2").at(0);
    EXPECT_LE(job.blocks.size(), kBlocksPerItem);
    idl::JobResult result = TestPool::ResultOf(job);
    if (jobs == 0) result.bad_blocks = job.blocks;  // that none of these can be read is no reason to leave the others
    pool_.Finish("t2", result);
  }
  EXPECT_EQ(jobs, 3U);
  EXPECT_EQ(pool_.Status().bad_blocks, static_cast<int64_t>(kBlocksPerItem));
  pool_.Advance(30'000);
  pool_.Finish("t2", pool_.Jobs("t2").at(0));
  EXPECT_EQ(pool_.Status().bad_blocks, 0);
}

TEST_F(UpkeepDamageTest, BoundsAreThoseOfTheContract) {
  EXPECT_EQ(static_cast<int64_t>(kBlocksPerItem), idl::g_admin_constants.BLOCKS_PER_ITEM);
  EXPECT_EQ(static_cast<int64_t>(kFsckFindingsMax), idl::g_admin_constants.FSCK_PROBLEMS_MAX);
}

TEST_F(UpkeepDamageTest, DamageThatNoCopyCanRepairStays) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  Copy copy = *pool_.ChunkAt(index).On(pool_.Id("t2"));
  pool_.Damage("t2", static_cast<int64_t>(copy.offset), {3, 5});
  idl::Job job = pool_.Jobs("t2").at(0);
  idl::JobResult result = TestPool::ResultOf(job);
  result.bad_blocks = {5};
  pool_.Finish("t2", result);
  EXPECT_EQ(pool_.Status().bad_blocks, 1);
  EXPECT_TRUE(pool_.Jobs("t2").empty()) << "not again at once";
  EXPECT_NE(pool_.Task(idl::TaskKind::REPAIR, "").waits_for, "");
  pool_.Damage("t2", 40 << 20, {1});
  EXPECT_EQ(pool_.Status().bad_blocks, 1) << "no copy is there";
}

TEST_F(UpkeepDamageTest, ABlockThatIsBadInEveryCopyIsTriedNowAndThen) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  auto offset = [&](const char* name) { return static_cast<int64_t>(pool_.ChunkAt(index).On(pool_.Id(name))->offset); };
  auto unreadable = [&](const char* name) {
    idl::JobResult result = TestPool::ResultOf(pool_.Jobs(name).at(0));
    result.bad_blocks = {5};
    pool_.Finish(name, result);
  };
  pool_.Damage("t1", offset("t1"), {5});
  pool_.Damage("t2", offset("t2"), {5});
  unreadable("t1");
  pool_.Damage("t2", offset("t2"), {5});  // the repair of the one has met the other
  unreadable("t2");
  pool_.Damage("t1", offset("t1"), {5});
  EXPECT_TRUE(pool_.Jobs("t1").empty());
  EXPECT_TRUE(pool_.Jobs("t2").empty());
  pool_.Advance(60'000);
  ASSERT_FALSE(pool_.Jobs("t1").empty());
  unreadable("t1");
  pool_.Finish("t2", pool_.Jobs("t2").at(0));  // it was written anew meanwhile
  EXPECT_EQ(pool_.Status().bad_blocks, 1);
  ASSERT_FALSE(pool_.Jobs("t1").empty()) << "now there is a good copy";
  pool_.Finish("t1", pool_.Jobs("t1").at(0));
  EXPECT_EQ(pool_.Status().bad_blocks, 0);
}

TEST_F(UpkeepDamageTest, BlocksThatNoPeerCouldReadAreDamageOfTheNewCopy) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
  idl::JobResult result = TestPool::ResultOf(pool_.Jobs("t2").at(0));
  result.bad_blocks = {7};
  pool_.Finish("t2", result);
  pool_.ExpectWhole();
  EXPECT_EQ(pool_.Status().bad_blocks, 1);
  pool_.MarkStale(index, "t2");
  EXPECT_EQ(pool_.Status().bad_blocks, 0) << "all of it is written anew";
}

TEST_F(UpkeepDamageTest, ScrubWalksAllChunks) {
  pool_.Form(3, 2);
  for (int i = 0; i < 9; ++i) pool_.MakeChunk();
  EXPECT_EQ(pool_.Status().scrubbed_s, 0);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  size_t peers = 0;
  std::set<std::pair<int64_t, std::string>> seen;
  for (int i = 0; i < 100 && pool_.HasTask(idl::TaskKind::SCRUB); ++i) {
    for (std::string name : {"t1", "t2", "t3"}) {
      for (const idl::Job& job : pool_.Jobs(name)) {
        ASSERT_EQ(job.kind, idl::JobKind::SCRUB);
        EXPECT_TRUE(seen.insert({job.chunk, name}).second) << "scrubbed once";
        peers += job.peers.size();
        pool_.Finish(name, job);
      }
      if (i == 3) pool_.server().Open();
      if (i == 3) seen.clear();  // what was under way at the restart may come again
    }
  }
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
  EXPECT_GE(peers, 9U) << "one of each chunk compares";
  EXPECT_GT(pool_.Status().scrubbed_s, 0);
}

TEST_F(UpkeepDamageTest, AScrubVisitsAgainWhatItMissed) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  pool_.MakeChunk();
  pool_.Down("t2");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  EXPECT_EQ(pool_.Task(idl::TaskKind::SCRUB, "").waits_for, "");
  for (int i = 0; i < 20 && !pool_.Jobs("t1").empty(); ++i) pool_.Finish("t1", pool_.Jobs("t1").at(0));
  idl::TaskInfo task = pool_.Task(idl::TaskKind::SCRUB, "");
  EXPECT_NE(task.waits_for.find("down"), std::string::npos) << task.waits_for;
  EXPECT_LT(task.done_bytes, task.total_bytes);
  EXPECT_EQ(pool_.Status().scrubbed_s, 0);
  pool_.server().Open();
  for (int i = 0; i < 5; ++i) pool_.Advance(1000);  // it is found to be down again
  pool_.Up("t2");
  EXPECT_EQ(pool_.Task(idl::TaskKind::SCRUB, "").waits_for, "");
  std::set<int64_t> seen;
  for (int i = 0; i < 100 && pool_.HasTask(idl::TaskKind::SCRUB); ++i) {
    for (std::string name : {"t1", "t2"}) {
      for (const idl::Job& job : pool_.Jobs(name)) {
        if (name == "t2") seen.insert(job.chunk);
        pool_.Finish(name, job);
      }
    }
  }
  EXPECT_EQ(seen.size(), pool_.server().machine().chunks().all().size());
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
  EXPECT_GT(pool_.Status().scrubbed_s, 0);
}

TEST_F(UpkeepDamageTest, AScrubWhoseTargetDiesUnderWayVisitsItsChunksAgain) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  ASSERT_FALSE(pool_.Jobs("t2").empty());
  pool_.Down("t2");
  pool_.Work();
  EXPECT_TRUE(pool_.HasTask(idl::TaskKind::SCRUB));
  pool_.Restart("t2");
  pool_.Work();
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
}

TEST_F(UpkeepDamageTest, AScrubThatFailsIsTriedAgain) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  idl::Job job = pool_.Jobs("t1").at(0);
  pool_.Finish("t1", job, EIO);
  for (int i = 0; i < 5; ++i) pool_.WorkOnce();
  EXPECT_TRUE(pool_.HasTask(idl::TaskKind::SCRUB));
  EXPECT_TRUE(pool_.Jobs("t1").empty());
  pool_.Advance(10'000);
  idl::Job again = pool_.Jobs("t1").at(0);
  EXPECT_EQ(again.chunk, job.chunk);
  EXPECT_EQ(again.version, job.version);
  EXPECT_NE(again.attempt, job.attempt);
  pool_.Work();
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
}

TEST_F(UpkeepDamageTest, ScrubBeginsByItself) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  idl::PoolSettings settings;
  settings.__set_scrub_interval_s(3600);
  ASSERT_TRUE(pool_.Admin([&](StateMachine& m) { return m.SetPool(settings); }).ok());
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
  pool_.Advance(3600 * 1000);
  EXPECT_TRUE(pool_.HasTask(idl::TaskKind::SCRUB));
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(true); }).ok());
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
  EXPECT_TRUE(pool_.Jobs("t1").empty());
}

TEST_F(UpkeepDamageTest, CopiesThatDifferAreMadeEqual) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  std::string lead = Scrub();
  std::string other = lead == "t1" ? "t2" : "t1";
  pool_.Finish(lead, Differs(lead, {1}));
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kInSync);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(other))->state, CopyState::kResyncing);
  pool_.Work();
  pool_.ExpectWhole();
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
}

TEST_F(UpkeepDamageTest, OfThreeCopiesMostAreRight) {
  pool_.Form(3, 3);
  uint64_t index = pool_.MakeChunk();
  std::string lead = Scrub();
  pool_.Finish(lead, Differs(lead, {1, 1}));
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kResyncing);
  EXPECT_EQ(pool_.ChunkAt(index).Count(CopyState::kInSync), 2U);
}

TEST_F(UpkeepDamageTest, OfThreeCopiesMostAreRightBlockByBlock) {
  pool_.Form(3, 3);
  uint64_t index = pool_.MakeChunk();
  std::string lead = Scrub();
  pool_.Finish(lead, Differs(lead, {1, 2}));  // each is alone with its own
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kInSync);
  EXPECT_EQ(pool_.ChunkAt(index).Count(CopyState::kInSync), 1U);
}

}  // namespace
}  // namespace weft
