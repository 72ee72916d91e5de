// SPDX-License-Identifier: MIT
//
// The seam to the kernel's NVMe-oF host: connects controllers and says which namespaces they have. The real one
// (real_fabric.cc) uses libnvme and sysfs; fake_fabric.h stands in for it in tests.
//
// Functions block: connecting takes as long as the kernel's timeouts, at worst minutes (fabrics_device.h), and the
// thread cannot be killed meanwhile. One caller at a time for each object.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nvmeof/uri.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

// What this host is to storage nodes, and how it connects. The same for all of its connections.
struct HostSettings {
  std::string hostnqn;  // empty: of /etc/nvme/hostnqn
  std::string hostid;   // empty: of /etc/nvme/hostid
  std::string host_iface;
  std::string host_address;
  uint32_t queues = 0;          // I/O queues of a controller; 0: the kernel's choice, one for each CPU
  uint32_t keep_alive_s = 5;    // after so long without an answer a path counts as broken; 0: the kernel's choice, 5
  uint32_t reconnect_s = 1;     // between attempts to connect it again; 0: the kernel's choice, 10
  int32_t ctrl_loss_s = -1;     // after so long the kernel gives up a path; -1: never
  uint32_t fast_io_fail_s = 5;  // requests wait so long on a broken path before they fail; 0: for ever
  std::string dhchap_key;       // "DHHC-1:...": this host's secret for DH-HMAC-CHAP; empty: none
  std::string dhchap_ctrl_key;  // the controller's, which must prove it then; empty: none
  bool tls = false;             // nvme+tcp
};

// What a discovery controller offers.
struct DiscoveryEntry {
  Endpoint endpoint;
  std::string nqn;
  std::string kind;  // "nvm", "discovery"
};

// One controller: a path to a subsystem.
struct Path {
  std::string controller;  // "nvme0"
  Endpoint endpoint;       // host: a numeric address, whatever was connected to
  std::string state;       // as sysfs says: "live", "connecting", "resetting", "deleting (no IO)", ...
  std::string ana_state;   // "optimized", "non-optimized", "inaccessible", ...; "optimized" where ANA is not used
  bool operator==(const Path&) const = default;
  bool usable() const { return state == "live" && (ana_state == "optimized" || ana_state == "non-optimized"); }
};

struct NamespaceId {  // what it is found by, never by a device name; all zero: it has none
  std::array<uint8_t, 16> uuid{};
  std::array<uint8_t, 16> nguid{};
  bool operator==(const NamespaceId&) const = default;
  bool none() const { return *this == NamespaceId{}; }
};

struct Namespace {
  std::string device;          // "/dev/nvme0n1": of the multipath head, never of one of its paths
  uint64_t device_number = 0;  // dev_t
  std::string nqn;
  uint32_t nsid = 0;
  NamespaceId id;
  uint64_t bytes = 0;
  uint32_t block_bytes = 0;           // logical
  uint32_t physical_block_bytes = 0;  // a write of so much does not touch what is beside it
  uint32_t atomic_write_bytes = 0;    // so much is written as a whole when the namespace's power fails; 0: no promise
  uint32_t request_bytes_max = 0;
  uint64_t discard_bytes_max = 0;       // 0: it cannot
  uint64_t write_zeroes_bytes_max = 0;  // 0: it cannot
  bool write_cache = false;             // volatile: what was acknowledged is durable after a flush, or with FUA
  bool fua = false;
  bool read_only = false;
  std::vector<Path> paths;
  bool reachable() const;    // one of the paths is usable
  std::string name() const;  // "namespace 1 of nqn...", for people
};

class Fabric {
 public:
  virtual ~Fabric() = default;

  // Asks the discovery controller at `endpoint`; leaves no connection behind.
  virtual Result<std::vector<DiscoveryEntry>> Discover(const Endpoint& endpoint, const HostSettings& host) = 0;

  // A controller of subsystem `nqn` at `endpoint`, unless this host has one already under the same host NQN (then its
  // timeouts are set to the settings'; its keys, queues and keep-alive stay what they are). Errors name endpoint, NQN
  // and remedy: ENOENT (no such subsystem there, or no host NQN), EACCES (the subsystem does not admit this host's
  // NQN), EKEYREJECTED (authentication failed, or is wanted and no key was given), ECONNREFUSED (nothing listens),
  // EHOSTUNREACH, ETIMEDOUT, ENOPROTOOPT (the kernel, or the transport, cannot do what the settings ask for), ENODEV
  // (no nvme-rdma/nvme-tcp module: modprobe), EINVAL (settings), EADDRNOTAVAIL (host_address is not this host's),
  // EBUSY, EPERM, EIO (the kernel's words are in the message). Without a readable kernel log (/dev/kmsg) a host that is
  // not admitted gets ENOENT too: a discovery log does not tell the two apart.
  virtual Status Connect(const Endpoint& endpoint, const std::string& nqn, const HostSettings& host) = 0;
  // Gives all controllers of this subsystem that this host has, whoever connected them, the timeouts of the settings.
  virtual Status SetTimeouts(const std::string& nqn, const HostSettings& host) = 0;
  // All controllers of this subsystem that this host has. None: success.
  virtual Status Disconnect(const std::string& nqn) = 0;

  // The namespaces of the subsystem that are visible now, with their paths; they appear some time after a connection
  // stands. Without native multipath (nvme_core.multipath=N) each controller has a device, and an entry, of its own.
  virtual Result<std::vector<Namespace>> Namespaces(const std::string& nqn) = 0;
  // The nsids of the subsystem's namespaces that this host may use, as one of its controllers lists them: also those
  // that are not visible yet. EHOSTDOWN: none of its controllers is live.
  virtual Result<std::vector<uint32_t>> ActiveNamespaces(const std::string& nqn) = 0;
  // Has the kernel look for namespaces that came or went; it does so after this has returned.
  virtual Status Rescan(const std::string& nqn) = 0;
};

std::unique_ptr<Fabric> MakeRealFabric();

}  // namespace weft::nvmeof
