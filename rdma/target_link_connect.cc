// SPDX-License-Identifier: MIT
//
// The connection of a link: handshake, time limits, breaking and making it again.
#include <openssl/rand.h>

#include <algorithm>
#include <cerrno>

#include "rdma/target_link.h"
#include "userland/base/address.h"
#include "userland/base/log.h"

namespace weft::rdma {
namespace {

constexpr uint32_t kBackoffMinMs = 10;
constexpr uint32_t kBackoffMaxMs = 1000;
constexpr uint64_t kSteadyMs = 1000;  // up for so long: the next break starts the back-off anew
constexpr uint32_t kAttemptMs = 3000;
constexpr size_t kWaitingMin = 64;

}  // namespace

TargetLink::TargetLink(LinkHost* host, const TargetEndpoint& endpoint, uint16_t index)
    : host_(host),
      endpoint_(endpoint),
      index_(index),
      depth_(host->options->depth_per_target),
      buffers_((depth_ + 1) * (kCapsuleBytes + kCompletionBytes)),
      slots_(depth_),
      resend_(depth_),
      waiting_(kWaitingMin),
      backoff_ms_(kBackoffMinMs) {
  for (uint32_t i = depth_; i > 0; i--) free_slots_.push_back(static_cast<uint16_t>(i - 1));
  sends_.reserve(depth_ + 1);
  receives_.reserve(depth_ + 1);
  down_ms_ = heard_ms_ = host_->now_ms;
  StartConnecting();
}

TargetLink::~TargetLink() { DropConnection(); }

std::string TargetLink::Name() const {
  return fmt::format("target {} ({})", endpoint_.name, Address{endpoint_.host, endpoint_.port}.ToString());
}

void TargetLink::SetEndpoint(const TargetEndpoint& endpoint) {
  bool same = endpoint.host == endpoint_.host && endpoint.port == endpoint_.port && endpoint.uuid == endpoint_.uuid;
  endpoint_ = endpoint;
  if (same || state_ == State::kFenced) return;
  Break(Error(EAGAIN, "{}: new address", Name()));
  backoff_ms_ = kBackoffMinMs;
  attempt_ms_ = host_->now_ms;
}

void TargetLink::StartConnecting() {
  serial_ = ++host_->connections;
  attempt_ms_ = host_->now_ms + std::min(kAttemptMs, std::max(host_->options->detect_ms, kBackoffMaxMs));
  Result<std::unique_ptr<Connection>> connection =
      host_->channel->Resolve(endpoint_.host, endpoint_.port, static_cast<int>(kAttemptMs));
  if (!connection.ok()) {
    Break(connection.status().Annotate(Name()));
    return;
  }
  connection_ = *std::move(connection);
  state_ = State::kResolving;
}

void TargetLink::OnEvent(const CmEvent& event) {
  switch (event.type) {
    case CmEvent::Type::kResolved:
      if (state_ == State::kResolving) OnResolved();
      break;
    case CmEvent::Type::kEstablished:
      if (state_ == State::kConnecting) OnEstablished(event);
      break;
    case CmEvent::Type::kRejected:
      OnRejected(event);
      break;
    case CmEvent::Type::kFailed:
      if (state_ == State::kUp) {  // this host has lost the way there, or the address has moved
        BreakUnheard(Error(event.error, "{}: the connection is lost: {}", Name(), event.what));
      } else {
        Break(Error(event.error, "{}: cannot connect: {}", Name(), event.what));
      }
      break;
    case CmEvent::Type::kDisconnected:
      Break(Error(ECONNRESET, "{}: the connection was closed", Name()));
      break;
    case CmEvent::Type::kRequest:
      break;
  }
}

Status TargetLink::RegisterBuffers(Device* device) {
  if (buffers_device_ == device) return Status::Ok();
  buffers_memory_.reset();
  buffers_device_ = nullptr;
  Result<std::unique_ptr<Memory>> memory = device->RegisterMemory(buffers_.data(), buffers_.size(), false);
  if (!memory.ok()) return memory.status();
  buffers_memory_ = *std::move(memory);
  buffers_device_ = device;
  return Status::Ok();
}

Status TargetLink::PrepareQueues() {
  Device* device = connection_->device();
  if (Status s = RegisterBuffers(device); !s.ok()) return s;
  uint32_t messages = depth_ + 1;
  Result<InitiatorPort*> port = host_->ports->Take(device, 3 * messages);
  if (!port.ok()) return port.status();
  port_ = *port;
  QueueOptions options{.completions = port_->completions.get(),
                       .send_depth = 2 * messages,
                       .receive_depth = messages,
                       .inline_bytes = kCapsuleBytes};
  if (Status s = connection_->CreateQueues(options); !s.ok()) return s;
  send_free_ = options.send_depth;
  unsignaled_ = 0;
  receives_.clear();
  for (uint32_t i = 0; i < messages; i++) {
    ReceiveWork work{.id = WorkId(true, i), .segments = 1};
    work.segment[0] = {&buffers_[messages * kCapsuleBytes + i * kCompletionBytes], kCompletionBytes,
                       buffers_memory_->local_key()};
    receives_.push_back(work);
  }
  Status posted = connection_->PostReceive(receives_);
  receives_.clear();
  return posted;
}

void TargetLink::OnResolved() {
  if (Status s = PrepareQueues(); !s.ok()) {
    Break(s.Annotate(Name()));
    return;
  }
  Connect connect{.flags = host_->options->peer ? kConnectPeer : uint16_t{0},
                  .session = host_->options->session,
                  .target = endpoint_.uuid,
                  .depth = static_cast<uint16_t>(depth_ + 1),
                  .number = host_->number};
  RAND_bytes(connect.nonce.data(), static_cast<int>(connect.nonce.size()));
  Encode(connect, connect_bytes_);
  state_ = State::kConnecting;
  if (Status s = connection_->Connect(connect_bytes_); !s.ok()) Break(s.Annotate(Name()));
}

void TargetLink::OnEstablished(const CmEvent& event) {
  Accept accept;
  if (Status s = Decode(event.data(), &accept); !s.ok()) {
    Break(s.Annotate(Name()));
    return;
  }
  auto bytes = event.data().first<kAcceptBytes>();
  const std::vector<uint8_t>& key = host_->options->cluster_key;
  if (!SameProof(accept.proof, TargetProof(key, connect_bytes_, bytes))) {
    Break(Error(EACCES, "{} does not have this host's cluster key; compare `weftctl key show` on both hosts", Name()));
    return;
  }
  if (!std::ranges::all_of(endpoint_.uuid, [](uint8_t b) { return b == 0; }) && accept.target != endpoint_.uuid) {
    Break(Error(EPROTO, "{}: another target has accepted the connection", Name()));
    return;
  }
  if (accept.depth < 2) {
    Break(Error(EPROTO, "{}: grants a depth of {}, at least 2 are needed", Name(), accept.depth));
    return;
  }
  credits_ = std::min<uint32_t>(accept.depth - 1U, depth_);
  inline_max_ = accept.inline_max;
  incarnation_ = accept.incarnation;
  state_ = State::kProving;
  SendWork hello = ControlWork({.op = WireOp::kHello,
                                .length = kProofBytes,
                                .tag = kHelloTag,
                                .session = host_->options->session,
                                .proof = ClientProof(key, connect_bytes_, bytes)});
  Post({&hello, 1});
}

void TargetLink::OnHelloAnswer(int32_t result) {
  if (result == -ESTALE) {
    Fence(Error(ESTALE, "{}: session {} is fenced", Name(), host_->options->session));
    return;
  }
  if (result == -EACCES) {
    Break(Error(EACCES, "{} refused the cluster key; compare `weftctl key show` on both hosts", Name()));
    return;
  }
  if (result != 0) {
    Break(Status::Errno(-result, fmt::format("{} refused the session", Name())));
    return;
  }
  state_ = State::kUp;
  up_ms_ = host_->now_ms;
  given_up_ = false;
  last_error_ = Status::Ok();
  host_->news.push_back({endpoint_.id, Status::Ok(), incarnation_});
}

void TargetLink::OnRejected(const CmEvent& event) {
  // The connection manager of a host where nobody listens rejects by itself: with zeroes, or with nothing.
  if (std::ranges::all_of(event.data(), [](uint8_t b) { return b == 0; })) {
    Break(Error(ECONNREFUSED, "{} refused the connection; is weft-target running there?", Name()));
    return;
  }
  Reject reject;
  if (Status s = Decode(event.data(), &reject); !s.ok()) {
    Break(s.Annotate(Name()));
    return;
  }
  switch (reject.reason) {
    case RejectReason::kFenced:
      Fence(Error(ESTALE, "{}: session {} is fenced, session {} has taken over", Name(), host_->options->session,
                  reject.value));
      return;
    case RejectReason::kVersion:
      Break(Error(EPROTONOSUPPORT, "{} speaks block protocol version {}, this host {}; upgrade the older one", Name(),
                  reject.version, kBlockVersion));
      return;
    case RejectReason::kWrongTarget:
      Break(Error(ENODEV, "{}: another target answers at this address; did the address move?", Name()));
      return;
    case RejectReason::kBusy:
      Break(Error(EBUSY, "{} has no room for more connections; raise its --depth-total", Name()));
      return;
    case RejectReason::kMalformed:
      break;
  }
  Break(Error(EPROTO, "{} did not understand the connection request", Name()));
}

void TargetLink::OnTime() {
  uint64_t now = host_->now_ms;
  switch (state_) {
    case State::kFenced:
      return;
    case State::kUp:
      if (now >= heard_ms_ + host_->options->detect_ms && ping_out_) {
        Break(Error(ETIMEDOUT, "{} has not answered for {} ms", Name(), now - heard_ms_));
        down_ms_ = heard_ms_;
      } else if (now >= heard_ms_ + host_->options->detect_ms / 2 && !ping_out_) {
        SendPing();
      }
      break;
    case State::kWaiting:
      if (now >= attempt_ms_) StartConnecting();
      break;
    default:
      if (now >= attempt_ms_) {
        Break(Error(ETIMEDOUT, "{} does not answer ({})", Name(),
                    state_ == State::kProving ? "the handshake is not finished" : "no connection"));
      }
  }
  if (state_ != State::kUp && !given_up_ && now >= down_ms_ + host_->options->detect_ms) GiveUp();
}

void TargetLink::Excuse(uint64_t ms) {
  heard_ms_ += ms;
  asked_ms_ += ms;
  down_ms_ += ms;
  if (state_ != State::kWaiting) attempt_ms_ += ms;
}

uint64_t TargetLink::deadline_ms() const {
  uint32_t detect_ms = host_->options->detect_ms;
  if (state_ == State::kFenced) return UINT64_MAX;
  if (state_ == State::kUp) return heard_ms_ + (ping_out_ ? detect_ms : detect_ms / 2);
  return given_up_ ? attempt_ms_ : std::min(attempt_ms_, down_ms_ + detect_ms);
}

void TargetLink::DropConnection() {
  if (port_) host_->ports->GiveBack(port_, 3 * (depth_ + 1));
  connection_.reset();
  port_ = nullptr;
  credits_ = 0;
  ping_out_ = false;
  receives_.clear();
}

void TargetLink::Break(const Status& why) {
  DropConnection();
  if (last_error_.message() != why.message()) LogWarning("{}; trying again", why.message());
  last_error_ = why;
  if (state_ == State::kUp) {
    down_ms_ = host_->now_ms;
    if (host_->now_ms >= up_ms_ + kSteadyMs) backoff_ms_ = kBackoffMinMs;
    std::vector<uint16_t> sent;
    for (uint16_t i = 0; i < slots_.size(); i++) {
      if (slots_[i].state != SlotState::kSent) continue;
      slots_[i].state = SlotState::kQueued;
      sent.push_back(i);
    }
    sent.insert(sent.end(), resend_.begin(), resend_.end());
    std::ranges::sort(sent, {}, [this](uint16_t i) { return slots_[i].sequence; });
    resend_.assign(depth_, sent.begin(), sent.end());
  }
  state_ = State::kWaiting;
  attempt_ms_ = host_->now_ms + backoff_ms_;
  backoff_ms_ = std::min(2 * backoff_ms_, kBackoffMaxMs);
}

// If the target owes an answer it is silent since it was asked, not since now.
void TargetLink::BreakUnheard(const Status& why) {
  bool silent = state_ == State::kUp && unanswered();
  Break(why);
  if (silent) down_ms_ = std::max(heard_ms_, asked_ms_);
}

void TargetLink::Fence(const Status& why) {
  DropConnection();
  LogError("{}", why.message());
  state_ = State::kFenced;
  CompleteAll(ESTALE);
  host_->news.push_back({endpoint_.id, why, incarnation_});
}

void TargetLink::GiveUp() {
  given_up_ = true;
  // A connection attempt that is still under way carries no commands yet: it may go on.
  CompleteAll(EHOSTDOWN);
  Status why = last_error_.ok() ? Error(EHOSTDOWN, "{} does not answer", Name()) : last_error_;
  host_->news.push_back({endpoint_.id, why, incarnation_});
}

}  // namespace weft::rdma
