// SPDX-License-Identifier: MIT
//
// The pool under failures and changes: targets that restart, drain, are lost; copies that go stale.
#include <cerrno>

#include "userland/meta/test_pool.h"

namespace weft {
namespace {

class UpkeepTest : public ::testing::Test {
 protected:
  // Of a pool of t1 and t2: a chunk with a copy on each, of which that on t2 is stale.
  uint64_t StaleChunk() {
    pool_.Form(2, 2);
    uint64_t index = pool_.MakeChunk();
    pool_.MarkStale(index, "t2");
    return index;
  }

  TestPool pool_;
};

TEST_F(UpkeepTest, AStaleCopyIsResynchronised) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  ASSERT_EQ(pool_.ChunkAt(index).copies.size(), 2U);
  EXPECT_TRUE(pool_.Jobs("t1").empty());
  int64_t version = pool_.JobsVersion("t2");
  uint32_t before = pool_.ChunkAt(index).version;
  pool_.MarkStale(index, "t2");
  Chunk chunk = pool_.ChunkAt(index);
  EXPECT_EQ(chunk.On(pool_.Id("t2"))->state, CopyState::kResyncing) << "it is up: begins at once";
  EXPECT_GT(chunk.version, before + 1) << "stale, resyncing: a version each";
  EXPECT_GT(pool_.JobsVersion("t2"), version);
  std::vector<idl::Job> jobs = pool_.Jobs("t2");
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(jobs[0].kind, idl::JobKind::COPY);
  EXPECT_EQ(jobs[0].chunk, static_cast<int64_t>(index));
  EXPECT_EQ(static_cast<uint32_t>(jobs[0].version), chunk.version);
  EXPECT_EQ(static_cast<uint64_t>(jobs[0].offset), chunk.On(pool_.Id("t2"))->offset);
  EXPECT_EQ(jobs[0].bytes, TestPool::kChunkBytes);
  ASSERT_EQ(jobs[0].peers.size(), 1U);
  EXPECT_EQ(jobs[0].peers[0].name, "t1");
  EXPECT_EQ(static_cast<uint64_t>(jobs[0].peers[0].offset), chunk.On(pool_.Id("t1"))->offset);
  EXPECT_EQ(pool_.Task(idl::TaskKind::RESYNC, "t2").total_bytes, TestPool::kChunkBytes);
  pool_.Finish("t2", jobs[0]);
  EXPECT_TRUE(pool_.ChunkAt(index).Settled());
  EXPECT_GT(pool_.ChunkAt(index).version, chunk.version);
  EXPECT_TRUE(pool_.Jobs("t2").empty());
  EXPECT_TRUE(pool_.Status().tasks.empty());
  EXPECT_EQ(pool_.Status().chunks_degraded, 0);
}

TEST_F(UpkeepTest, WhatGoesStaleWaitsForItsTarget) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.Down("t2");
  pool_.MarkStale(index, "t2");
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kStale);
  idl::TaskInfo task = pool_.Task(idl::TaskKind::RESYNC, "t2");
  EXPECT_NE(task.waits_for.find("down"), std::string::npos) << task.waits_for;
  EXPECT_EQ(task.eta_s, -1);
  pool_.Restart("t2");
  EXPECT_EQ(pool_.Task(idl::TaskKind::RESYNC, "t2").waits_for, "");
  pool_.Work();
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, ATargetThatRestartsBeginsAnew) {
  uint64_t index = StaleChunk();
  std::vector<idl::Job> old = pool_.Jobs("t2");
  ASSERT_EQ(old.size(), 1U);
  pool_.Progress("t2", old[0], TestPool::kChunkBytes / 2);
  EXPECT_EQ(pool_.Task(idl::TaskKind::RESYNC, "t2").done_bytes, TestPool::kChunkBytes / 2);
  int64_t old_instance = pool_.Args("t2").instance;
  pool_.Restart("t2");
  std::vector<idl::Job> jobs = pool_.Jobs("t2");
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_GT(jobs[0].version, old[0].version);
  EXPECT_EQ(pool_.Task(idl::TaskKind::RESYNC, "t2").done_bytes, 0);
  pool_.Finish("t2", old[0]);
  EXPECT_FALSE(pool_.ChunkAt(index).Settled()) << "a job that was called off";
  Status status =
      pool_.server().Run([&](StateMachine& m) { return m.NextJobs(pool_.Args("t2").uuid, old_instance).status(); });
  EXPECT_EQ(status.code(), ESTALE) << status.message();
  pool_.Finish("t2", jobs[0]);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, TheServerRestartsInTheMiddle) {
  StaleChunk();
  std::vector<idl::Job> before = pool_.Jobs("t2");
  int64_t version = pool_.JobsVersion("t2");
  pool_.server().Open();
  EXPECT_GT(pool_.JobsVersion("t2"), version) << "lists of another life are older";
  std::vector<idl::Job> after = pool_.Jobs("t2");
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after[0].version, before[0].version) << "the same job goes on";
  ASSERT_TRUE(pool_.server().Register(pool_.Args("t2")).ok());
  ASSERT_EQ(pool_.Jobs("t2").size(), 1U) << "the same process registers";
  EXPECT_EQ(pool_.Jobs("t2")[0].version, before[0].version);
  pool_.Finish("t2", after[0]);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, AClientMarksItStaleWhileItIsCopied) {
  uint64_t index = StaleChunk();
  idl::Job old = pool_.Jobs("t2").at(0);
  pool_.MarkStale(index, "t2");
  EXPECT_TRUE(pool_.Jobs("t2").empty()) << "the client cannot reach it: not again at once";
  pool_.Advance(1000);
  idl::Job job = pool_.Jobs("t2").at(0);
  EXPECT_GT(job.version, old.version);
  pool_.Finish("t2", old);
  EXPECT_FALSE(pool_.ChunkAt(index).Settled());
  pool_.Finish("t2", job);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, ACopyThatFinishesInTheBatchInWhichItBecameStaleIsStale) {
  uint64_t index = StaleChunk();
  idl::Job job = pool_.Jobs("t2").at(0);
  ASSERT_EQ(job.kind, idl::JobKind::COPY);
  uint32_t id = pool_.Id("t2");
  pool_.server().BeginBatch();
  pool_.MarkStale(index, "t2");  // a write that it has not got is acknowledged after this
  pool_.Finish("t2", job);
  pool_.server().EndBatch();
  EXPECT_NE(pool_.ChunkAt(index).On(id)->state, CopyState::kInSync);
  pool_.Work();
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, ACopyThatFinishesInTheBatchInWhichItsWriterDiedIsStale) {
  uint64_t index = StaleChunk();
  idl::Job job = pool_.Jobs("t2").at(0);
  uint32_t id = pool_.Id("t2");
  ASSERT_EQ(pool_.server().Execute(op::OpenChunks({static_cast<int64_t>(index)})).error, 0);
  pool_.server().BeginBatch();
  ASSERT_TRUE(
      pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session(), false); }).ok());
  pool_.Finish("t2", job);
  pool_.server().EndBatch();
  EXPECT_NE(pool_.ChunkAt(index).On(id)->state, CopyState::kInSync);
}

