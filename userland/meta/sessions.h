// SPDX-License-Identifier: MIT
//
// Client sessions and their slots. A session's id rises with every session and is the fencing epoch at
// the targets. It lives until its client closes it, an operator evicts it, or another client comes after
// its lease has run out: a client that is only late (its agent is being restarted) loses nothing as long as
// nobody else wants the file system. In between, where NVMe-oF targets do not refuse its requests by themselves, it is
// `ended` for its client alone (fencing.cc).
//
// Slots make operations exactly-once: the reply of the last sequence number of each slot is stored in the
// commit that holds its effect. Mirrored in memory; the renewal clocks are not stored and start anew, with a
// full lease, when the server does. State machine thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "thrift-gen/meta_types.h"
#include "userland/meta/tables.h"

namespace weft {

inline constexpr uint32_t kSessionSlots = 32;

struct ClientSession {
  struct Slot {
    uint64_t seq = 0;
    idl::Reply reply;
  };
  SessionRecord record;
  int64_t renewed_ms = 0;  // server's monotonic clock
  uint32_t settled = 0;    // no request of an older map than this version is under way
  // Of one that has ended for its client:
  std::string why;
  int64_t gone_at_ms = 0;     // from then on nothing that it sent can take effect; renewed_ms and more
  bool fence_wanted = false;  // by the command
  std::string fence_error;
  std::array<Slot, kSessionSlots> slots;
};

// The reply in a SlotRecord. False: it is malformed.
bool DecodeReply(std::string_view bytes, idl::Reply* reply);

class Sessions {
 public:
  explicit Sessions(Tables* tables) : tables_(tables) {}

  void Load(int64_t now_ms);

  const std::map<uint64_t, ClientSession>& all() const { return sessions_; }
  ClientSession* Find(uint64_t id);
  // 0: none
  uint64_t FindClient(const Uuid& client) const;

  void Add(uint64_t id, SessionRecord record, int64_t now_ms);
  void PutRecord(uint64_t id);
  // The session and its slots; orphans and grants are the caller's.
  void Remove(uint64_t id);
  void StoreReply(uint64_t id, uint32_t slot, uint64_t seq, const idl::Reply& reply);

 private:
  Tables* const tables_;
  std::map<uint64_t, ClientSession> sessions_;
};

}  // namespace weft
