// SPDX-License-Identifier: MIT
#include "rdma/block_wire.h"

#include <algorithm>
#include <cerrno>

namespace weft::rdma {
namespace {

constexpr uint32_t kPrivateMagic = 0x42464557;  // "WEFB"
constexpr uint16_t kCapsuleMagic = 0x6657;      // "Wf"
constexpr uint16_t kCompletionMagic = 0x6357;   // "Wc"

// Writes fields one after the other; the caller's span has room for all of them.
class Writer {
 public:
  explicit Writer(std::span<uint8_t> out) : at_(out.data()) {}
  template <typename T>
  void Put(T value) {
    for (size_t i = 0; i < sizeof(T); i++) *at_++ = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
  }
  void PutBytes(std::span<const uint8_t> bytes) { at_ = std::copy(bytes.begin(), bytes.end(), at_); }
  void PutZeroes(size_t count) { at_ = std::fill_n(at_, count, uint8_t{0}); }

 private:
  uint8_t* at_;
};

// Reads fields one after the other; the caller has checked the length.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> in) : at_(in.data()) {}
  template <typename T>
  T Get() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); i++) value |= static_cast<uint64_t>(*at_++) << (8 * i);
    return static_cast<T>(value);
  }
  void GetBytes(std::span<uint8_t> out) {
    std::copy_n(at_, out.size(), out.begin());
    at_ += out.size();
  }
  bool GetZeroes(size_t count) {
    bool zero = std::all_of(at_, at_ + count, [](uint8_t b) { return b == 0; });
    at_ += count;
    return zero;
  }

 private:
  const uint8_t* at_;
};

Status CheckHead(std::string_view what, size_t bytes, size_t bytes_min, Reader* in, uint16_t* version) {
  if (bytes < bytes_min) return Error(EPROTO, "{} data of {} bytes, at least {} expected", what, bytes, bytes_min);
  if (uint32_t magic = in->Get<uint32_t>(); magic != kPrivateMagic) {
    return Error(EPROTO, "{} data with magic {:#010x}: this is not the weft block protocol", what, magic);
  }
  *version = in->Get<uint16_t>();
  return Status::Ok();
}

Status CheckVersion(std::string_view what, uint16_t version) {
  if (version == kBlockVersion) return Status::Ok();
  return Error(EPROTONOSUPPORT, "{} data with protocol version {}, this side speaks {}", what, version, kBlockVersion);
}

const char* CheckData(const Capsule& c, uint32_t inline_max, size_t data_bytes) {
  if (c.length == 0 || c.length > kDataBytesMax || c.length % kBlockAlign) return "length";
  if (c.offset % kBlockAlign) return "offset";
  if (c.flags & kWireInline) {
    if (c.op != WireOp::kWrite) return "flags";
    if (c.length > inline_max || data_bytes != c.length) return "length";
    return c.address || c.rkey ? "address" : nullptr;
  }
  if (c.op == WireOp::kRead && c.flags) return "flags";
  return c.address ? nullptr : "address";
}

const char* CheckChecksums(const Capsule& c) {
  if (c.length == 0 || c.length > kRangeBytesMax || c.length % kBlockAlign) return "length";
  if (c.offset % kBlockAlign) return "offset";
  if (c.flags) return "flags";
  return c.address ? nullptr : "address";
}

const char* CheckNoData(const Capsule& c, bool ranged) {
  if (c.address || c.rkey) return "address";
  if (c.flags & (c.op == WireOp::kWriteZeroes ? ~kWireFua : 0xff)) return "flags";
  if (!ranged) return c.length || c.offset ? "length" : nullptr;
  if (c.length == 0 || c.length > kRangeBytesMax || c.length % kBlockAlign) return "length";
  return c.offset % kBlockAlign ? "offset" : nullptr;
}

}  // namespace

