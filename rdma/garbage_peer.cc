// SPDX-License-Identifier: MIT
#include "rdma/garbage_peer.h"

#include <algorithm>
#include <cerrno>

namespace weft::rdma {
namespace {

constexpr uint32_t kReceives = 64;
constexpr size_t kAnswerBytes = 64;  // room for one
constexpr size_t kMessageAt = kReceives * kAnswerBytes;
constexpr size_t kMessageMax = 48 << 10;
constexpr uint32_t kNumber = 0xffffffff;  // no agent has that many threads
constexpr uint64_t kReceiveId = 1ULL << 32;
constexpr size_t kVersionAt = 44;  // the chunk version in a capsule

}  // namespace

Status GarbagePeer::Run() {
  for (auto part : {&GarbagePeer::PrivateData, &GarbagePeer::BeforeHello}) {
    if (Status s = (this->*part)(); !s.ok()) return s;
  }
  if (options_.key.empty()) return Status::Ok();
  for (auto part : {&GarbagePeer::Capsules, &GarbagePeer::ChecksumCapsules, &GarbagePeer::PeerCapsules,
                    &GarbagePeer::RandomCapsules, &GarbagePeer::TooMany}) {
    if (Status s = (this->*part)(); !s.ok()) return s;
  }
  return Status::Ok();
}

rdma::Connect GarbagePeer::GoodConnect() {
  rdma::Connect connect{
      .flags = peer_ ? kConnectPeer : uint16_t{0}, .session = session(), .depth = 8, .number = kNumber};
  std::ranges::generate(connect.nonce, [this] { return static_cast<uint8_t>(random_()); });
  return connect;
}

Capsule GarbagePeer::GoodRead() {
  return {.op = WireOp::kRead,
          .length = 4096,
          .tag = random_(),
          .session = session(),
          .address = reinterpret_cast<uint64_t>(&buffer_[kMessageAt]),
          .rkey = memory_->remote_key()};
}

std::vector<uint8_t> GarbagePeer::RandomBytes(size_t bytes) {
  std::vector<uint8_t> out(bytes);
  std::ranges::generate(out, [this] { return static_cast<uint8_t>(random_()); });
  return out;
}

Status GarbagePeer::PrivateData() {
  if (Status s = Refused("no private data", {}); !s.ok()) return s;
  for (int i = 0; i < options_.rounds; i++) {
    if (Status s = Refused("random private data", RandomBytes(1 + random_() % kConnectDataMax)); !s.ok()) return s;
  }
  struct Change {
    const char* what;
    size_t at;
    uint8_t value;
  };
  for (Change c : {Change{"another magic", 0, 'w'}, Change{"another version", 4, 9}, Change{"an unknown flag", 6, 2},
                   Change{"a peer with a session", 6, 1}, Change{"another target's uuid", 16, 0xee},
                   Change{"a depth of 65288", 49, 0xff}, Change{"reserved bytes", 50, 1}}) {
    std::array<uint8_t, kConnectBytes> bytes;
    Encode(GoodConnect(), bytes);
    bytes[c.at] = c.value;
    if (Status s = Refused(c.what, bytes); !s.ok()) return s;
  }
  return Status::Ok();
}

Status GarbagePeer::Refused(const std::string& what, std::span<const uint8_t> private_data) {
  attempts_++;
  if (Status s = Connect(private_data, kReceives); !s.ok()) return s;
  Outcome outcome = Wait();
  Close();
  if (outcome == Outcome::kRejected) return Status::Ok();
  return Error(EPROTO, "a connection with {} was not refused", what);
}

Status GarbagePeer::BeforeHello() {
  auto talk = [this](const char* what, const std::function<Status()>& f) -> Status {
    attempts_++;
    if (Status s = ConnectWell(); !s.ok()) return s.Annotate(what);
    if (Status s = f(); !s.ok()) return s.Annotate(what);
    Outcome outcome = Wait();
    Close();
    return outcome == Outcome::kClosed ? Status::Ok() : Error(EPROTO, "{}: the connection was not ended", what);
  };
  auto random_proof = [this] {
    Capsule hello{.op = WireOp::kHello, .length = kProofBytes, .session = options_.session};
    std::ranges::generate(hello.proof, [this] { return static_cast<uint8_t>(random_()); });
    return Send(hello);
  };
  // Many times: how the end reaches this side depends on how far the handshake's last message has come.
  for (int i = 0; i < options_.rounds; i++) {
    for (const Status& s : {
             talk("a command before HELLO", [this] { return Send(GoodRead()); }),
             talk("HELLO with a random proof", random_proof),
             talk("random bytes before HELLO", [this] { return Send(RandomBytes(kCapsuleBytes)); }),
             talk("an empty message", [this] { return Send(std::span<const uint8_t>{}); }),
         }) {
      if (!s.ok()) return s;
    }
  }
  attempts_++;
  Status s = ConnectWell();  // and leaves at once
  Close();
  return s;
}

Status GarbagePeer::Ended(const std::string& what, const std::function<Status()>& talk) {
  attempts_++;
  if (Status s = ConnectWell(); !s.ok()) return s.Annotate(what);
  if (Status s = Prove(); !s.ok()) return s.Annotate(what);
  if (Status s = talk(); !s.ok()) return s.Annotate(what);
  Outcome outcome = Wait();
  Close();
  return outcome == Outcome::kClosed ? Status::Ok() : Error(EPROTO, "{}: the connection was not ended", what);
}

// A target of a pool refuses it for its chunk version before it fetches anything.
Status GarbagePeer::EndedOrStale(const std::string& what, const Capsule& capsule) {
  attempts_++;
  if (Status s = Send(capsule); !s.ok()) return s.Annotate(what);
  Completion answer;
  bool stale = WaitForAnswer(&answer) && answer.tag == capsule.tag && answer.result == -ESTALE;
  bool ended = !stale && Wait() == Outcome::kClosed;
  Close();
  return stale || ended ? Status::Ok() : Error(EPROTO, "{}: neither was it refused nor the connection ended", what);
}

Status GarbagePeer::ChecksumCapsules() {
  auto with = [this](const std::string& what, const std::function<void(Capsule*)>& change, size_t data_bytes = 0) {
    return Ended("CHECKSUMS with " + what, [=, this] {
      Capsule capsule = GoodRead();
      capsule.op = WireOp::kChecksums;
      change(&capsule);
      return Send(capsule, data_bytes);
    });
  };
  for (const Status& s : {
           with("length 0", [](Capsule* c) { c->length = 0; }),
           with("length 1", [](Capsule* c) { c->length = 1; }),
           with("length 2 GiB", [](Capsule* c) { c->length = 0x80000000; }),
           with("offset 1", [](Capsule* c) { c->offset = 1; }),
           with("address 0", [](Capsule* c) { c->address = 0; }),
           with("flag FUA", [](Capsule* c) { c->flags = kWireFua; }),
           with(
               "inline data", [](Capsule* c) { c->flags = kWireInline; }, 4096),
           with("a wrong rkey", [](Capsule* c) { c->rkey ^= 0x5a5a5a; }),
       }) {
    if (!s.ok()) return s;
  }
  return Status::Ok();
}

// As another target: those only read, and have no session.
Status GarbagePeer::PeerCapsules() {
  peer_ = true;
  auto with = [this](const std::string& what, const std::function<void(Capsule*)>& change) {
    return Ended("as a peer, " + what, [=, this] {
      Capsule capsule = GoodRead();
      change(&capsule);
      return Send(capsule);
    });
  };
  auto bare = [](WireOp op, uint32_t length) {
    return [=](Capsule* c) { *c = {.op = op, .length = length, .session = c->session}; };
  };
  Status s = Status::Ok();
  for (const Status& one : {
           with("WRITE", [](Capsule* c) { c->op = WireOp::kWrite; }),
           with("FLUSH", bare(WireOp::kFlush, 0)),
           with("DISCARD", bare(WireOp::kDiscard, 4096)),
           with("WRITE_ZEROES", bare(WireOp::kWriteZeroes, 4096)),
           with("a session", [this](Capsule* c) { c->session = options_.session + 1; }),
           with("READ into a wrong rkey", [](Capsule* c) { c->rkey ^= 0x5a5a5a; }),
       }) {
    if (s.ok()) s = one;
  }
  peer_ = false;
  return s;
}

Status GarbagePeer::Capsules() {
  auto with = [this](const std::string& what, const std::function<void(Capsule*)>& change, size_t data_bytes = 0) {
    return Ended(what, [=, this] {
      Capsule capsule = GoodRead();
      change(&capsule);
      return Send(capsule, data_bytes);
    });
  };
  for (const Status& s : {
           with("flags 0xff", [](Capsule* c) { c->flags = 0xff; }),
           with("length 0", [](Capsule* c) { c->length = 0; }),
           with("length 1", [](Capsule* c) { c->length = 1; }),
           with("length 2 GiB", [](Capsule* c) { c->length = 0x80000000; }),
           with("offset 1", [](Capsule* c) { c->offset = 1; }),
           with("address 0", [](Capsule* c) { c->address = 0; }),
           with("another session", [](Capsule* c) { c->session++; }),
           with("READ into a wrong rkey", [](Capsule* c) { c->rkey ^= 0x5a5a5a; }),
           with("READ into a wrong address", [](Capsule* c) { c->address += 1ULL << 40; }),
           with("a second HELLO",
                [](Capsule* c) {
                  c->op = WireOp::kHello;
                  c->length = kProofBytes;
                }),
           with(
               "data behind a READ", [](Capsule*) {}, 512),
           with(
               "inline data that is cut short",
               [](Capsule* c) {
                 *c = {.op = WireOp::kWrite, .flags = kWireInline, .length = 4096, .session = c->session};
               },
               1000),
           with(
               "more inline data than a message holds",
               [](Capsule* c) {
                 *c = {.op = WireOp::kWrite, .flags = kWireInline, .length = 8192, .session = c->session};
               },
               8192),
           Ended("a message of 40 KiB", [this] { return Send(RandomBytes(40 << 10)); }),
       }) {
    if (!s.ok()) return s;
  }
  if (Status s = ConnectWell(); !s.ok()) return s;
  if (Status s = Prove(); !s.ok()) return s;
  Capsule capsule = GoodRead();
  capsule.op = WireOp::kWrite;
  capsule.rkey ^= 0x5a5a5a;
  return EndedOrStale("WRITE from a wrong rkey", capsule);
}

Status GarbagePeer::RandomCapsules() {
  for (int i = 0; i < options_.rounds; i++) {
    Status s = Ended("random bytes", [this] { return Send(RandomBytes(random_() % 200)); });
    if (!s.ok()) return s;
  }
  // Some bytes of a good command changed, so that one field after the other is wrong. A few are right:
  // those are answered, then the peer leaves with commands under way.
  for (int i = 0; i < options_.rounds; i++) {
    attempts_++;
    if (Status s = ConnectWell(); !s.ok()) return s;
    if (Status s = Prove(); !s.ok()) return s;
    for (int n = 0; n < 4; n++) {
      std::array<uint8_t, kCapsuleBytes> bytes;
      Encode(GoodRead(), bytes);
      size_t at = random_() % kCapsuleBytes;
      if (at == 0) at = 1;                                                 // READ stays READ: this must not write
      if (at >= kVersionAt && at < kVersionAt + sizeof(uint32_t)) at = 1;  // nor raise a chunk's version
      bytes[at] ^= static_cast<uint8_t>(1U << random_() % 8);
      if (Status s = Send(bytes); !s.ok()) return s;
    }
    if (random_() % 2) Wait();
    Close();
  }
  return Status::Ok();
}

Status GarbagePeer::TooMany() {
  // An op of the future is answered, not dropped.
  attempts_++;
  if (Status s = ConnectWell(); !s.ok()) return s;
  if (Status s = Prove(); !s.ok()) return s;
  Capsule future = GoodRead();
  future.op = static_cast<WireOp>(0x20);
  if (Status s = Send(future); !s.ok()) return s;
  Completion answer;
  if (!WaitForAnswer(&answer) || answer.tag != future.tag || answer.result != -EOPNOTSUPP) {
    return Error(EPROTO, "an unknown op was not answered with EOPNOTSUPP");
  }
  Close();
  // Far more commands than credits, then away: nothing of that may stay behind.
  attempts_++;
  if (Status s = ConnectWell(); !s.ok()) return s;
  if (Status s = Prove(); !s.ok()) return s;
  for (int i = 0; i < 60; i++) {
    if (Status s = Send(GoodRead()); !s.ok()) return s;
  }
  Close();
  return Status::Ok();
}

Status GarbagePeer::Connect(std::span<const uint8_t> private_data, uint32_t send_depth) {
  Close();
  Result<std::unique_ptr<CmChannel>> channel = verbs_->CreateCmChannel();
  if (!channel.ok()) return channel.status();
  channel_ = *std::move(channel);
  Result<std::unique_ptr<Connection>> connection = channel_->Resolve(options_.host, options_.port, 2000);
  if (!connection.ok()) return connection.status();
  connection_ = *std::move(connection);
  for (int i = 0; i < options_.turns_max && !channel_->NextEvent(&event_); i++) options_.turn();
  if (event_.type != CmEvent::Type::kResolved)
    return Error(EHOSTUNREACH, "no way to {}: {}", options_.host, event_.what);
  Device* device = connection_->device();
  Result<std::unique_ptr<CompletionQueue>> queue = device->CreateCompletionQueue(4 * kReceives);
  if (!queue.ok()) return queue.status();
  completions_ = *std::move(queue);
  Result<std::unique_ptr<Memory>> memory = device->RegisterMemory(buffer_.data(), buffer_.size(), true);
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);
  send_depth_ = send_depth;
  Status s = connection_->CreateQueues(
      {.completions = completions_.get(), .send_depth = send_depth, .receive_depth = kReceives, .inline_bytes = 0});
  if (!s.ok()) return s;
  for (uint32_t i = 0; i < kReceives; i++) {
    ReceiveWork work{.id = kReceiveId | i, .segments = 1};
    work.segment[0] = {&buffer_[i * kAnswerBytes], kAnswerBytes, memory_->local_key()};
    if (s = connection_->PostReceive({&work, 1}); !s.ok()) return s;
  }
  sent_ = 0;
  return connection_->Connect(private_data);
}

