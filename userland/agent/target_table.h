// SPDX-License-Identifier: MIT
//
// What this client knows of each target, and telling the kernel: the metadata server's map (address,
// weight, zone, load, heartbeats) and the state of the RDMA paths that the queue threads report. A path
// that was tried decides between up and down; before that, the heartbeats do. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kmod/uapi/weft.h"
#include "nvmeof/fabric.h"
#include "rdma/block_initiator.h"
#include "thrift-gen/meta_types.h"
#include "userland/base/status.h"

namespace weft::agent {

// EIO names the field: ids, uuids, names and ports are what they must be, no id comes twice.
Result<std::vector<rdma::TargetEndpoint>> EndpointsOf(const idl::TargetMap& map);

class TargetTable {
 public:
  // Tells the kernel; called with the lock held, so that the last state told is the last state known.
  using Publish = std::function<Status(const std::vector<weft_target_info>&)>;
  // zone: of this host; empty: none.
  explicit TargetTable(Publish publish, std::string zone = {}) : publish_(std::move(publish)), zone_(std::move(zone)) {}

  void SetMap(const idl::TargetMap& map);  // one that EndpointsOf has accepted
  // From queue thread `queue`. Ok: a connection stands.
  void SetPath(size_t queue, uint32_t target, const Status& state, uint64_t incarnation);
  // Of an NVMe-oF target. Ok: its namespace is reached. paths: the controllers that lead to it.
  void SetGateway(uint32_t target, const Status& state, const std::vector<nvmeof::Path>& paths);
  void Clear();  // the session is over

  // Waits until a path stands, or all were tried. Ok: a path stands, or there is no target. Else the reason
  // of the first that failed; ETIMEDOUT: not all were tried in time.
  Status WaitForPath(std::chrono::milliseconds timeout);

 private:
  struct Target {
    idl::TargetAddress address;
    std::map<size_t, Status> paths;  // by queue; those that were tried
    std::optional<Status> gateway;   // of an NVMe-oF target, once it was tried
    uint16_t controllers = 0;        // likewise
    uint16_t controllers_usable = 0;
    uint64_t incarnation = 0;  // of the last connection; 0: none yet
  };

  static bool IsUp(const Target& target);
  uint32_t ZoneNumber(const std::string& zone);
  void PublishLocked();

  const Publish publish_;
  const std::string zone_;
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::map<uint32_t, Target> targets_;
  std::map<std::string, uint32_t> zones_;  // numbers once given stay
  std::vector<weft_target_info> published_;
};

}  // namespace weft::agent
