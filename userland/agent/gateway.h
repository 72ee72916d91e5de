// SPDX-License-Identifier: MIT
//
// The gateway of one NVMe-oF target: connects its paths, finds its namespace, and lends it the engine of a weft-target,
// which it has not (target/target_server.h): registers it, works at its jobs, gives what it holds to other targets, and
// takes the writes to copies that are being made. Blocks that are in sync clients read and write without it.
//
// A thread of its own does all of it but connecting (path_connector.h), and looks at the state of the paths all the
// time:
//
//   connecting --the namespace is there, and its label is right--> attending --no path for `detect`--> connecting
//
// Where the namespace has reservations, it is reserved for this session before anything is read or written there, and
// that is looked after all the time (nvmeof/reservation.h).
//
// One path is enough. Those that are missing, or are told of later, are tried again while it attends. A namespace that
// comes back as another block device is opened anew. A refusal by the metadata server ends it for good.
//
// Callbacks come from that thread. The other functions are for any one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "nvmeof/fabric.h"
#include "nvmeof/reservation.h"
#include "thrift-gen/meta_types.h"
#include "userland/agent/lease.h"
#include "userland/agent/path_connector.h"
#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::target {
struct TargetServerOptions;
}
namespace weft::idl {
class TargetReport;
}

namespace weft::agent {

// What a gateway needs of a target::TargetServer, as a seam.
class GatewayServer {
 public:
  struct Callbacks {  // one of the two, once, from a thread of its own
    std::function<void()> on_registered;
    std::function<void(const Status& why)> on_refused;
  };
  virtual ~GatewayServer() = default;  // waits for callbacks
  virtual Uuid uuid() const = 0;       // of the label
  virtual uint16_t port() const = 0;
  virtual void Link(Callbacks callbacks) = 0;  // registers
};
Result<std::unique_ptr<GatewayServer>> OpenTargetServer(const target::TargetServerOptions& options);

struct GatewayTimes {
  std::chrono::milliseconds look{250};  // at the paths
  std::chrono::milliseconds retry_min{200};
  std::chrono::milliseconds retry_max{5000};
  std::chrono::milliseconds missing{5000};      // between attempts to connect a path while another one serves
  std::chrono::milliseconds reservation{1000};  // between looks at it
};

// The same for all gateways of an agent.
struct GatewayOptions {
  std::string cluster;
  Address meta;
  std::vector<uint8_t> cluster_key;
  std::string rdma_address;  // of this host, for other targets; empty: the one that the storage node is reached from
  nvmeof::HostSettings host;
  std::chrono::milliseconds detect{5000};
  GatewayTimes times{};
  // Of a target, in force: as in TargetReport. From the servers' threads. Empty: "agent".
  std::function<std::string(uint32_t target)> data_path;
  std::shared_ptr<const Lease> lease;  // within which a target that is leased is written to; null: always
  // Asks the metadata server, once; ESTALE: it has ended. From the gateways' threads. Empty: it lives.
  std::function<Status(uint64_t session)> session_lives;
  PathConnector::FabricMaker make_fabric = nvmeof::MakeRealFabric;
  std::function<Result<std::unique_ptr<nvmeof::ReservationPort>>(const nvmeof::Namespace& ns)> open_reservation =
      nvmeof::OpenReservation;
  std::function<Result<std::unique_ptr<GatewayServer>>(const target::TargetServerOptions&)> open_server =
      OpenTargetServer;
};

class Gateway {
 public:
  // Ok: the namespace is attended to, and *found is it. Else why it is not: with `found` no path to it is usable just
  // now, and requests wait in the kernel; without, it has gone or was given up. When that, or the state of a path,
  // changes.
  using StateCallback = std::function<void(uint32_t target, const Status& state, const nvmeof::Namespace* found)>;

  Gateway(const GatewayOptions& options, const nvmeof::ReservationClaim& session, const idl::TargetAddress& target,
          StateCallback on_state);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // The target as the metadata server describes it now.
  void Update(const idl::TargetAddress& target);
  // Whether it has registered, or why it has not; true: it was known in time.
  bool WaitTried(std::chrono::steady_clock::time_point deadline);
  // Where it serves; nothing: it does not attend to the target now.
  std::optional<Address> served_at() const;
  // Ends the thread; the paths stay. BeginStop does not wait for that. A path that is being connected is waited for
  // until connected_by, no longer: true, there is none.
  void BeginStop();
  bool Stop(std::chrono::steady_clock::time_point connected_by = {});
  bool ended() const;  // its thread has, or is about to: nothing that it sent to the namespace is under way
  // After Stop: this host has no part any more in the reservation of the namespace.
  void GiveUpReservation();
  std::string name() const { return target().name; }
  std::string nqn() const;  // of its subsystem; empty: its paths are none
  bool IsOurs(const nvmeof::Namespace& ns) const;