TEST_F(UpkeepTest, TargetsThatTheServerDidNotListenToAreNotCalledOff) {
  StaleChunk();
  idl::Job job = pool_.Jobs("t2").at(0);
  pool_.server().Advance(6000);  // the server stands still
  pool_.server().BeginBatch();
  EXPECT_TRUE(pool_.server().Heartbeat(pool_.Args("t1")).ok());
  EXPECT_TRUE(pool_.server().Heartbeat(pool_.Args("t2")).ok());
  pool_.server().EndBatch();
  EXPECT_EQ(pool_.Jobs("t2").at(0), job);
  pool_.Finish("t2", job);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, AfterARestartATargetHasToShowLife) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  uint32_t id = pool_.Id("t2");
  pool_.Silence("t2");
  pool_.server().Advance(100);
  pool_.MarkStale(index, "t2");
  pool_.server().Open();
  pool_.server().Run([](StateMachine&) { return 0; });
  EXPECT_EQ(pool_.ChunkAt(index).On(id)->state, CopyState::kStale);
  pool_.server().Advance(100);
  pool_.Up("t2");
  pool_.Advance(500);
  EXPECT_EQ(pool_.ChunkAt(index).On(id)->state, CopyState::kResyncing);
}

TEST_F(UpkeepTest, AListThatIsKnownIsNotMadeAgain) {
  StaleChunk();
  int64_t version = pool_.JobsVersion("t2");
  const idl::RegisterTargetArgs& args = pool_.Args("t2");
  auto list = [&](int64_t known) {
    return pool_.server().Run([&](StateMachine& m) { return m.NextJobs(args.uuid, args.instance, known); });
  };
  EXPECT_EQ(list(version - 1)->jobs.size(), 1U);
  EXPECT_TRUE(list(version)->jobs.empty());
  EXPECT_EQ(list(version)->version, version);
}

