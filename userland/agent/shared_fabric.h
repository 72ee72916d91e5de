// SPDX-License-Identifier: MIT
//
// For tests: one FakeFabric that stands for the kernel behind all the fabrics of a host, in which a connection can be
// made to block, and which says when something was asked of it. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "nvmeof/fake_fabric.h"

namespace weft::agent {

struct SharedFabric {
  static constexpr std::chrono::seconds kPatience{30};  // of a test that fails

  nvmeof::FakeFabric fabric;

  // Connecting to it does not return before Unblock.
  void Block(const nvmeof::Endpoint& endpoint) {
    std::lock_guard lock(mutex);
    blocked = endpoint;
  }
  void Unblock() {
    std::lock_guard lock(mutex);
    blocked.reset();
    changed.notify_all();
  }
  bool AwaitBlocked() {
    return Await([this] { return waiting > 0; });
  }
  // Every fabric was destroyed.
  bool AwaitLentBack() {
    return Await([this] { return lent == 0; });
  }
  // Somebody has looked at namespaces, and looked again: what was seen has had its effect.
  bool AwaitLooks() {
    std::unique_lock lock(mutex);
    uint64_t wanted = looks + 2;
    return changed.wait_for(lock, kPatience, [&] { return looks >= wanted; });
  }
  // Looks whenever something was asked, or was told of with Changed().
  bool Await(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, kPatience, condition);
  }
  void Changed() {
    std::lock_guard lock(mutex);
    changed.notify_all();
  }

  std::mutex mutex;  // guards all below
  std::condition_variable changed;
  std::optional<nvmeof::Endpoint> blocked;
  int waiting = 0;
  int lent = 0;
  uint64_t looks = 0;
};

class LentFabric final : public nvmeof::Fabric {
 public:
  explicit LentFabric(std::shared_ptr<SharedFabric> shared) : shared_(std::move(shared)) { Count(1); }
  ~LentFabric() override { Count(-1); }

  Result<std::vector<nvmeof::DiscoveryEntry>> Discover(const nvmeof::Endpoint& endpoint,
                                                       const nvmeof::HostSettings& host) override {
    return shared_->fabric.Discover(endpoint, host);
  }
  Status Connect(const nvmeof::Endpoint& endpoint, const std::string& nqn, const nvmeof::HostSettings& host) override {
    std::unique_lock lock(shared_->mutex);
    ++shared_->waiting;
    shared_->changed.notify_all();
    shared_->changed.wait(lock, [&] { return shared_->blocked != endpoint; });
    --shared_->waiting;
    Status s = shared_->fabric.Connect(endpoint, nqn, host);
    shared_->changed.notify_all();
    return s;
  }
  Status SetTimeouts(const std::string& nqn, const nvmeof::HostSettings& host) override {
    return shared_->fabric.SetTimeouts(nqn, host);
  }
  Status Disconnect(const std::string& nqn) override { return shared_->fabric.Disconnect(nqn); }
  Result<std::vector<nvmeof::Namespace>> Namespaces(const std::string& nqn) override {
    auto namespaces = shared_->fabric.Namespaces(nqn);
    std::lock_guard lock(shared_->mutex);
    ++shared_->looks;
    shared_->changed.notify_all();
    return namespaces;
  }
  Result<std::vector<uint32_t>> ActiveNamespaces(const std::string& nqn) override {
    return shared_->fabric.ActiveNamespaces(nqn);
  }
  Status Rescan(const std::string& nqn) override { return shared_->fabric.Rescan(nqn); }

 private:
  void Count(int change) {
    std::lock_guard lock(shared_->mutex);
    shared_->lent += change;
    shared_->changed.notify_all();
  }
  const std::shared_ptr<SharedFabric> shared_;
};

inline std::function<std::unique_ptr<nvmeof::Fabric>()> Maker(std::shared_ptr<SharedFabric> shared) {
  return [shared] { return std::make_unique<LentFabric>(shared); };
}

}  // namespace weft::agent