 private:
  void Main();
  Result<std::vector<nvmeof::Uri>> Paths() const;
  Status Attend();
  Status Connect(const std::vector<nvmeof::Uri>& paths);
  void SetTimeouts(const nvmeof::Namespace& ns);
  void ConnectMissing(const nvmeof::Namespace& ns);
  Status Reserve(const nvmeof::Namespace& ns);
  Status KeepReserved();
  Status SessionLives();
  void SetReserved(bool reserved);
  Status Open(const nvmeof::Namespace& ns);
  Status Watch(const nvmeof::Namespace& ns);
  int32_t Translate(int32_t result);
  void FillReport(idl::TargetReport* report);
  void SetState(const Status& state, const nvmeof::Namespace* ns);
  void SetTried();
  void Refuse(const Status& why);
  bool WaitMs(std::chrono::milliseconds time);  // false: stop, or refused
  Status WhyEnded() const;
  Result<std::string> OwnAddress(const std::string& peer) const;
  idl::TargetAddress target() const;

  const GatewayOptions& options_;
  const nvmeof::ReservationClaim session_;
  const uint32_t id_;
  const Uuid uuid_;
  const StateCallback on_state_;
  // The thread's own:
  const std::unique_ptr<nvmeof::Fabric> fabric_;
  PathConnector connector_;
  std::unique_ptr<GatewayServer> server_;
  std::string missing_;                               // what was logged of the paths that are not connected
  std::vector<std::string> timed_;                    // controllers that have our timeouts
  std::string timeouts_told_;                         // what was logged of that
  std::unique_ptr<nvmeof::Reservation> reservation_;  // null: the namespace has none
  std::string reservation_told_;                      // what was logged of it

  std::atomic<bool> leased_;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  idl::TargetAddress target_;
  nvmeof::Namespace namespace_;  // as it was seen last
  std::optional<Address> served_at_;
  bool reserved_ = false;
  std::optional<Status> told_;  // to on_state_
  nvmeof::Namespace told_namespace_;
  bool tried_ = false;
  std::optional<Status> refused_;  // by the metadata server, for good
  bool stop_ = false;
  bool ended_ = false;
  std::thread thread_;  // last: uses the others
};

// The gateways of all NVMe-oF targets of a session. One thread at a time.
//
// A gateway ends when the last request that it has sent has, which may take as long as the kernel needs to give up a
// path. Those of targets that leave the map are not waited for: a thread ends and disconnects them.
class Gateways {
 public:
  Gateways(GatewayOptions options, Gateway::StateCallback on_state);
  ~Gateways() { Stop(false); }
  Gateways(const Gateways&) = delete;
  Gateways& operator=(const Gateways&) = delete;

  // For which session those are that the next maps begin. Needed after BeginStop, Stop and Abandon, too.
  void SetSession(const nvmeof::ReservationClaim& session);
  // Begins and ends gateways as the map says; nothing after they were stopped. Waits for one that has left only where a
  // new target is that one, or of its subsystem.
  void SetMap(const idl::TargetMap& map);
  // Until all have registered or failed once, `timeout` at most.
  void WaitTried(std::chrono::milliseconds timeout);
  // Says where they serve, which the metadata server may not have told yet.
  void Localize(idl::TargetMap* map) const;
  // Has all end, also those that have left, and does not wait for that. The names of targets whose gateway has not
  // ended; empty: nothing of them is under way.
  std::string BeginStop();
  // Ends them. disconnect: their paths and reservations too, also those of gateways that were ended before without it;
  // but no subsystem of which this host sees other namespaces. Without it, those that have left are waited for as well.
  void Stop(bool disconnect);
  // As Stop(true), but waits for nothing: it is done when they have ended.
  void Abandon();

 private:
  using Map = std::map<uint32_t, std::unique_ptr<Gateway>>;

  struct Leaving {
    Map gateways;
    std::set<std::string> nqns;  // of their subsystems
    std::atomic<bool> ended = false;
    std::thread thread;
  };

  static void End(const Map& gateways);
  static void GiveUpReservations(const Map& gateways);
  void Disconnect(const Map& gateways, const std::set<std::string>& kept) const;
  void Leave(Map gone);
  void AwaitLeft(const std::function<bool(const Leaving& leaving)>& awaited);

  const GatewayOptions options_;
  const Gateway::StateCallback on_state_;
  nvmeof::ReservationClaim session_;
  Map gateways_;
  bool ended_ = false;  // gateways_ are there to be disconnected
  std::list<Leaving> leaving_;
};

}  // namespace weft::agent