TEST_F(UpkeepTest, ATargetHasToShowLifeFirst) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.server().Advance(100);
  pool_.MarkStale(index, "t2");
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kStale) << "perhaps it has died just now";
  pool_.Advance(1000);
  pool_.Advance(500);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kResyncing);
}

TEST_F(UpkeepTest, AFailedCopyIsTriedAgainLater) {
  uint64_t index = StaleChunk();
  idl::Job job = pool_.Jobs("t2").at(0);
  pool_.Finish("t2", job, ESTALE);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kStale);
  EXPECT_TRUE(pool_.Jobs("t2").empty());
  EXPECT_NE(pool_.Task(idl::TaskKind::RESYNC, "t2").waits_for, "");
  EXPECT_LE(pool_.server().machine().deadline_ms(), pool_.server().now().mono_ms + 1000);
  pool_.Advance(1000);
  ASSERT_EQ(pool_.Jobs("t2").size(), 1U);
  pool_.Finish("t2", pool_.Jobs("t2")[0], EIO);
  pool_.Advance(1000);
  EXPECT_TRUE(pool_.Jobs("t2").empty()) << "the wait doubles";
  pool_.Advance(1000);
  pool_.Finish("t2", pool_.Jobs("t2").at(0));
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, FewAtATime) {
  pool_.Form(4, 2);
  for (int i = 0; i < 20; ++i) pool_.MakeChunk();
  pool_.Down("t4");
  pool_.MarkAllStale("t4");
  pool_.Restart("t4");
  EXPECT_EQ(pool_.Jobs("t4").size(), kCopyJobsPerTarget);
  for (int i = 0; i < 40 && !pool_.Jobs("t4").empty(); ++i) {
    EXPECT_LE(pool_.Jobs("t4").size(), kCopyJobsPerTarget);
    pool_.Finish("t4", pool_.Jobs("t4")[0]);
  }
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, ATargetJoins) {
  pool_.Form(2, 1);
  pool_.MakeChunk();
  EXPECT_EQ(pool_.Admin([](StateMachine& m) { return m.AddTarget("t9"); }).code(), ENOENT);
  EXPECT_EQ(pool_.Admin([](StateMachine& m) { return m.AddTarget("t1"); }).code(), EEXIST);
  pool_.Add("t3", 64);
  EXPECT_TRUE(pool_.Jobs("t3").empty());
  int64_t version = pool_.JobsVersion("t3");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.AddTarget("t3"); }).ok());
  EXPECT_GT(pool_.JobsVersion("t3"), version) << "it is woken, to ask for its orders";
  EXPECT_FALSE(pool_.Target("t3").joined);
  for (int i = 0; i < 3; ++i) pool_.MakeChunk();
  EXPECT_EQ(pool_.On("t3"), 0U) << "before it knows, it gets nothing";
  auto orders = pool_.server().Heartbeat(pool_.Args("t3"));
  EXPECT_EQ(orders->id, 3);
  EXPECT_EQ(orders->chunk_bytes, TestPool::kChunkBytes);
  EXPECT_EQ(orders->cluster_uuid, pool_.Status().cluster_uuid);
  ASSERT_TRUE(pool_.server().Heartbeat(pool_.Args("t3")).ok());
  EXPECT_TRUE(pool_.Target("t3").joined);
  EXPECT_EQ(pool_.Target("t3").state, idl::TargetState::ACTIVE);
}

