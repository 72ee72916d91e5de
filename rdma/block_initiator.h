// SPDX-License-Identifier: MIT
//
// The client side of the block protocol (rdma/block_wire.h): all connections of one agent thread to
// all targets. Owned and called by that one thread; nothing here blocks.
//
// Life of a command: Submit() takes it; Kick() posts everything taken since the last Kick with one
// doorbell per target; Poll() hands out its completion, exactly once. In between, a connection may
// break: the command is sent again on the next connection (block commands are idempotent). A target
// that cannot be reached for `detect_ms` completes its commands with -EHOSTDOWN, new ones at once,
// until a connection stands again. Reconnecting backs off from 10 ms to 1 s.
//
//   for (;;) {
//     ... initiator->Submit(target, command); ...
//     initiator->Kick();
//     n = initiator->Poll(&done);
//     if (nothing to do && initiator->ArmNotify()) poll(initiator->event_fd(), ...);
//   }
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rdma/clock.h"
#include "rdma/verbs.h"
#include "userland/base/status.h"

namespace weft::rdma {

enum class BlockOp : uint8_t { kRead = 1, kWrite = 2, kFlush = 3, kDiscard = 4, kWriteZeroes = 5, kChecksums = 6 };

inline constexpr uint8_t kBlockFua = 0x02;  // durable before it is completed

struct BlockCommand {
  uint64_t tag = 0;  // the caller's, echoed
  BlockOp op = BlockOp::kRead;
  uint8_t flags = 0;  // kBlockFua
  uint32_t chunk_version = 0;
  uint64_t incarnation = 0;   // kFlush: that the target must have, else -ESTALE; 0: any
  uint64_t offset_bytes = 0;  // in the target's data area
  uint32_t length_bytes = 0;
  uint64_t buffer_offset = 0;  // in the registered memory

  // That move between that memory and the target: kRead, kWrite: length_bytes; kChecksums: 4 for each block.
  uint32_t data_bytes() const;
  bool answered_by_data() const { return op == BlockOp::kRead || op == BlockOp::kChecksums; }
};

struct BlockCompletion {
  uint64_t tag = 0;
  int32_t result = 0;  // bytes (kFlush: 0, kChecksums: of the answer) or -errno as in struct weft_cqe
};

struct TargetEndpoint {
  uint32_t id = 0;
  std::array<uint8_t, 16> uuid{};
  std::string name;  // for messages
  std::string host;  // address on the RDMA network
  uint16_t port = 0;
};

struct InitiatorOptions {
  void* memory = nullptr;  // registered once per device: the kernel's buffer pool
  size_t memory_bytes = 0;
  uint64_t session = 0;  // fencing epoch, in every command
  bool peer = false;     // a target that copies chunks: session 0, READ and CHECKSUMS only
  std::vector<uint8_t> cluster_key;
  uint32_t depth_per_target = 128;  // commands in flight; more wait inside
  uint32_t detect_ms = 5000;
  // Which of the session's initiators this is; none: the lowest number that is free in this process, for a peer
  // a random one. A
  // target ends the earlier connection of the same session and number, and waits for its I/O, before it
  // serves a new one: what an agent that died had under way cannot land after what its successor sends.
  std::optional<uint32_t> number = std::nullopt;
  const Clock* clock = nullptr;  // nullptr: CLOCK_MONOTONIC; outlives the initiator
};

class BlockInitiator {
 public:
  // verbs: RealVerbs() or a fake; outlives the initiator.
  static Result<std::unique_ptr<BlockInitiator>> Create(Verbs* verbs, InitiatorOptions options);
  virtual ~BlockInitiator() = default;

  // Adds it or takes a new address; connecting starts at once, in the background.
  virtual Status SetTarget(const TargetEndpoint& endpoint) = 0;
  virtual void RemoveTarget(uint32_t id) = 0;  // unfinished commands complete with -EHOSTDOWN

  virtual Status Submit(uint32_t target, const BlockCommand& command) = 0;  // ENODEV, EINVAL
  virtual void Kick() = 0;
  // Appends to *done; returns how many. Also drives connecting, timeouts and resending.
  virtual size_t Poll(std::vector<BlockCompletion>* done) = 0;

  // Readable when Poll has something to do. ArmNotify first; false: Poll again instead of sleeping.
  virtual int event_fd() const = 0;
  virtual bool ArmNotify() = 0;
  // The sleep after ArmNotify ended and event_fd was not readable: spares the next Poll some system calls.
  virtual void NotReadable() = 0;

  // Called (from Poll) when a target's connection comes up (Ok) or is given up (the reason). incarnation: of
  // the target when it was connected last, see block_wire.h; 0: never.
  using TargetStateCallback = std::function<void(uint32_t id, const Status& path, uint64_t incarnation)>;
  virtual void OnTargetState(TargetStateCallback callback) = 0;
};

}  // namespace weft::rdma
