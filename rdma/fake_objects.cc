// SPDX-License-Identifier: MIT
#include "rdma/fake_objects.h"

#include <algorithm>
#include <cerrno>

namespace weft::rdma {

FakeMemory::FakeMemory(FakeHost* host, void* address, size_t bytes, bool remote)
    : host_(host),
      address_(static_cast<uint8_t*>(address)),
      bytes_(bytes),
      remote_(remote),
      key_(host->fabric->next_key_++) {
  host_->memories[key_] = this;
  host_->fabric->registrations_++;
}

FakeMemory::~FakeMemory() {
  host_->memories.erase(key_);
  host_->fabric->registrations_--;
}

bool FakeMemory::Holds(const void* address, size_t bytes) const {
  const auto* at = static_cast<const uint8_t*>(address);
  return at >= address_ && bytes <= bytes_ && at <= address_ + bytes_ - bytes;
}

size_t FakeCompletionQueue::Poll(std::span<WorkCompletion> out) {
  size_t count = std::min(out.size(), entries_.size());
  std::copy_n(entries_.begin(), count, out.begin());
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

Status FakeCompletionQueue::Arm(Wake wake) {
  armed_ = wake;
  return Status::Ok();
}

void FakeCompletionQueue::Push(const WorkCompletion& completion, bool solicited) {
  entries_.push_back(completion);
  if (!armed_ || (*armed_ == Wake::kSolicited && !solicited)) return;
  event_.Set();
  armed_.reset();
}

Status FakeReceiveQueue::Post(std::span<const ReceiveWork> work) {
  if (entries.size() + work.size() > depth_) return Error(ENOMEM, "the shared receive queue is full");
  entries.insert(entries.end(), work.begin(), work.end());
  fabric_->Pump();
  return Status::Ok();
}

Result<std::unique_ptr<Memory>> FakeDevice::RegisterMemory(void* address, size_t bytes, bool remote) {
  return std::unique_ptr<Memory>(std::make_unique<FakeMemory>(host_, address, bytes, remote));
}

Result<std::unique_ptr<CompletionQueue>> FakeDevice::CreateCompletionQueue(uint32_t /*depth*/) {
  return std::unique_ptr<CompletionQueue>(std::make_unique<FakeCompletionQueue>());
}

Result<std::unique_ptr<ReceiveQueue>> FakeDevice::CreateReceiveQueue(uint32_t depth) {
  return std::unique_ptr<ReceiveQueue>(std::make_unique<FakeReceiveQueue>(host_->fabric, depth));
}

bool FakeHost::Check(const Segment& segment) const {
  auto found = memories.find(segment.key);
  return found != memories.end() && found->second->Holds(segment.address, segment.bytes);
}

bool FakeHost::CheckRemote(uint64_t at, uint32_t bytes, uint32_t key) const {
  auto found = memories.find(key & 0x7fffffff);
  return (key & 0x80000000) && found != memories.end() && found->second->remote() &&
         found->second->Holds(reinterpret_cast<const void*>(at), bytes);
}

}  // namespace weft::rdma
