// SPDX-License-Identifier: MIT
#include "userland/agent/fake_initiator.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace weft::agent {

class FakeInitiator : public rdma::BlockInitiator {
 public:
  FakeInitiator(FakeTargets* fakes, std::span<std::byte> pool)
      : fakes_(fakes), pool_(pool), event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    std::lock_guard lock(fakes_->mutex_);
    fakes_->event_fds_.push_back(event_fd_);
  }
  ~FakeInitiator() override {
    std::lock_guard lock(fakes_->mutex_);
    std::erase(fakes_->event_fds_, event_fd_);
    close(event_fd_);
  }

  Status SetTarget(const rdma::TargetEndpoint& endpoint) override {
    std::lock_guard lock(fakes_->mutex_);
    fakes_->targets_.insert(endpoint.id);
    known_.insert(endpoint.id);
    news_.push_back(endpoint.id);
    eventfd_write(event_fd_, 1);
    return {};
  }

  void RemoveTarget(uint32_t id) override {
    std::lock_guard lock(fakes_->mutex_);
    fakes_->targets_.erase(id);
    known_.erase(id);
    for (auto& [target, command] : queued_) {
      if (target == id) finished_.push_back({command.tag, -EHOSTDOWN});
    }
    std::erase_if(queued_, [&](const auto& entry) { return entry.first == id; });
    eventfd_write(event_fd_, 1);
  }

  Status Submit(uint32_t target, const rdma::BlockCommand& command) override {
    std::lock_guard lock(fakes_->mutex_);
    if (!known_.contains(target)) return Error(ENODEV, "there is no target {}", target);
    queued_.emplace_back(target, command);
    ++fakes_->in_flight_;
    fakes_->changed_.notify_all();
    return {};
  }

  void Kick() override {}

  size_t Poll(std::vector<rdma::BlockCompletion>* done) override {
    std::vector<std::pair<uint32_t, Status>> news;
    uint64_t incarnation = 0;
    size_t count = 0;
    {
      std::lock_guard lock(fakes_->mutex_);
      uint64_t events;
      (void)!read(event_fd_, &events, sizeof events);
      if (!fakes_->hold_) {
        for (auto& [target, command] : queued_) finished_.push_back({command.tag, Execute(target, command)});
        queued_.clear();
      }
      count = finished_.size();
      fakes_->in_flight_ -= count;
      done->insert(done->end(), finished_.begin(), finished_.end());
      finished_.clear();
      for (uint32_t id : news_) news.emplace_back(id, fakes_->path_state_);
      news_.clear();
      incarnation = fakes_->incarnation_;
    }
    for (auto& [id, state] : news) callback_(id, state, incarnation);
    return count;
  }

  int event_fd() const override { return event_fd_; }
  void NotReadable() override {}
  bool ArmNotify() override {
    std::lock_guard lock(fakes_->mutex_);
    return finished_.empty() && news_.empty() && (queued_.empty() || fakes_->hold_);
  }
  void OnTargetState(TargetStateCallback callback) override { callback_ = std::move(callback); }

 private:
  int32_t Execute(uint32_t target, const rdma::BlockCommand& command) {
    if (fakes_->error_ != 0) return -fakes_->error_;
    if (command.incarnation != 0 && command.incarnation != fakes_->incarnation_) return -ESTALE;
    std::byte* buffer = pool_.data() + command.buffer_offset;
    std::vector<std::byte>& block = fakes_->blocks_[{target, command.offset_bytes}];
    block.resize(std::max<size_t>(block.size(), command.length_bytes));
    if (command.op == rdma::BlockOp::kWrite) memcpy(block.data(), buffer, command.length_bytes);
    if (command.op == rdma::BlockOp::kRead) memcpy(buffer, block.data(), command.length_bytes);
    if (command.op == rdma::BlockOp::kWriteZeroes) std::fill(block.begin(), block.end(), std::byte{0});
    return static_cast<int32_t>(command.length_bytes);
  }

  FakeTargets* const fakes_;
  const std::span<std::byte> pool_;
  const int event_fd_;
  TargetStateCallback callback_;
  std::set<uint32_t> known_;
  std::vector<uint32_t> news_;
  std::vector<std::pair<uint32_t, rdma::BlockCommand>> queued_;
  std::vector<rdma::BlockCompletion> finished_;
};

std::unique_ptr<rdma::BlockInitiator> FakeTargets::MakeInitiator(std::span<std::byte> pool, uint64_t session) {
  {
    std::lock_guard lock(mutex_);
    sessions_.push_back(session);
  }
  return std::make_unique<FakeInitiator>(this, pool);
}

void FakeTargets::Hold(bool hold) {
  std::lock_guard lock(mutex_);
  hold_ = hold;
  for (int fd : event_fds_) eventfd_write(fd, 1);
}

bool FakeTargets::WaitInFlight(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return in_flight_ >= count; });
}

void FakeTargets::Fail(int error) {
  std::lock_guard lock(mutex_);
  error_ = error;
}

void FakeTargets::SetPathState(const Status& state) {
  std::lock_guard lock(mutex_);
  path_state_ = state;
}

void FakeTargets::SetIncarnation(uint64_t incarnation) {
  std::lock_guard lock(mutex_);
  incarnation_ = incarnation;
}

std::vector<uint64_t> FakeTargets::sessions() const {
  std::lock_guard lock(mutex_);
  return sessions_;
}

std::set<uint32_t> FakeTargets::targets() const {
  std::lock_guard lock(mutex_);
  return targets_;
}

}  // namespace weft::agent
