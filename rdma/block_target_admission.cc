// SPDX-License-Identifier: MIT
//
// The engine's connections: who gets in, who replaces whom, and how they end.
#include <openssl/rand.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "rdma/block_target_engine.h"
#include "userland/base/log.h"

namespace weft::rdma {
namespace {

constexpr uint64_t kProvingMs = 5000;    // for HELLO to come
constexpr uint64_t kSilenceMs = 300000;  // initiators ping more often than this
constexpr int kProvingMax = 16;          // connections that have not proved the key
constexpr uint16_t kDepthMin = 2;        // a command and a ping
constexpr uint32_t kSpareSlots = 64;     // for messages of peers that do not keep to their credits
constexpr uint32_t kCompletionEntriesMax = 32768;

}  // namespace

void BlockTargetEngine::HandleCmEvents() {
  CmEvent event;
  while (channel_->NextEvent(&event)) {
    switch (event.type) {
      case CmEvent::Type::kRequest:
        OnRequest(&event);
        break;
      case CmEvent::Type::kDisconnected:
      case CmEvent::Type::kFailed:
      case CmEvent::Type::kRejected:
        OnDisconnected(event.connection);
        break;
      case CmEvent::Type::kEstablished:
      case CmEvent::Type::kResolved:
        break;
    }
    event = CmEvent{};
  }
}

Result<TargetPort*> BlockTargetEngine::PortOf(Device* device) {
  for (const auto& port : ports_) {
    if (port->device() != device) continue;
    if (port->connections == 0 && port->wounded) {
      HandleWorkCompletions();  // nothing may be left that names a slot
      if (Status s = port->Renew(); !s.ok()) return s;
    }
    return port.get();
  }
  uint32_t slots = options_.depth_total + kSpareSlots;
  uint32_t entries = std::min(kCompletionEntriesMax, slots + 4 * options_.depth_total);
  Result<std::unique_ptr<TargetPort>> port = TargetPort::Create(device, pool_.get(), replies_, slots, entries);
  if (!port.ok()) return port.status();
  std::span<uint8_t> data = (*port)->data();
  if (Status s = backend_->AddBuffer(data.data(), data.size()); !s.ok()) return s;
  backend_->Watch((*port)->completions()->event_fd(), &(*port)->event_ready);
  ports_.push_back(*std::move(port));
  return ports_.back().get();
}

void BlockTargetEngine::Refuse(Connection* connection, RejectReason reason, uint64_t value, const std::string& why) {
  counters_.bad_connections++;
  limiter_.Warn(now_ms_, fmt::format("{}: connection refused: {}", connection->peer(), why));
  std::array<uint8_t, kRejectBytes> bytes;
  Encode(Reject{.reason = reason, .value = value}, bytes);
  connection->Reject(bytes);
}

void BlockTargetEngine::OnRequest(CmEvent* event) {
  std::unique_ptr<Connection> connection = std::move(event->incoming);
  Connect connect;
  if (Status s = Decode(event->data(), &connect); !s.ok()) {
    RejectReason reason = s.code() == EPROTONOSUPPORT ? RejectReason::kVersion : RejectReason::kMalformed;
    Refuse(connection.get(), reason, 0, s.message());
    return;
  }
  if (connect.target != options_.uuid && connect.target != std::array<uint8_t, kUuidBytes>{}) {
    Refuse(connection.get(), RejectReason::kWrongTarget, 0, "it looks for another target's uuid");
    return;
  }
  bool peer_target = (connect.flags & kConnectPeer) != 0;
  if (!peer_target && connect.session < fence_->highest()) {
    Refuse(connection.get(), RejectReason::kFenced, fence_->highest(),
           fmt::format("session {} is fenced, session {} has taken over", connect.session, fence_->highest()));
    return;
  }
  auto proving = std::ranges::count_if(
      by_number_, [](const auto& entry) { return entry.second->state == ServedConnection::State::kProving; });
  uint32_t depth = std::min({uint32_t{connect.depth}, options_.depth_max, credits_free_});
  if (proving >= kProvingMax || depth < kDepthMin) {
    Refuse(connection.get(), RejectReason::kBusy, 0,
           depth < kDepthMin ? fmt::format("all {} credits are given out; raise --depth-total", options_.depth_total)
                             : fmt::format("{} connections have not proved the cluster key yet", proving));
    return;
  }
  std::string peer = connection->peer();
  auto bytes = event->data().first(kConnectBytes);
  if (Status s = Admit(std::move(connection), connect, bytes, static_cast<uint16_t>(depth)); !s.ok()) {
    limiter_.Warn(now_ms_, fmt::format("{}: {}", peer, s.message()));
  }
}

Status BlockTargetEngine::Admit(std::unique_ptr<Connection> connection, const Connect& connect,
                                std::span<const uint8_t> bytes, uint16_t depth) {
  Result<TargetPort*> port = PortOf(connection->device());
  if (!port.ok()) return port.status();
  QueueOptions queues{.completions = (*port)->completions(),
                      .shared = (*port)->receives(),
                      .send_depth = 3U * depth + 8,
                      .inline_bytes = kCompletionBytes};
  if (Status s = connection->CreateQueues(queues); !s.ok()) return s;
  auto served = std::make_unique<ServedConnection>(std::move(connection), *port, connect, queues.send_depth);
  std::ranges::copy(bytes, served->connect_bytes.begin());
  Accept accept{.depth = depth,
                .inline_max = options_.inline_max,
                .capacity_bytes = backend_->capacity_bytes(),
                .target = options_.uuid,
                .incarnation = options_.incarnation};
  RAND_bytes(accept.nonce.data(), static_cast<int>(accept.nonce.size()));
  Encode(accept, served->accept_bytes);
  accept.proof = TargetProof(options_.cluster_key, served->connect_bytes, served->accept_bytes);
  Encode(accept, served->accept_bytes);
  served->depth = depth;
  served->heard_ms = now_ms_;
  if (Status s = served->connection()->Accept(served->accept_bytes); !s.ok()) return s;
  served->connection()->set_context(served.get());
  by_number_[served->connection()->number()] = served.get();
  credits_free_ -= depth;
  (*port)->connections++;
  counters_.connections++;
  connections_.push_back(std::move(served));
  return Status::Ok();
}

void BlockTargetEngine::OnDisconnected(const Connection* connection) {
  if (!connection || !connection->context()) return;
  auto* served = static_cast<ServedConnection*>(connection->context());
  if (served->state == ServedConnection::State::kProving) {
    Drop(served, "it left without proving the cluster key; compare `weftctl key show` on both hosts");
  } else {
    LogInfo("{}: session {} disconnected", served->peer(), served->session);
    DropQuietly(served);
  }
}

void BlockTargetEngine::OnHello(ServedConnection* connection, const Capsule& capsule) {
  connection->hello_tag = capsule.tag;
  if (!SameProof(capsule.proof,
                 ClientProof(options_.cluster_key, connection->connect_bytes, connection->accept_bytes))) {
    counters_.bad_connections++;
    limiter_.Warn(now_ms_,
                  fmt::format("{}: wrong cluster key; compare `weftctl key show` on both hosts", connection->peer()));
    LastReply(connection, capsule.tag, -EACCES);
    return;
  }
  if (!connection->peer_target && connection->session < fence_->highest()) {  // raised since it connected
    LastReply(connection, capsule.tag, -ESTALE);
    return;
  }
  if (connection->session > fence_->highest()) {  // not of a peer: that has session 0
    if (Status s = fence_->Raise(connection->session); !s.ok()) {
      LogError("cannot record session {}: {}", connection->session, s.message());
      LastReply(connection, capsule.tag, -EIO);
      return;
    }
    LogInfo("session {} begins, smaller ones are fenced", connection->session);
  }
  connection->state = ServedConnection::State::kReplacing;
  ReplaceOthers(connection);
  FinishReplacing();
}

bool BlockTargetEngine::Replaces(const ServedConnection& newer, const ServedConnection& older) {
  if (&newer == &older || older.state == ServedConnection::State::kProving) return false;
  if (newer.peer_target != older.peer_target) return false;
  return older.session < newer.session || (older.session == newer.session && older.number == newer.number);
}

void BlockTargetEngine::ReplaceOthers(ServedConnection* connection) {
  std::vector<ServedConnection*> replaced;
  for (const auto& [number, other] : by_number_) {
    if (Replaces(*connection, *other)) replaced.push_back(other);
  }
  for (ServedConnection* other : replaced) {
    LogInfo("{}: session {} number {} is replaced by session {} of {}", other->peer(), other->session, other->number,
            connection->session, connection->peer());
    DropQuietly(other);
  }
}

bool BlockTargetEngine::HasPredecessor(const ServedConnection& connection) const {
  return std::ranges::any_of(connections_, [&](const auto& other) {
    return other->state == ServedConnection::State::kDraining && Replaces(connection, *other);
  });
}

void BlockTargetEngine::FinishReplacing() {
  for (const auto& connection : connections_) {
    if (connection->state != ServedConnection::State::kReplacing || HasPredecessor(*connection)) continue;
    connection->state = ServedConnection::State::kServing;
    LogInfo("{}: session {} connected, depth {}", connection->peer(), connection->session, connection->depth);
    uint32_t index = TakeCommand(connection.get());
    connection->in_hand++;
    commands_[index].capsule = {.op = WireOp::kHello, .tag = connection->hello_tag};
    Reply(index, 0);
  }
}

// The reply is followed by the end of the connection, when it has been sent.
void BlockTargetEngine::LastReply(ServedConnection* connection, uint64_t tag, int32_t result) {
  uint32_t index = TakeCommand(connection);
  Enter(&commands_[index], Command::State::kLastReply);
  connection->state = ServedConnection::State::kClosing;
  SendReply(connection, index, tag, result, ServedConnection::SendKind::kLastReply, true);
}

void BlockTargetEngine::CheckSilence(ServedConnection* connection) {
  uint64_t silent_ms = now_ms_ - connection->heard_ms;
  if (connection->state == ServedConnection::State::kProving && silent_ms >= kProvingMs) {
    Drop(connection, fmt::format("no HELLO within {} ms", kProvingMs));
  } else if (silent_ms >= kSilenceMs) {
    Drop(connection, fmt::format("nothing was heard for {} s", kSilenceMs / 1000));
  }
}

void BlockTargetEngine::Drop(ServedConnection* connection, const std::string& why) {
  counters_.bad_connections++;
  limiter_.Warn(now_ms_, fmt::format("{}: {}; connection dropped", connection->peer(), why));
  DropQuietly(connection);
}

void BlockTargetEngine::DropQuietly(ServedConnection* connection) {
  using State = ServedConnection::State;
  by_number_.erase(connection->connection()->number());
  connection->connection()->Disconnect();
  connection->DestroyConnection();  // from here on the NIC leaves our memory alone
  connection->state = State::kDraining;
  connection->port()->connections--;
  connection->port()->wounded = true;
  credits_free_ += connection->depth;
  counters_.connections--;
  std::ranges::replace(touched_, connection, static_cast<ServedConnection*>(nullptr));
  if (std::exchange(connection->blocked, false)) connections_blocked_--;
  for (uint32_t i = 0; i < commands_.size(); i++) {
    Command& command = commands_[i];
    if (command.state == Command::State::kFree || command.connection != connection) continue;
    if (command.state == Command::State::kInBackend) continue;  // OnBackendDone frees it
    if (command.state == Command::State::kWaiting) {
      LeavePlace(&command, false);
      command.connection = nullptr;  // ServeWaiting frees it
    } else {
      FreeCommand(i);
    }
  }
  ServeWaiting();
  if (connection->in_backend == 0) {
    std::erase_if(connections_, [connection](const auto& other) { return other.get() == connection; });
    FinishReplacing();
  }
}

}  // namespace weft::rdma
