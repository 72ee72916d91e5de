// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <fcntl.h>

#include <cerrno>

#include "rdma/real_objects.h"
#include "rdma/reaper.h"

namespace weft::rdma {
namespace {

constexpr unsigned kAcknowledgeBatch = 64;

WorkStatus FromWc(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return WorkStatus::kSuccess;
    case IBV_WC_WR_FLUSH_ERR:
      return WorkStatus::kFlushed;
    case IBV_WC_REM_ACCESS_ERR:
      return WorkStatus::kRemoteAccess;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return WorkStatus::kRetryExceeded;
    default:
      return WorkStatus::kOther;
  }
}

}  // namespace

Result<std::unique_ptr<CompletionQueue>> RealCompletionQueue::Create(ibv_context* context, uint32_t depth) {
  const char* name = ibv_get_device_name(context->device);
  ibv_comp_channel* channel = ibv_create_comp_channel(context);
  if (!channel) return Status::Errno(errno, fmt::format("RDMA device {}: completion channel", name));
  int flags = fcntl(channel->fd, F_GETFL);
  fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK);
  ibv_cq* cq = ibv_create_cq(context, static_cast<int>(depth), nullptr, channel, 0);
  if (!cq) {
    int error = errno;
    ibv_destroy_comp_channel(channel);
    return Status::Errno(error, fmt::format("RDMA device {}: completion queue of {} entries", name, depth));
  }
  return std::unique_ptr<CompletionQueue>(new RealCompletionQueue(channel, cq));
}

RealCompletionQueue::~RealCompletionQueue() {
  Reaper::Instance().Wait();
  // ibv_destroy_cq waits until every event that was taken is acknowledged.
  if (unacknowledged_) ibv_ack_cq_events(cq_, unacknowledged_);
  ibv_destroy_cq(cq_);
  ibv_destroy_comp_channel(channel_);
}

size_t RealCompletionQueue::Poll(std::span<WorkCompletion> out) {
  constexpr size_t kBatch = 32;
  std::array<ibv_wc, kBatch> wcs;
  size_t total = 0;
  while (total < out.size()) {
    int wanted = static_cast<int>(std::min(out.size() - total, kBatch));
    int count = ibv_poll_cq(cq_, wanted, wcs.data());
    for (int i = 0; i < count; i++) {
      const ibv_wc& wc = wcs[i];
      out[total++] = {.id = wc.wr_id,
                      .connection = wc.qp_num,
                      .status = FromWc(wc.status),
                      .receive = wc.status == IBV_WC_SUCCESS && (wc.opcode & IBV_WC_RECV) != 0,
                      .written = wc.status == IBV_WC_SUCCESS && wc.opcode == IBV_WC_RECV_RDMA_WITH_IMM,
                      .bytes = wc.byte_len,
                      .immediate = ntohl(wc.imm_data),
                      .detail = ibv_wc_status_str(wc.status)};
    }
    if (count < wanted) break;
  }
  return total;
}

Status RealCompletionQueue::Arm(Wake wake) {
  if (int error = ibv_req_notify_cq(cq_, wake == Wake::kSolicited))
    return Status::Errno(error, "arm the completion queue");
  return Status::Ok();
}

bool RealCompletionQueue::TakeEvent() {
  ibv_cq* cq;
  void* context;
  if (ibv_get_cq_event(channel_, &cq, &context)) return false;
  if (++unacknowledged_ == kAcknowledgeBatch) {
    ibv_ack_cq_events(cq_, unacknowledged_);
    unacknowledged_ = 0;
  }
  return true;
}

}  // namespace weft::rdma
