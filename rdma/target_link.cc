// SPDX-License-Identifier: MIT
//
// The commands of a link: queueing, sending, completing. Its connection: target_link_connect.cc.
#include "rdma/target_link.h"

#include <algorithm>
#include <cerrno>

#include "userland/base/log.h"

namespace weft::rdma {
namespace {

constexpr uint32_t kReceiveBit = 1U << 31;

WireOp ToWire(BlockOp op) { return static_cast<WireOp>(op); }
static_assert(static_cast<int>(WireOp::kRead) == static_cast<int>(BlockOp::kRead));
static_assert(static_cast<int>(WireOp::kWrite) == static_cast<int>(BlockOp::kWrite));
static_assert(static_cast<int>(WireOp::kFlush) == static_cast<int>(BlockOp::kFlush));
static_assert(static_cast<int>(WireOp::kDiscard) == static_cast<int>(BlockOp::kDiscard));
static_assert(static_cast<int>(WireOp::kWriteZeroes) == static_cast<int>(BlockOp::kWriteZeroes));
static_assert(static_cast<int>(WireOp::kChecksums) == static_cast<int>(BlockOp::kChecksums));
static_assert(kBlockFua == kWireFua);

uint64_t SlotTag(uint16_t slot, uint32_t generation) { return static_cast<uint64_t>(generation) << 16 | slot; }

}  // namespace

void TargetLink::Submit(const BlockCommand& command) {
  if (state_ == State::kFenced) {
    host_->done.push_back({command.tag, -ESTALE});
    return;
  }
  if (given_up_) {
    host_->done.push_back({command.tag, -EHOSTDOWN});
    return;
  }
  if (waiting_.full()) waiting_.set_capacity(2 * waiting_.capacity());
  waiting_.push_back(command);
  Stir();
}

void TargetLink::Stir() {
  if (!stirred_) host_->stirred.push_back(this);
  stirred_ = true;
}

void TargetLink::Kick() {
  stirred_ = false;
  FlushReceives();
  if (state_ == State::kUp) SendCommands();
}

void TargetLink::Ask() {
  if (!unanswered()) asked_ms_ = host_->now_ms;
}

void TargetLink::SendCommands() {
  Ask();
  sends_.clear();
  while (credits_ > 0 && send_free_ > sends_.size() + 1 && !resend_.empty()) {  // one entry is kept for a ping
    uint16_t slot = resend_.front();
    resend_.pop_front();
    if (OutOfDate(slots_[slot].command)) {
      host_->done.push_back({slots_[slot].command.tag, -ESTALE});
      slots_[slot].state = SlotState::kFree;
      free_slots_.push_back(slot);
      continue;
    }
    AddSend(slot);
  }
  while (credits_ > 0 && send_free_ > sends_.size() + 1 && !waiting_.empty() && !free_slots_.empty()) {
    if (OutOfDate(waiting_.front())) {
      host_->done.push_back({waiting_.front().tag, -ESTALE});
      waiting_.pop_front();
      continue;
    }
    uint16_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot].command = waiting_.front();
    slots_[slot].sequence = sequence_++;
    waiting_.pop_front();
    AddSend(slot);
  }
  if (!sends_.empty()) Post(sends_);
}

// What was acknowledged before may be lost: this target's flush would promise too much.
bool TargetLink::OutOfDate(const BlockCommand& command) const {
  return command.op == BlockOp::kFlush && command.incarnation != 0 && command.incarnation != incarnation_;
}

void TargetLink::AddSend(uint16_t index) {
  Slot& slot = slots_[index];
  const BlockCommand& command = slot.command;
  const auto* data = static_cast<const uint8_t*>(host_->options->memory) + command.buffer_offset;
  bool in_message = command.op == BlockOp::kWrite && command.length_bytes <= inline_max_;
  Capsule capsule{.op = ToWire(command.op),
                  .flags = command.flags,
                  .length = command.length_bytes,
                  .tag = SlotTag(index, ++slot.generation),
                  .session = host_->options->session,
                  .offset = command.offset_bytes,
                  .chunk_version = command.chunk_version};
  if (in_message) {
    capsule.flags |= kWireInline;
  } else if (command.data_bytes() > 0) {
    capsule.address = reinterpret_cast<uint64_t>(data);
    capsule.rkey = port_->pool->remote_key();
  }
  uint8_t* bytes = &buffers_[index * kCapsuleBytes];
  Encode(capsule, std::span<uint8_t, kCapsuleBytes>(bytes, kCapsuleBytes));

  SendWork work{.op = SendWork::Op::kSend, .solicited = true, .segments = 1};
  work.segment[0] = {bytes, kCapsuleBytes, buffers_memory_->local_key()};
  if (in_message) {
    work.segment[1] = {data, command.length_bytes, port_->pool->local_key()};
    work.segments = 2;
  } else {
    work.copied = connection_->inline_bytes_max() >= kCapsuleBytes;
  }
  sends_.push_back(work);
  slot.state = SlotState::kSent;
  credits_--;
}

SendWork TargetLink::ControlWork(const Capsule& capsule) {
  uint8_t* bytes = &buffers_[depth_ * kCapsuleBytes];
  Encode(capsule, std::span<uint8_t, kCapsuleBytes>(bytes, kCapsuleBytes));
  SendWork work{.op = SendWork::Op::kSend, .solicited = true, .segments = 1};
  work.segment[0] = {bytes, kCapsuleBytes, buffers_memory_->local_key()};
  return work;
}

void TargetLink::SendPing() {
  Ask();
  ping_out_ = true;
  if (send_free_ == 0) return;  // what is in flight will be heard of as well
  SendWork work = ControlWork({.op = WireOp::kPing, .tag = kPingTag, .session = host_->options->session});
  Post({&work, 1});
}

