// SPDX-License-Identifier: MIT
#include "rdma/served_connection.h"

#include <algorithm>
#include <cerrno>

namespace weft::rdma {
namespace {

constexpr size_t kQueuedMax = 2;  // sends that wait for room, in depths of the send queue

}  // namespace

ServedConnection::ServedConnection(std::unique_ptr<Connection> connection, TargetPort* port, const Connect& connect,
                                   uint32_t send_depth)
    : session(connect.session),
      number(connect.number),
      peer_target((connect.flags & kConnectPeer) != 0),
      connection_(std::move(connection)),
      port_(port),
      peer_(connection_->peer()),
      send_depth_(send_depth),
      send_free_(send_depth) {
  sends_.reserve(kQueuedMax * send_depth);
  replies_.reserve(kQueuedMax * send_depth);
}

void ServedConnection::Add(SendWork work, SendKind kind, uint32_t index, bool signaled, const ReplyBytes& reply) {
  unsignaled_++;
  if (!signaled && kind == SendKind::kRetire && unsignaled_ >= send_depth_ / 4) signaled = true;
  work.signaled = signaled;
  work.id = static_cast<uint64_t>(kind) << 56 | (signaled ? static_cast<uint64_t>(unsignaled_) << 32 : 0) | index;
  if (signaled) unsignaled_ = 0;
  sends_.push_back(work);
  replies_.push_back(reply);
}

Status ServedConnection::Flush() {
  size_t count = std::min<size_t>(sends_.size(), send_free_);
  if (sends_.size() - count > kQueuedMax * send_depth_) return Error(ETIMEDOUT, "does not take its answers");
  if (count == 0) return Status::Ok();
  for (size_t i = 0; i < count; i++) {
    if (sends_[i].copied) sends_[i].segment[0].address = replies_[i].data();
  }
  send_free_ -= static_cast<uint32_t>(count);
  Status s = connection_->PostSend(std::span(sends_).first(count));
  sends_.erase(sends_.begin(), sends_.begin() + static_cast<ptrdiff_t>(count));
  replies_.erase(replies_.begin(), replies_.begin() + static_cast<ptrdiff_t>(count));
  return s;
}

}  // namespace weft::rdma
