// SPDX-License-Identifier: MIT
//
// An initiator and a target that knows the cluster key and answers nonsense: each lie costs the
// connection and is named in the log, none completes a command, and an honest target finishes them all.
#include <algorithm>
#include <functional>

#include "rdma/block_fixture.h"
#include "rdma/block_wire.h"

namespace weft::rdma {
namespace {

constexpr uint32_t kSendDepth = 16;
constexpr size_t kMessages = 8;

// One connection's worth of a target: accepts, answers HELLO, then lies once.
class LyingTarget {
 public:
  // Answers one command. What it sends goes out through Say or SayData.
  using Lie = std::function<void(LyingTarget*, const Capsule&)>;

  LyingTarget(Verbs* verbs, const std::string& host, std::vector<uint8_t> key, std::array<uint8_t, 16> uuid, Lie lie)
      : key_(std::move(key)), uuid_(uuid), lie_(std::move(lie)) {
    channel_ = *verbs->CreateCmChannel();
    listener_ = *channel_->Listen(host, 7471, 4);
  }

  void Turn() {
    CmEvent event;
    while (channel_->NextEvent(&event)) {
      if (event.type == CmEvent::Type::kRequest && !connection_) OnRequest(&event);
      if (event.type == CmEvent::Type::kDisconnected && event.connection == connection_.get()) broken_ = true;
      event = CmEvent{};
    }
    std::array<WorkCompletion, 16> done;
    size_t count = completions_ ? completions_->Poll(done) : 0;
    for (size_t i = 0; i < count; i++) {
      if (!done[i].receive) continue;
      Capsule capsule;
      auto bytes = std::span<const uint8_t, kCapsuleBytes>(&buffer_[done[i].id * kCapsuleBytes], kCapsuleBytes);
      ASSERT_EQ(Decode(bytes, done[i].bytes - kCapsuleBytes, 0, &capsule), nullptr);
      if (capsule.op == WireOp::kHello) {
        Say({.tag = capsule.tag, .result = 0});
      } else {
        lie_(this, capsule);
      }
    }
  }
  bool broken() const { return broken_; }

  void Say(const Completion& completion) {
    std::array<uint8_t, kCompletionBytes> bytes;
    Encode(completion, bytes);
    SayBytes(bytes);
  }
  void SayBytes(std::span<const uint8_t> bytes) {
    std::ranges::copy(bytes, &buffer_[kMessages * kCapsuleBytes]);
    Send({.op = SendWork::Op::kSend}, static_cast<uint32_t>(bytes.size()));
  }
  // What a READ is answered with: `bytes` of data at the address that `capsule` names.
  void SayData(const Capsule& capsule, uint32_t immediate, uint32_t bytes) {
    Send({.op = SendWork::Op::kWriteImmediate,
          .remote_address = capsule.address,
          .remote_key = capsule.rkey,
          .immediate = immediate},
         bytes);
  }

 private:
  void OnRequest(CmEvent* event) {
    connection_ = std::move(event->incoming);
    Device* device = connection_->device();
    memory_ = *device->RegisterMemory(buffer_.data(), buffer_.size(), false);
    completions_ = *device->CreateCompletionQueue(64);
    ASSERT_TRUE(connection_
                    ->CreateQueues({.completions = completions_.get(),
                                    .send_depth = kSendDepth,
                                    .receive_depth = kMessages,
                                    .inline_bytes = 0})
                    .ok());
    std::vector<ReceiveWork> receives(kMessages);
    for (size_t i = 0; i < kMessages; i++) {
      receives[i] = {.id = i, .segments = 1};
      receives[i].segment[0] = {&buffer_[i * kCapsuleBytes], kCapsuleBytes, memory_->local_key()};
    }
    ASSERT_TRUE(connection_->PostReceive(receives).ok());
    std::array<uint8_t, kAcceptBytes> bytes;
    Accept accept{.depth = kMessages, .inline_max = 0, .capacity_bytes = 1 << 20, .target = uuid_, .incarnation = 1};
    Encode(accept, bytes);
    accept.proof = TargetProof(key_, event->data().first<kConnectBytes>(), bytes);
    Encode(accept, bytes);
    ASSERT_TRUE(connection_->Accept(bytes).ok());
  }
  void Send(SendWork work, uint32_t bytes) {
    work.signaled = work.solicited = true;
    work.segments = 1;
    work.segment[0] = {&buffer_[kMessages * kCapsuleBytes], bytes, memory_->local_key()};
    ASSERT_TRUE(connection_->PostSend({&work, 1}).ok());
  }

