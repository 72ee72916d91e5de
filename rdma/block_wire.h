// SPDX-License-Identifier: MIT
//
// The block protocol between an initiator (weftd, or another target) and a target (weft-target), version 2.
// Functions are pure; use from any thread.
//
// All integers are little-endian. Reserved bytes are zero and refused when not. Sizes in bytes.
//
// Connection (private data of the RDMA connection manager):
//
//   connect  := magic:u32 "WEFB"  version:u16  flags:u16  session:u64  target-uuid:16 (zero: whoever answers)
//               client-nonce:16  depth:u16 (credits wanted)  reserved:u16  number:u32            56 bytes
//   flags    := PEER: the initiator is a target that copies chunks: session 0, sends READ, CHECKSUMS and PING only
//   accept   := magic:u32 "WEFB"  version:u16  flags:u16=0  depth:u16 (credits granted)  reserved:u16
//               inline-max:u32  capacity:u64 (data area)  target-uuid:16  target-nonce:16
//               incarnation:u64  target-proof:32                                             96 bytes
//   reject   := magic:u32 "WEFB"  version:u16 (highest known)  reason:u16  value:u64          16 bytes
//
//   target-proof := HMAC-SHA256(cluster key, "weft block target" connect accept-without-proof)
//   client-proof := HMAC-SHA256(cluster key, "weft block client" connect accept)
//
// `number` tells the connections of one session apart (one per thread of an agent). Those of peers are told apart
// by it alone: it is random, and the same for all connections that one initiator of a peer makes. The
// incarnation is not 0 and changes when writes that were acknowledged and not flushed may have been lost:
// when the target's host was started anew, not when its process was. The connection manager may pad private data with
// zeroes to its own maximum; a shorter one is refused.
//
// Messages (SEND) of the client: command capsules, at most `depth` unanswered ones. The first is HELLO;
// nothing else is accepted before it, and nothing else is sent before it is answered.
//
//   capsule  := op:u8  flags:u8  magic:u16 "Wf"  length:u32  tag:u64  session:u64  rest:40    64 bytes
//   rest     := proof:32 reserved:8                                                 when op = HELLO
//             | offset:u64  address:u64  rkey:u32  chunk-version:u32  reserved:16   otherwise
//   message  := capsule | capsule data:length                     (the latter with flag INLINE)
//
//   op      READ          target RDMA WRITEs length bytes to address/rkey, with immediate
//           WRITE         target RDMA READs length bytes from there, or takes them from the message
//           FLUSH         what was acknowledged before it came is durable when it is answered
//           DISCARD       contents undefined afterwards
//           WRITE_ZEROES
//           CHECKSUMS     as READ, but what is written is the range's checksums, one little-endian u32 for
//                         each 4096 bytes: CRC-32C, or 0 where none is known (a CRC of 0 is
//                         given as 1, one of 2 as 3)
//           PING          answered at once: the target's engine lives
//           HELLO         client-proof
//   flags   FUA (WRITE, WRITE_ZEROES): durable before it is answered
//           INLINE (WRITE): length <= inline-max
//
// Offset and length are multiples of 4096, length > 0: at most 1 MiB for READ and WRITE, 1 GiB for CHECKSUMS
// (whose answer has at most 1 MiB), DISCARD and WRITE_ZEROES (address and rkey 0 for these two). FLUSH, PING:
// offset, length, address and rkey 0. HELLO: length 32.
//
// The data area is cut into places as large as the pool's chunks; a command with a range stays inside one.
// Of each place the target keeps the highest chunk version that a command named, durably, before it
// executes that command, and answers -ESTALE to smaller ones. A command that raises the version is executed
// when no command with a smaller one is under way there. So who reads a copy under a new version knows that
// nothing is written to it any more by somebody who does not know of that version. No chunk has version 0: READ
// and CHECKSUMS with it look at what is there, whatever its version (tools and tests do); others are refused.
//
// The fence is the session: HELLO raises the highest session that the target has
// seen (kept in its label); a smaller one is refused when it connects, answered with -ESTALE in
// commands, and its connections are closed. HELLO is answered only when no I/O is under way any more
// from connections that it replaces: those of smaller sessions, and the one of the same session and
// number. So a write of a broken connection never lands after one that was sent again. Peers are neither fenced
// nor do they fence; they change nothing, and chunk versions tell what they may read. A peer's connection replaces
// the one of a peer with the same number.
//
// Answers of the target: one for each capsule, in any order. That of a READ that succeeded is its data: an
// RDMA WRITE of all of it, whose immediate is the low half of the tag (so one packet, acknowledgement and
// work request less than data and a message; a client whose tags do not differ there cannot READ). All
// others are messages (SEND):
//
//   completion := tag:u64  result:i32  magic:u16 "Wc"  reserved:u16                          16 bytes
//   result     := bytes (WRITE, DISCARD, WRITE_ZEROES: length; else 0) | -errno
//
// (The answer of a CHECKSUMS that succeeded is its data, as that of a READ.)
//
// Capsules and answers are sent solicited, so that either side may sleep until one comes.
//
// -EINVAL: outside the data area, or of one place. -EOPNOTSUPP: an op that this target does not know.
// -ESTALE: fenced, or a chunk version that is out of date. -ENOSPC: no space behind the target. -EBADMSG: a
// block does not match its checksum. -EIO: the device failed. Whatever breaks the grammar ends the
// connection; the target logs the field.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "userland/base/status.h"

