// SPDX-License-Identifier: MIT
//
// The whole agent between a fake kernel, a fake metadata server and fake targets.
#include "userland/agent/agent.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>

#include "userland/agent/fake_initiator.h"
#include "userland/agent/fake_meta_service.h"
#include "userland/channel/fake_kernel.h"

namespace weft::agent {
namespace {

using channel::FakeKernel;
using std::chrono::milliseconds;

constexpr uint64_t kDataBuffer = 4 << 20;  // behind the message slots

class AgentTest : public ::testing::Test {
 protected:
  ~AgentTest() override { StopAgent(); }

  Status StartAgent(uint32_t queues = 1) {
    AgentOptions options;
    options.attach = {.cluster = "weft", .queues = queues, .depth = 0, .pool_bytes = 0};
    options.meta = meta_.address();
    options.host = "here";
    options.zone = "even";
    options.detect = milliseconds(200);
    auto agent = Agent::Attach(
        kernel_.get(),
        [this](std::span<std::byte> pool, uint64_t session) -> Result<std::unique_ptr<rdma::BlockInitiator>> {
          return targets_.MakeInitiator(pool, session);
        },
        options);
    if (!agent.ok()) return agent.status();
    agent_ = *std::move(agent);
    return agent_->Start();
  }
  void StopAgent(milliseconds grace = milliseconds(1000)) {
    if (agent_) agent_->Stop(grace);
    agent_ = nullptr;
  }

  template <typename T>
  uint64_t PushMeta(uint32_t op, uint64_t ino, const T& args, std::string_view text, uint64_t seq = 0,
                    uint32_t slot = 0) {
    std::string bytes(reinterpret_cast<const char*>(&args), sizeof args);
    bytes += text;
    kernel_->PushMeta(0, ++tag_, slot, seq, op, ino, std::as_bytes(std::span(bytes)));
    return tag_;
  }
  uint64_t PushLookup(std::string_view name, uint32_t slot = 0) {
    return PushMeta(WEFT_META_LOOKUP, 1, weft_lookup_req{static_cast<uint32_t>(name.size()), 0}, name, 0, slot);
  }
  uint64_t PushCreate(std::string_view name, uint64_t seq, uint32_t slot = 0) {
    weft_create_req args = {};
    args.mode = S_IFREG | 0644;
    args.name_bytes = static_cast<uint32_t>(name.size());
    return PushMeta(WEFT_META_CREATE, 1, args, name, seq, slot);
  }
  uint64_t PushOp(uint32_t op) {
    kernel_->PushMeta(0, ++tag_, 0, 0, op, 0, {});
    return tag_;
  }
  int32_t Mount() { return kernel_->WaitFor(PushOp(WEFT_META_MOUNT)).value_or(1); }

  uint64_t PushBlock(uint8_t op, uint32_t target, uint64_t offset, uint32_t length, uint64_t buf = kDataBuffer,
                     uint32_t queue = 0) {
    weft_sqe sqe = {};
    sqe.tag = ++tag_;
    sqe.op = op;
    sqe.target = target;
    sqe.offset = offset;
    sqe.length = length;
    sqe.buf = op == WEFT_OP_FLUSH ? 0 : buf;
    kernel_->Push(queue, sqe);
    return tag_;
  }
  int32_t Block(uint8_t op, uint32_t target, uint64_t offset, uint32_t length, uint64_t buf = kDataBuffer) {
    return kernel_->WaitFor(PushBlock(op, target, offset, length, buf)).value_or(1);
  }

