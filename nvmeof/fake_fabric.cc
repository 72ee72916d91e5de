// SPDX-License-Identifier: MIT
#include "nvmeof/fake_fabric.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "nvmeof/connect_error.h"

namespace weft::nvmeof {
namespace {

constexpr unsigned kBlockMajor = 259;  // of devices whose numbers the kernel gives out as they come
constexpr uint32_t kNamespacesMax = 1000;

const std::string& HostNqnOf(const HostSettings& host) {
  static const std::string own = FakeFabric::kHostNqn;
  return host.hostnqn.empty() ? own : host.hostnqn;
}

// What the real one would say after the kernel returned `error` and logged `message`.
Status Refusal(int error, const char* message, const Endpoint& endpoint, const std::string& nqn,
               const HostSettings& host) {
  ConnectFailure failure{
      .request = {.endpoint = endpoint, .nqn = nqn, .identity = {HostNqnOf(host), ""}, .settings = host},
      .error = error,
      .log = std::vector<std::string>{message},
      .listed = {},
      .identity_conflict = {}};
  return ExplainConnectError(failure);
}

std::string KeyOf(const Endpoint& endpoint, const std::string& nqn) { return endpoint.ToString() + " " + nqn; }

}  // namespace

void FakeFabric::AddSubsystem(const std::string& nqn, const std::vector<Endpoint>& endpoints) {
  std::lock_guard lock(mutex_);
  auto [it, made] = subsystems_.try_emplace(nqn);
  if (made) it->second.number = subsystems_made_++;
  it->second.endpoints = endpoints;
}

void FakeFabric::RemoveSubsystem(const std::string& nqn) {
  std::lock_guard lock(mutex_);
  subsystems_.erase(nqn);
  std::erase_if(controllers_, [&](const auto& controller) { return controller.nqn == nqn; });
}

void FakeFabric::AddNamespace(const std::string& nqn, Namespace ns) {
  std::lock_guard lock(mutex_);
  Subsystem& subsystem = subsystems_.at(nqn);
  ns.nqn = nqn;
  ns.paths.clear();
  if (ns.device.empty()) ns.device = fmt::format("/dev/nvme{}n{}", subsystem.number, ns.nsid);
  if (ns.device_number == 0) ns.device_number = makedev(kBlockMajor, subsystem.number * kNamespacesMax + ns.nsid);
  if (ns.block_bytes == 0) ns.block_bytes = 512;
  if (ns.physical_block_bytes == 0) ns.physical_block_bytes = 4096;
  if (ns.request_bytes_max == 0) ns.request_bytes_max = 1 << 20;
  uint32_t nsid = ns.nsid;
  subsystem.namespaces[nsid] = {.ns = std::move(ns), .until_rescan = subsystem.until_rescan, .polls = subsystem.polls};
}

void FakeFabric::RemoveNamespace(const std::string& nqn, uint32_t nsid) {
  std::lock_guard lock(mutex_);
  subsystems_.at(nqn).namespaces.erase(nsid);
}

void FakeFabric::SetHidden(const std::string& nqn, bool until_rescan, uint32_t polls) {
  std::lock_guard lock(mutex_);
  Subsystem& subsystem = subsystems_.at(nqn);
  subsystem.until_rescan = until_rescan;
  subsystem.polls = polls;
}

void FakeFabric::AllowOnly(const std::string& nqn, const std::set<std::string>& hostnqns) {
  std::lock_guard lock(mutex_);
  subsystems_.at(nqn).allowed = hostnqns;
}

void FakeFabric::RequireKey(const std::string& nqn, const std::string& dhchap_key) {
  std::lock_guard lock(mutex_);
  subsystems_.at(nqn).key = dhchap_key;
}

void FakeFabric::SetReachable(const Endpoint& endpoint, bool reachable) {
  std::lock_guard lock(mutex_);
  if (reachable) {
    unreachable_.erase(endpoint.ToString());
  } else {
    unreachable_.insert(endpoint.ToString());
  }
}

void FakeFabric::SetAnaState(const Endpoint& endpoint, const std::string& state) {
  std::lock_guard lock(mutex_);
  ana_states_[endpoint.ToString()] = state;
}

void FakeFabric::FailConnect(const Endpoint& endpoint, Status status) {
  std::lock_guard lock(mutex_);
  failures_[endpoint.ToString()] = std::move(status);
}

std::vector<std::string> FakeFabric::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

void FakeFabric::ClearCalls() {
  std::lock_guard lock(mutex_);
  calls_.clear();
}

bool FakeFabric::connected(const Endpoint& endpoint, const std::string& nqn) const {
  std::lock_guard lock(mutex_);
  return std::any_of(controllers_.begin(), controllers_.end(),
                     [&](const auto& controller) { return controller.nqn == nqn && controller.endpoint == endpoint; });
}

std::optional<HostSettings> FakeFabric::settings(const Endpoint& endpoint, const std::string& nqn) const {
  std::lock_guard lock(mutex_);
  auto it = settings_.find(KeyOf(endpoint, nqn));
  if (it == settings_.end()) return {};
  return it->second;
}

bool FakeFabric::Listens(const Endpoint& endpoint) const {
  return std::any_of(subsystems_.begin(), subsystems_.end(), [&](const auto& entry) {
    const auto& endpoints = entry.second.endpoints;
    return std::find(endpoints.begin(), endpoints.end(), endpoint) != endpoints.end();
  });
}

Status FakeFabric::CheckReachable(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) const {
  if (auto it = failures_.find(endpoint.ToString()); it != failures_.end() && !it->second.ok()) return it->second;
  if (unreachable_.contains(endpoint.ToString())) return Refusal(ETIMEDOUT, "", endpoint, nqn, host);
  if (!Listens(endpoint)) return Refusal(ECONNREFUSED, "", endpoint, nqn, host);
  return {};
}

Status FakeFabric::CheckAdmitted(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) const {
  auto it = subsystems_.find(nqn);
  const auto* endpoints = it != subsystems_.end() ? &it->second.endpoints : nullptr;
  if (!endpoints || std::find(endpoints->begin(), endpoints->end(), endpoint) == endpoints->end()) {
    return Refusal(EIO, "Connect Invalid Data Parameter, subsysnqn", endpoint, nqn, host);
  }
  const Subsystem& subsystem = it->second;
  if (subsystem.allowed && !subsystem.allowed->contains(HostNqnOf(host))) {
    return Refusal(EIO, "Connect for subsystem is not allowed, hostnqn", endpoint, nqn, host);
  }
  if (subsystem.key.empty() || subsystem.key == host.dhchap_key) return {};
  int error = host.dhchap_key.empty() ? ENOKEY : EKEYREJECTED;
  return Refusal(error, "qid 0: no key", endpoint, nqn, host);
}

Result<std::vector<DiscoveryEntry>> FakeFabric::Discover(const Endpoint& endpoint, const HostSettings& host) {
  std::lock_guard lock(mutex_);
  calls_.push_back("discover " + endpoint.ToString());
  if (Status status = CheckReachable(endpoint, std::string(kDiscoveryNqn), host); !status.ok()) return status;
  std::vector<DiscoveryEntry> entries = {{endpoint, std::string(kDiscoveryNqn), "discovery"}};
  for (const auto& [nqn, subsystem] : subsystems_) {
    if (subsystem.allowed && !subsystem.allowed->contains(HostNqnOf(host))) continue;
    const auto& endpoints = subsystem.endpoints;
    if (std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end()) continue;
    entries.push_back({endpoint, nqn, "nvm"});
  }
  return entries;
}

Status FakeFabric::Connect(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) {
  std::lock_guard lock(mutex_);
  calls_.push_back(fmt::format("connect {} {}", endpoint.ToString(), nqn));
  settings_[KeyOf(endpoint, nqn)] = host;
  bool there = std::any_of(controllers_.begin(), controllers_.end(), [&](const auto& controller) {
    return controller.nqn == nqn && controller.endpoint == endpoint;
  });
  if (there) return {};
  Status status = CheckReachable(endpoint, nqn, host);
  if (status.ok()) status = CheckAdmitted(endpoint, nqn, host);
  if (!status.ok()) return status;
  controllers_.push_back({fmt::format("nvme{}", controllers_made_++), endpoint, nqn});
  return {};
}

Status FakeFabric::SetTimeouts(const std::string& nqn, const HostSettings& /*host*/) {
  std::lock_guard lock(mutex_);
  calls_.push_back("timeouts " + nqn);
  return {};
}

Status FakeFabric::Disconnect(const std::string& nqn) {
  std::lock_guard lock(mutex_);
  calls_.push_back("disconnect " + nqn);
  std::erase_if(controllers_, [&](const auto& controller) { return controller.nqn == nqn; });
  return {};
}

std::vector<Path> FakeFabric::PathsOf(const std::string& nqn) const {
  std::vector<Path> paths;
  for (const FakeController& controller : controllers_) {
    if (controller.nqn != nqn) continue;
    auto ana = ana_states_.find(controller.endpoint.ToString());
    paths.push_back({.controller = controller.name,
                     .endpoint = controller.endpoint,
                     .state = unreachable_.contains(controller.endpoint.ToString()) ? "connecting" : "live",
                     .ana_state = ana != ana_states_.end() ? ana->second : "optimized"});
  }
  return paths;
}

Result<std::vector<Namespace>> FakeFabric::Namespaces(const std::string& nqn) {
  std::lock_guard lock(mutex_);
  std::vector<Namespace> visible;
  std::vector<Path> paths = PathsOf(nqn);
  auto it = subsystems_.find(nqn);
  if (paths.empty() || it == subsystems_.end()) return visible;
  for (auto& [nsid, entry] : it->second.namespaces) {
    if (entry.until_rescan) continue;
    if (entry.polls > 0) {
      --entry.polls;
      continue;
    }
    visible.push_back(entry.ns);
    visible.back().paths = paths;
  }
  return visible;
}

Result<std::vector<uint32_t>> FakeFabric::ActiveNamespaces(const std::string& nqn) {
  std::lock_guard lock(mutex_);
  std::vector<Path> paths = PathsOf(nqn);
  auto it = subsystems_.find(nqn);
  if (it == subsystems_.end() || std::ranges::none_of(paths, [](const Path& path) { return path.state == "live"; })) {
    return Error(EHOSTDOWN, "no path to {} is live", nqn);
  }
  std::vector<uint32_t> nsids;
  for (const auto& [nsid, entry] : it->second.namespaces) nsids.push_back(nsid);
  return nsids;
}

Status FakeFabric::Rescan(const std::string& nqn) {
  std::lock_guard lock(mutex_);
  calls_.push_back("rescan " + nqn);
  auto it = subsystems_.find(nqn);
  if (it == subsystems_.end() || PathsOf(nqn).empty()) return {};
  for (auto& [nsid, entry] : it->second.namespaces) entry.until_rescan = false;
  return {};
}

}  // namespace weft::nvmeof