void Encode(const Connect& in, std::span<uint8_t, kConnectBytes> out) {
  Writer w(out);
  w.Put(kPrivateMagic);
  w.Put(in.version);
  w.Put(in.flags);
  w.Put(in.session);
  w.PutBytes(in.target);
  w.PutBytes(in.nonce);
  w.Put(in.depth);
  w.Put(uint16_t{0});
  w.Put(in.number);
}

void Encode(const Accept& in, std::span<uint8_t, kAcceptBytes> out) {
  Writer w(out);
  w.Put(kPrivateMagic);
  w.Put(in.version);
  w.Put(uint16_t{0});
  w.Put(in.depth);
  w.Put(uint16_t{0});
  w.Put(in.inline_max);
  w.Put(in.capacity_bytes);
  w.PutBytes(in.target);
  w.PutBytes(in.nonce);
  w.Put(in.incarnation);
  w.PutBytes(in.proof);
}

void Encode(const Reject& in, std::span<uint8_t, kRejectBytes> out) {
  Writer w(out);
  w.Put(kPrivateMagic);
  w.Put(in.version);
  w.Put(static_cast<uint16_t>(in.reason));
  w.Put(in.value);
}

void Encode(const Capsule& in, std::span<uint8_t, kCapsuleBytes> out) {
  Writer w(out);
  w.Put(static_cast<uint8_t>(in.op));
  w.Put(in.flags);
  w.Put(kCapsuleMagic);
  w.Put(in.length);
  w.Put(in.tag);
  w.Put(in.session);
  if (in.op == WireOp::kHello) {
    w.PutBytes(in.proof);
    w.PutZeroes(8);
    return;
  }
  w.Put(in.offset);
  w.Put(in.address);
  w.Put(in.rkey);
  w.Put(in.chunk_version);
  w.PutZeroes(16);
}

void Encode(const Completion& in, std::span<uint8_t, kCompletionBytes> out) {
  Writer w(out);
  w.Put(in.tag);
  w.Put(in.result);
  w.Put(kCompletionMagic);
  w.Put(uint16_t{0});
}

Status Decode(std::span<const uint8_t> in, Connect* out) {
  Reader r(in);
  if (Status s = CheckHead("connect", in.size(), kConnectBytes, &r, &out->version); !s.ok()) return s;
  if (Status s = CheckVersion("connect", out->version); !s.ok()) return s;
  out->flags = r.Get<uint16_t>();
  out->session = r.Get<uint64_t>();
  r.GetBytes(out->target);
  r.GetBytes(out->nonce);
  out->depth = r.Get<uint16_t>();
  auto reserved = r.Get<uint16_t>();
  out->number = r.Get<uint32_t>();
  if (out->flags & ~kConnectPeer) return Error(EPROTO, "connect data with unknown flags {:#x}", out->flags);
  if ((out->flags & kConnectPeer) && out->session) {
    return Error(EPROTO, "connect data of a peer with session {}", out->session);
  }
  if (reserved) return Error(EPROTO, "connect data with reserved bytes {:#x}", reserved);
  if (out->depth == 0 || out->depth > kDepthMax) {
    return Error(EPROTO, "connect data asks for a depth of {}, 1 to {} are possible", out->depth, kDepthMax);
  }
  return Status::Ok();
}

Status Decode(std::span<const uint8_t> in, Accept* out) {
  Reader r(in);
  if (Status s = CheckHead("accept", in.size(), kAcceptBytes, &r, &out->version); !s.ok()) return s;
  if (Status s = CheckVersion("accept", out->version); !s.ok()) return s;
  auto flags = r.Get<uint16_t>();
  out->depth = r.Get<uint16_t>();
  auto reserved = r.Get<uint16_t>();
  out->inline_max = r.Get<uint32_t>();
  out->capacity_bytes = r.Get<uint64_t>();
  r.GetBytes(out->target);
  r.GetBytes(out->nonce);
  out->incarnation = r.Get<uint64_t>();
  r.GetBytes(out->proof);
  if (flags) return Error(EPROTO, "accept data with unknown flags {:#x}", flags);
  if (reserved) return Error(EPROTO, "accept data with reserved bytes {:#x}", reserved);
  if (out->depth == 0 || out->depth > kDepthMax) {
    return Error(EPROTO, "accept data grants a depth of {}, 1 to {} are possible", out->depth, kDepthMax);
  }
  if (out->incarnation == 0) return Error(EPROTO, "accept data with incarnation 0");
  if (out->inline_max > kDataBytesMax) {
    return Error(EPROTO, "accept data with an inline maximum of {} bytes", out->inline_max);
  }
  return Status::Ok();
}

