// SPDX-License-Identifier: MIT
//
// The seam to RDMA: what this library needs of libibverbs and librdmacm, as interfaces. RealVerbs() is
// the real thing (one file per noun: cm_channel, connection, device, completion_queue); FakeFabric
// (fake_fabric.h) is an in-process network for unit tests with faults to inject.
//
// Ownership: devices belong to Verbs and live as long as it. Everything else belongs to the caller and
// is destroyed in this order: connections, then queues and memory, then the CM channel.
// Threads: Verbs and Device from any thread; each other object from one thread at a time.
// Nothing here blocks, but for RegisterMemory (pins pages), object creation (system calls) and the end of what
// connections have used, which waits for theirs (reaper.h).
//
// Only reliable connected queue pairs. Work requests of one queue pair complete in order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "userland/base/status.h"

namespace weft::rdma {

// ---- work ---------------------------------------------------------------------------------------

struct Segment {
  const void* address = nullptr;  // in memory registered with `key`
  uint32_t bytes = 0;
  uint32_t key = 0;
};

inline constexpr int kSegmentsMax = 2;

struct SendWork {
  // kWriteImmediate: an RDMA WRITE that also takes a receive of the peer and hands it `immediate`.
  enum class Op : uint8_t { kSend, kWriteImmediate, kRead };
  uint64_t id = 0;  // of the caller, comes back in WorkCompletion
  Op op = Op::kSend;
  bool signaled = false;   // also retires the unsignaled ones before it
  bool copied = false;     // payload is copied by PostSend (at most inline_bytes_max): no key needed
  bool solicited = false;  // kSend, kWriteImmediate: wakes a peer that armed for kSolicited
  uint8_t segments = 0;
  std::array<Segment, kSegmentsMax> segment{};
  uint64_t remote_address = 0;  // kWriteImmediate, kRead
  uint32_t remote_key = 0;
  uint32_t immediate = 0;  // kWriteImmediate
};

struct ReceiveWork {
  uint64_t id = 0;
  uint8_t segments = 0;
  std::array<Segment, kSegmentsMax> segment{};
};

enum class WorkStatus : uint8_t {
  kSuccess,
  kFlushed,        // the queue pair was in error before this work began
  kRemoteAccess,   // the peer's memory key or address was refused
  kRetryExceeded,  // the peer does not answer
  kOther,          // see `detail`
};

struct WorkCompletion {
  uint64_t id = 0;
  uint32_t connection = 0;  // Connection::number()
  WorkStatus status = WorkStatus::kSuccess;
  bool receive = false;     // valid for kSuccess
  bool written = false;     // receive: of a kWriteImmediate, whose data is not in the receive's segments
  uint32_t bytes = 0;       // receive: length of the message or of what was written
  uint32_t immediate = 0;   // receive, written
  const char* detail = "";  // name of the status for people; static
};

// ---- objects of a device ------------------------------------------------------------------------

class Memory {  // a registration; destroying it ends it
 public:
  virtual ~Memory() = default;
  virtual uint32_t local_key() const = 0;
  virtual uint32_t remote_key() const = 0;
};

class CompletionQueue {
 public:
  // kSolicited: messages that were sent `solicited`, and errors of receives; kAny: every completion.
  enum class Wake : uint8_t { kSolicited = 1, kAny = 2 };
  virtual ~CompletionQueue() = default;
  virtual size_t Poll(std::span<WorkCompletion> out) = 0;  // how many it filled
  // The next completion of that kind makes event_fd readable, once. Poll once more afterwards before
  // sleeping. A queue that is armed for kSolicited may be armed for kAny on top.
  virtual Status Arm(Wake wake) = 0;
  virtual int event_fd() const = 0;  // non-blocking
  virtual bool TakeEvent() = 0;      // clears one event of event_fd; false: there was none
};

class ReceiveQueue {  // shared by the queue pairs of a device
 public:
  virtual ~ReceiveQueue() = default;
  virtual Status Post(std::span<const ReceiveWork> work) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;
  // remote: the peers of any connection may read and write it with its remote_key.
  virtual Result<std::unique_ptr<Memory>> RegisterMemory(void* address, size_t bytes, bool remote) = 0;
  virtual Result<std::unique_ptr<CompletionQueue>> CreateCompletionQueue(uint32_t depth) = 0;
  virtual Result<std::unique_ptr<ReceiveQueue>> CreateReceiveQueue(uint32_t depth) = 0;
};

// ---- connections --------------------------------------------------------------------------------

// What InfiniBand's connection manager has room for; RoCE pads private data with zeroes to these.
inline constexpr size_t kConnectDataMax = 56;
inline constexpr size_t kAcceptDataMax = 196;
inline constexpr size_t kRejectDataMax = 148;

struct QueueOptions {
  CompletionQueue* completions = nullptr;  // of sends and receives
  ReceiveQueue* shared = nullptr;          // nullptr: the connection has its own, receive_depth deep
  uint32_t send_depth = 0;
  uint32_t receive_depth = 0;
  uint32_t inline_bytes = 0;  // wanted for SendWork::copied
};

class Connection {
 public:
  virtual ~Connection() = default;  // ends it at once; its work never completes after this
  virtual Device* device() = 0;
  virtual const std::string& peer() const = 0;  // "10.0.0.3:7471"
  virtual uint32_t number() const = 0;          // of its queue pair
  virtual uint32_t inline_bytes_max() const = 0;

