// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "rdma/fake_objects.h"

namespace weft::rdma {
namespace {

uint32_t TotalBytes(const SendWork& work) {
  uint32_t total = 0;
  for (int i = 0; i < work.segments; i++) total += work.segment[static_cast<size_t>(i)].bytes;
  return total;
}

void Gather(const SendWork& work, uint8_t* to) {
  for (size_t i = 0; i < work.segments; i++) {
    if (work.segment[i].bytes) memcpy(to, work.segment[i].address, work.segment[i].bytes);
    to += work.segment[i].bytes;
  }
}

void Scatter(const uint8_t* from, uint32_t bytes, const std::array<Segment, kSegmentsMax>& segment, size_t segments) {
  for (size_t i = 0; i < segments && bytes; i++) {
    uint32_t part = std::min(bytes, segment[i].bytes);
    memcpy(const_cast<void*>(segment[i].address), from, part);
    from += part;
    bytes -= part;
  }
}

CmEvent MakeEvent(CmEvent::Type type, Connection* connection, std::span<const uint8_t> data, size_t padded) {
  CmEvent event;
  event.type = type;
  event.connection = connection;
  std::ranges::copy(data, event.private_data.begin());
  event.private_bytes = padded;  // as RoCE does
  return event;
}

}  // namespace

FakeConnection::FakeConnection(FakeHost* host, FakeCmChannel* channel, std::string peer)
    : host_(host), channel_(channel), peer_name_(std::move(peer)), number_(host->fabric->next_number_++) {
  host_->fabric->all_.insert(this);
}

FakeConnection::~FakeConnection() {
  established_ = false;
  if (peer_) {
    FakeConnection* peer = peer_;
    peer_->peer_ = nullptr;
    peer_ = nullptr;
    if (host_->fabric->Passes(host_, peer->host_)) peer->Fail();
  }
  channel_->Forget(this);
  host_->fabric->all_.erase(this);
}

Status FakeConnection::CreateQueues(const QueueOptions& options) {
  options_ = options;
  return Status::Ok();
}

Status FakeConnection::Connect(std::span<const uint8_t> private_data) {
  if (private_data.size() > kConnectDataMax) return Error(EINVAL, "too much private data");
  FakeHost* to = host_->fabric->hosts_.at(peer_name_);
  if (!host_->fabric->Passes(host_, to)) return Status::Ok();
  auto listener = to->listeners.find(port_);
  if (listener == to->listeners.end()) {
    channel_->Push(MakeEvent(CmEvent::Type::kRejected, this, {}, kRejectDataMax));
    return Status::Ok();
  }
  auto incoming = std::make_unique<FakeConnection>(to, listener->second, host_->address);
  incoming->peer_ = this;
  peer_ = incoming.get();
  CmEvent event = MakeEvent(CmEvent::Type::kRequest, nullptr, private_data, kConnectDataMax);
  event.incoming = std::move(incoming);
  listener->second->Push(std::move(event));
  return Status::Ok();
}

Status FakeConnection::Accept(std::span<const uint8_t> private_data) {
  if (private_data.size() > kAcceptDataMax) return Error(EINVAL, "too much private data");
  if (!peer_) return Error(ECONNRESET, "the peer is gone");
  established_ = peer_->established_ = true;
  peer_->channel_->Push(MakeEvent(CmEvent::Type::kEstablished, peer_, private_data, kAcceptDataMax));
  channel_->Push(MakeEvent(CmEvent::Type::kEstablished, this, {}, 0));
  return Status::Ok();
}

void FakeConnection::Reject(std::span<const uint8_t> private_data) {
  if (!peer_) return;
  peer_->channel_->Push(MakeEvent(CmEvent::Type::kRejected, peer_, private_data, kRejectDataMax));
  peer_->peer_ = nullptr;
  peer_ = nullptr;
}

void FakeConnection::Sever(WorkStatus first) {
  FakeConnection* peer = peer_;
  if (peer) peer->peer_ = nullptr;
  peer_ = nullptr;
  Fail(first);
  if (peer) peer->Fail(first);
}

void FakeConnection::Fail(WorkStatus first) {
  if (failed_) return;
  failed_ = true;
  established_ = false;
  while (!pending_.empty()) {
    SendWork work = pending_.front().work;
    pending_.pop_front();
    Complete(work, first, first == WorkStatus::kFlushed ? "Work Request Flushed Error" : "injected");
    first = WorkStatus::kFlushed;
  }
  for (const ReceiveWork& work : own_) {
    completions()->Push(
        {.id = work.id, .connection = number_, .status = WorkStatus::kFlushed, .detail = "Work Request Flushed Error"},
        true);
  }
  own_.clear();
  channel_->Push(MakeEvent(CmEvent::Type::kDisconnected, this, {}, 0));
}

void FakeConnection::LoseWay() {
  CmEvent event;
  event.connection = this;
  event.error = EHOSTUNREACH;
  event.what = "injected";
  channel_->Push(std::move(event));
}

void FakeConnection::Complete(const SendWork& work, WorkStatus status, const char* detail) {
  if (status == WorkStatus::kSuccess && !work.signaled) return;
  if (status == WorkStatus::kSuccess) unretired_ = static_cast<uint32_t>(pending_.size());
  completions()->Push({.id = work.id, .connection = number_, .status = status, .detail = detail});
}

Status FakeConnection::PostSend(std::span<const SendWork> work) {
  for (const SendWork& w : work) {
    if (++unretired_ > options_.send_depth) return Error(ENOMEM, "the send queue is full");
    Pending pending{.work = w, .copy = {}};
    if (w.copied) {
      uint32_t bytes = TotalBytes(w);
      if (bytes > options_.inline_bytes || w.op == SendWork::Op::kRead) return Error(EINVAL, "{} inline bytes", bytes);
      pending.copy.resize(bytes);
      Gather(w, pending.copy.data());
      pending.work.segments = 1;
    }
    pending_.push_back(std::move(pending));
    if (w.copied) pending_.back().work.segment[0] = {pending_.back().copy.data(), TotalBytes(w), 0};
  }
  if (failed_) {
    failed_ = false;  // flush what was posted to a broken queue pair
    channel_->Forget(this);
    Fail();
    return Status::Ok();
  }
  host_->fabric->Pump();
  return Status::Ok();
}

Status FakeConnection::PostReceive(std::span<const ReceiveWork> work) {
  if (own_.size() + work.size() > options_.receive_depth) return Error(ENOMEM, "the receive queue is full");
  own_.insert(own_.end(), work.begin(), work.end());
  host_->fabric->Pump();
  return Status::Ok();
}

bool FakeConnection::Pump() {
  if (!established_ || !peer_ || pending_.empty() || !host_->fabric->Passes(host_, peer_->host_)) return false;
  FakeFabric* fabric = host_->fabric;
  Pending pending = std::move(pending_.front());
  pending_.pop_front();
  if (pending.work.copied) pending.work.segment[0].address = pending.copy.data();
  if (fabric->works_ + 1 == fabric->break_at_) {
    fabric->works_++;
    pending_.push_front(std::move(pending));
    Sever();
    return true;
  }
  if (fabric->works_ + 1 == fabric->fail_at_) {
    fabric->works_++;
    Complete(pending.work, fabric->fail_status_, "injected");
    Sever();
    return true;
  }
  if (!Execute(pending.work)) {
    pending_.push_front(std::move(pending));
    return false;
  }
  fabric->works_++;
  return true;
}

bool FakeConnection::Execute(const SendWork& work) {
  for (size_t i = 0; i < work.segments && !work.copied; i++) {
    if (host_->Check(work.segment[i])) continue;
    Complete(work, WorkStatus::kOther, "local protection error");
    Sever();
    return true;
  }
  return work.op == SendWork::Op::kSend ? ExecuteSend(work) : ExecuteRdma(work);
}

bool FakeConnection::ExecuteSend(const SendWork& work) {
  std::deque<ReceiveWork>& receives = peer_->receives();
  if (receives.empty()) return false;  // receiver not ready
  ReceiveWork receive = receives.front();
  receives.pop_front();
  uint32_t bytes = TotalBytes(work);
  uint32_t room = 0;
  bool legal = true;
  for (size_t i = 0; i < receive.segments; i++) {
    room += receive.segment[i].bytes;
    legal = legal && peer_->host_->Check(receive.segment[i]);
  }
  if (!legal || bytes > room) {
    peer_->completions()->Push({.id = receive.id,
                                .connection = peer_->number_,
                                .status = WorkStatus::kOther,
                                .detail = legal ? "local length error" : "local protection error"},
                               true);
    Complete(work, WorkStatus::kOther, "remote invalid request error");
    Sever();
    return true;
  }
  std::vector<uint8_t> data(bytes);
  Gather(work, data.data());
  Scatter(data.data(), bytes, receive.segment, receive.segments);
  peer_->completions()->Push({.id = receive.id, .connection = peer_->number_, .receive = true, .bytes = bytes},
                             work.solicited);
  Complete(work, WorkStatus::kSuccess, "");
  return true;
}

bool FakeConnection::ExecuteRdma(const SendWork& work) {
  uint32_t bytes = TotalBytes(work);
  if (!peer_->host_->CheckRemote(work.remote_address, bytes, work.remote_key)) {
    Complete(work, WorkStatus::kRemoteAccess, "remote access error");
    Sever();
    return true;
  }
  auto* remote = reinterpret_cast<uint8_t*>(work.remote_address);
  if (work.op == SendWork::Op::kRead) {
    Scatter(remote, bytes, work.segment, work.segments);
  } else {
    std::deque<ReceiveWork>& receives = peer_->receives();
    if (receives.empty()) return false;  // receiver not ready
    Gather(work, remote);
    peer_->completions()->Push({.id = receives.front().id,
                                .connection = peer_->number_,
                                .receive = true,
                                .written = true,
                                .bytes = bytes,
                                .immediate = work.immediate},
                               work.solicited);
    receives.pop_front();
  }
  Complete(work, WorkStatus::kSuccess, "");
  return true;
}

}  // namespace weft::rdma
