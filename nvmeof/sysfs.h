// SPDX-License-Identifier: MIT
//
// What this host has connected, as the kernel shows it below /sys (Linux 6.12): subsystems, their controllers and
// namespaces. With native multipath (nvme_core.multipath, the default)
//   class/nvme-subsystem/nvme-subsys0/nvme0n1          the namespace's device, on all paths ("multipath head")
//   class/nvme-subsystem/nvme-subsys0/nvme3/           a controller (link)
//   class/nvme-subsystem/nvme-subsys0/nvme3/nvme0c3n1  the namespace on that path: no device node, but an ANA state
// and without it, or when the subsystem says that it has one controller only
//   class/nvme-subsystem/nvme-subsys0/nvme3/nvme3n1    the namespace's device, of this controller alone
//
// Controllers are looked up from their subsystem: one that is still being connected is in class/nvme too, but does
// not know its subsystem yet.
//
// No state but the root; use from any thread. What is read may be gone a moment later, and what goes while it is
// read is left out.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nvmeof/fabric.h"
#include "nvmeof/uri.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

struct Controller {
  std::string name;  // "nvme0"
  Endpoint endpoint;
  std::string state;
  std::string hostnqn;
  std::string hostid;
};

class Sysfs {
 public:
  explicit Sysfs(std::string root) : root_(std::move(root)) {}

  // Of this subsystem, over RDMA and TCP. By their number.
  std::vector<Controller> Controllers(std::string_view nqn) const;
  std::vector<Controller> AllControllers() const;
  // By nsid. Without multipath a namespace is listed once for each controller. EPROTO names the attribute that is
  // not as the kernel writes it.
  Result<std::vector<Namespace>> Namespaces(std::string_view nqn) const;
  // Names of all controllers, also of those that are being connected, of any transport.
  std::vector<std::string> ControllerNames() const;
  bool HasModule(std::string_view name) const;  // "nvme_rdma": loaded or built in

  // Writes an attribute of a controller. ENOENT: it is gone.
  Status Set(std::string_view controller, std::string_view attribute, std::string_view value) const;

 private:
  std::vector<std::string> SubsystemFolders() const;

  std::string root_;
};

}  // namespace weft::nvmeof
