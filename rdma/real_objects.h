// SPDX-License-Identifier: MIT
//
// The real implementations behind verbs.h, private to this library: each wraps one object of libibverbs
// or librdmacm. Rules for threads and ownership are those of verbs.h.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "rdma/verbs.h"

namespace weft::rdma {

class RealDevice final : public Device {
 public:
  // EIO etc. when the device gives no protection domain.
  static Result<std::unique_ptr<RealDevice>> Create(ibv_context* context);
  ~RealDevice() override;
  const std::string& name() const override { return name_; }
  Result<std::unique_ptr<Memory>> RegisterMemory(void* address, size_t bytes, bool remote) override;
  Result<std::unique_ptr<CompletionQueue>> CreateCompletionQueue(uint32_t depth) override;
  Result<std::unique_ptr<ReceiveQueue>> CreateReceiveQueue(uint32_t depth) override;

  ibv_pd* pd() const { return pd_; }
  const ibv_device_attr& limits() const { return limits_; }

 private:
  RealDevice(ibv_context* context, ibv_pd* pd, const ibv_device_attr& limits);
  std::string name_;
  ibv_context* context_;  // librdmacm's
  ibv_pd* pd_;
  ibv_device_attr limits_;
};

class RealCompletionQueue final : public CompletionQueue {
 public:
  static Result<std::unique_ptr<CompletionQueue>> Create(ibv_context* context, uint32_t depth);
  ~RealCompletionQueue() override;
  size_t Poll(std::span<WorkCompletion> out) override;
  Status Arm(Wake wake) override;
  int event_fd() const override { return channel_->fd; }
  bool TakeEvent() override;
  ibv_cq* cq() const { return cq_; }

 private:
  RealCompletionQueue(ibv_comp_channel* channel, ibv_cq* cq) : channel_(channel), cq_(cq) {}
  ibv_comp_channel* channel_;
  ibv_cq* cq_;
  unsigned unacknowledged_ = 0;  // events taken; acknowledged in batches, as that takes a lock
};

class RealReceiveQueue final : public ReceiveQueue {
 public:
  explicit RealReceiveQueue(ibv_srq* srq) : srq_(srq) {}
  ~RealReceiveQueue() override;
  Status Post(std::span<const ReceiveWork> work) override;
  ibv_srq* srq() const { return srq_; }

 private:
  ibv_srq* srq_;
};

class RealVerbsImpl final : public Verbs {
 public:
  Result<std::unique_ptr<CmChannel>> CreateCmChannel() override;
  Result<RealDevice*> DeviceOf(ibv_context* context);  // any thread

 private:
  std::mutex mutex_;
  std::unordered_map<ibv_context*, std::unique_ptr<RealDevice>> devices_;  // under mutex_
};

class RealConnection final : public Connection {
 public:
  RealConnection(RealVerbsImpl* verbs, rdma_cm_id* id);
  ~RealConnection() override;
  Device* device() override { return device_; }
  const std::string& peer() const override { return peer_; }
  uint32_t number() const override { return id_->qp ? id_->qp->qp_num : 0; }
  uint32_t inline_bytes_max() const override { return inline_bytes_max_; }
  Status CreateQueues(const QueueOptions& options) override;
  Status Connect(std::span<const uint8_t> private_data) override;
  Status Accept(std::span<const uint8_t> private_data) override;
  void Reject(std::span<const uint8_t> private_data) override;
  void Disconnect() override;
  Status PostSend(std::span<const SendWork> work) override;
  Status PostReceive(std::span<const ReceiveWork> work) override;

  rdma_cm_id* id() { return id_; }
  Status BindDevice();  // once id_->verbs is known
  // What the connecting side offers, from its request.
  void set_offer(const rdma_conn_param& offer) { offer_ = offer; }
  void set_established() { established_ = true; }
  bool established() const { return established_; }

 private:
  RealVerbsImpl* verbs_;
  rdma_cm_id* id_;
  RealDevice* device_ = nullptr;
  std::string peer_;
  uint32_t inline_bytes_max_ = 0;
  rdma_conn_param offer_{};
  bool established_ = false;  // the connecting side has seen it accepted
};

// "10.0.0.3:7471", "[fe80::1]:7471"
std::string FormatAddress(const sockaddr* address);

// Fills the sge array of one work request from its segments.
int FillSge(const std::array<Segment, kSegmentsMax>& segment, uint8_t segments, ibv_sge* sge);

}  // namespace weft::rdma