  std::unique_ptr<FakeKernel> kernel_ = std::make_unique<FakeKernel>();
  FakeMetaService meta_;
  FakeTargets targets_;
  std::unique_ptr<Agent> agent_;
  uint64_t tag_ = 0;
};

TEST_F(AgentTest, TheKernelIsToldHowLongTheLeaseLasts) {
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_EQ(kernel_->lease_until_ns(), 0U);
  auto before = static_cast<uint64_t>(BoottimeNs());
  ASSERT_EQ(Mount(), static_cast<int32_t>(sizeof(weft_mount_rep)));
  uint64_t first = kernel_->lease_until_ns();
  EXPECT_GT(first, before);
  EXPECT_LT(first, static_cast<uint64_t>(BoottimeNs()) + uint64_t{FakeMetaService::kLeaseMs} * 1'000'000);
  ASSERT_TRUE(kernel_->WaitLease([&](uint64_t until) { return until > first; })) << "each renewal prolongs it";
  meta_.EndSession();
  ASSERT_TRUE(kernel_->WaitLease([](uint64_t until) { return until == 0; }));
}

TEST_F(AgentTest, UnmountEndsTheLease) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_EQ(Mount(), static_cast<int32_t>(sizeof(weft_mount_rep)));
  ASSERT_EQ(kernel_->WaitFor(PushOp(WEFT_META_UNMOUNT)), 0);
  EXPECT_EQ(kernel_->lease_until_ns(), 0U);
}

TEST_F(AgentTest, MountsAndUnmounts) {
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_TRUE(kernel_->ready());
  EXPECT_EQ(Mount(), static_cast<int32_t>(sizeof(weft_mount_rep)));
  weft_mount_rep rep;
  memcpy(&rep, kernel_->reply(0).data(), sizeof rep);
  EXPECT_EQ(rep.session, 5u);
  EXPECT_EQ(rep.root_ino, 1u);
  EXPECT_EQ(targets_.sessions(), (std::vector<uint64_t>{5}));
  EXPECT_TRUE(kernel_->WaitTargets(2, WEFT_TARGET_UP));
  EXPECT_NE(kernel_->targets()[0].zone, kernel_->targets()[1].zone);
  EXPECT_EQ(Mount(), static_cast<int32_t>(sizeof(weft_mount_rep))) << "opening again gives the same session";

  EXPECT_EQ(kernel_->WaitFor(PushOp(WEFT_META_UNMOUNT)), 0);
  EXPECT_EQ(meta_.closed(), 1u);
  EXPECT_TRUE(kernel_->targets().empty());
  EXPECT_EQ(Mount(), static_cast<int32_t>(sizeof(weft_mount_rep)));
  EXPECT_EQ(targets_.sessions().back(), 6u);
}

TEST_F(AgentTest, MountIsRefusedWhileAnotherClientHasTheSession) {
  ASSERT_TRUE(StartAgent().ok());
  meta_.RefuseOpen(EBUSY);
  EXPECT_EQ(Mount(), -EBUSY);
}

TEST_F(AgentTest, WrongKeyFailsTheMountAndClosesTheSession) {
  targets_.SetPathState(Error(EACCES, "target t1 refused the cluster key"));
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_EQ(Mount(), -EKEYREJECTED);
  EXPECT_EQ(meta_.closed(), 1u);
  targets_.SetPathState({});
  EXPECT_GT(Mount(), 0);
}

TEST_F(AgentTest, UnreachableTargetsDoNotFailTheMount) {
  targets_.SetPathState(Error(EHOSTDOWN, "t1 does not answer"));
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_GT(Mount(), 0);
  EXPECT_TRUE(kernel_->WaitTargets(2, WEFT_TARGET_DOWN));
}

TEST_F(AgentTest, MovesBlocks) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  std::span<std::byte> pool = kernel_->pool();
  std::fill_n(pool.begin() + kDataBuffer, 8192, std::byte{0x5a});
  EXPECT_EQ(Block(WEFT_OP_WRITE, 1, 4096, 8192), 8192);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 4096, 8192, kDataBuffer + 8192), 8192);
  EXPECT_EQ(memcmp(pool.data() + kDataBuffer, pool.data() + kDataBuffer + 8192, 8192), 0);
  EXPECT_EQ(Block(WEFT_OP_FLUSH, 1, 0, 0), 0);
  EXPECT_EQ(Block(WEFT_OP_DISCARD, 2, 0, 4 << 20), 4 << 20);
  EXPECT_EQ(Block(WEFT_OP_WRITE_ZEROES, 2, 0, 4 << 20), 4 << 20);
  targets_.Fail(ENOSPC);
  EXPECT_EQ(Block(WEFT_OP_WRITE, 1, 0, 4096), -ENOSPC);
}

TEST_F(AgentTest, ManyBlocksOnSeveralQueues) {
  kernel_ = std::make_unique<FakeKernel>(FakeKernel::Options{.depth = 256, .pool_bytes = 16 << 20});
  ASSERT_TRUE(StartAgent(3).ok());
  ASSERT_GT(Mount(), 0);
  std::vector<uint64_t> tags;
  for (uint32_t i = 0; i < 200; ++i) {
    tags.push_back(PushBlock(WEFT_OP_WRITE, 1 + i % 2, 4096 * i, 4096, kDataBuffer + 4096 * i, i % 3));
  }
  for (uint64_t tag : tags) EXPECT_EQ(kernel_->WaitFor(tag), 4096);
  EXPECT_EQ(kernel_->bad_completions(), 0u);
}