  std::vector<uint8_t> key_;
  std::array<uint8_t, 16> uuid_;
  Lie lie_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(64 << 10, 0xee);
  std::unique_ptr<CmChannel> channel_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<CompletionQueue> completions_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Connection> connection_;
  bool broken_ = false;
};

struct LieCase {
  const char* name;
  const char* said;  // in the log
  BlockOp op;
  LyingTarget::Lie lie;
};

uint32_t Low(const Capsule& capsule) { return static_cast<uint32_t>(capsule.tag); }
int32_t Length(const Capsule& capsule) { return static_cast<int32_t>(capsule.length); }

const LieCase kLies[] = {
    {"ForeignTag", "names no command", BlockOp::kWriteZeroes,
     [](LyingTarget* t, const Capsule& c) { t->Say({.tag = c.tag ^ 0x5555, .result = Length(c)}); }},
    {"EarlierLifeOfTheSlot", "names no command", BlockOp::kWriteZeroes,
     [](LyingTarget* t, const Capsule& c) { t->Say({.tag = c.tag - (1 << 16), .result = Length(c)}); }},
    {"ShortResult", "with result 4096, expected 8192", BlockOp::kWriteZeroes,
     [](LyingTarget* t, const Capsule& c) { t->Say({.tag = c.tag, .result = 4096}); }},
    {"Truncated", "bad message length in a completion", BlockOp::kFlush,
     [](LyingTarget* t, const Capsule& c) { t->SayBytes(std::array<uint8_t, 7>{}); }},
    {"ForeignBytes", "bad magic in a completion", BlockOp::kFlush,
     [](LyingTarget* t, const Capsule& c) {
       t->SayBytes(std::array<uint8_t, kCompletionBytes>{1, 2, 3});
     }},
    {"ReadWithoutItsData", "expected its data", BlockOp::kRead,
     [](LyingTarget* t, const Capsule& c) { t->Say({.tag = c.tag, .result = Length(c)}); }},
    {"DataOfAnotherLength", "4096 bytes of data for op 1 of length 8192", BlockOp::kRead,
     [](LyingTarget* t, const Capsule& c) { t->SayData(c, Low(c), 4096); }},
    {"DataForNobody", "names no command", BlockOp::kRead,
     [](LyingTarget* t, const Capsule& c) { t->SayData(c, Low(c) + 1, c.length); }},
    {"DataOfAnEarlierLife", "names no command", BlockOp::kRead,
     [](LyingTarget* t, const Capsule& c) { t->SayData(c, Low(c) + (7 << 16), c.length); }},
    {"ChecksumsWithoutThem", "expected its data", BlockOp::kChecksums,
     [](LyingTarget* t, const Capsule& c) { t->Say({.tag = c.tag, .result = 8}); }},
    {"MoreThanTheChecksums", "8192 bytes of data for op 6 of length 8192", BlockOp::kChecksums,
     [](LyingTarget* t, const Capsule& c) { t->SayData(c, Low(c), c.length); }},
};

class LyingTargetTest : public BlockFixture, public ::testing::WithParamInterface<LieCase> {};

TEST_P(LyingTargetTest, CostsItTheConnectionAndNothingElse) {
  auto liar = std::make_unique<LyingTarget>(target_verbs_.get(), kTargetHost, key_, uuid_, GetParam().lie);
  StartClient();
  testing::internal::CaptureStdout();
  uint32_t length = GetParam().op == BlockOp::kFlush ? 0 : 8192;
  for (int i = 0; i < 50; i++) {
    liar->Turn();
    Pass(1);
  }
  Submit(1, GetParam().op, 0, length, 0);
  for (int i = 0; i < 50 && !liar->broken(); i++) {
    liar->Turn();
    Pass(1);
  }
  std::string log = testing::internal::GetCapturedStdout();
  EXPECT_TRUE(liar->broken()) << "the initiator goes on with it";
  EXPECT_NE(log.find(GetParam().said), std::string::npos) << log;
  EXPECT_TRUE(results_.empty()) << "a lie has completed a command";

  liar.reset();
  StartTarget();
  for (int i = 0; i < 3000 && results_.empty(); i++) Pass(1);
  EXPECT_EQ(results_[1], static_cast<int32_t>(GetParam().op == BlockOp::kChecksums ? length / 1024 : length));
}

INSTANTIATE_TEST_SUITE_P(Lies, LyingTargetTest, ::testing::ValuesIn(kLies),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weft::rdma
