// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <cerrno>

#include "rdma/real_objects.h"
#include "rdma/reaper.h"

namespace weft::rdma {
namespace {

// RDMA READs that may be under way on one queue pair in one direction.
constexpr int kReadsMax = 16;
// 7 retransmissions; a receiver that is not ready is asked for ever: credits make that a short wait.
constexpr uint8_t kRetries = 7;

rdma_conn_param Parameters(const RealDevice& device, std::span<const uint8_t> private_data) {
  rdma_conn_param param{};
  param.private_data = private_data.data();
  param.private_data_len = static_cast<uint8_t>(private_data.size());
  param.responder_resources = static_cast<uint8_t>(std::min(device.limits().max_qp_rd_atom, kReadsMax));
  param.initiator_depth = static_cast<uint8_t>(std::min(device.limits().max_qp_init_rd_atom, kReadsMax));
  param.retry_count = kRetries;
  param.rnr_retry_count = kRetries;
  return param;
}

ibv_wr_opcode ToOpcode(SendWork::Op op) {
  switch (op) {
    case SendWork::Op::kWriteImmediate:
      return IBV_WR_RDMA_WRITE_WITH_IMM;
    case SendWork::Op::kRead:
      return IBV_WR_RDMA_READ;
    default:
      return IBV_WR_SEND;
  }
}

}  // namespace

std::string FormatAddress(const sockaddr* address) {
  char host[NI_MAXHOST] = "?";
  char port[NI_MAXSERV] = "?";
  socklen_t length = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (getnameinfo(address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV)) {
    return "an unknown address";
  }
  return address->sa_family == AF_INET6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

RealConnection::RealConnection(RealVerbsImpl* verbs, rdma_cm_id* id) : verbs_(verbs), id_(id) {
  id_->context = this;
  peer_ = FormatAddress(rdma_get_peer_addr(id_));
}

RealConnection::~RealConnection() { Reaper::Instance().Take(id_, id_->qp); }

Status RealConnection::BindDevice() {
  peer_ = FormatAddress(rdma_get_peer_addr(id_));
  if (!id_->verbs) return Error(ENODEV, "no RDMA device leads to {}", peer_);
  Result<RealDevice*> device = verbs_->DeviceOf(id_->verbs);
  if (!device.ok()) return device.status();
  device_ = *device;
  return Status::Ok();
}

Status RealConnection::CreateQueues(const QueueOptions& options) {
  ibv_qp_init_attr init{};
  init.send_cq = init.recv_cq = static_cast<RealCompletionQueue*>(options.completions)->cq();
  init.srq = options.shared ? static_cast<RealReceiveQueue*>(options.shared)->srq() : nullptr;
  init.qp_type = IBV_QPT_RC;
  init.cap.max_send_wr = options.send_depth;
  init.cap.max_recv_wr = options.shared ? 0 : options.receive_depth;
  init.cap.max_send_sge = kSegmentsMax;
  init.cap.max_recv_sge = options.shared ? 0 : kSegmentsMax;
  init.cap.max_inline_data = options.inline_bytes;
  if (rdma_create_qp(id_, device_->pd(), &init)) {
    return Status::Errno(errno, fmt::format("RDMA device {}: queue pair with {} send and {} receive entries for {}",
                                            device_->name(), options.send_depth, options.receive_depth, peer_));
  }
  inline_bytes_max_ = init.cap.max_inline_data;
  return Status::Ok();
}

Status RealConnection::Connect(std::span<const uint8_t> private_data) {
  rdma_conn_param param = Parameters(*device_, private_data);
  if (rdma_connect(id_, &param)) return Status::Errno(errno, fmt::format("connect to {}", peer_));
  return Status::Ok();
}

Status RealConnection::Accept(std::span<const uint8_t> private_data) {
  rdma_conn_param param = Parameters(*device_, private_data);
  param.responder_resources = std::min(param.responder_resources, offer_.responder_resources);
  param.initiator_depth = std::min(param.initiator_depth, offer_.initiator_depth);
  if (rdma_accept(id_, &param)) return Status::Errno(errno, fmt::format("accept the connection of {}", peer_));
  return Status::Ok();
}

void RealConnection::Reject(std::span<const uint8_t> private_data) {
  rdma_reject(id_, private_data.data(), static_cast<uint8_t>(private_data.size()));
}

void RealConnection::Disconnect() { rdma_disconnect(id_); }

Status RealConnection::PostSend(std::span<const SendWork> work) {
  constexpr size_t kBatch = 64;
  while (!work.empty()) {
    std::array<ibv_send_wr, kBatch> requests;
    std::array<std::array<ibv_sge, kSegmentsMax>, kBatch> sges;
    size_t count = std::min(work.size(), kBatch);
    for (size_t i = 0; i < count; i++) {
      const SendWork& w = work[i];
      ibv_send_wr& request = requests[i];
      request.wr_id = w.id;
      request.next = i + 1 < count ? &requests[i + 1] : nullptr;
      request.sg_list = sges[i].data();
      request.num_sge = FillSge(w.segment, w.segments, sges[i].data());
      request.opcode = ToOpcode(w.op);
      request.send_flags = 0;
      if (w.signaled) request.send_flags |= IBV_SEND_SIGNALED;
      if (w.copied) request.send_flags |= IBV_SEND_INLINE;
      if (w.solicited) request.send_flags |= IBV_SEND_SOLICITED;
      request.imm_data = htonl(w.immediate);
      request.wr.rdma.remote_addr = w.remote_address;
      request.wr.rdma.rkey = w.remote_key;
    }
    ibv_send_wr* bad = nullptr;
    if (int error = ibv_post_send(id_->qp, requests.data(), &bad)) {
      return Status::Errno(error, fmt::format("post work to {}", peer_));
    }
    work = work.subspan(count);
  }
  return Status::Ok();
}

Status RealConnection::PostReceive(std::span<const ReceiveWork> work) {
  constexpr size_t kBatch = 32;
  while (!work.empty()) {
    std::array<ibv_recv_wr, kBatch> requests;
    std::array<std::array<ibv_sge, kSegmentsMax>, kBatch> sges;
    size_t count = std::min(work.size(), kBatch);
    for (size_t i = 0; i < count; i++) {
      int segments = FillSge(work[i].segment, work[i].segments, sges[i].data());
      requests[i] = {work[i].id, i + 1 < count ? &requests[i + 1] : nullptr, sges[i].data(), segments};
    }
    ibv_recv_wr* bad = nullptr;
    if (int error = ibv_post_recv(id_->qp, requests.data(), &bad)) {
      return Status::Errno(error, fmt::format("post receives for {}", peer_));
    }
    work = work.subspan(count);
  }
  return Status::Ok();
}

}  // namespace weft::rdma
