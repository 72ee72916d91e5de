// SPDX-License-Identifier: MIT
#include "nvmeof/fake_reservation.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace weft::nvmeof {
namespace {

Status Conflict(const char* command) { return Error(EBADE, "{}: reservation conflict", command); }

}  // namespace

class FakeReservations::Port final : public ReservationPort {
 public:
  Port(FakeReservations* fake, const HostId& host) : fake_(fake), host_(host) {}

  HostId host() const override { return host_; }
  Result<bool> Supported() override {
    std::lock_guard lock(fake_->mutex_);
    return fake_->supported_;
  }
  Result<ReservationReport> Report() override {
    if (Status s = fake_->Begin(host_, "report"); !s.ok()) return s;
    return fake_->report();
  }
  Status Register(uint64_t key) override {
    return Do("register", key, [&] {
      uint64_t present = fake_->state_.KeyOf(host_);
      if (present != 0) return present == key;
      fake_->state_.registrants.push_back({host_, key});
      return true;
    });
  }
  Status Replace(uint64_t key) override {
    return Do("replace", key, [&] {
      for (Registrant& registrant : fake_->state_.registrants) {
        if (registrant.host != host_) continue;
        registrant.key = key;
        return true;
      }
      return false;
    });
  }
  Status Unregister(uint64_t key) override {
    return Do("unregister", key, [&] {
      if (fake_->state_.KeyOf(host_) != key) return false;
      fake_->Remove(host_);
      return true;
    });
  }
  Status Reserve(uint64_t key) override {
    return Do("reserve", key, [&] {
      ReservationType& type = fake_->state_.type;
      if (fake_->state_.KeyOf(host_) != key) return false;
      if (type != ReservationType::kNone && type != ReservationType::kExclusiveAccessAll) return false;
      type = ReservationType::kExclusiveAccessAll;
      return true;
    });
  }
  Status PreemptAndAbort(uint64_t key, uint64_t other) override {
    return Do("preempt", other, [&] {
      if (fake_->state_.KeyOf(host_) != key) return false;
      auto registrants = fake_->state_.registrants;
      bool found = false;
      for (const Registrant& registrant : registrants) {
        if (registrant.key != other) continue;
        fake_->Remove(registrant.host);
        found = true;
      }
      return found;
    });
  }

 private:
  template <typename F>
  Status Do(const char* command, uint64_t key, F&& change) {
    if (Status s = fake_->Begin(host_, command); !s.ok()) return s;
    std::lock_guard lock(fake_->mutex_);
    if (!change()) return Conflict(command);
    fake_->commands_.push_back(fmt::format("{} {:#x}", command, key));
    return {};
  }

  FakeReservations* const fake_;
  const HostId host_;
};

std::unique_ptr<ReservationPort> FakeReservations::PortOf(const HostId& host) {
  return std::make_unique<Port>(this, host);
}

Status FakeReservations::Begin(const HostId& host, const std::string& command) const {
  std::unique_lock lock(mutex_);
  auto hook = hook_;
  lock.unlock();
  return hook ? hook(host, command) : Status::Ok();
}

void FakeReservations::SetSupported(bool supported) {
  std::lock_guard lock(mutex_);
  supported_ = supported;
}

void FakeReservations::OnCommand(std::function<Status(const HostId&, const std::string&)> hook) {
  std::lock_guard lock(mutex_);
  hook_ = std::move(hook);
}

void FakeReservations::Put(const Registrant& registrant) {
  std::lock_guard lock(mutex_);
  std::erase_if(state_.registrants, [&](const Registrant& other) { return other.host == registrant.host; });
  state_.registrants.push_back(registrant);
}

void FakeReservations::Reserve(ReservationType type) {
  std::lock_guard lock(mutex_);
  state_.type = type;
}

void FakeReservations::LosePower() {
  std::lock_guard lock(mutex_);
  state_ = {};
}

ReservationReport FakeReservations::report() const {
  std::lock_guard lock(mutex_);
  return state_;
}

bool FakeReservations::MayWrite(const HostId& host) const {
  std::lock_guard lock(mutex_);
  return state_.type == ReservationType::kNone || state_.KeyOf(host) != 0;
}

std::vector<std::string> FakeReservations::TakeCommands() {
  std::lock_guard lock(mutex_);
  return std::exchange(commands_, {});
}

void FakeReservations::Remove(const HostId& host) {
  std::erase_if(state_.registrants, [&](const Registrant& registrant) { return registrant.host == host; });
  if (state_.registrants.empty()) state_.type = ReservationType::kNone;
}

}  // namespace weft::nvmeof
