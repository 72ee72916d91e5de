// SPDX-License-Identifier: MIT
//
// Initiator and target when connections break, hosts vanish, sessions are fenced and keys are wrong.
#include <cerrno>
#include <cstring>

#include "rdma/block_fixture.h"
#include "rdma/block_wire.h"

namespace weft::rdma {
namespace {

using BlockFaults = BlockFixture;

constexpr char kNobodyListens[] = "target t3 (10.0.0.2:7471) refused the connection; is weft-target running there?";

TEST_F(BlockFaults, ReconnectsAndSendsAgain) {
  Start();
  backend_.Hold(true);
  for (uint64_t tag = 0; tag < 40; tag++) Submit(tag, BlockOp::kWrite, tag * 8192, 8192, tag * 8192);
  FillPool(0, 40 * 8192, 9);
  Run(20);
  fabric_.BreakAll();
  Pass(5);
  EXPECT_TRUE(results_.empty());
  backend_.Hold(false);
  Pass(100);
  ASSERT_EQ(results_.size(), 40U);
  for (auto& [tag, result] : results_) EXPECT_EQ(result, 8192) << tag;
  EXPECT_EQ(memcmp(backend_.bytes().data(), pool_.data(), 40 * 8192), 0);
  EXPECT_EQ(fabric_.connections(), 1U);
}

TEST_F(BlockFaults, EveryWorkRequestMayBeTheLast) {
  Start();
  for (uint64_t n = 0; n < 60; n++) {
    FillPool(0, 65536, static_cast<uint32_t>(n));
    fabric_.BreakAfter(n % 30);
    for (uint64_t i = 0; i < 8; i++) Submit(n * 100 + i, BlockOp::kWrite, i * 8192, 8192, i * 8192);
    Submit(n * 100 + 8, BlockOp::kWrite, 1 << 20, 4096, 0);
    size_t wanted = 9 * (n + 1);
    for (int i = 0; i < 3000 && results_.size() < wanted; i++) Pass(1);
    ASSERT_EQ(results_.size(), wanted) << n;
    ASSERT_EQ(memcmp(backend_.bytes().data(), pool_.data(), 65536), 0) << n;
  }
  for (auto& [tag, result] : results_) EXPECT_GT(result, 0);
  EXPECT_EQ(target_->counters().in_hand, 0U);
}

TEST_F(BlockFaults, ErrorCompletionBreaksAndRecovers) {
  Start();
  for (auto status : {WorkStatus::kRetryExceeded, WorkStatus::kRemoteAccess, WorkStatus::kOther}) {
    fabric_.FailAfter(1, status);
    EXPECT_EQ(Do(BlockOp::kRead, 0, 65536, 0), 65536);
  }
}

// A write of a broken connection that still sits in the storage must not land after its successor.
TEST_F(BlockFaults, OldIoEndsBeforeTheNewConnectionIsServed) {
  Start();
  memset(pool_.data(), 1, 8192);
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 8192, 0);
  Run(20);
  ASSERT_EQ(backend_.waiting(), 1U);
  fabric_.BreakAll();
  Pass(200);
  EXPECT_EQ(backend_.waiting(), 1U) << "the command is not executed a second time beside the first";
  EXPECT_TRUE(results_.empty());
  backend_.Hold(false);
  Pass(2000);
  EXPECT_EQ(results_[1], 8192);
}

TEST_F(BlockFaults, UnreachableIsHostDownAfterDetectMs) {
  Start();
  fabric_.SetCut(kTargetHost, true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(4900);
  EXPECT_TRUE(results_.empty());
  Pass(200);
  ASSERT_EQ(results_[1], -EHOSTDOWN);
  ASSERT_EQ(states_.size(), 2U);
  EXPECT_NE(states_[1].message().find("t3 (10.0.0.2:7471)"), std::string::npos) << states_[1].message();
  Submit(2, BlockOp::kRead, 0, 4096, 0);
  Run(1);
  EXPECT_EQ(results_[2], -EHOSTDOWN) << "at once";
  fabric_.SetCut(kTargetHost, false);
  Pass(4200);
  ASSERT_EQ(states_.size(), 3U);
  EXPECT_TRUE(states_[2].ok());
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
}

// On a machine with more to do than it has CPUs for: the thread runs, now and then. Many short absences are none.
TEST_F(BlockFaults, ABusyMachineMakesTheDetectionNoLonger) {
  Start();
  fabric_.SetCut(kTargetHost, true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  uint64_t start = clock_.now_ms;
  while (!results_.contains(1) && clock_.now_ms < start + 60'000) {
    clock_.now_ms += 20;
    Turn();
  }
  ASSERT_EQ(results_[1], -EHOSTDOWN);
  EXPECT_LE(clock_.now_ms - start, 5500U) << "the first slow turns look like an absence";
}

// The NIC may find out before detect_ms that the target does not answer: the time counts from its silence.
TEST_F(BlockFaults, AConnectionThatFailsInASilenceMakesItNoLonger) {
  Start();
  Pass(1500);  // idle: this is no silence
  fabric_.SetCut(kTargetHost, true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(2600);  // a ping is under way as well
  fabric_.BreakAll(WorkStatus::kRetryExceeded);
  Pass(2300);
  EXPECT_TRUE(results_.empty());
  Pass(200);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
}

// So does what the kernel's neighbour table finds out (cma_netevent_callback() in drivers/infiniband/core/cma.c).
TEST_F(BlockFaults, AWayThatIsLostInASilenceMakesItNoLonger) {
  Start();
  Pass(1500);
  fabric_.SetCut(kTargetHost, true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(3000);
  fabric_.LoseWay(kClientHost);
  Pass(1900);
  EXPECT_TRUE(results_.empty());
  Pass(200);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
  EXPECT_NE(states_.back().message().find("t3 (10.0.0.2:7471)"), std::string::npos) << states_.back().message();
}

TEST_F(BlockFaults, AWayThatIsLostAndFoundLosesNoCommand) {
  Start();
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(100);
  fabric_.LoseWay(kClientHost);
  backend_.Hold(false);
  Pass(2000);
  EXPECT_EQ(results_[1], 4096);
}

TEST_F(BlockFaults, AConnectionThatThePeerClosesIsTheBeginningOfASilence) {
  Start();
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(2000);
  fabric_.BreakAll();
  fabric_.SetCut(kTargetHost, true);
  Pass(4900);
  EXPECT_TRUE(results_.empty());
  Pass(200);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
  backend_.Hold(false);
  Pass(10);
}

TEST_F(BlockFaults, TargetThatNeverWasIsHostDown) {
  StartClient();
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(4990);
  EXPECT_TRUE(results_.empty());
  Pass(20);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
  ASSERT_EQ(states_.size(), 1U);
  EXPECT_EQ(states_[0].code(), ECONNREFUSED);
  EXPECT_EQ(states_[0].message(), kNobodyListens);
  StartTarget();
  Pass(1100);
  ASSERT_EQ(states_.size(), 2U);
  EXPECT_TRUE(states_[1].ok());
}

// Somebody answers at the target's port and rejects: a connection manager by itself, or another service.
class BlockRejections : public BlockFaults {
 protected:
  // What the client says of a target whose port rejects with these bytes.
  Status RejectedWith(const std::vector<uint8_t>& bytes) {
    auto channel = *target_verbs_->CreateCmChannel();
    auto listener = *channel->Listen(kTargetHost, 7471, 4);
    states_.clear();
    StartClient();
    for (int i = 0; i < 5100 && states_.empty(); i++) {
      CmEvent event;
      while (channel->NextEvent(&event)) {
        if (event.type == CmEvent::Type::kRequest) event.incoming->Reject(bytes);
        event = CmEvent{};
      }
      Pass(1);
    }
    initiator_.reset();
    return states_.empty() ? Status::Ok() : states_[0];
  }
};

TEST_F(BlockRejections, WithNothingOrZeroesSayThatNobodyListens) {
  for (size_t bytes : {size_t{0}, size_t{1}, kRejectBytes, kRejectDataMax}) {
    Status s = RejectedWith(std::vector<uint8_t>(bytes, 0));
    EXPECT_EQ(s.code(), ECONNREFUSED) << bytes << " zeroes: " << s.message();
    EXPECT_EQ(s.message(), kNobodyListens) << bytes << " zeroes";
  }
}

TEST_F(BlockRejections, WithForeignBytesAreNotTheBlockProtocol) {
  std::vector<uint8_t> late(kRejectDataMax, 0);
  late.back() = 1;  // one byte that is not zero is enough
  for (const std::vector<uint8_t>& bytes : {std::vector<uint8_t>{'n', 'v', 'm', 'e'}, late}) {
    Status s = RejectedWith(bytes);
    EXPECT_EQ(s.code(), EPROTO) << s.message();
    EXPECT_NE(s.message().find("target t3 (10.0.0.2:7471): reject data with magic"), std::string::npos) << s.message();
    EXPECT_NE(s.message().find("this is not the weft block protocol"), std::string::npos) << s.message();
  }
}

TEST_F(BlockFaults, IdleConnectionIsWatched) {
  Start();
  Pass(30000);
  EXPECT_EQ(states_.size(), 1U) << "pings are answered";
  target_.reset();
  StartTarget();
  Pass(100);
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
}

TEST_F(BlockFaults, AConnectionToATargetThatSleptIsNotLateForItsHello) {
  StartTarget();
  int timeout_ms = 0;
  while (!target_->Arm(&timeout_ms)) target_->Poll();
  EXPECT_EQ(timeout_ms, -1) << "nobody is connected: it may sleep for ever";
  clock_.now_ms += 3'600'000;
  StartClient();
  Pass(20);
  ASSERT_EQ(states_.size(), 1U);
  EXPECT_TRUE(states_[0].ok()) << states_[0].message();
  EXPECT_EQ(target_->counters().bad_connections, 0U);
}

TEST_F(BlockFaults, SlowStorageIsNotADeadTarget) {
  Start();
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(20000);
  EXPECT_TRUE(results_.empty());
  EXPECT_EQ(states_.size(), 1U);
  backend_.Hold(false);
  Pass(1);
  EXPECT_EQ(results_[1], 4096);
}

// The whole host stood still, or this thread had no processor: that says nothing about the target.
TEST_F(BlockFaults, OwnAbsenceIsNotTheTargetsSilence) {
  Start();
  backend_.Hold(true);
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  Pass(100);
  auto target = std::move(target_);  // it is slow to come back
  clock_.now_ms += 30000;
  Pass(2000);
  EXPECT_TRUE(results_.empty());
  EXPECT_EQ(states_.size(), 1U);
  target_ = std::move(target);
  backend_.Hold(false);
  Pass(5);
  EXPECT_EQ(results_[1], 4096);
  EXPECT_EQ(states_.size(), 1U);
}

TEST_F(BlockFaults, WrongKeyIsNamed) {
  StartTarget();
  auto options = ClientOptions();
  options.cluster_key[0] ^= 1;
  StartClient(options);
  Pass(5100);
  ASSERT_EQ(states_.size(), 1U);
  EXPECT_EQ(states_[0].code(), EACCES);
  EXPECT_NE(states_[0].message().find("cluster key"), std::string::npos);
  EXPECT_EQ(fence_.highest(), 0U) << "who has no key raises no fence";
  EXPECT_EQ(target_->counters().connections, 0U);
}

TEST_F(BlockFaults, WrongUuidIsNamed) {
  auto target = TargetOptions();
  target.uuid.fill(0x78);
  StartTarget(target);
  StartClient();
  Pass(5100);
  ASSERT_EQ(states_.size(), 1U);
  EXPECT_NE(states_[0].message().find("another target"), std::string::npos) << states_[0].message();
}

TEST_F(BlockFaults, NewerSessionFencesTheOlder) {
  Start();
  EXPECT_EQ(fence_.highest(), 5U);
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 8192, 0);
  Run(20);

  auto newer_options = ClientOptions();
  newer_options.session = 6;
  auto newer = *BlockInitiator::Create(client_verbs_.get(), newer_options);
  bool up = false;
  newer->OnTargetState([&](uint32_t, const Status& s, uint64_t) { up = s.ok(); });
  ASSERT_TRUE(newer->SetTarget(Endpoint()).ok());
  std::vector<BlockCompletion> done;
  auto pass = [&](int ms) {
    for (int i = 0; i < ms; i++) {
      clock_.now_ms++;
      for (int j = 0; j < 16; j++) {
        Turn();
        newer->Poll(&done);
      }
    }
  };
  pass(50);
  EXPECT_EQ(fence_.highest(), 6U);
  EXPECT_FALSE(up) << "the older session's write is still in the storage";
  backend_.Hold(false);
  pass(50);
  EXPECT_TRUE(up);
  EXPECT_EQ(results_[1], -ESTALE);
  ASSERT_EQ(states_.size(), 2U);
  EXPECT_EQ(states_[1].code(), ESTALE);
  Submit(2, BlockOp::kRead, 0, 4096, 0);
  pass(5);
  EXPECT_EQ(results_[2], -ESTALE);
  ASSERT_TRUE(newer->Submit(kTarget, {.tag = 1, .length_bytes = 4096}).ok());
  newer->Kick();
  pass(5);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].result, 4096);
}

TEST_F(BlockFaults, SuccessorOfTheSameSessionReplaces) {
  Start();
  auto successor = *BlockInitiator::Create(client_verbs_.get(), ClientOptions());
  auto other_options = ClientOptions();
  other_options.number = 1;
  auto other = *BlockInitiator::Create(client_verbs_.get(), other_options);
  initiator_.swap(successor);  // the old one is not driven any more
  ASSERT_TRUE(initiator_->SetTarget(Endpoint()).ok());
  ASSERT_TRUE(other->SetTarget(Endpoint()).ok());
  std::vector<BlockCompletion> done;
  for (int i = 0; i < 50; i++) {
    Pass(1);
    other->Poll(&done);
  }
  EXPECT_EQ(target_->counters().connections, 2U) << "number 1 lives beside number 0";
  EXPECT_EQ(Do(BlockOp::kRead, 0, 4096, 0), 4096);
}

TEST_F(BlockFaults, InitiatorsOfOneProcessLiveSideBySide) {
  auto options = ClientOptions();
  options.number.reset();
  StartTarget();
  StartClient(options);
  auto second = *BlockInitiator::Create(client_verbs_.get(), options);
  ASSERT_TRUE(second->SetTarget(Endpoint()).ok());
  std::vector<BlockCompletion> done;
  for (int i = 0; i < 100; i++) {
    Pass(1);
    second->Poll(&done);
  }
  EXPECT_EQ(target_->counters().connections, 2U);
  EXPECT_EQ(states_.size(), 1U);
}

TEST_F(BlockFaults, AddressChangeAndRemoval) {
  Start();
  auto moved = TargetOptions();
  moved.port = 7999;
  backend_.Hold(true);
  Submit(1, BlockOp::kWrite, 0, 8192, 0);
  Run(20);
  backend_.Hold(false);
  target_.reset();
  StartTarget(moved);
  auto endpoint = Endpoint();
  endpoint.port = 7999;
  ASSERT_TRUE(initiator_->SetTarget(endpoint).ok());
  Pass(50);
  EXPECT_EQ(results_[1], 8192);
  backend_.Hold(true);
  Submit(2, BlockOp::kRead, 0, 8192, 0);
  Submit(3, BlockOp::kRead, 0, 8192, 0);
  Run(20);
  initiator_->RemoveTarget(kTarget);
  Run(1);
  EXPECT_EQ(results_[2], -EHOSTDOWN);
  EXPECT_EQ(results_[3], -EHOSTDOWN);
  EXPECT_EQ(initiator_->Submit(kTarget, {.length_bytes = 4096}).code(), ENODEV);
  backend_.Hold(false);
  Run(20);
  EXPECT_EQ(target_->counters().in_hand, 0U);
}

// What was answered and not looked at yet belongs to a connection that is gone; its place in the table is used again.
TEST_F(BlockFaults, AnswersOfARemovedTargetReachNoOther) {
  Start();
  Submit(1, BlockOp::kRead, 0, 4096, 0);
  initiator_->Kick();
  for (int i = 0; i < 5; i++) target_->Poll();
  ASSERT_EQ(target_->counters().in_hand, 0U) << "it was not answered";
  initiator_->RemoveTarget(kTarget);
  TargetEndpoint next = Endpoint();
  next.id++;
  ASSERT_TRUE(initiator_->SetTarget(next).ok());
  size_t news = states_.size();
  Pass(50);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
  ASSERT_GT(states_.size(), news);
  for (; news < states_.size(); news++) EXPECT_TRUE(states_[news].ok()) << states_[news].message();
}

TEST_F(BlockFaults, NothingStaysRegistered) {
  Start();
  Do(BlockOp::kRead, 0, 4096, 0);
  initiator_.reset();
  target_.reset();
  EXPECT_EQ(fabric_.registrations(), 0U);
  EXPECT_EQ(fabric_.connections(), 0U);
}

}  // namespace
}  // namespace weft::rdma
