// SPDX-License-Identifier: MIT
#include "nvmeof/real_fabric.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "nvmeof/active_namespaces.h"
#include "nvmeof/connect_error.h"
#include "nvmeof/discovery.h"
#include "nvmeof/fabrics_device.h"
#include "nvmeof/host.h"
#include "nvmeof/kernel_log.h"
#include "nvmeof/sysfs.h"

namespace weft::nvmeof {
namespace {

// The address as the kernel takes it, in the one form that it has. flags: of getaddrinfo().
Result<std::string> NumericAddress(const std::string& host, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  std::array<char, NI_MAXHOST> text;
  if (error == 0) {
    error = getnameinfo(found->ai_addr, found->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
  }
  if (error == 0) return std::string(text.data());
  return Error(EHOSTUNREACH, "host '{}' has no address ({}); check the name and the resolver of this host", host,
               gai_strerror(error));
}

class RealFabric : public Fabric {
 public:
  explicit RealFabric(KernelPaths paths) : paths_(std::move(paths)), sysfs_(paths_.sysfs) {}

  Result<std::vector<DiscoveryEntry>> Discover(const Endpoint& endpoint, const HostSettings& host) override;
  Status Connect(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) override;
  Status SetTimeouts(const std::string& nqn, const HostSettings& host) override;
  Status Disconnect(const std::string& nqn) override;
  Result<std::vector<Namespace>> Namespaces(const std::string& nqn) override { return sysfs_.Namespaces(nqn); }
  Result<std::vector<uint32_t>> ActiveNamespaces(const std::string& nqn) override;
  Status Rescan(const std::string& nqn) override;

 private:
  Result<ConnectRequest> Prepare(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) const;
  Result<std::string> Create(const ConnectRequest& request, ConnectFailure* failure) const;
  std::optional<std::string> Find(const ConnectRequest& request) const;
  std::string IdentityConflict(const HostIdentity& identity) const;
  Status SetTimeoutsOf(const std::string& controller, const HostSettings& host) const;
  Status Delete(const std::string& controller) const;
  template <typename Change>
  Status OnControllers(const std::string& nqn, const Change& change) const;

  KernelPaths paths_;
  Sysfs sysfs_;
};

Result<ConnectRequest> RealFabric::Prepare(const Endpoint& endpoint, const std::string& nqn,
                                           const HostSettings& host) const {
  Status status = CheckNqn(nqn);
  if (status.ok()) status = CheckSettings(host, endpoint.transport);
  if (!status.ok()) return status;
  auto identity = IdentifyHost(host, paths_.identity);
  if (!identity.ok()) return identity.status();
  auto address = NumericAddress(endpoint.host, 0);
  if (!address.ok()) return address.status();
  ConnectRequest request{.endpoint = endpoint, .nqn = nqn, .identity = *identity, .settings = host};
  request.endpoint.host = *address;
  return request;
}

// The new controller. When the kernel makes none, *failure has an error and what it said; otherwise it has not.
Result<std::string> RealFabric::Create(const ConnectRequest& request, ConnectFailure* failure) const {
  std::string options = request.Options();
  auto device = FabricsDevice::Open(paths_.fabrics.c_str());
  if (!device.ok()) return device.status();
  if (Status status = device->CheckOptions(options); !status.ok()) return status;

  // controllers that are being connected again log the same words
  std::vector<std::string> known = sysfs_.ControllerNames();
  KernelLog log(paths_.log.c_str());
  auto controller = device->Create(options);
  if (controller.ok()) return controller;
  failure->error = controller.status().code();
  if (log.readable()) failure->log = OfNewControllers(log.Take(), known);
  failure->has_module = sysfs_.HasModule(fmt::format("nvme_{}", ToString(request.endpoint.transport)));
  failure->identity_conflict = IdentityConflict(request.identity);
  return controller;
}

// What the kernel would call the same connection. One that is on its way out is none.
std::optional<std::string> RealFabric::Find(const ConnectRequest& request) const {
  for (const Controller& controller : sysfs_.Controllers(request.nqn)) {
    if (controller.state.starts_with("deleting") || controller.state == "dead") continue;
    auto address = NumericAddress(controller.endpoint.host, AI_NUMERICHOST);
    if (!address.ok() || *address != request.endpoint.host) continue;
    if (controller.endpoint.transport != request.endpoint.transport) continue;
    if (controller.endpoint.port != request.endpoint.port || controller.hostnqn != request.identity.hostnqn) continue;
    return controller.name;
  }
  return {};
}

std::string RealFabric::IdentityConflict(const HostIdentity& identity) const {
  for (const Controller& controller : sysfs_.AllControllers()) {
    if ((controller.hostnqn == identity.hostnqn) == (controller.hostid == identity.hostid)) continue;
    return fmt::format("{} is connected with host NQN {} and host id {}", controller.name, controller.hostnqn,
                       controller.hostid);
  }
  return {};
}

Status RealFabric::SetTimeoutsOf(const std::string& controller, const HostSettings& host) const {
  // reconnect_delay is first: the kernel counts attempts, and divides ctrl_loss_tmo by it
  const std::pair<const char*, int64_t> attributes[] = {
      {"reconnect_delay", host.reconnect_s},
      {"ctrl_loss_tmo", host.ctrl_loss_s},
      {"fast_io_fail_tmo", host.fast_io_fail_s},
  };
  for (const auto& [name, value] : attributes) {
    if (value == 0 && name != std::string_view("ctrl_loss_tmo")) continue;
    if (Status status = sysfs_.Set(controller, name, std::to_string(value)); !status.ok()) return status;
  }
  return {};
}

Status RealFabric::Connect(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) {
  auto request = Prepare(endpoint, nqn, host);
  if (!request.ok()) return request.status();
  if (auto controller = Find(*request)) return SetTimeoutsOf(*controller, host);

  ConnectFailure failure;
  auto created = Create(*request, &failure);
  if (created.ok()) return SetTimeoutsOf(*created, host);
  if (failure.error == 0) return created.status();
  if (failure.error == EALREADY) {  // somebody else was faster
    if (auto controller = Find(*request)) return SetTimeoutsOf(*controller, host);
  }
  failure.request = *request;
  failure.request.endpoint = endpoint;
  if (IsAmbiguous(failure)) {
    if (auto entries = Discover(endpoint, host); entries.ok()) {
      failure.listed =
          std::any_of(entries->begin(), entries->end(), [&](const auto& entry) { return entry.nqn == nqn; });
    }
  }
  return ExplainConnectError(failure);
}

Result<std::vector<DiscoveryEntry>> RealFabric::Discover(const Endpoint& endpoint, const HostSettings& host) {
  auto request = Prepare(endpoint, std::string(kDiscoveryNqn), host);
  if (!request.ok()) return request.status();
  ConnectFailure failure;
  auto controller = Create(*request, &failure);
  if (!controller.ok()) {
    if (failure.error == 0) return controller.status();
    failure.request = *request;
    failure.request.endpoint = endpoint;
    return ExplainConnectError(failure);
  }
  auto entries = ReadDiscoveryLog(fmt::format("{}/{}", paths_.devices, *controller));
  Status deleted = Delete(*controller);
  if (!entries.ok()) return entries.status().Annotate(endpoint.ToString());
  if (!deleted.ok()) return deleted;
  return entries;
}

Status RealFabric::Delete(const std::string& controller) const {
  Status status = sysfs_.Set(controller, "delete_controller", "1");
  // it has gone by itself
  if (status.code() == ENOENT || status.code() == ENODEV) return {};
  return status;
}

// One that has gone by itself is none any more. The first failure.
template <typename Change>
Status RealFabric::OnControllers(const std::string& nqn, const Change& change) const {
  Status first;
  for (const Controller& controller : sysfs_.Controllers(nqn)) {
    Status status = change(controller.name);
    if (status.code() == ENOENT || status.code() == ENODEV) continue;
    if (first.ok()) first = status;
  }
  return first;
}

Status RealFabric::SetTimeouts(const std::string& nqn, const HostSettings& host) {
  return OnControllers(nqn, [&](const std::string& controller) { return SetTimeoutsOf(controller, host); });
}

Status RealFabric::Disconnect(const std::string& nqn) {
  return OnControllers(nqn, [&](const std::string& controller) { return Delete(controller); });
}

Status RealFabric::Rescan(const std::string& nqn) {
  return OnControllers(nqn,
                       [&](const std::string& controller) { return sysfs_.Set(controller, "rescan_controller", "1"); });
}

Result<std::vector<uint32_t>> RealFabric::ActiveNamespaces(const std::string& nqn) {
  for (const Controller& controller : sysfs_.Controllers(nqn)) {
    if (controller.state != "live") continue;
    auto nsids = ListActiveNamespaces(fmt::format("{}/{}", paths_.devices, controller.name));
    if (nsids.ok()) return nsids;
    return nsids.status().Annotate(controller.endpoint.ToString());
  }
  return Error(EHOSTDOWN, "no path to {} is live", nqn);
}

}  // namespace

std::unique_ptr<Fabric> MakeRealFabric(KernelPaths paths) { return std::make_unique<RealFabric>(std::move(paths)); }

std::unique_ptr<Fabric> MakeRealFabric() { return MakeRealFabric(KernelPaths{}); }

}  // namespace weft::nvmeof