Status GarbagePeer::ConnectWell() {
  Encode(GoodConnect(), connect_bytes_);
  if (Status s = Connect(connect_bytes_, 2 * kReceives); !s.ok()) return s;
  if (Wait() != Outcome::kEstablished) return Error(ECONNREFUSED, "the target refuses a proper connection");
  return Status::Ok();
}

Status GarbagePeer::Prove() {
  auto accept = event_.data().first<kAcceptBytes>();
  Status s = Send(Capsule{.op = WireOp::kHello,
                          .length = kProofBytes,
                          .session = session(),
                          .proof = ClientProof(options_.key, connect_bytes_, accept)});
  if (!s.ok()) return s;
  Completion answer;
  if (!WaitForAnswer(&answer) || answer.result != 0) return Error(EACCES, "the target refuses a proper HELLO");
  return Status::Ok();
}

Status GarbagePeer::Send(const Capsule& capsule, size_t data_bytes) {
  std::vector<uint8_t> message(kCapsuleBytes + data_bytes, 0xa5);
  Encode(capsule, std::span<uint8_t, kCapsuleBytes>(message.data(), kCapsuleBytes));
  return Send(message);
}

Status GarbagePeer::Send(std::span<const uint8_t> message) {
  // Long messages share one place: there is one of them at a time.
  size_t at = kMessageAt + (message.size() <= 512 ? sent_ % 16 * 512 : 0);
  if (message.size() > kMessageMax || ++sent_ > send_depth_) return Error(EINVAL, "{} bytes", message.size());
  std::ranges::copy(message, &buffer_[at]);
  SendWork work{.id = sent_, .op = SendWork::Op::kSend, .signaled = true, .solicited = true, .segments = 1};
  work.segment[0] = {&buffer_[at], static_cast<uint32_t>(message.size()), memory_->local_key()};
  Status posted = connection_->PostSend({&work, 1});
  // The target may have ended the connection already: then Wait tells.
  return posted.code() == EINVAL && connection_->number() != 0 ? Status::Ok() : posted;
}

GarbagePeer::Outcome GarbagePeer::Wait() {
  for (int i = 0; i < options_.turns_max; i++) {
    if (channel_->NextEvent(&event_)) {
      switch (event_.type) {
        case CmEvent::Type::kEstablished:
          return Outcome::kEstablished;
        case CmEvent::Type::kRejected:
          return Outcome::kRejected;
        default:
          return Outcome::kClosed;
      }
    }
    options_.turn();
  }
  return Outcome::kNone;
}

bool GarbagePeer::WaitForAnswer(Completion* answer) {
  for (int i = 0; i < options_.turns_max; i++) {
    std::array<WorkCompletion, 1> done;
    if (completions_->Poll(done) == 0) {
      options_.turn();
    } else if (done[0].receive) {
      const uint8_t* bytes = &buffer_[static_cast<uint32_t>(done[0].id) * kAnswerBytes];
      return Decode(std::span(bytes, done[0].bytes), answer) == nullptr;
    } else if (done[0].status != WorkStatus::kSuccess) {
      return false;
    }
  }
  return false;
}

void GarbagePeer::Close() {
  connection_.reset();
  completions_.reset();
  memory_.reset();
  channel_.reset();
}

}  // namespace weft::rdma