// Every quarter of the send queue one is signaled, which retires those before it.
void TargetLink::Post(std::span<SendWork> work) {
  uint32_t batch = std::max(1U, depth_ / 2);
  for (SendWork& w : work) {
    unsignaled_++;
    w.signaled = unsignaled_ >= batch;
    w.id = WorkId(false, w.signaled ? unsignaled_ : 0);
    if (w.signaled) unsignaled_ = 0;
  }
  send_free_ -= static_cast<uint32_t>(work.size());
  if (Status s = connection_->PostSend(work); !s.ok()) Break(s);
}

uint64_t TargetLink::WorkId(bool receive, uint32_t value) const {
  return static_cast<uint64_t>(index_) << 48 | static_cast<uint64_t>(serial_) << 32 | (receive ? kReceiveBit : 0) |
         value;
}

void TargetLink::OnCompletion(const WorkCompletion& completion) {
  if (!connection_ || static_cast<uint16_t>(completion.id >> 32) != serial_) return;  // of an earlier connection
  if (completion.status != WorkStatus::kSuccess) {
    Status why = Error(EIO, "{}: {}", Name(), completion.detail);
    completion.status == WorkStatus::kFlushed ? Break(why) : BreakUnheard(why);  // flushed: it was closed
    return;
  }
  Stir();
  auto value = static_cast<uint32_t>(completion.id);
  if (!(value & kReceiveBit)) {
    send_free_ += value;
    return;
  }
  OnAnswer(completion);
}

void TargetLink::OnAnswer(const WorkCompletion& completion) {
  uint32_t index = static_cast<uint32_t>(completion.id) & ~kReceiveBit;
  const uint8_t* bytes = &buffers_[(depth_ + 1) * kCapsuleBytes + index * kCompletionBytes];
  ReceiveWork again{.id = completion.id, .segments = 1};
  again.segment[0] = {bytes, kCompletionBytes, buffers_memory_->local_key()};
  receives_.push_back(again);
  heard_ms_ = host_->now_ms;
  if (completion.written) {
    OnData(completion.immediate, completion.bytes);
  } else {
    OnMessage(bytes, completion.bytes);
  }
}

void TargetLink::OnMessage(const uint8_t* bytes, uint32_t count) {
  Completion answer;
  if (const char* field = Decode(std::span(bytes, count), &answer)) {
    Break(Error(EPROTO, "{}: bad {} in a completion", Name(), field));
    return;
  }
  if (answer.tag == kHelloTag && state_ == State::kProving) {
    OnHelloAnswer(answer.result);
  } else if (answer.tag == kPingTag && ping_out_) {
    ping_out_ = false;
  } else if (Slot* slot = SlotOf(answer.tag, UINT64_MAX)) {
    const BlockCommand& command = slot->command;
    int32_t expected = command.op == BlockOp::kFlush ? 0 : static_cast<int32_t>(command.length_bytes);
    if (answer.result >= 0 && (answer.result != expected || command.answered_by_data())) {
      Break(Error(EPROTO, "{}: completion of op {} with result {}, expected {}", Name(), static_cast<int>(command.op),
                  answer.result, command.answered_by_data() ? "its data" : std::to_string(expected)));
      return;
    }
    FinishSlot(slot, answer.result);
  }
}

void TargetLink::OnData(uint32_t immediate, uint32_t bytes) {
  Slot* slot = SlotOf(immediate, UINT32_MAX);
  if (!slot) return;
  if (!slot->command.answered_by_data() || slot->command.data_bytes() != bytes) {
    Break(Error(EPROTO, "{}: {} bytes of data for op {} of length {}", Name(), bytes,
                static_cast<int>(slot->command.op), slot->command.length_bytes));
    return;
  }
  FinishSlot(slot, static_cast<int32_t>(bytes));
}

TargetLink::Slot* TargetLink::SlotOf(uint64_t tag, uint64_t mask) {
  auto index = static_cast<uint16_t>(tag);
  if (index < slots_.size() && slots_[index].state == SlotState::kSent &&
      tag == (SlotTag(index, slots_[index].generation) & mask)) {
    return &slots_[index];
  }
  Break(Error(EPROTO, "{}: completion with tag {:#x}, which names no command", Name(), tag));
  return nullptr;
}

void TargetLink::FinishSlot(Slot* slot, int32_t result) {
  if (result < 0 && result != -ESTALE && result != -ENOSPC && result != -EBADMSG && result != -EIO) {
    LogWarning("{}: op {} offset {} length {} failed: {}", Name(), static_cast<int>(slot->command.op),
               slot->command.offset_bytes, slot->command.length_bytes, Status::Errno(-result, "result").message());
    result = -EIO;
  }
  host_->done.push_back({slot->command.tag, result});
  slot->state = SlotState::kFree;
  free_slots_.push_back(static_cast<uint16_t>(slot - slots_.data()));
  credits_++;
}

void TargetLink::FlushReceives() {
  if (receives_.empty()) return;
  if (connection_) {
    if (Status s = connection_->PostReceive(receives_); !s.ok()) Break(s);
  }
  receives_.clear();
}

void TargetLink::Abort(int error) {
  DropConnection();
  CompleteAll(error);
}

void TargetLink::CompleteAll(int error) {
  for (uint16_t i = 0; i < slots_.size(); i++) {
    if (slots_[i].state == SlotState::kFree) continue;
    host_->done.push_back({slots_[i].command.tag, -error});
    slots_[i].state = SlotState::kFree;
    free_slots_.push_back(i);
  }
  resend_.clear();
  for (const BlockCommand& command : waiting_) host_->done.push_back({command.tag, -error});
  waiting_.clear();
}

}  // namespace weft::rdma
