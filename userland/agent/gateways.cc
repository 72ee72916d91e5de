// SPDX-License-Identifier: MIT
//
// Gateways: those of all NVMe-oF targets of a session (gateway.h).
#include <pthread.h>

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

bool HasPathOf(const idl::TargetAddress& target, const std::set<std::string>& nqns) {
  return std::ranges::any_of(target.nvme.uris, [&](const std::string& text) {
    auto uri = nvmeof::ParseUri(text);
    return uri.ok() && nqns.contains(uri->nqn);
  });
}

}  // namespace

Gateways::Gateways(GatewayOptions options, Gateway::StateCallback on_state)
    : options_(std::move(options)), on_state_(std::move(on_state)) {}

void Gateways::SetSession(const nvmeof::ReservationClaim& session) {
  if (std::exchange(ended_, false)) gateways_.clear();
  session_ = session;
}

void Gateways::SetMap(const idl::TargetMap& map) {
  if (ended_) return;
  std::map<uint32_t, const idl::TargetAddress*> wanted;
  for (const idl::TargetAddress& target : map.targets) {
    if (!target.__isset.nvme) continue;
    auto id = static_cast<uint32_t>(target.id);
    if (!UuidFromBytes(target.uuid).ok() || !UuidFromBytes(target.nvme.uuid).ok() ||
        !UuidFromBytes(target.nvme.nguid).ok()) {
      LogError("target map: target {} is no namespace that can be attended to", target.id);
      continue;
    }
    wanted[id] = &target;
  }
  Map gone;
  for (auto it = gateways_.begin(); it != gateways_.end();) {
    auto next = std::next(it);
    if (!wanted.contains(it->first)) gone.insert(gateways_.extract(it));
    it = next;
  }
  Leave(std::move(gone));
  for (const auto& [id, target] : wanted) {
    if (auto known = gateways_.find(id); known != gateways_.end()) {
      known->second->Update(*target);
      continue;
    }
    AwaitLeft([id = id, target = target](const Leaving& leaving) {
      return leaving.gateways.contains(id) || HasPathOf(*target, leaving.nqns);
    });
    gateways_[id] = std::make_unique<Gateway>(options_, session_, *target, on_state_);
  }
}

void Gateways::Leave(Map gone) {
  if (gone.empty()) return;
  std::set<std::string> kept;
  for (const auto& [id, gateway] : gateways_) kept.insert(gateway->nqn());  // its namespace need not be visible yet
  Leaving* leaving = &leaving_.emplace_back();
  leaving->gateways = std::move(gone);
  for (const auto& [id, gateway] : leaving->gateways) leaving->nqns.insert(gateway->nqn());
  leaving->thread = std::thread([this, leaving, kept = std::move(kept)] {
    End(leaving->gateways);
    GiveUpReservations(leaving->gateways);
    Disconnect(leaving->gateways, kept);
    leaving->ended = true;
  });
  pthread_setname_np(leaving->thread.native_handle(), "weftd/leave");
}

// Also forgets those that have ended.
void Gateways::AwaitLeft(const std::function<bool(const Leaving&)>& awaited) {
  for (auto it = leaving_.begin(); it != leaving_.end();) {
    auto next = std::next(it);
    if (it->ended || awaited(*it)) {
      it->thread.join();
      leaving_.erase(it);
    }
    it = next;
  }
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

std::string Gateways::BeginStop() {
  ended_ = true;
  std::string busy;
  auto stop = [&busy](const Map& gateways) {
    for (const auto& [id, gateway] : gateways) {
      gateway->BeginStop();
      if (!gateway->ended()) busy += fmt::format("{}target '{}'", busy.empty() ? "" : ", ", gateway->name());
    }
  };
  stop(gateways_);
  for (const Leaving& leaving : leaving_) stop(leaving.gateways);
  return busy;
}

void Gateways::Stop(bool disconnect) {
  End(gateways_);
  ended_ = true;
  if (!disconnect) return AwaitLeft([](const Leaving&) { return true; });
  GiveUpReservations(gateways_);
  Disconnect(gateways_, {});
  gateways_.clear();
}

void Gateways::Abandon() {
  ended_ = true;
  Leave(std::exchange(gateways_, {}));
}

// All at the same time.
void Gateways::End(const Map& gateways) {
  for (const auto& [id, gateway] : gateways) gateway->BeginStop();
  for (const auto& [id, gateway] : gateways) gateway->Stop();
}

void Gateways::GiveUpReservations(const Map& gateways) {
  for (const auto& [id, gateway] : gateways) gateway->GiveUpReservation();
}

// Whoever else uses namespaces of a subsystem keeps it, and `kept` are kept.
void Gateways::Disconnect(const Map& gateways, const std::set<std::string>& kept) const {
  if (gateways.empty()) return;
  auto deadline = SteadyClock::now() + kConnectedPatience;
  std::set<std::string> nqns;
  for (const auto& [id, gateway] : gateways) {
    std::string nqn = gateway->nqn();
    if (!gateway->Stop(deadline))
      LogWarning("a path to {} is still being connected; `nvme disconnect` ends it, should nobody want it", nqn);
    if (!nqn.empty()) nqns.insert(nqn);
  }
  for (const std::string& nqn : kept) nqns.erase(nqn);
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
