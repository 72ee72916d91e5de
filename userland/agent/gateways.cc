// SPDX-License-Identifier: MIT
//
// Gateways: those of all NVMe-oF targets of a session (gateway.h).
#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "userland/agent/gateway.h"
#include "userland/base/log.h"

namespace weft::agent {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kConnectedPatience{1000};

}  // namespace

Gateways::Gateways(GatewayOptions options, Gateway::StateCallback on_state)
    : options_(std::move(options)), on_state_(std::move(on_state)) {}

void Gateways::SetMap(const idl::TargetMap& map) {
  if (std::exchange(ended_, false)) gateways_.clear();
  std::set<uint32_t> wanted;
  for (const idl::TargetAddress& target : map.targets) {
    if (!target.__isset.nvme) continue;
    auto id = static_cast<uint32_t>(target.id);
    if (!UuidFromBytes(target.uuid).ok() || !UuidFromBytes(target.nvme.uuid).ok() ||
        !UuidFromBytes(target.nvme.nguid).ok()) {
      LogError("target map: target {} is no namespace that can be attended to", target.id);
      continue;
    }
    wanted.insert(id);
    if (auto known = gateways_.find(id); known != gateways_.end()) {
      known->second->Update(target);
    } else {
      gateways_[id] = std::make_unique<Gateway>(options_, session_, target, on_state_);
    }
  }
  Map gone;
  for (auto it = gateways_.begin(); it != gateways_.end();) {
    auto next = std::next(it);
    if (!wanted.contains(it->first)) gone.insert(gateways_.extract(it));
    it = next;
  }
  End(gone);
  GiveUpReservations(gone);
  Disconnect(gone);
}

void Gateways::WaitTried(milliseconds timeout) {
  auto deadline = SteadyClock::now() + timeout;
  for (auto& [id, gateway] : gateways_) {
    if (!gateway->WaitTried(deadline)) return;
  }
}

void Gateways::Localize(idl::TargetMap* map) const {
  for (idl::TargetAddress& target : map->targets) {
    auto gateway = gateways_.find(static_cast<uint32_t>(target.id));
    if (gateway == gateways_.end()) continue;
    std::optional<Address> at = gateway->second->served_at();
    target.host = at ? at->host : "";
    target.port = at ? at->port : 0;
  }
}

void Gateways::Stop(bool disconnect) {
  End(gateways_);
  ended_ = true;
  if (!disconnect) return;
  GiveUpReservations(gateways_);
  Disconnect(gateways_);
  gateways_.clear();
}

// All at the same time.
void Gateways::End(const Map& gateways) {
  for (const auto& [id, gateway] : gateways) gateway->BeginStop();
  for (const auto& [id, gateway] : gateways) gateway->Stop();
}

void Gateways::GiveUpReservations(const Map& gateways) {
  for (const auto& [id, gateway] : gateways) gateway->GiveUpReservation();
}

// Whoever else uses namespaces of a subsystem keeps it.
void Gateways::Disconnect(const Map& gateways) const {
  if (gateways.empty()) return;
  auto deadline = SteadyClock::now() + kConnectedPatience;
  std::set<std::string> nqns;
  for (const auto& [id, gateway] : gateways) {
    std::string nqn = gateway->nqn();
    if (!gateway->Stop(deadline))
      LogWarning("a path to {} is still being connected; `nvme disconnect` ends it, should nobody want it", nqn);
    if (!nqn.empty()) nqns.insert(nqn);
  }
  for (const auto& [id, gateway] : gateways_) {
    if (!gateways.contains(id)) nqns.erase(gateway->nqn());  // its namespace need not be visible yet
  }
  auto fabric = options_.make_fabric();
  for (const std::string& nqn : nqns) {
    auto ours = [&](const nvmeof::Namespace& ns) {
      return std::ranges::any_of(gateways,
                                 [&](const auto& g) { return g.second->nqn() == nqn && g.second->IsOurs(ns); });
    };
    auto visible = fabric->Namespaces(nqn);
    if (!visible.ok() || !std::ranges::all_of(*visible, ours)) continue;
    if (Status s = fabric->Disconnect(nqn); !s.ok()) LogWarning("{}", s.message());
  }
}

}  // namespace weft::agent
