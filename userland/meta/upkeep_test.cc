// SPDX-License-Identifier: MIT
//
// The pool under failures and changes: targets that restart, drain, are lost; copies that go stale, damage, scrub.
#include <cerrno>

#include "thrift-gen/admin_constants.h"
#include "userland/meta/test_pool.h"

namespace weft {
namespace {

class UpkeepTest : public ::testing::Test {
 protected:
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
  idl::Job job = pool_.Jobs("t2").at(0);
  uint32_t id = pool_.Id("t2");
  ASSERT_EQ(pool_.server().Execute(op::OpenChunks({static_cast<int64_t>(index)})).error, 0);
  pool_.server().BeginBatch();
  ASSERT_TRUE(pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session()); }).ok());
  pool_.Finish("t2", job);
  pool_.server().EndBatch();
  EXPECT_NE(pool_.ChunkAt(index).On(id)->state, CopyState::kInSync);
}

TEST_F(UpkeepTest, AMismatchOfACopyThatBecameStaleInTheSameBatchDoesNoHarm) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  std::string lead = pool_.Jobs("t1").at(0).peers.empty() ? "t2" : "t1";
  std::string other = lead == "t1" ? "t2" : "t1";
  idl::JobResult result = TestPool::ResultOf(pool_.Jobs(lead).at(0));
  idl::Mismatch& mismatch = result.mismatches.emplace_back();
  mismatch.peer = static_cast<int32_t>(pool_.Id(other));
  mismatch.blocks = {1};
  pool_.server().BeginBatch();
  pool_.MarkStale(index, lead);
  pool_.Finish(lead, result);
  pool_.server().EndBatch();
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(other))->state, CopyState::kInSync);
}

TEST_F(UpkeepTest, TargetsThatTheServerDidNotListenToAreNotCalledOff) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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

TEST_F(UpkeepTest, ACopyWithTheOnlyGoodBlockIsNotDropped) {
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

TEST_F(UpkeepTest, OfADeadClientsCopiesOneWithoutBadBlocksIsKept) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  ASSERT_EQ(pool_.server().Execute(op::OpenChunks({static_cast<int64_t>(index)})).error, 0);
  auto offset = static_cast<int64_t>(pool_.ChunkAt(index).On(pool_.Id("t1"))->offset);
  pool_.Damage("t1", offset, {1});
  ASSERT_TRUE(pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session()); }).ok());
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id("t2"))->state, CopyState::kInSync);
  EXPECT_NE(pool_.ChunkAt(index).On(pool_.Id("t1"))->state, CopyState::kInSync);
}

TEST_F(UpkeepTest, AListThatIsKnownIsNotMadeAgain) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  pool_.MarkStale(index, "t2");
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

TEST_F(UpkeepTest, DamageIsRepairedFromAnotherCopy) {
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

TEST_F(UpkeepTest, ARepairMakesGoodWhatItNamed) {
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

TEST_F(UpkeepTest, MoreBadBlocksThanAJobTakes) {
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

TEST_F(UpkeepTest, BoundsAreThoseOfTheContract) {
  EXPECT_EQ(static_cast<int64_t>(kBlocksPerItem), idl::g_admin_constants.BLOCKS_PER_ITEM);
  EXPECT_EQ(static_cast<int64_t>(kFsckFindingsMax), idl::g_admin_constants.FSCK_PROBLEMS_MAX);
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

TEST_F(UpkeepTest, DamageThatNoCopyCanRepairStays) {
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

TEST_F(UpkeepTest, ABlockThatIsBadInEveryCopyIsTriedNowAndThen) {
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

TEST_F(UpkeepTest, BlocksThatNoPeerCouldReadAreDamageOfTheNewCopy) {
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

TEST_F(UpkeepTest, ScrubWalksAllChunks) {
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

TEST_F(UpkeepTest, AScrubVisitsAgainWhatItMissed) {
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

TEST_F(UpkeepTest, AScrubWhoseTargetDiesUnderWayVisitsItsChunksAgain) {
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

TEST_F(UpkeepTest, AScrubThatFailsIsTriedAgain) {
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

TEST_F(UpkeepTest, ScrubBeginsByItself) {
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

TEST_F(UpkeepTest, CopiesThatDifferAreMadeEqual) {
  pool_.Form(2, 2);
  uint64_t index = pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  std::string lead = pool_.Jobs("t1").at(0).peers.empty() ? "t2" : "t1";
  std::string other = lead == "t1" ? "t2" : "t1";
  idl::JobResult result = TestPool::ResultOf(pool_.Jobs(lead).at(0));
  idl::Mismatch& mismatch = result.mismatches.emplace_back();
  mismatch.peer = static_cast<int32_t>(pool_.Id(other));
  mismatch.blocks = {1};
  pool_.Finish(lead, result);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kInSync);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(other))->state, CopyState::kResyncing);
  pool_.Work();
  pool_.ExpectWhole();
  EXPECT_FALSE(pool_.HasTask(idl::TaskKind::SCRUB));
}

TEST_F(UpkeepTest, OfThreeCopiesMostAreRight) {
  pool_.Form(3, 3);
  uint64_t index = pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  std::string lead;
  for (std::string name : {"t1", "t2", "t3"}) {
    if (!pool_.Jobs(name).at(0).peers.empty()) lead = name;
  }
  idl::JobResult result = TestPool::ResultOf(pool_.Jobs(lead).at(0));
  for (std::string name : {"t1", "t2", "t3"}) {
    if (name == lead) continue;
    idl::Mismatch& mismatch = result.mismatches.emplace_back();
    mismatch.peer = static_cast<int32_t>(pool_.Id(name));
    mismatch.blocks = {1};
  }
  pool_.Finish(lead, result);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kResyncing);
  EXPECT_EQ(pool_.ChunkAt(index).Count(CopyState::kInSync), 2U);
}

TEST_F(UpkeepTest, OfThreeCopiesMostAreRightBlockByBlock) {
  pool_.Form(3, 3);
  uint64_t index = pool_.MakeChunk();
  ASSERT_TRUE(pool_.Admin([](StateMachine& m) { return m.Scrub(false); }).ok());
  std::string lead;
  for (std::string name : {"t1", "t2", "t3"}) {
    if (!pool_.Jobs(name).at(0).peers.empty()) lead = name;
  }
  idl::JobResult result = TestPool::ResultOf(pool_.Jobs(lead).at(0));
  for (std::string name : {"t1", "t2", "t3"}) {
    if (name == lead) continue;
    idl::Mismatch& mismatch = result.mismatches.emplace_back();
    mismatch.peer = static_cast<int32_t>(pool_.Id(name));
    mismatch.blocks = {static_cast<int64_t>(result.mismatches.size())};  // each is alone with its own
  }
  pool_.Finish(lead, result);
  EXPECT_EQ(pool_.ChunkAt(index).On(pool_.Id(lead))->state, CopyState::kInSync);
  EXPECT_EQ(pool_.ChunkAt(index).Count(CopyState::kInSync), 1U);
}

TEST_F(UpkeepTest, ADeadClientsCopyIsPromotedWhenTheOtherIsGone) {
  pool_.Form(3, 2);
  uint64_t index = pool_.MakeChunk();
  Chunk chunk = pool_.ChunkAt(index);
  std::string a = pool_.NameOf(chunk.copies[0].target);
  std::string b = pool_.NameOf(chunk.copies[1].target);
  ASSERT_TRUE(pool_.server().Run([&](StateMachine& m) { return m.EvictSession(pool_.server().session()); }).ok());
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
