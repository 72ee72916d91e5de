// SPDX-License-Identifier: MIT
//
// The initiator's link to one target: its connection, made again whenever it breaks, and the commands
// that wait for it or are in flight on it. Owned and called by the initiator's thread.
//
//   waiting -> resolving -> connecting -> proving -> up
//      ^___________|____________|____________|_______|      (fenced: the end)
//
// A command is in exactly one place: waiting_, or a slot that is queued (to be sent again) or sent.
// When a connection breaks its queue pair is silenced before anything else happens: from then on the
// target cannot touch the buffers any more, so commands may be sent elsewhere or completed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/circular_buffer.hpp>

#include "rdma/block_initiator.h"
#include "rdma/block_wire.h"
#include "rdma/initiator_port.h"
#include "rdma/verbs.h"

namespace weft::rdma {

class TargetLink;

struct TargetNews {
  uint32_t id = 0;
  Status path;
  uint64_t incarnation = 0;
};

// What a link needs of its initiator.
struct LinkHost {
  const InitiatorOptions* options = nullptr;
  CmChannel* channel = nullptr;
  InitiatorPorts* ports = nullptr;
  uint32_t number = 0;               // see Connect
  uint16_t connections = 0;          // attempts, of all links: tells the work of each from that of those before
  uint64_t now_ms = 0;               // read once per turn
  std::vector<TargetLink*> stirred;  // have something to post; see TargetLink::Kick
  std::vector<BlockCompletion> done;
  std::vector<TargetNews> news;  // for OnTargetState
};

class TargetLink {
 public:
  // index: tells the links of one initiator apart in work request ids.
  TargetLink(LinkHost* host, const TargetEndpoint& endpoint, uint16_t index);
  ~TargetLink();

  const TargetEndpoint& endpoint() const { return endpoint_; }
  void SetEndpoint(const TargetEndpoint& endpoint);  // reconnects when address or uuid changed
  void Submit(const BlockCommand& command);
  void Abort(int error);  // completes everything with -error

  // Posts receives and as many commands as there are credits, one doorbell. Called for stirred links.
  void Kick();

  void OnEvent(const CmEvent& event);
  void OnCompletion(const WorkCompletion& completion);
  void OnTime();                 // after now_ms moved
  void Excuse(uint64_t ms);      // for so long nobody looked: it is no silence of the target
  uint64_t deadline_ms() const;  // when OnTime has something to do

  bool connecting() const { return state_ != State::kUp && state_ != State::kFenced; }
  bool Owns(const Connection* connection) const { return connection_ && connection == connection_.get(); }
  static uint16_t IndexOf(uint64_t work_id) { return static_cast<uint16_t>(work_id >> 48); }

 private:
  static constexpr uint64_t kPingTag = 1ULL << 63;
  static constexpr uint64_t kHelloTag = 1ULL << 62;

  enum class State : uint8_t { kWaiting, kResolving, kConnecting, kProving, kUp, kFenced };
  enum class SlotState : uint8_t { kFree, kQueued, kSent };
  struct Slot {
    BlockCommand command;
    uint64_t sequence = 0;  // order of submission
    uint32_t generation = 0;
    SlotState state = SlotState::kFree;
  };

  void Stir();
  void FlushReceives();
  void SendCommands();

  void StartConnecting();
  void OnResolved();
  void OnEstablished(const CmEvent& event);
  void OnRejected(const CmEvent& event);
  void OnAnswer(const WorkCompletion& completion);
  void OnMessage(const uint8_t* bytes, uint32_t count);
  void OnData(uint32_t immediate, uint32_t bytes);
  void OnHelloAnswer(int32_t result);
  Slot* SlotOf(uint64_t tag, uint64_t mask);  // nullptr: the tag names no command, the connection is broken
  void FinishSlot(Slot* slot, int32_t result);
  Status RegisterBuffers(Device* device);
  Status PrepareQueues();

  void Break(const Status& why);         // to kWaiting
  void BreakUnheard(const Status& why);  // the same, found out by this host itself
  void Fence(const Status& why);         // to kFenced
  void GiveUp();                         // after detect_ms
  void DropConnection();
  void CompleteAll(int error);

  bool OutOfDate(const BlockCommand& command) const;  // a FLUSH for another incarnation
  void AddSend(uint16_t slot);                        // to sends_
  SendWork ControlWork(const Capsule& capsule);
  void SendPing();
  void Ask();  // before something is posted that is answered
  bool unanswered() const { return ping_out_ || slots_.size() > free_slots_.size() + resend_.size(); }  // while up
  void Post(std::span<SendWork> work);
  uint64_t WorkId(bool receive, uint32_t value) const;
  std::string Name() const;  // "target t3 (10.0.0.3:7471)"

  LinkHost* const host_;
  TargetEndpoint endpoint_;
  const uint16_t index_;
  const uint32_t depth_;  // commands in flight wanted

  State state_ = State::kWaiting;
  uint16_t serial_ = 0;  // of the connection, see LinkHost::connections
  std::unique_ptr<Connection> connection_;
  InitiatorPort* port_ = nullptr;  // of connection_, or nullptr
  std::array<uint8_t, kConnectBytes> connect_bytes_{};
  uint32_t inline_max_ = 0;
  uint64_t incarnation_ = 0;  // of the target, at the last handshake; 0: none

  // capsules: one per slot and one for HELLO and PING; then as many receive buffers
  std::vector<uint8_t> buffers_;
  Device* buffers_device_ = nullptr;
  std::unique_ptr<Memory> buffers_memory_;

  std::vector<Slot> slots_;
  std::vector<uint16_t> free_slots_;
  boost::circular_buffer<uint16_t> resend_;
  boost::circular_buffer<BlockCommand> waiting_;
  uint64_t sequence_ = 0;

  uint32_t credits_ = 0;               // commands that may be sent now
  uint32_t send_free_ = 0;             // entries of the send queue
  uint32_t unsignaled_ = 0;            // sent since the last signaled one
  std::vector<SendWork> sends_;        // reused by Send
  std::vector<ReceiveWork> receives_;  // taken, to be posted again

  bool stirred_ = false;  // in host_->stirred
  bool ping_out_ = false;
  bool given_up_ = false;
  uint64_t heard_ms_ = 0;  // last message of the target
  uint64_t asked_ms_ = 0;  // when something was sent and nothing was unanswered before
  uint64_t down_ms_ = 0;   // not up since, or silent since
  uint64_t up_ms_ = 0;
  uint64_t attempt_ms_ = 0;  // kWaiting: of the next attempt; while connecting: its end
  uint32_t backoff_ms_;
  Status last_error_;
};

}  // namespace weft::rdma