TEST_F(UpkeepTest, DrainToTheEndAndRemove) {
  pool_.Form(3, 2);
  for (int i = 0; i < 9; ++i) pool_.MakeChunk();
  size_t held = pool_.On("t1");
  ASSERT_GT(held, 0U);
  EXPECT_EQ(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", false); }).code(), EBUSY);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", false); }).ok());
  EXPECT_EQ(pool_.Target("t1").state, idl::TargetState::DRAINING);
  EXPECT_EQ(pool_.Task(idl::TaskKind::DRAIN, "t1").total_bytes, static_cast<int64_t>(held) * TestPool::kChunkBytes);
  pool_.WorkOnce();
  idl::TaskInfo task = pool_.Task(idl::TaskKind::DRAIN, "t1");
  EXPECT_GT(task.done_bytes, 0);
  EXPECT_GT(task.bytes_per_s, 0);
  EXPECT_GE(task.eta_s, 0);
  pool_.server().Open();
  pool_.Work();
  EXPECT_EQ(pool_.On("t1"), 0U);
  pool_.ExpectWhole();
  EXPECT_EQ(pool_.server().machine().chunks().used_places(pool_.Id("t1")), 0U) << "its places were released";
  for (int i = 0; i < 3; ++i) pool_.MakeChunk();
  EXPECT_EQ(pool_.On("t1"), 0U) << "it gets nothing new";
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", false); }).ok());
  EXPECT_EQ(pool_.server().Heartbeat(pool_.Args("t1")).status().code(), ESTALE);
  auto args = pool_.Args("t1");
  args.cluster_uuid = pool_.Status().cluster_uuid;
  EXPECT_EQ(pool_.server().Register(args).status().code(), EINVAL);
  pool_.Add("t4", 64);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.AddTarget("t4"); }).ok());
  EXPECT_EQ(pool_.Id("t4"), 4U) << "ids are not used again";
}

TEST_F(UpkeepTest, DrainThatHasNoRoomIsRefused) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  Status status = pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", false); });
  EXPECT_EQ(status.code(), ENOSPC);
  EXPECT_NE(status.message().find("2 copies"), std::string::npos) << status.message();
  EXPECT_EQ(pool_.Target("t1").state, idl::TargetState::ACTIVE);
}

TEST_F(UpkeepTest, DrainIsCancelled) {
  pool_.Form(3, 2);
  for (int i = 0; i < 6; ++i) pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", false); }).ok());
  pool_.WorkOnce();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", true); }).ok());
  for (const auto& [index, chunk] : pool_.server().machine().chunks().all())
    EXPECT_EQ(chunk.copies.size(), 2U) << "what had begun to move stays";
  pool_.Work();
  pool_.ExpectWhole();
  EXPECT_TRUE(pool_.Status().tasks.empty());
}

TEST_F(UpkeepTest, FourCopiesHaveAFifthWhileTheyMove) {
  pool_.Form(6, 4);
  for (int i = 0; i < 4; ++i) pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", false); }).ok());
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t2", false); }).ok());
  size_t most = 0;
  for (const auto& [index, chunk] : pool_.server().machine().chunks().all()) most = std::max(most, chunk.copies.size());
  EXPECT_EQ(most, 5U);
  pool_.Work();
  EXPECT_EQ(pool_.On("t1") + pool_.On("t2"), 0U);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, LostTargetIsRebuiltElsewhere) {
  pool_.Form(3, 2);
  for (int i = 0; i < 6; ++i) pool_.MakeChunk();
  EXPECT_EQ(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).code(), EBUSY) << "it is up";
  pool_.Down("t1");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).ok());
  EXPECT_GT(pool_.Task(idl::TaskKind::REBUILD, "").total_bytes, 0);
  pool_.Forget("t1");
  pool_.Work();
  pool_.ExpectWhole();
  EXPECT_TRUE(pool_.Status().tasks.empty());
  auto args = TestServer::TargetArgs("t1", 64 << 20);
  Status status = pool_.server().Register(args).status();
  EXPECT_EQ(status.code(), EINVAL);
  EXPECT_NE(status.message().find("lost"), std::string::npos) << status.message();
  pool_.server().Open();
  EXPECT_EQ(pool_.server().Register(args).status().code(), EINVAL) << "remembered";
}

