// SPDX-License-Identifier: MIT
//
// A Fabric without a kernel, for tests: the storage nodes are made by the test, and what is asked of it is recorded.
//
//   FakeFabric fabric;
//   Endpoint endpoint{Transport::kRdma, "10.0.0.1", 4420};
//   fabric.AddSubsystem("nqn.x", {endpoint});
//   Namespace ns;
//   ns.nsid = 1;
//   ns.bytes = 1 << 30;
//   fabric.AddNamespace("nqn.x", ns);
//   fabric.Connect(endpoint, "nqn.x", {});
//
// Refusals have the codes and the words of the real one. Like with the kernel, a controller stays when its endpoint
// becomes unreachable ("connecting") or its host is refused. Any thread may call it.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "nvmeof/fabric.h"

namespace weft::nvmeof {

class FakeFabric : public Fabric {
 public:
  // This host's, when the settings say none.
  static constexpr const char* kHostNqn = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001";

  // --- the storage nodes ---
  void AddSubsystem(const std::string& nqn, const std::vector<Endpoint>& endpoints);
  void RemoveSubsystem(const std::string& nqn);  // its controllers go too, as when a target ends them

  // The paths are filled in, the NQN too, and what is left empty of: device ("/dev/nvmeSnN"), device_number,
  // block_bytes (512), physical_block_bytes (4096), request_bytes_max (1 MiB). One with the same nsid is replaced.
  void AddNamespace(const std::string& nqn, Namespace ns);
  void RemoveNamespace(const std::string& nqn, uint32_t nsid);
  // What is added from now on is seen after a Rescan() only; or, `polls` > 0, after so many calls of Namespaces().
  void SetHidden(const std::string& nqn, bool until_rescan, uint32_t polls = 0);

  void AllowOnly(const std::string& nqn, const std::set<std::string>& hostnqns);  // at first every host may
  void RequireKey(const std::string& nqn, const std::string& dhchap_key);         // empty: no key any more
  // Connecting to it fails with ETIMEDOUT, what is connected is "connecting" until it is reachable again.
  void SetReachable(const Endpoint& endpoint, bool reachable);
  void SetAnaState(const Endpoint& endpoint, const std::string& state);
  // Connecting to it fails with this; a success ends that.
  void FailConnect(const Endpoint& endpoint, Status status);

  // --- what happened ---
  // "connect rdma 10.0.0.1:4420 nqn.x", "disconnect nqn.x", "rescan nqn.x", "discover rdma 10.0.0.1:4420": in
  // order, also those that failed.
  std::vector<std::string> calls() const;
  void ClearCalls();
  bool connected(const Endpoint& endpoint, const std::string& nqn) const;
  // The settings of the last Connect() to it; none: there was none.
  std::optional<HostSettings> settings(const Endpoint& endpoint, const std::string& nqn) const;

  Result<std::vector<DiscoveryEntry>> Discover(const Endpoint& endpoint, const HostSettings& host) override;
  Status Connect(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) override;
  Status SetTimeouts(const std::string& nqn, const HostSettings& host) override;
  Status Disconnect(const std::string& nqn) override;
  Result<std::vector<Namespace>> Namespaces(const std::string& nqn) override;
  Result<std::vector<uint32_t>> ActiveNamespaces(const std::string& nqn) override;
  Status Rescan(const std::string& nqn) override;

 private:
  struct FakeNamespace {
    Namespace ns;
    bool until_rescan = false;
    uint32_t polls = 0;
  };
  struct Subsystem {
    uint32_t number = 0;
    std::vector<Endpoint> endpoints;
    std::map<uint32_t, FakeNamespace> namespaces;
    std::optional<std::set<std::string>> allowed;
    std::string key;
    bool until_rescan = false;
    uint32_t polls = 0;
  };
  struct FakeController {
    std::string name;
    Endpoint endpoint;
    std::string nqn;
  };

  Status CheckReachable(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) const;
  Status CheckAdmitted(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) const;
  bool Listens(const Endpoint& endpoint) const;
  std::vector<Path> PathsOf(const std::string& nqn) const;

  mutable std::mutex mutex_;  // guards all that follows
  std::map<std::string, Subsystem> subsystems_;
  std::vector<FakeController> controllers_;
  std::set<std::string> unreachable_;  // Endpoint::ToString(), as in the maps below
  std::map<std::string, std::string> ana_states_;
  std::map<std::string, Status> failures_;
  std::map<std::string, HostSettings> settings_;  // endpoint and NQN
  std::vector<std::string> calls_;
  uint32_t controllers_made_ = 0;
  uint32_t subsystems_made_ = 0;
};

}  // namespace weft::nvmeof
