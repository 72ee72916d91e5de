// SPDX-License-Identifier: MIT
#include "rdma/fake_fabric.h"

#include <algorithm>
#include <cerrno>

#include "rdma/fake_objects.h"

namespace weft::rdma {
namespace {

constexpr uint16_t kFirstFreePort = 40000;

class FakeVerbs final : public Verbs {
 public:
  FakeVerbs(FakeFabric* fabric, const std::string& address) : host_(fabric, address) {}
  Result<std::unique_ptr<CmChannel>> CreateCmChannel() override {
    return std::unique_ptr<CmChannel>(std::make_unique<FakeCmChannel>(&host_));
  }
  FakeHost* host() { return &host_; }

 private:
  FakeHost host_;
};

class FakeListener final : public Listener {
 public:
  FakeListener(FakeHost* host, uint16_t port) : host_(host), port_(port) {}
  ~FakeListener() override { host_->listeners.erase(port_); }
  uint16_t port() const override { return port_; }

 private:
  FakeHost* host_;
  uint16_t port_;
};

}  // namespace

FakeFabric::FakeFabric() = default;
FakeFabric::~FakeFabric() = default;

std::unique_ptr<Verbs> FakeFabric::AddHost(const std::string& address) {
  auto verbs = std::make_unique<FakeVerbs>(this, address);
  hosts_[address] = verbs->host();
  return verbs;
}

void FakeFabric::FailAfter(uint64_t works, WorkStatus status) {
  fail_at_ = works_ + works + 1;
  fail_status_ = status;
}

void FakeFabric::Hold() { held_ = true; }

void FakeFabric::Release() {
  held_ = false;
  Pump();
}

void FakeFabric::SetCut(const std::string& address, bool cut) {
  if (cut) {
    cut_.insert(address);
  } else {
    cut_.erase(address);
    Pump();
  }
}

void FakeFabric::BreakAll(WorkStatus first) {
  for (bool again = true; again;) {
    again = false;
    for (FakeConnection* connection : all_) {
      if (!connection->established()) continue;
      connection->Sever(first);
      again = true;
      break;
    }
  }
}

void FakeFabric::LoseWay(const std::string& address) {
  for (FakeConnection* connection : all_) {
    if (connection->host()->address == address && connection->established()) connection->LoseWay();
  }
}

size_t FakeFabric::connections() const {
  return static_cast<size_t>(std::ranges::count_if(all_, [](const auto* c) { return c->established(); })) / 2;
}

bool FakeFabric::Passes(const FakeHost* a, const FakeHost* b) const {
  return !held_ && !cut_.contains(a->address) && !cut_.contains(b->address);
}

void FakeFabric::Pump() {
  for (bool again = true; again;) {
    again = false;
    for (FakeConnection* connection : all_) {
      if (connection->Pump()) {
        again = true;
        break;  // all_ may have changed
      }
    }
  }
}

FakeCmChannel::~FakeCmChannel() {
  std::erase_if(host_->listeners, [this](const auto& entry) { return entry.second == this; });
}

Result<std::unique_ptr<Listener>> FakeCmChannel::Listen(const std::string& host, uint16_t port, int /*backlog*/) {
  if (host != host_->address && host != "0.0.0.0") return Error(EADDRNOTAVAIL, "{} is not this host's", host);
  if (port == 0) {
    for (port = kFirstFreePort; host_->listeners.contains(port);) port++;
  }
  if (!host_->listeners.emplace(port, this).second) return Error(EADDRINUSE, "port {} is in use", port);
  return std::unique_ptr<Listener>(std::make_unique<FakeListener>(host_, port));
}

Result<std::unique_ptr<Connection>> FakeCmChannel::Resolve(const std::string& host, uint16_t port, int /*timeout_ms*/) {
  auto connection = std::make_unique<FakeConnection>(host_, this, host);
  connection->port_ = port;
  CmEvent event;
  event.connection = connection.get();
  auto found = host_->fabric->hosts_.find(host);
  if (found == host_->fabric->hosts_.end()) {
    event.type = CmEvent::Type::kFailed;
    event.error = EHOSTUNREACH;
    event.what = "no such host";
    Push(std::move(event));
  } else if (host_->fabric->Passes(host_, found->second)) {
    event.type = CmEvent::Type::kResolved;
    Push(std::move(event));
  }
  return std::unique_ptr<Connection>(std::move(connection));
}

bool FakeCmChannel::NextEvent(CmEvent* event) {
  event_.Take();
  if (events_.empty()) return false;
  *event = std::move(events_.front());
  events_.pop_front();
  if (!events_.empty()) event_.Set();
  return true;
}

void FakeCmChannel::Push(CmEvent event) {
  events_.push_back(std::move(event));
  event_.Set();
}

void FakeCmChannel::Forget(const Connection* connection) {
  std::erase_if(events_, [connection](const CmEvent& e) { return e.connection == connection; });
}

}  // namespace weft::rdma
