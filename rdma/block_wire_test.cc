// SPDX-License-Identifier: MIT
#include "rdma/block_wire.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

namespace weft::rdma {
namespace {

std::array<uint8_t, kConnectBytes> SomeConnect() {
  Connect c{.session = 0x1122334455667788, .depth = 128, .number = 3};
  c.target.fill(0xaa);
  c.nonce.fill(0xbb);
  std::array<uint8_t, kConnectBytes> bytes;
  Encode(c, bytes);
  return bytes;
}

std::array<uint8_t, kAcceptBytes> SomeAccept() {
  Accept a{.depth = 64, .inline_max = 4096, .capacity_bytes = 1ULL << 40, .incarnation = 7};
  a.target.fill(0xcc);
  a.nonce.fill(0xdd);
  std::array<uint8_t, kAcceptBytes> bytes;
  Encode(a, bytes);
  return bytes;
}

Capsule SomeRead() {
  return {.op = WireOp::kRead,
          .length = 8192,
          .tag = 7,
          .session = 9,
          .offset = 1 << 20,
          .address = 0x7f0000001000,
          .rkey = 0x1234,
          .chunk_version = 5};
}

const char* Check(const Capsule& c, size_t data_bytes = 0) {
  std::array<uint8_t, kCapsuleBytes> bytes;
  Encode(c, bytes);
  Capsule out;
  return Decode(bytes, data_bytes, kInlineBytesMax, &out);
}

TEST(BlockWire, ConnectRoundTrip) {
  Connect out;
  ASSERT_TRUE(Decode(SomeConnect(), &out).ok());
  EXPECT_EQ(out.session, 0x1122334455667788U);
  EXPECT_EQ(out.depth, 128);
  EXPECT_EQ(out.number, 3U);
  EXPECT_EQ(out.target[15], 0xaa);
  EXPECT_EQ(out.nonce[0], 0xbb);
}

TEST(BlockWire, AcceptRoundTripWithPadding) {
  std::vector<uint8_t> padded(196);
  auto bytes = SomeAccept();
  std::copy(bytes.begin(), bytes.end(), padded.begin());
  Accept out;
  ASSERT_TRUE(Decode(padded, &out).ok());
  EXPECT_EQ(out.depth, 64);
  EXPECT_EQ(out.capacity_bytes, 1ULL << 40);
  EXPECT_EQ(out.incarnation, 7U);
}

TEST(BlockWire, PrivateDataErrorsNameTheField) {
  Connect out;
  auto bytes = SomeConnect();
  EXPECT_EQ(Decode(std::span(bytes).first(55), &out).code(), EPROTO);
  bytes[0] ^= 1;
  EXPECT_NE(Decode(bytes, &out).message().find("magic"), std::string::npos);
  bytes = SomeConnect();
  bytes[4] = 1;
  EXPECT_EQ(Decode(bytes, &out).code(), EPROTONOSUPPORT);
  bytes = SomeConnect();
  bytes[6] = 2;
  EXPECT_NE(Decode(bytes, &out).message().find("flags"), std::string::npos);
  bytes = SomeConnect();
  bytes[48] = bytes[49] = 0;
  EXPECT_NE(Decode(bytes, &out).message().find("depth"), std::string::npos);
  bytes = SomeConnect();
  bytes[50] = 1;
  EXPECT_NE(Decode(bytes, &out).message().find("reserved"), std::string::npos);
}

TEST(BlockWire, CapsuleRoundTrip) {
  std::array<uint8_t, kCapsuleBytes> bytes;
  Encode(SomeRead(), bytes);
  Capsule out;
  ASSERT_EQ(Decode(bytes, 0, kInlineBytesMax, &out), nullptr);
  EXPECT_EQ(out.op, WireOp::kRead);
  EXPECT_EQ(out.length, 8192U);
  EXPECT_EQ(out.tag, 7U);
  EXPECT_EQ(out.session, 9U);
  EXPECT_EQ(out.offset, 1U << 20);
  EXPECT_EQ(out.address, 0x7f0000001000U);
  EXPECT_EQ(out.rkey, 0x1234U);
  EXPECT_EQ(out.chunk_version, 5U);
}

TEST(BlockWire, CapsuleFieldsAreChecked) {
  Capsule c = SomeRead();
  EXPECT_EQ(Check(c), nullptr);
  EXPECT_STREQ(Check(c, 1), "message length");
  c.length = 0;
  EXPECT_STREQ(Check(c), "length");
  c.length = kDataBytesMax + kBlockAlign;
  EXPECT_STREQ(Check(c), "length");
  c = SomeRead();
  c.offset = 512;
  EXPECT_STREQ(Check(c), "offset");
  c = SomeRead();
  c.flags = kWireFua;
  EXPECT_STREQ(Check(c), "flags");
  c.flags = 0x80;
  EXPECT_STREQ(Check(c), "flags");
  c = SomeRead();
  c.address = 0;
  EXPECT_STREQ(Check(c), "address");
}

TEST(BlockWire, InlineWrite) {
  Capsule c{.op = WireOp::kWrite, .flags = kWireInline | kWireFua, .length = 4096};
  EXPECT_EQ(Check(c, 4096), nullptr);
  EXPECT_STREQ(Check(c, 4095), "length");
  EXPECT_STREQ(Check(c, 0), "length");
  c.length = 8192;
  EXPECT_STREQ(Check(c, 8192), "length");
  c.op = WireOp::kRead;
  c.length = 4096;
  EXPECT_NE(Check(c, 4096), nullptr);
}

TEST(BlockWire, Checksums) {
  Capsule c{.op = WireOp::kChecksums, .length = kRangeBytesMax, .offset = 4096, .address = 1, .rkey = 2};
  EXPECT_EQ(Check(c), nullptr);
  EXPECT_EQ(c.data_bytes(), kDataBytesMax) << "the most that an answer has";
  EXPECT_TRUE(IsKnown(c.op));
  EXPECT_TRUE(IsAnsweredByData(c.op));
  c.length = 8192;
  EXPECT_EQ(c.data_bytes(), 8U);
  EXPECT_STREQ(Check(c, 8), "message length");
  for (uint32_t length : {0U, 4095U, kRangeBytesMax + kBlockAlign}) {
    c.length = length;
    EXPECT_STREQ(Check(c), "length") << length;
  }
  c.length = 4096;
  for (uint8_t flags : {kWireFua, kWireInline, uint8_t{0x80}}) {
    c.flags = flags;
    EXPECT_STREQ(Check(c), "flags") << int{flags};
  }
  c.flags = 0;
  c.offset = 1;
  EXPECT_STREQ(Check(c), "offset");
  c.offset = 0;
  c.address = 0;
  EXPECT_STREQ(Check(c), "address");
}

TEST(BlockWire, PeersHaveNoSession) {
  std::array<uint8_t, kConnectBytes> bytes;
  Connect out;
  Encode(Connect{.flags = kConnectPeer, .depth = 4, .number = 77}, bytes);
  ASSERT_TRUE(Decode(bytes, &out).ok());
  EXPECT_EQ(out.flags, kConnectPeer);
  EXPECT_EQ(out.number, 77U);
  Encode(Connect{.flags = kConnectPeer, .session = 1, .depth = 4}, bytes);
  EXPECT_NE(Decode(bytes, &out).message().find("session 1"), std::string::npos);
  for (uint16_t flags : {0x0002, 0x0003, 0x8000}) {
    Encode(Connect{.flags = flags, .depth = 4}, bytes);
    EXPECT_EQ(Decode(bytes, &out).code(), EPROTO) << flags;
  }
}

TEST(BlockWire, AnIncarnationOfZeroIsRefused) {
  std::array<uint8_t, kAcceptBytes> bytes;
  Encode(Accept{.depth = 4}, bytes);
  Accept out;
  EXPECT_NE(Decode(bytes, &out).message().find("incarnation"), std::string::npos);
}

TEST(BlockWire, OpsWithoutData) {
  EXPECT_EQ(Check({.op = WireOp::kFlush}), nullptr);
  EXPECT_EQ(Check({.op = WireOp::kPing}), nullptr);
  EXPECT_STREQ(Check({.op = WireOp::kFlush, .length = 4096}), "length");
  EXPECT_STREQ(Check({.op = WireOp::kFlush, .flags = kWireFua}), "flags");
  EXPECT_EQ(Check({.op = WireOp::kWriteZeroes, .flags = kWireFua, .length = 1U << 30}), nullptr);
  EXPECT_STREQ(Check({.op = WireOp::kDiscard, .length = 4096, .rkey = 1}), "address");
  EXPECT_EQ(Check({.op = WireOp::kHello, .length = kProofBytes}), nullptr);
  EXPECT_STREQ(Check({.op = WireOp::kHello, .length = 1}), "length");
  EXPECT_EQ(Check({.op = static_cast<WireOp>(7)}), nullptr) << "unknown ops are answered, not dropped";
  EXPECT_FALSE(IsKnown(static_cast<WireOp>(7)));
}

TEST(BlockWire, RandomBytesNeverPassTheMagic) {
  std::mt19937 random(1);
  for (int i = 0; i < 100000; i++) {
    std::array<uint8_t, 80> bytes;
    for (auto& b : bytes) b = static_cast<uint8_t>(random());
    bytes[2] = static_cast<uint8_t>(bytes[2] == 'W' ? 'X' : bytes[2]);
    Capsule capsule;
    EXPECT_NE(Decode(std::span(bytes).first<kCapsuleBytes>(), random() % 4096, kInlineBytesMax, &capsule), nullptr);
    Connect connect;
    EXPECT_FALSE(Decode(std::span<const uint8_t>(bytes), &connect).ok());
    Accept accept;
    EXPECT_FALSE(Decode(std::span<const uint8_t>(bytes), &accept).ok());
    Completion completion;
    EXPECT_NE(Decode(std::span(bytes).first(random() % 15), &completion), nullptr);
  }
}

TEST(BlockWire, ProofsDependOnEverything) {
  std::vector<uint8_t> key(32, 1);
  auto connect = SomeConnect();
  auto accept = SomeAccept();
  Proof target = TargetProof(key, connect, accept);
  Proof client = ClientProof(key, connect, accept);
  EXPECT_FALSE(SameProof(target, client));
  EXPECT_TRUE(SameProof(target, TargetProof(key, connect, accept)));
  accept[kAcceptBytes - 1] ^= 1;  // the proof itself: not part of the target's text, part of the client's
  EXPECT_TRUE(SameProof(target, TargetProof(key, connect, accept)));
  EXPECT_FALSE(SameProof(client, ClientProof(key, connect, accept)));
  connect[8] ^= 1;
  EXPECT_FALSE(SameProof(target, TargetProof(key, connect, accept)));
  connect[8] ^= 1;
  key[31] ^= 1;
  EXPECT_FALSE(SameProof(target, TargetProof(key, connect, accept)));
}

}  // namespace
}  // namespace weft::rdma