namespace weft::rdma {

inline constexpr uint16_t kBlockVersion = 2;
inline constexpr uint32_t kBlockAlign = 4096;
inline constexpr uint32_t kDataBytesMax = 1U << 20;   // of one READ or WRITE
inline constexpr uint32_t kRangeBytesMax = 1U << 30;  // of one CHECKSUMS, DISCARD or WRITE_ZEROES
inline constexpr uint32_t kInlineBytesMax = 4096;     // that this implementation offers
inline constexpr uint16_t kDepthMax = 1024;           // credits of one connection
inline constexpr size_t kProofBytes = 32;
inline constexpr size_t kNonceBytes = 16;
inline constexpr size_t kUuidBytes = 16;

inline constexpr size_t kConnectBytes = 56;
inline constexpr size_t kAcceptBytes = 96;
inline constexpr size_t kRejectBytes = 16;
inline constexpr size_t kCapsuleBytes = 64;
inline constexpr size_t kCompletionBytes = 16;

enum class WireOp : uint8_t {
  kRead = 1,
  kWrite = 2,
  kFlush = 3,
  kDiscard = 4,
  kWriteZeroes = 5,
  kChecksums = 6,
  kPing = 0x40,
  kHello = 0x41,
};

inline constexpr uint16_t kConnectPeer = 0x0001;
inline constexpr uint8_t kWireFua = 0x02;
inline constexpr uint8_t kWireInline = 0x04;

enum class RejectReason : uint16_t {
  kVersion = 1,      // value: 0
  kMalformed = 2,    // connect data was not understood
  kWrongTarget = 3,  // another target answers at this address
  kFenced = 4,       // value: the highest session
  kBusy = 5,         // no receive buffers or connections left
};

struct Connect {
  uint16_t version = kBlockVersion;
  uint16_t flags = 0;  // kConnectPeer
  uint64_t session = 0;
  std::array<uint8_t, kUuidBytes> target{};
  std::array<uint8_t, kNonceBytes> nonce{};
  uint16_t depth = 0;
  uint32_t number = 0;
};

struct Accept {
  uint16_t version = kBlockVersion;
  uint16_t depth = 0;
  uint32_t inline_max = 0;
  uint64_t capacity_bytes = 0;
  std::array<uint8_t, kUuidBytes> target{};
  std::array<uint8_t, kNonceBytes> nonce{};
  uint64_t incarnation = 0;
  std::array<uint8_t, kProofBytes> proof{};
};

struct Reject {
  uint16_t version = kBlockVersion;
  RejectReason reason = RejectReason::kMalformed;
  uint64_t value = 0;
};

struct Capsule {
  WireOp op = WireOp::kRead;
  uint8_t flags = 0;
  uint32_t length = 0;
  uint64_t tag = 0;
  uint64_t session = 0;
  uint64_t offset = 0;
  uint64_t address = 0;
  uint32_t rkey = 0;
  uint32_t chunk_version = 0;
  std::array<uint8_t, kProofBytes> proof{};  // kHello

  // That move between the target and address/rkey, or lie in the message. Of a capsule that was decoded.
  uint32_t data_bytes() const;
};

struct Completion {
  uint64_t tag = 0;
  int32_t result = 0;
};

void Encode(const Connect& in, std::span<uint8_t, kConnectBytes> out);
void Encode(const Accept& in, std::span<uint8_t, kAcceptBytes> out);
void Encode(const Reject& in, std::span<uint8_t, kRejectBytes> out);
void Encode(const Capsule& in, std::span<uint8_t, kCapsuleBytes> out);
void Encode(const Completion& in, std::span<uint8_t, kCompletionBytes> out);

// EPROTO: foreign bytes, EPROTONOSUPPORT: a version that is not ours; the message names the field.
Status Decode(std::span<const uint8_t> in, Connect* out);
Status Decode(std::span<const uint8_t> in, Accept* out);
Status Decode(std::span<const uint8_t> in, Reject* out);

// What is wrong with a message, as the name of the field; nullptr: nothing. No allocation.
// data_bytes: of the message behind the capsule. An op that is unknown but well formed otherwise is no
// error here: see IsKnown.
const char* Decode(std::span<const uint8_t, kCapsuleBytes> in, size_t data_bytes, uint32_t inline_max, Capsule* out);
const char* Decode(std::span<const uint8_t> message, Completion* out);
bool IsKnown(WireOp op);
bool IsAnsweredByData(WireOp op);

using Proof = std::array<uint8_t, kProofBytes>;
Proof TargetProof(std::span<const uint8_t> key, std::span<const uint8_t, kConnectBytes> connect,
                  std::span<const uint8_t, kAcceptBytes> accept);
Proof ClientProof(std::span<const uint8_t> key, std::span<const uint8_t, kConnectBytes> connect,
                  std::span<const uint8_t, kAcceptBytes> accept);
bool SameProof(const Proof& a, const Proof& b);  // in constant time

}  // namespace weft::rdma