TEST_F(AgentTest, CompletionsOfABatchShareOneSystemCall) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  targets_.Hold(true);
  std::vector<uint64_t> tags;
  for (int i = 0; i < 40; ++i) tags.push_back(PushBlock(WEFT_OP_READ, 1, 4096 * i, 4096));
  ASSERT_TRUE(targets_.WaitInFlight(40));
  size_t before = kernel_->complete_calls();
  targets_.Hold(false);
  for (uint64_t tag : tags) EXPECT_EQ(kernel_->WaitFor(tag), 4096);
  EXPECT_EQ(kernel_->complete_calls(), before + 1);
}

TEST_F(AgentTest, SleepsAndIsWoken) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(kernel_->WaitAsleep(0));
    EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 4096), 4096);
  }
  EXPECT_GE(kernel_->wakeups(), 20u);
}

TEST_F(AgentTest, SenselessRequestsAreRefused) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  EXPECT_EQ(Block(99, 1, 0, 4096), -EINVAL);
  EXPECT_EQ(Block(0, 1, 0, 4096), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 0), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 100), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 7, 4096), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 0, 0, 4096), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, WEFT_IO_BYTES_MAX + 4096), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 4096, kernel_->pool().size()), -EINVAL);
  EXPECT_EQ(Block(WEFT_OP_WRITE, 1, 0, 4096, UINT64_MAX - 4095), -EINVAL);

  weft_sqe sqe = {};
  sqe.op = WEFT_OP_META;
  for (int i = 0; i < 6; ++i) {
    sqe.tag = ++tag_;
    sqe.length = i == 0 ? 0 : i == 1 ? WEFT_META_REQ_BYTES + 1 : 32;
    sqe.buf = i == 2 ? kernel_->pool().size() - 4096 : i == 3 ? UINT64_MAX : 0;
    sqe.meta_slot = i == 4 ? WEFT_META_SLOTS : 0;
    sqe.meta_seq = i == 5 ? UINT64_MAX : 0;
    kernel_->Push(0, sqe);
    EXPECT_EQ(kernel_->WaitFor(tag_), -EINVAL) << i;
  }
  EXPECT_EQ(kernel_->WaitFor(PushLookup("a/b")), -EINVAL);
  EXPECT_EQ(meta_.executed(), 0u);
  EXPECT_EQ(kernel_->bad_completions(), 0u);
}

TEST_F(AgentTest, MetadataRequestsAreAnswered) {
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_EQ(kernel_->WaitFor(PushLookup("x")), -ESTALE) << "not mounted";
  ASSERT_GT(Mount(), 0);
  meta_.OnExecute([](const idl::Request& request) {
    idl::Reply reply;
    if (request.op.lookup.name == "gone") {
      reply.error = ENOENT;
    } else {
      idl::Attr attr;
      attr.ino = request.op.lookup.name == "bad" ? -1 : 12;
      attr.mode = S_IFREG;
      reply.__set_attr(attr);
    }
    return reply;
  });
  EXPECT_EQ(kernel_->WaitFor(PushLookup("there")), static_cast<int32_t>(sizeof(weft_attr)));
  weft_attr attr;
  memcpy(&attr, kernel_->reply(0).data(), sizeof attr);
  EXPECT_EQ(attr.ino, 12u);
  EXPECT_EQ(kernel_->WaitFor(PushLookup("gone")), -ENOENT);
  EXPECT_EQ(kernel_->WaitFor(PushLookup("bad")), -EIO);
}

TEST_F(AgentTest, WaitingRequestsGoInOneCall) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  meta_.Block(true);
  std::vector<uint64_t> tags;
  tags.push_back(PushLookup("a", 0));  // occupy both connections
  ASSERT_TRUE(meta_.WaitForCalls(1));
  tags.push_back(PushLookup("b", 1));
  ASSERT_TRUE(meta_.WaitForCalls(2));
  for (uint32_t slot = 2; slot < 32; ++slot) tags.push_back(PushLookup("c", slot));
  ASSERT_TRUE(kernel_->WaitAsleep(0));
  meta_.Block(false);
  for (uint64_t tag : tags) EXPECT_EQ(kernel_->WaitFor(tag), static_cast<int32_t>(sizeof(weft_attr)));
  EXPECT_TRUE(meta_.WaitForBatch(30));
}

