// SPDX-License-Identifier: MIT
//
// One initiator's connection, at the target: who it is, and its send queue. Engine thread.
//
//   proving (until HELLO) -> replacing (until I/O of those it replaces has ended) -> serving
//        |________________________|______________________________________________|-> closing -> draining
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rdma/block_wire.h"
#include "rdma/target_port.h"
#include "rdma/verbs.h"

namespace weft::rdma {

class ServedConnection {
 public:
  enum class State : uint8_t {
    kProving,
    kReplacing,
    kServing,
    kClosing,   // a last reply is on its way
    kDraining,  // its queue pair is gone; the backend still works for it
  };
  // What a send was for; comes back in its completion.
  enum class SendKind : uint8_t { kRetire = 1, kFetch = 2, kReply = 3, kLastReply = 4 };

  ServedConnection(std::unique_ptr<Connection> connection, TargetPort* port, const Connect& connect,
                   uint32_t send_depth);

  // Takes a send for the next Flush. index: of the command. The last one of a chain is signaled when
  // `signaled`; others are now and then, to retire entries of the send queue.
  // reply: what a `copied` work sends.
  using ReplyBytes = std::array<uint8_t, kCompletionBytes>;
  void Add(SendWork work, SendKind kind, uint32_t index, bool signaled, const ReplyBytes& reply = {});
  Status Flush();  // one doorbell; ETIMEDOUT: the peer takes no answers
  bool has_queued() const { return !sends_.empty(); }
  void Retire(uint64_t work_id) { send_free_ += static_cast<uint32_t>(work_id >> 32) & 0xffffff; }

  static SendKind KindOf(uint64_t work_id) { return static_cast<SendKind>(work_id >> 56); }
  static uint32_t IndexOf(uint64_t work_id) { return static_cast<uint32_t>(work_id); }
  // A completion that is not needed for its memory may be sent unsignaled.
  bool copies_replies() const { return connection_->inline_bytes_max() >= kCompletionBytes; }

  Connection* connection() { return connection_.get(); }
  void DestroyConnection() { connection_.reset(); }
  const std::string& peer() const { return peer_; }
  TargetPort* port() const { return port_; }

  const uint64_t session;
  const uint32_t number;
  const bool peer_target;  // the initiator is another target: neither fenced nor fencing, and reads only
  State state = State::kProving;
  std::array<uint8_t, kConnectBytes> connect_bytes{};
  std::array<uint8_t, kAcceptBytes> accept_bytes{};
  uint32_t depth = 0;    // credits granted
  uint32_t in_hand = 0;  // commands received and not answered
  uint32_t held = 0;     // commands that are not free
  uint32_t in_backend = 0;
  uint64_t hello_tag = 0;
  uint64_t heard_ms = 0;
  bool touched = false;  // in the engine's list of those to Flush
  bool blocked = false;  // something waits for room in the send queue

 private:
  std::unique_ptr<Connection> connection_;
  TargetPort* port_;
  std::string peer_;
  uint32_t send_depth_;
  uint32_t send_free_;
  uint32_t unsignaled_ = 0;
  std::vector<SendWork> sends_;
  std::vector<ReplyBytes> replies_;  // of sends_
};

}  // namespace weft::rdma
