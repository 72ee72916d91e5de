// SPDX-License-Identifier: MIT
#include "userland/target/peer_reader.h"

#include <cerrno>
#include <utility>

#include "thrift-gen/admin_types.h"
#include "userland/base/log.h"
#include "userland/base/uuid.h"

namespace weft::target {

constexpr uint32_t kDepthPerPeer = 16;

PeerReader::PeerReader(rdma::Verbs* verbs, rdma::BlockBackend* backend, PeerReaderOptions options)
    : verbs_(verbs), backend_(backend), options_(std::move(options)) {}

PeerReader::~PeerReader() = default;

Status PeerReader::PrepareBuffers() {
  if (buffers_) return Status::Ok();
  auto buffers = rdma::BufferPool::Create(options_.buffer_bytes);
  if (!buffers.ok()) return buffers.status();
  buffers_ = *std::move(buffers);
  return backend_->AddBuffer(buffers_->memory(), buffers_->bytes());
}

Status PeerReader::Open() {
  if (Status s = PrepareBuffers(); !s.ok()) return s;
  rdma::InitiatorOptions options;
  options.memory = buffers_->memory();
  options.memory_bytes = buffers_->bytes();
  options.peer = true;
  options.cluster_key = options_.cluster_key;
  options.depth_per_target = kDepthPerPeer;
  options.detect_ms = options_.detect_ms;
  options.clock = options_.clock;
  auto initiator = rdma::BlockInitiator::Create(verbs_, std::move(options));
  if (!initiator.ok()) return initiator.status();
  initiator_ = *std::move(initiator);
  initiator_->OnTargetState([](uint32_t id, const Status& path, uint64_t) {
    if (!path.ok()) LogWarning("peer {}: {}", id, path.message());
  });
  backend_->Watch(initiator_->event_fd(), &ready_);
  return Status::Ok();
}

Status PeerReader::Use(const idl::Peer& peer) {
  if (!initiator_) {
    if (Status s = Open(); !s.ok()) return s.Annotate("connections to other targets");
  }
  Result<Uuid> uuid = UuidFromBytes(peer.uuid);
  if (!uuid.ok()) return uuid.status().Annotate(fmt::format("peer '{}'", peer.name));
  Status s = initiator_->SetTarget({.id = static_cast<uint32_t>(peer.id),
                                    .uuid = *uuid,
                                    .name = peer.name,
                                    .host = peer.host,
                                    .port = static_cast<uint16_t>(peer.port)});
  if (s.ok()) users_[peer.id]++;
  return s;
}

void PeerReader::Release(int32_t id) {
  auto found = users_.find(id);
  if (found == users_.end() || --found->second > 0) return;
  users_.erase(found);
  initiator_->RemoveTarget(static_cast<uint32_t>(id));
}

uint8_t* PeerReader::TakeBuffer(uint32_t bytes) { return buffers_->Take(bytes); }

void PeerReader::GiveBuffer(uint8_t* buffer, uint32_t bytes) { buffers_->Give(buffer, bytes); }

void PeerReader::Get(rdma::BlockOp op, int32_t id, uint32_t version, uint64_t offset, uint32_t length, uint8_t* buffer,
                     Done done) {
  rdma::BlockCommand command{.tag = next_tag_++, .op = op};
  command.chunk_version = version;
  command.offset_bytes = offset;
  command.length_bytes = length;
  command.buffer_offset = static_cast<uint64_t>(buffer - buffers_->memory());
  if (Status s = initiator_->Submit(static_cast<uint32_t>(id), command); !s.ok()) {
    LogWarning("peer {}: {}", id, s.message());
    refused_.emplace_back(std::move(done), -s.code());  // from Poll, as all answers
    return;
  }
  under_way_.emplace(command.tag, std::move(done));
}

size_t PeerReader::Poll() {
  size_t count = refused_.size();
  for (auto& [done, result] : std::exchange(refused_, {})) done(result);
  if (!initiator_ || (users_.empty() && under_way_.empty())) return count;
  if (std::exchange(slept_, false) && !ready_) initiator_->NotReadable();
  ready_ = false;
  initiator_->Kick();
  done_.clear();
  initiator_->Poll(&done_);
  for (const rdma::BlockCompletion& completion : done_) {
    if (auto found = under_way_.extract(completion.tag)) found.mapped()(completion.result < 0 ? completion.result : 0);
  }
  return count + done_.size();
}

bool PeerReader::Arm() {
  if (!refused_.empty()) return false;
  if (!initiator_ || (users_.empty() && under_way_.empty())) return true;
  slept_ = true;
  return initiator_->ArmNotify();
}

}  // namespace weft::target