TEST_F(AgentTest, LostReplyIsAskedForAgainAndExecutedOnce) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  meta_.LoseNextReply();
  EXPECT_EQ(kernel_->WaitFor(PushCreate("f", 1)), static_cast<int32_t>(sizeof(weft_attr)));
  EXPECT_EQ(meta_.executed(), 1u);
}

TEST_F(AgentTest, WaitsForAServerThatIsAway) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  meta_.Kill();
  uint64_t create = PushCreate("f", 1);
  EXPECT_EQ(kernel_->WaitFor(create, milliseconds(300)), std::nullopt);
  meta_.Restart();
  EXPECT_EQ(kernel_->WaitFor(create), static_cast<int32_t>(sizeof(weft_attr)));
  EXPECT_EQ(meta_.executed(), 1u);
}

TEST_F(AgentTest, TargetMapChangesReachKernelAndInitiators) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  ASSERT_TRUE(kernel_->WaitTargets(2, WEFT_TARGET_UP));
  uint64_t early = PushBlock(WEFT_OP_READ, 3, 0, 4096);  // the chunk map was faster than the target map
  EXPECT_EQ(kernel_->WaitFor(early, milliseconds(20)), std::nullopt);
  meta_.SetTargets({1, 3});
  EXPECT_EQ(kernel_->WaitFor(early), 4096);
  ASSERT_TRUE(kernel_->WaitTargets(2, WEFT_TARGET_UP));
  EXPECT_EQ(targets_.targets(), (std::set<uint32_t>{1, 3}));
  EXPECT_EQ(Block(WEFT_OP_READ, 2, 0, 4096), -EHOSTDOWN) << "no longer in the map, after the detection time";
}

idl::Chunk ChunkOn(int64_t index, std::vector<int32_t> targets) {
  idl::Chunk chunk;
  chunk.index = index;
  for (int32_t target : targets) {
    idl::Copy& copy = chunk.copies.emplace_back();
    copy.target = target;
    copy.state = idl::CopyState::IN_SYNC;
  }
  return chunk;
}

TEST_F(AgentTest, ChunkChangesReachTheKernel) {
  meta_.SetChunk(ChunkOn(1, {1}));  // before the mount: the kernel has no map yet
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  idl::Chunk chunk = ChunkOn(7, {2, 1});
  chunk.copies[1].state = idl::CopyState::RESYNCING;
  meta_.SetChunk(chunk);
  ASSERT_TRUE(kernel_->WaitChunks(1));
  weft_chunk told = kernel_->chunks()[0];
  EXPECT_EQ(told.index, 7u);
  EXPECT_EQ(told.version, 2u);
  EXPECT_EQ(told.count, 2u);
  EXPECT_EQ(told.copies[1].state, static_cast<uint32_t>(WEFT_COPY_RESYNCING));

  meta_.DeleteChunk(7);  // nothing to tell of; and it must not be asked for over and over
  meta_.SetChunk(ChunkOn(8, {1}));
  ASSERT_TRUE(kernel_->WaitChunks(2));
  EXPECT_EQ(kernel_->chunks()[1].index, 8u);
  EXPECT_LT(meta_.event_calls(), 10u);

  meta_.SetChunk(ChunkOn(9, {1, 2, 3, 4, 5, 6}));  // senseless
  meta_.SetChunk(ChunkOn(10, {1}));
  ASSERT_TRUE(kernel_->WaitChunks(3));
  EXPECT_EQ(kernel_->chunks()[2].index, 10u);
}

TEST_F(AgentTest, NextAgentTellsOfAllChunks) {
  for (int64_t index = 0; index < WEFT_CHUNKS_PER_CALL + 10; ++index) meta_.SetChunk(ChunkOn(index, {1, 2}));
  kernel_ = std::make_unique<FakeKernel>(FakeKernel::Options{.session = 9, .epoch = 2});
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_TRUE(kernel_->WaitChunks(WEFT_CHUNKS_PER_CALL + 10)) << "what changed while there was no agent is not known";
}