TEST_F(UpkeepTest, LostWithoutAnotherCopy) {
  pool_.Form(2, 1);
  for (int i = 0; i < 4; ++i) pool_.MakeChunk();
  size_t held = pool_.On("t1");
  pool_.Down("t1");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).ok());
  EXPECT_EQ(pool_.Status().chunks_lost, static_cast<int64_t>(held));
  pool_.Forget("t1");
  pool_.Work();
  EXPECT_EQ(pool_.Status().chunks_lost, static_cast<int64_t>(held));
  EXPECT_TRUE(pool_.Status().tasks.empty()) << "nothing can be done for them";
}

TEST_F(UpkeepTest, ThatTargetsAreTooFewIsSaidWhenOthersHaveHadTheirTurn) {
  pool_.Form(3, 2);
  for (int i = 0; i < 12; ++i) pool_.MakeChunk(2 + i % 2);
  pool_.Down("t1");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).ok());
  pool_.Forget("t1");
  pool_.Work();
  EXPECT_NE(pool_.Task(idl::TaskKind::REBUILD, "").waits_for.find("add one"), std::string::npos)
      << pool_.Task(idl::TaskKind::REBUILD, "").waits_for;
}

TEST_F(UpkeepTest, TooFewTargetsWait) {
  pool_.Form(2, 2);
  pool_.MakeChunk();
  pool_.Down("t1");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).ok());
  pool_.Forget("t1");
  EXPECT_NE(pool_.Task(idl::TaskKind::REBUILD, "").waits_for.find("add one"), std::string::npos);
  pool_.Add("t3", 64);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.AddTarget("t3"); }).ok());
  pool_.Work();
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, RebuildSpreadsOverZones) {
  pool_.AddInZone("t1", "a");
  pool_.AddInZone("t2", "b");
  pool_.AddInZone("t3", "b");
  pool_.AddInZone("t4", "a");
  pool_.Create(2);
  for (int i = 0; i < 8; ++i) pool_.MakeChunk();
  pool_.Down("t1");
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.RemoveTarget("t1", true); }).ok());
  pool_.Forget("t1");
  pool_.Work();
  pool_.ExpectWhole();
  for (const auto& [index, chunk] : pool_.server().machine().chunks().all())
    EXPECT_NE(chunk.On(pool_.Id("t4")), nullptr) << "zone a has no other target; chunk " << index;
}

TEST_F(UpkeepTest, RebalanceEvensOutAndEnds) {
  pool_.Form(2, 1);
  for (int i = 0; i < 20; ++i) pool_.MakeChunk();
  pool_.Add("t3", 128);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.AddTarget("t3"); }).ok());
  pool_.Work();
  EXPECT_EQ(pool_.On("t3"), 0U) << "only when asked for";
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Rebalance(false); }).ok());
  EXPECT_GT(pool_.Task(idl::TaskKind::REBALANCE, "").total_bytes, 0);
  EXPECT_LE(pool_.Jobs("t3").size(), kCopyJobsPerTarget);
  pool_.WorkOnce();
  pool_.server().Open();
  pool_.Work();
  EXPECT_TRUE(pool_.Status().tasks.empty()) << "it has ended by itself";
  pool_.ExpectWhole();
  auto copies = [&](const char* name) { return static_cast<double>(pool_.Copies(name)); };
  EXPECT_NEAR(copies("t1"), copies("t2"), 1.0);
  EXPECT_NEAR(copies("t3"), copies("t1") + copies("t2"), 2.0) << "it is twice as large as the others";
}

