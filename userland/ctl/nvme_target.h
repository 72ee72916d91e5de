// SPDX-License-Identifier: MIT
//
// An NVMe-oF namespace becomes a target: it is connected, looked at, and labelled, by this host. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nvmeof/fabric.h"
#include "nvmeof/reservation.h"
#include "thrift-gen/admin_types.h"
#include "userland/base/status.h"

namespace weft::ctl {

struct NvmeTargetRequest {
  std::vector<nvmeof::Uri> uris;  // the paths to one namespace; at least one
  std::string name;               // of the target; empty: its label's UUID, shortened
  std::string zone;
  int64_t weight = 100;
  idl::DataPath::type data_path = idl::DataPath::AUTO;
  bool force = false;                    // also when it holds something
  std::string cluster;                   // name and UUID of the cluster that gets it
  std::string cluster_uuid;              // 16 bytes
  uint64_t bytes_min = 0;                // of its data area; 0: whatever a label takes
  std::vector<idl::TargetInfo> members;  // of the pool
};

// The URIs that `arguments` are. EINVAL: one is none, or they name different namespaces.
Result<std::vector<nvmeof::Uri>> ParsePaths(const std::vector<std::string>& arguments);

using ReservationOpener = std::function<Result<std::unique_ptr<nvmeof::ReservationPort>>(const nvmeof::Namespace& ns)>;

// Completes what the metadata server is to be told, and says why it would refuse that.
using Admission = std::function<Status(idl::RegisterTargetArgs* args)>;

// What the metadata server has to know; nothing is written before `admit` agrees. A namespace that is labelled for this
// cluster is taken as it is. Of a subsystem that this host had no namespace of before, all paths are disconnected
// again. A member that is in use here keeps its label unread. EEXIST: it holds something, or is of another cluster.
// EBUSY: it is reserved by others. EINVAL: too small, blocks too large, read-only, not the only namespace. Or what
// connecting and opening say.
Result<idl::RegisterTargetArgs> PrepareNvmeTarget(nvmeof::Fabric* fabric, const nvmeof::HostSettings& host,
                                                  const NvmeTargetRequest& request,
                                                  const ReservationOpener& open_reservation, const Admission& admit);

}  // namespace weft::ctl