TEST_F(AgentTest, KernelKnowsZonesAndIncarnations) {
  targets_.SetIncarnation(0xabc);
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  ASSERT_TRUE(kernel_->WaitTargets(2, WEFT_TARGET_UP));
  std::vector<weft_target_info> told = kernel_->targets();
  EXPECT_EQ(told[0].incarnation, 0xabcu);
  EXPECT_EQ(told[0].flags & WEFT_TARGET_LOCAL, 0u);
  EXPECT_EQ(told[1].flags & WEFT_TARGET_LOCAL, static_cast<uint32_t>(WEFT_TARGET_LOCAL)) << "this host's zone";

  weft_sqe flush = {};
  flush.op = WEFT_OP_FLUSH;
  flush.target = 1;
  for (uint64_t incarnation : {0xabcu, 0xabdu, 0u}) {
    flush.tag = ++tag_;
    flush.incarnation = incarnation;
    kernel_->Push(0, flush);
    EXPECT_EQ(kernel_->WaitFor(tag_), incarnation == 0xabd ? -ESTALE : 0) << incarnation;
  }
  weft_sqe write = {};
  write.tag = ++tag_;
  write.op = WEFT_OP_WRITE_ZEROES;
  write.target = 1;
  write.length = 4096;
  write.incarnation = 0xabc;
  kernel_->Push(0, write);
  EXPECT_EQ(kernel_->WaitFor(tag_), -EINVAL) << "only a FLUSH names one";
}

TEST_F(AgentTest, BadChecksumsReachTheKernel) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  targets_.Fail(EBADMSG);
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 4096), -EBADMSG);
}

TEST_F(AgentTest, EndedSessionIsStale) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  targets_.Hold(true);
  uint64_t held = PushBlock(WEFT_OP_WRITE, 1, 0, 4096);
  ASSERT_TRUE(targets_.WaitInFlight(1));
  meta_.EndSession();
  EXPECT_EQ(kernel_->WaitFor(held), -ESTALE);
  EXPECT_EQ(Block(WEFT_OP_WRITE, 1, 0, 4096), -ESTALE);
  EXPECT_EQ(kernel_->WaitFor(PushLookup("x")), -ESTALE);
  EXPECT_EQ(kernel_->WaitFor(PushOp(WEFT_META_UNMOUNT)), 0);
}

TEST_F(AgentTest, NextAgentTakesTheSessionUp) {
  kernel_ = std::make_unique<FakeKernel>(FakeKernel::Options{.session = 9, .epoch = 2});
  ASSERT_TRUE(StartAgent().ok());
  EXPECT_EQ(meta_.reclaimed(), 1u);
  EXPECT_EQ(targets_.sessions(), (std::vector<uint64_t>{9}));
  EXPECT_EQ(Block(WEFT_OP_READ, 1, 0, 4096), 4096);
  EXPECT_EQ(kernel_->WaitFor(PushLookup("x")), static_cast<int32_t>(sizeof(weft_attr)));
}

TEST_F(AgentTest, StartWaitsForTheServerAndCanBeInterrupted) {
  kernel_ = std::make_unique<FakeKernel>(FakeKernel::Options{.session = 9, .epoch = 2});
  meta_.Kill();
  AgentOptions options;
  options.attach = {.cluster = "weft", .queues = 1, .depth = 0, .pool_bytes = 0};
  options.meta = meta_.address();
  auto agent = Agent::Attach(kernel_.get(), {}, options);
  ASSERT_TRUE(agent.ok());
  Status started;
  std::thread starter([&] { started = (*agent)->Start(); });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(kernel_->ready());
  (*agent)->Interrupt();
  starter.join();
  EXPECT_EQ(started.code(), ECANCELED);
}

TEST_F(AgentTest, StopFinishesWhatWasTaken) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  targets_.Hold(true);
  uint64_t held = PushBlock(WEFT_OP_READ, 1, 0, 4096);
  ASSERT_TRUE(targets_.WaitInFlight(1));
  std::thread release([&] {
    std::this_thread::sleep_for(milliseconds(50));
    targets_.Hold(false);
  });
  StopAgent(milliseconds(20000));
  release.join();
  EXPECT_EQ(kernel_->WaitFor(held, milliseconds(0)), 4096);
  EXPECT_EQ(meta_.closed(), 0u) << "the session is the mount's";
  EXPECT_EQ(kernel_->open_fds(), 0u);
}

TEST_F(AgentTest, StopLeavesToTheKernelWhatDoesNotFinish) {
  ASSERT_TRUE(StartAgent().ok());
  ASSERT_GT(Mount(), 0);
  targets_.Hold(true);
  uint64_t held = PushBlock(WEFT_OP_READ, 1, 0, 4096);
  ASSERT_TRUE(targets_.WaitInFlight(1));
  meta_.Kill();
  uint64_t lookup = PushLookup("x");
  StopAgent(milliseconds(100));
  EXPECT_EQ(kernel_->WaitFor(held, milliseconds(0)), std::nullopt);
  EXPECT_EQ(kernel_->WaitFor(lookup, milliseconds(0)), std::nullopt);
}

}  // namespace
}  // namespace weft::agent
