// SPDX-License-Identifier: MIT
//
// The engine's commands, from the message to the reply.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "rdma/block_target_engine.h"

namespace weft::rdma {
namespace {

using SendKind = ServedConnection::SendKind;

bool Writes(WireOp op) { return op == WireOp::kWrite || op == WireOp::kDiscard || op == WireOp::kWriteZeroes; }

// A peer is not fenced: what it sends may come late, so it changes nothing.
bool PeerMay(WireOp op) { return op == WireOp::kRead || op == WireOp::kChecksums || op == WireOp::kPing; }

Access AccessOf(const Capsule& capsule) {
  return {.range = {capsule.offset, capsule.length}, .writes = Writes(capsule.op), .version = capsule.chunk_version};
}

BackendOp ToBackend(WireOp op) {
  switch (op) {
    case WireOp::kWrite:
      return BackendOp::kWrite;
    case WireOp::kFlush:
      return BackendOp::kFlush;
    case WireOp::kDiscard:
      return BackendOp::kDiscard;
    case WireOp::kWriteZeroes:
      return BackendOp::kWriteZeroes;
    case WireOp::kChecksums:
      return BackendOp::kChecksums;
    default:
      return BackendOp::kRead;
  }
}

}  // namespace

void BlockTargetEngine::OnMessage(ServedConnection* connection, uint32_t slot, uint32_t bytes) {
  TargetPort* port = connection->port();
  connection->heard_ms = now_ms_;
  Capsule capsule;
  const char* field = bytes < kCapsuleBytes ? "message length" : nullptr;
  if (!field) field = Decode(port->capsule(slot), bytes - kCapsuleBytes, options_.inline_max, &capsule);
  if (field) {
    port->GiveBack(slot);
    Drop(connection, fmt::format("a command with a bad {}", field));
    return;
  }
  using State = ServedConnection::State;
  bool hello = capsule.op == WireOp::kHello;
  if (connection->state == State::kProving && hello && capsule.session == connection->session) {
    port->GiveBack(slot);
    OnHello(connection, capsule);
  } else if (connection->state == State::kServing && !hello) {
    OnCommand(connection, capsule, slot);
  } else {
    port->GiveBack(slot);
    if (connection->state == State::kClosing) return;
    Drop(connection, fmt::format("op {:#x} out of place in the handshake", static_cast<int>(capsule.op)));
  }
}

void BlockTargetEngine::OnCommand(ServedConnection* connection, const Capsule& capsule, uint32_t slot) {
  TargetPort* port = connection->port();
  bool keeps_slot = (capsule.flags & kWireInline) != 0;
  if (!keeps_slot) port->GiveBack(slot);
  const char* bad = nullptr;
  if (capsule.session != connection->session) bad = "a command with a session that is not its connection's";
  if (connection->in_hand >= connection->depth) bad = "more commands than it has credits";
  if (connection->held >= kHeldPerCredit * connection->depth) bad = "more commands than its answers leave room for";
  if (connection->peer_target && IsKnown(capsule.op) && !PeerMay(capsule.op)) bad = "a command that no peer may send";
  if (bad) {
    if (keeps_slot) port->GiveBack(slot);
    Drop(connection, bad);
    return;
  }
  uint32_t index = TakeCommand(connection);
  Command& command = commands_[index];
  command.capsule = capsule;
  command.slot = keeps_slot ? slot : kNoSlot;
  connection->in_hand++;

  if (capsule.op == WireOp::kPing) {
    Reply(index, 0);
    return;
  }
  if (!IsKnown(capsule.op)) {
    limiter_.Warn(now_ms_, fmt::format("{}: op {:#x} is not known here; is the client newer?", connection->peer(),
                                       static_cast<int>(capsule.op)));
    Reply(index, -EOPNOTSUPP);
    return;
  }
  uint64_t capacity = backend_->capacity_bytes();
  if (capsule.op != WireOp::kFlush && (capsule.offset > capacity || capsule.length > capacity - capsule.offset)) {
    limiter_.Warn(now_ms_, fmt::format("{}: offset {} length {} is outside the data area of {} bytes",
                                       connection->peer(), capsule.offset, capsule.length, capacity));
    Reply(index, -EINVAL);
    return;
  }
  EnterPlace(index);
}

void BlockTargetEngine::EnterPlace(uint32_t index) {
  Command& command = commands_[index];
  if (!options_.places || command.capsule.op == WireOp::kFlush) {
    Begin(index);
    return;
  }
  int error = 0;
  switch (options_.places->Enter(AccessOf(command.capsule), index, &error)) {
    case Places::Verdict::kGo:
      command.entered = true;
      Begin(index);
      return;
    case Places::Verdict::kWait:
      Enter(&command, Command::State::kAtPlace);
      return;
    case Places::Verdict::kRefuse:
      break;
  }
  const Capsule& capsule = command.capsule;
  if (error == EIO) {
    limiter_.Warn(now_ms_, fmt::format("offset {}: chunk version {} cannot be recorded: {}", capsule.offset,
                                       capsule.chunk_version, options_.places->store_error()));
  } else if (error == EINVAL) {
    limiter_.Warn(now_ms_,
                  fmt::format("{}: offset {} length {} is not inside one place of {} bytes", command.connection->peer(),
                              capsule.offset, capsule.length, options_.places->place_bytes()));
  }
  Reply(index, -error);
}

size_t BlockTargetEngine::ServePlaces() {
  size_t count = 0;
  uint64_t waiter;
  for (; options_.places && options_.places->NextReady(&waiter); count++) {
    auto index = static_cast<uint32_t>(waiter);
    assert(commands_[index].state == Command::State::kAtPlace);
    EnterPlace(index);
  }
  return count;
}

void BlockTargetEngine::LeavePlace(Command* command, bool executed) {
  if (std::exchange(command->entered, false)) options_.places->Leave(AccessOf(command->capsule), executed);
}

void BlockTargetEngine::Begin(uint32_t index) {
  const Command& command = commands_[index];
  if (command.capsule.data_bytes() > 0 && command.slot == kNoSlot) {
    GetBuffer(index);
  } else {
    SubmitToBackend(index);
  }
}

void BlockTargetEngine::GetBuffer(uint32_t index) {
  Command& command = commands_[index];
  if (waiting_.empty()) command.buffer = pool_->Take(command.capsule.data_bytes());
  if (command.buffer) {
    OnBuffer(index);
  } else {
    Enter(&command, Command::State::kWaiting);
    waiting_.push_back(index);
  }
}

void BlockTargetEngine::ServeWaiting() {
  while (!waiting_.empty()) {
    uint32_t index = waiting_.front();
    Command& command = commands_[index];
    if (!command.connection) {
      waiting_.pop_front();
      FreeCommand(index);
      continue;
    }
    command.buffer = pool_->Take(command.capsule.data_bytes());
    if (!command.buffer) return;
    waiting_.pop_front();
    OnBuffer(index);
  }
}

void BlockTargetEngine::OnBuffer(uint32_t index) {
  Command& command = commands_[index];
  if (command.capsule.op != WireOp::kWrite) {
    SubmitToBackend(index);
    return;
  }
  Enter(&command, Command::State::kFetching);
  SendWork work{.op = SendWork::Op::kRead, .segments = 1};
  work.segment[0] = {command.buffer, command.capsule.length, command.port->pool_key()};
  work.remote_address = command.capsule.address;
  work.remote_key = command.capsule.rkey;
  command.connection->Add(work, SendKind::kFetch, index, true);
  Touch(command.connection);
}

void BlockTargetEngine::OnSent(ServedConnection* connection, uint64_t work_id) {
  connection->Retire(work_id);
  Touch(connection);  // what waited for room in the send queue
  uint32_t index = ServedConnection::IndexOf(work_id);
  switch (ServedConnection::KindOf(work_id)) {
    case SendKind::kFetch:
      assert(commands_[index].connection == connection && commands_[index].state == Command::State::kFetching);
      SubmitToBackend(index);
      break;
    case SendKind::kReply:
      FreeCommand(index);
      ServeWaiting();
      break;
    case SendKind::kLastReply:
      DropQuietly(connection);
      break;
    case SendKind::kRetire:
      break;
  }
}

void BlockTargetEngine::SubmitToBackend(uint32_t index) {
  Command& command = commands_[index];
  const Capsule& capsule = command.capsule;
  Enter(&command, Command::State::kInBackend);
  command.connection->in_backend++;
  uint8_t* data = command.slot != kNoSlot ? command.port->slot_data(command.slot) : command.buffer;
  backend_->Submit({.cookie = index,
                    .op = ToBackend(capsule.op),
                    .durable = (capsule.flags & kWireFua) != 0,
                    .offset_bytes = capsule.offset,
                    .length_bytes = capsule.length,
                    .data = data});
}

void BlockTargetEngine::OnBackendDone(uint32_t index, int32_t result) {
  Command& command = commands_[index];
  ServedConnection* connection = command.connection;
  connection->in_backend--;
  LeavePlace(&command, result >= 0);
  if (connection->state == ServedConnection::State::kDraining) {
    FreeCommand(index);
    ServeWaiting();
    if (connection->in_backend == 0) {
      std::erase_if(connections_, [connection](const auto& other) { return other.get() == connection; });
      FinishReplacing();
    }
    return;
  }
  if (result < 0) {
    const Capsule& capsule = command.capsule;
    limiter_.Warn(now_ms_,
                  Status::Errno(-result, fmt::format("op {} offset {} length {} failed in the backing store",
                                                     static_cast<int>(capsule.op), capsule.offset, capsule.length))
                      .message());
    Reply(index, result == -ENOSPC || result == -EBADMSG ? result : -EIO);
    return;
  }
  Reply(index, command.capsule.op == WireOp::kFlush ? 0 : static_cast<int32_t>(command.capsule.length));
}

void BlockTargetEngine::Reply(uint32_t index, int32_t result) {
  Command& command = commands_[index];
  ServedConnection* connection = command.connection;
  connection->in_hand--;
  bool data = result > 0 && IsAnsweredByData(command.capsule.op);
  bool keep = data || !connection->copies_replies();  // until the NIC is done
  if (result < 0) counters_.errors.fetch_add(1, std::memory_order_relaxed);
  if (data) {
    SendWork work{.op = SendWork::Op::kWriteImmediate, .solicited = true, .segments = 1};
    work.segment[0] = {command.buffer, command.capsule.data_bytes(), command.port->pool_key()};
    work.remote_address = command.capsule.address;
    work.remote_key = command.capsule.rkey;
    work.immediate = static_cast<uint32_t>(command.capsule.tag);
    connection->Add(work, SendKind::kReply, index, true);
    Touch(connection);
    if (command.capsule.op == WireOp::kRead) {
      counters_.reads.fetch_add(1, std::memory_order_relaxed);
      counters_.read_bytes.fetch_add(command.capsule.length, std::memory_order_relaxed);
    }
  } else {
    if (command.capsule.op == WireOp::kWrite && result > 0) {
      counters_.writes.fetch_add(1, std::memory_order_relaxed);
      counters_.write_bytes.fetch_add(command.capsule.length, std::memory_order_relaxed);
    }
    SendReply(connection, index, command.capsule.tag, result, keep ? SendKind::kReply : SendKind::kRetire, keep);
  }
  if (keep) {
    Enter(&command, Command::State::kReplying);
  } else {
    FreeCommand(index);
    ServeWaiting();
  }
}

void BlockTargetEngine::SendReply(ServedConnection* connection, uint32_t index, uint64_t tag, int32_t result,
                                  SendKind kind, bool signaled) {
  ServedConnection::ReplyBytes copy;
  Encode(Completion{tag, result}, copy);
  uint8_t* bytes = &replies_[index * kCompletionBytes];
  std::ranges::copy(copy, bytes);
  SendWork work{.op = SendWork::Op::kSend, .copied = connection->copies_replies(), .solicited = true, .segments = 1};
  work.segment[0] = {bytes, kCompletionBytes, connection->port()->reply_key()};
  connection->Add(work, kind, index, signaled, copy);
  Touch(connection);
}

// There is always one: a connection holds at most kHeldPerCredit for each of its credits.
uint32_t BlockTargetEngine::TakeCommand(ServedConnection* connection) {
  uint32_t index = free_commands_.back();
  free_commands_.pop_back();
  commands_[index].connection = connection;
  commands_[index].port = connection->port();
  connection->held++;
  counters_.in_hand.fetch_add(1, std::memory_order_relaxed);
  return index;
}

void BlockTargetEngine::Enter(Command* command, Command::State state) {
  if (command->awaits_send()) sends_awaited_--;
  command->state = state;
  if (command->awaits_send()) sends_awaited_++;
}

void BlockTargetEngine::FreeCommand(uint32_t index) {
  Command& command = commands_[index];
  if (command.state == Command::State::kAtPlace) options_.places->Forget(index);
  LeavePlace(&command, false);
  Enter(&command, Command::State::kFree);
  if (command.buffer) pool_->Give(command.buffer, command.capsule.data_bytes());
  if (command.slot != kNoSlot) command.port->GiveBack(command.slot);
  if (command.connection) command.connection->held--;
  command = Command{};
  free_commands_.push_back(index);
  counters_.in_hand.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace weft::rdma