TEST_F(UpkeepTest, RebalanceIsStopped) {
  pool_.Form(2, 1);
  for (int i = 0; i < 20; ++i) pool_.MakeChunk();
  pool_.Add("t3", 64);
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.AddTarget("t3"); }).ok());
  pool_.Work();  // it joins
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Rebalance(false); }).ok());
  ASSERT_FALSE(pool_.Jobs("t3").empty());
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Rebalance(true); }).ok());
  pool_.Work();
  EXPECT_TRUE(pool_.Status().tasks.empty());
  EXPECT_EQ(pool_.On("t3"), 0U);
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, AReleaseThatFailsIsTriedAgain) {
  pool_.Form(3, 2);
  for (int i = 0; i < 3; ++i) pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.DrainTarget("t1", false); }).ok());
  auto releases = [&] {
    std::vector<idl::Job> jobs = pool_.AllJobs("t1");
    std::erase_if(jobs, [](const idl::Job& job) { return job.kind != idl::JobKind::RELEASE; });
    return jobs;
  };
  std::vector<idl::Job> before = releases();
  ASSERT_FALSE(before.empty());
  pool_.Finish("t1", before[0], EIO);
  EXPECT_EQ(releases().size(), before.size() - 1) << "not at once";
  EXPECT_LE(pool_.server().machine().deadline_ms(), pool_.server().now().mono_ms + 10'000);
  pool_.Advance(10'000);
  auto again = [&] {
    for (const idl::Job& job : releases()) {
      if (job.offset == before[0].offset) return job;
    }
    ADD_FAILURE() << "it is not ordered again";
    return idl::Job();
  };
  idl::Job second = again();
  EXPECT_EQ(second.version, before[0].version);
  EXPECT_NE(second.attempt, before[0].attempt);
  pool_.Finish("t1", before[0]);
  EXPECT_EQ(again(), second) << "a result of the first attempt";
  pool_.Finish("t1", second, ESTALE);
  pool_.Advance(10'000);
  idl::Job third = again();
  EXPECT_GT(third.version, second.version) << "it knows a higher one";
  EXPECT_GT(static_cast<uint32_t>(third.version), 0U);
  pool_.Finish("t1", third);
  EXPECT_LT(releases().size(), before.size());
  pool_.server().Check();
}

TEST_F(UpkeepTest, ADeadClientsCopyIsPromotedWhenTheOtherIsGone) {
  pool_.Form(3, 2);
  uint64_t index = pool_.MakeChunk();
  Chunk chunk = pool_.ChunkAt(index);
  std::string a = pool_.NameOf(chunk.copies[0].target);
  std::string b = pool_.NameOf(chunk.copies[1].target);
  ASSERT_TRUE(
      pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session(), false); }).ok());
  chunk = pool_.ChunkAt(index);
  ASSERT_EQ(chunk.Count(CopyState::kInSync), 1U) << "one is kept, the other made equal to it";
  std::string kept = chunk.On(pool_.Id(a))->state == CopyState::kInSync ? a : b;
  std::string other = kept == a ? b : a;
  pool_.Down(kept);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(other))->state, CopyState::kInSync);
  ASSERT_TRUE(pool_.Admin([&](StateMachine& m) { return m.RemoveTarget(kept, true); }).ok());
  pool_.Forget(kept);
  EXPECT_EQ(pool_.Status().chunks_lost, 0);
  pool_.Work();
  pool_.ExpectWhole();
}

TEST_F(UpkeepTest, SettingsAreCheckedAndKept) {
  pool_.Form(2, 2);
  idl::PoolSettings bad;
  bad.__set_copies(5);
  EXPECT_EQ(pool_.Admin([&](StateMachine& m) { return m.SetPool(bad); }).code(), EINVAL);
  bad = {};
  bad.__set_resync_bytes_per_s(-1);
  EXPECT_EQ(pool_.Admin([&](StateMachine& m) { return m.SetPool(bad); }).code(), EINVAL);
  int64_t version = pool_.JobsVersion("t1");
  idl::PoolSettings settings;
  settings.__set_copies(1);
  settings.__set_resync_bytes_per_s(100 << 20);
  ASSERT_TRUE(pool_.Admin([&](StateMachine& m) { return m.SetPool(settings); }).ok());
  EXPECT_GT(pool_.JobsVersion("t1"), version) << "targets learn of it at once";
  pool_.server().Open();
  idl::PoolStatus status = pool_.Status();
  EXPECT_EQ(status.copies, 1);
  EXPECT_EQ(status.settings.resync_bytes_per_s, 100 << 20);
  EXPECT_GT(status.settings.scrub_bytes_per_s, 0) << "was not set: stays";
}

}  // namespace
}  // namespace weft