  virtual Status CreateQueues(const QueueOptions& options) = 0;  // once, before Connect or Accept
  virtual Status Connect(std::span<const uint8_t> private_data) = 0;
  virtual Status Accept(std::span<const uint8_t> private_data) = 0;
  virtual void Reject(std::span<const uint8_t> private_data) = 0;
  virtual void Disconnect() = 0;

  // All or nothing is not promised: after an error the connection is of no use any more.
  virtual Status PostSend(std::span<const SendWork> work) = 0;  // one doorbell
  virtual Status PostReceive(std::span<const ReceiveWork> work) = 0;

  void set_context(void* context) { context_ = context; }
  void* context() const { return context_; }

 private:
  void* context_ = nullptr;
};

struct CmEvent {
  enum class Type : uint8_t {
    kResolved,      // address and route are known: CreateQueues and Connect
    kRequest,       // somebody connects: `incoming`, private_data
    kEstablished,   // connecting side: private_data is what the peer accepted with
    kRejected,      // private_data is what the peer rejected with, empty or zeroes: nobody listens
    kFailed,        // could not connect: `error`, `what`
    kDisconnected,  // by the peer, however early, or by the loss of the device
  };
  Type type = Type::kFailed;
  Connection* connection = nullptr;  // all but kRequest
  std::unique_ptr<Connection> incoming;
  int error = 0;  // errno
  std::string what;
  size_t private_bytes = 0;
  std::array<uint8_t, 256> private_data{};
  std::span<const uint8_t> data() const { return {private_data.data(), private_bytes}; }
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual uint16_t port() const = 0;  // the one chosen, when asked for port 0
};

class CmChannel {
 public:
  virtual ~CmChannel() = default;
  virtual Result<std::unique_ptr<Listener>> Listen(const std::string& host, uint16_t port, int backlog) = 0;
  // Begins to connect; kResolved or kFailed follows.
  virtual Result<std::unique_ptr<Connection>> Resolve(const std::string& host, uint16_t port, int timeout_ms) = 0;
  virtual bool NextEvent(CmEvent* event) = 0;  // false: none now
  virtual int event_fd() const = 0;
};

class Verbs {
 public:
  virtual ~Verbs() = default;
  virtual Result<std::unique_ptr<CmChannel>> CreateCmChannel() = 0;
};

// librdmacm and libibverbs of this process. They keep their devices for the life of the process and so
// does this.
Verbs* RealVerbs();

}  // namespace weft::rdma
