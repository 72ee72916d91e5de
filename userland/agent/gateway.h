// SPDX-License-Identifier: MIT
//
// The gateway of one NVMe-oF target: connects its paths, finds its namespace, and lends it the engine of a weft-target,
// which it has not (target/target_server.h): registers it, works at its jobs, gives what it holds to other targets, and
// takes the writes to copies that are being made. Blocks that are in sync clients read and write without it.
//
// A thread of its own does all of it, and looks again at the state of the paths all the time:
//
//   connecting --the namespace is there, and its label is right--> attending --no path for `detect`--> connecting
//
// Callbacks come from that thread. The other functions are for any one thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nvmeof/fabric.h"
#include "thrift-gen/meta_types.h"
#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::target {
class TargetServer;
}
namespace weft::idl {
class TargetReport;
}

namespace weft::agent {

// The same for all gateways of an agent.
struct GatewayOptions {
  std::string cluster;
  Address meta;
  std::vector<uint8_t> cluster_key;
  std::string rdma_address;  // of this host, for other targets; empty: the one that the storage node is reached from
  nvmeof::HostSettings host;
  std::chrono::milliseconds detect{5000};
  std::function<std::unique_ptr<nvmeof::Fabric>()> make_fabric = nvmeof::MakeRealFabric;
};

class Gateway {
 public:
  // Ok: the namespace is reached, and *found is it. Else why it is not. When that changes.
  using StateCallback = std::function<void(uint32_t target, const Status& state, const nvmeof::Namespace* found)>;

  Gateway(const GatewayOptions& options, const idl::TargetAddress& target, StateCallback on_state);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // The target as the metadata server describes it now.
  void Update(const idl::TargetAddress& target);
  // Whether it has registered, or why it has not; true: it was known in time.
  bool WaitTried(std::chrono::steady_clock::time_point deadline);
  // Where it serves; nothing: it does not attend to the target now.
  std::optional<Address> served_at() const;
  // Ends the thread. disconnect: the paths too, unless something else of the subsystem is in use here.
  void Stop(bool disconnect);

 private:
  void Main();
  Status Attend();
  Status Connect(const std::vector<nvmeof::Uri>& uris);
  Result<nvmeof::Namespace> FindNamespace(const nvmeof::Uri& uri);
  bool IsOurs(const nvmeof::Namespace& ns) const;
  Status Open(const nvmeof::Namespace& ns, const nvmeof::Uri& uri);
  void Watch(const nvmeof::Uri& uri);
  int32_t Translate(int32_t result);
  void FillReport(idl::TargetReport* report);
  void SetState(const Status& state, const nvmeof::Namespace* ns);
  void SetTried();
  bool WaitMs(std::chrono::milliseconds time);  // false: stop
  Result<std::string> OwnAddress(const std::string& peer) const;
  idl::TargetAddress target() const;

  const GatewayOptions& options_;
  const uint32_t id_;
  const Uuid uuid_;
  const StateCallback on_state_;
  const std::unique_ptr<nvmeof::Fabric> fabric_;
  std::unique_ptr<target::TargetServer> server_;  // the thread's own

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  idl::TargetAddress target_;
  nvmeof::Namespace namespace_;  // as it was seen last
  std::optional<Address> served_at_;
  std::optional<Status> told_;  // to on_state_
  uint64_t told_device_ = 0;
  bool tried_ = false;
  bool refused_ = false;  // by the metadata server, for good
  bool stop_ = false;
  std::thread thread_;  // last: uses the others
};

// The gateways of all NVMe-oF targets of a session.
class Gateways {
 public:
  Gateways(GatewayOptions options, Gateway::StateCallback on_state);

  // Begins and ends gateways as the map says.
  void SetMap(const idl::TargetMap& map);
  // Until all have registered or failed once, `timeout` at most.
  void WaitTried(std::chrono::milliseconds timeout);
  // Says where they serve, which the metadata server may not have told yet.
  void Localize(idl::TargetMap* map) const;
  void Stop(bool disconnect);

 private:
  const GatewayOptions options_;
  const Gateway::StateCallback on_state_;
  std::map<uint32_t, std::unique_ptr<Gateway>> gateways_;
};

}  // namespace weft::agent
