// SPDX-License-Identifier: MIT
//
// The objects of a FakeFabric, private to it.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rdma/fake_fabric.h"

namespace weft::rdma {

class Event {  // an eventfd that is readable while set
 public:
  Event() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Event() { close(fd_); }
  void Set() { eventfd_write(fd_, 1); }
  bool Take() {
    eventfd_t value;
    return eventfd_read(fd_, &value) == 0;
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

class FakeMemory final : public Memory {
 public:
  FakeMemory(FakeHost* host, void* address, size_t bytes, bool remote);
  ~FakeMemory() override;
  uint32_t local_key() const override { return key_; }
  uint32_t remote_key() const override { return key_ | 0x80000000; }
  bool Holds(const void* address, size_t bytes) const;
  bool remote() const { return remote_; }

 private:
  FakeHost* host_;
  uint8_t* address_;
  size_t bytes_;
  bool remote_;
  uint32_t key_;
};

class FakeCompletionQueue final : public CompletionQueue {
 public:
  size_t Poll(std::span<WorkCompletion> out) override;
  Status Arm(Wake wake) override;
  int event_fd() const override { return event_.fd(); }
  bool TakeEvent() override { return event_.Take(); }
  void Push(const WorkCompletion& completion, bool solicited = false);

 private:
  std::deque<WorkCompletion> entries_;
  Event event_;
  std::optional<Wake> armed_;
};

class FakeReceiveQueue final : public ReceiveQueue {
 public:
  FakeReceiveQueue(FakeFabric* fabric, uint32_t depth) : fabric_(fabric), depth_(depth) {}
  Status Post(std::span<const ReceiveWork> work) override;
  std::deque<ReceiveWork> entries;

 private:
  FakeFabric* fabric_;
  uint32_t depth_;
};

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(FakeHost* host) : host_(host) {}
  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<Memory>> RegisterMemory(void* address, size_t bytes, bool remote) override;
  Result<std::unique_ptr<CompletionQueue>> CreateCompletionQueue(uint32_t depth) override;
  Result<std::unique_ptr<ReceiveQueue>> CreateReceiveQueue(uint32_t depth) override;

 private:
  FakeHost* host_;
  std::string name_ = "fake0";
};

class FakeCmChannel;

class FakeHost {
 public:
  FakeHost(FakeFabric* fabric, std::string address) : fabric(fabric), address(std::move(address)), device(this) {}
  bool Check(const Segment& segment) const;  // local key and bounds
  bool CheckRemote(uint64_t at, uint32_t bytes, uint32_t key) const;

  FakeFabric* const fabric;
  const std::string address;
  FakeDevice device;
  std::map<uint32_t, FakeMemory*> memories;      // by local key
  std::map<uint16_t, FakeCmChannel*> listeners;  // by port
};

class FakeConnection final : public Connection {
 public:
  FakeConnection(FakeHost* host, FakeCmChannel* channel, std::string peer);
  ~FakeConnection() override;
  Device* device() override { return &host_->device; }
  const std::string& peer() const override { return peer_name_; }
  uint32_t number() const override { return number_; }
  uint32_t inline_bytes_max() const override { return options_.inline_bytes; }
  Status CreateQueues(const QueueOptions& options) override;
  Status Connect(std::span<const uint8_t> private_data) override;
  Status Accept(std::span<const uint8_t> private_data) override;
  void Reject(std::span<const uint8_t> private_data) override;
  void Disconnect() override { Sever(); }
  Status PostSend(std::span<const SendWork> work) override;
  Status PostReceive(std::span<const ReceiveWork> work) override;

  void Sever(WorkStatus first = WorkStatus::kFlushed);  // both sides
  void LoseWay();                                       // this side hears that there is no way to the other
  bool Pump();                                          // carries out what can be; true: something was
  bool established() const { return established_; }
  const FakeHost* host() const { return host_; }

 private:
  friend class FakeCmChannel;
  void Fail(WorkStatus first = WorkStatus::kFlushed);  // this side: flush, event
  void Complete(const SendWork& work, WorkStatus status, const char* detail);
  bool Execute(const SendWork& work);  // false: has to wait
  bool ExecuteSend(const SendWork& work);
  bool ExecuteRdma(const SendWork& work);
  std::deque<ReceiveWork>& receives() { return options_.shared ? shared()->entries : own_; }
  FakeReceiveQueue* shared() { return static_cast<FakeReceiveQueue*>(options_.shared); }
  FakeCompletionQueue* completions() { return static_cast<FakeCompletionQueue*>(options_.completions); }

  struct Pending {
    SendWork work;
    std::vector<uint8_t> copy;  // of a `copied` payload
  };

  FakeHost* host_;
  FakeCmChannel* channel_;
  std::string peer_name_;
  uint32_t number_;
  uint16_t port_ = 0;               // connecting side
  FakeConnection* peer_ = nullptr;  // from Connect on
  QueueOptions options_;
  bool established_ = false;
  bool failed_ = false;
  std::deque<Pending> pending_;
  std::deque<ReceiveWork> own_;
  uint32_t unretired_ = 0;  // entries of the send queue in use
};

class FakeCmChannel final : public CmChannel {
 public:
  explicit FakeCmChannel(FakeHost* host) : host_(host) {}
  ~FakeCmChannel() override;
  Result<std::unique_ptr<Listener>> Listen(const std::string& host, uint16_t port, int backlog) override;
  Result<std::unique_ptr<Connection>> Resolve(const std::string& host, uint16_t port, int timeout_ms) override;
  bool NextEvent(CmEvent* event) override;
  int event_fd() const override { return event_.fd(); }

  void Push(CmEvent event);
  void Forget(const Connection* connection);  // its events
  FakeHost* host() { return host_; }

 private:
  FakeHost* host_;
  std::deque<CmEvent> events_;
  Event event_;
};

}  // namespace weft::rdma
