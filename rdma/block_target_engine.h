// SPDX-License-Identifier: MIT
//
// The engine behind BlockTarget, private to this library. Connections: block_target_admission.cc,
// commands: block_target_commands.cc, the turn of the loop: block_target.cc. Engine thread.
//
// Life of a command (who may touch its memory):
//   received -> [waiting for its place] -> [waiting for a buffer] -> [fetching: NIC] -> in the backend: storage
//   -> replying: NIC -> free
// It is under way at its place (Places::Enter) from before it waits for a buffer until the storage is done.
// A command whose connection ends loses it (`connection` is null) and is freed by whoever has it: at
// once when that was the NIC, as the queue pair is destroyed first; by the backend's answer otherwise.
#pragma once

#include <array>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include <boost/circular_buffer.hpp>

#include "rdma/block_target.h"
#include "rdma/block_wire.h"
#include "rdma/buffer_pool.h"
#include "rdma/log_limiter.h"
#include "rdma/served_connection.h"
#include "rdma/target_port.h"

namespace weft::rdma {

class BlockTargetEngine final : public BlockTarget {
 public:
  BlockTargetEngine(BlockBackend* backend, Fence* fence, BlockTargetOptions options);
  ~BlockTargetEngine() override;
  Status Open(Verbs* verbs);

  size_t Poll() override;
  bool Arm(int* timeout_ms) override;
  uint16_t port() const override { return listener_->port(); }
  void Execute(const BackendRequest& request, std::function<void(int32_t)> done) override;
  const BlockTargetCounters& counters() const override { return counters_; }

 private:
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  static constexpr uint64_t kOwnCookie = 1ULL << 63;  // of a request of Execute; others are indices of commands
  // Commands that are answered stay until the NIC is done with their memory.
  static constexpr uint32_t kHeldPerCredit = 3;

  struct Command {
    enum class State : uint8_t { kFree, kAtPlace, kWaiting, kFetching, kInBackend, kReplying, kLastReply };
    State state = State::kFree;
    ServedConnection* connection = nullptr;
    TargetPort* port = nullptr;
    Capsule capsule;
    uint32_t slot = kNoSlot;    // that holds its data
    uint8_t* buffer = nullptr;  // of capsule.data_bytes(), from the pool
    bool entered = false;       // under way at its place
    // Nothing happens before the NIC is done.
    bool awaits_send() const { return state == State::kFetching || state == State::kLastReply; }
  };

  // ---- the loop
  size_t HandleWorkCompletions();
  size_t HandleBackend();
  void HandleTime();
  void FlushSends();
  // What ends a send is reaped along with the next command, unless something waits for it.
  bool NeedsSends() const { return sends_awaited_ > 0 || connections_blocked_ > 0 || !waiting_.empty(); }

  // ---- connections
  void HandleCmEvents();
  void OnRequest(CmEvent* event);
  void OnDisconnected(const Connection* connection);
  Result<TargetPort*> PortOf(Device* device);
  void Refuse(Connection* connection, RejectReason reason, uint64_t value, const std::string& why);
  Status Admit(std::unique_ptr<Connection> connection, const Connect& connect, std::span<const uint8_t> bytes,
               uint16_t depth);
  void OnHello(ServedConnection* connection, const Capsule& capsule);
  void ReplaceOthers(ServedConnection* connection);
  void FinishReplacing();  // those whose predecessors are drained now
  bool HasPredecessor(const ServedConnection& connection) const;
  static bool Replaces(const ServedConnection& newer, const ServedConnection& older);
  void LastReply(ServedConnection* connection, uint64_t tag, int32_t result);
  void Drop(ServedConnection* connection, const std::string& why);
  void DropQuietly(ServedConnection* connection);
  void CheckSilence(ServedConnection* connection);

  // ---- commands
  void OnMessage(ServedConnection* connection, uint32_t slot, uint32_t bytes);
  void OnCommand(ServedConnection* connection, const Capsule& capsule, uint32_t slot);
  void OnSent(ServedConnection* connection, uint64_t work_id);
  void EnterPlace(uint32_t index);  // or wait for it
  void LeavePlace(Command* command, bool executed);
  size_t ServePlaces();  // those that waited for a place
  void Begin(uint32_t index);
  void GetBuffer(uint32_t index);  // or wait for one
  void OnBuffer(uint32_t index);
  void ServeWaiting();
  void SubmitToBackend(uint32_t index);
  void OnBackendDone(uint32_t index, int32_t result);
  void Reply(uint32_t index, int32_t result);
  void SendReply(ServedConnection* connection, uint32_t index, uint64_t tag, int32_t result,
                 ServedConnection::SendKind kind, bool signaled);
  uint32_t TakeCommand(ServedConnection* connection);
  void FreeCommand(uint32_t index);
  void Enter(Command* command, Command::State state);
  void Touch(ServedConnection* connection);

  const BlockTargetOptions options_;
  BlockBackend* const backend_;
  Fence* const fence_;
  const SteadyClock steady_clock_;
  const Clock* clock_;
  uint64_t now_ms_ = 0;
  uint64_t next_check_ms_ = 0;
  unsigned turns_ = 0;
  bool slept_ = true;
  bool cm_ready_ = false;  // the backend's Watch sets it

  std::unique_ptr<CmChannel> channel_;
  std::unique_ptr<BufferPool> pool_;
  std::vector<uint8_t> replies_;  // a completion for each command
  std::vector<std::unique_ptr<TargetPort>> ports_;
  std::list<std::unique_ptr<ServedConnection>> connections_;
  std::unordered_map<uint32_t, ServedConnection*> by_number_;  // of the queue pair; not draining
  std::vector<ServedConnection*> touched_;
  std::unique_ptr<Listener> listener_;

  std::unordered_map<uint64_t, std::function<void(int32_t)>> own_;  // by cookie: Execute
  uint64_t own_next_ = kOwnCookie;

  std::vector<Command> commands_;
  std::vector<uint32_t> free_commands_;
  boost::circular_buffer<uint32_t> waiting_;  // for a buffer
  uint32_t sends_awaited_ = 0;                // commands of which awaits_send() holds
  uint32_t connections_blocked_ = 0;          // ServedConnection::blocked
  uint32_t credits_free_;

  // What a turn finds; kept, as looking costs less than making them.
  std::array<WorkCompletion, 64> completions_;
  std::array<BackendDone, 64> backend_done_;

  LogLimiter limiter_;
  BlockTargetCounters counters_;
};

}  // namespace weft::rdma