Status Decode(std::span<const uint8_t> in, Reject* out) {
  Reader r(in);
  if (Status s = CheckHead("reject", in.size(), kRejectBytes, &r, &out->version); !s.ok()) return s;
  out->reason = static_cast<RejectReason>(r.Get<uint16_t>());
  out->value = r.Get<uint64_t>();
  return Status::Ok();
}

const char* Decode(std::span<const uint8_t, kCapsuleBytes> in, size_t data_bytes, uint32_t inline_max, Capsule* out) {
  Reader r(in);
  out->op = static_cast<WireOp>(r.Get<uint8_t>());
  out->flags = r.Get<uint8_t>();
  if (r.Get<uint16_t>() != kCapsuleMagic) return "magic";
  out->length = r.Get<uint32_t>();
  out->tag = r.Get<uint64_t>();
  out->session = r.Get<uint64_t>();
  if (data_bytes && !(out->flags & kWireInline)) return "message length";
  if (out->op == WireOp::kHello) {
    r.GetBytes(out->proof);
    if (!r.GetZeroes(8)) return "reserved bytes";
    if (out->flags) return "flags";
    return out->length == kProofBytes ? nullptr : "length";
  }
  out->offset = r.Get<uint64_t>();
  out->address = r.Get<uint64_t>();
  out->rkey = r.Get<uint32_t>();
  out->chunk_version = r.Get<uint32_t>();
  if (!r.GetZeroes(16)) return "reserved bytes";
  if (out->flags & ~(kWireFua | kWireInline)) return "flags";
  switch (out->op) {
    case WireOp::kRead:
    case WireOp::kWrite:
      return CheckData(*out, inline_max, data_bytes);
    case WireOp::kChecksums:
      return CheckChecksums(*out);
    case WireOp::kDiscard:
    case WireOp::kWriteZeroes:
      return CheckNoData(*out, true);
    case WireOp::kFlush:
    case WireOp::kPing:
      return CheckNoData(*out, false);
    default:
      return nullptr;
  }
}

const char* Decode(std::span<const uint8_t> message, Completion* out) {
  if (message.size() != kCompletionBytes) return "message length";
  Reader r(message);
  out->tag = r.Get<uint64_t>();
  out->result = r.Get<int32_t>();
  if (r.Get<uint16_t>() != kCompletionMagic) return "magic";
  return r.Get<uint16_t>() == 0 ? nullptr : "reserved bytes";
}

bool IsKnown(WireOp op) {
  switch (op) {
    case WireOp::kRead:
    case WireOp::kWrite:
    case WireOp::kFlush:
    case WireOp::kDiscard:
    case WireOp::kWriteZeroes:
    case WireOp::kPing:
    case WireOp::kHello:
    case WireOp::kChecksums:
      return true;
  }
  return false;
}

bool IsAnsweredByData(WireOp op) { return op == WireOp::kRead || op == WireOp::kChecksums; }

uint32_t Capsule::data_bytes() const {
  if (op == WireOp::kRead || op == WireOp::kWrite) return length;
  return op == WireOp::kChecksums ? length / kBlockAlign * static_cast<uint32_t>(sizeof(uint32_t)) : 0;
}

}  // namespace weft::rdma
