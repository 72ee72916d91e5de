// SPDX-License-Identifier: MIT
//
// How blocks travel to the NVMe-oF targets that are attended to here: which of them the kernel module reaches itself
// (direct), and the queue threads beside their gateways (agent). Any thread may call; what is decided is passed on in
// the order of the calls.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "kmod/uapi/weft.h"
#include "nvmeof/fabric.h"
#include "thrift-gen/meta_types.h"
#include "userland/agent/device_port.h"
#include "userland/base/status.h"

namespace weft::agent {

class DevicePaths {
 public:
  struct Users {
    // Its block device, or (nothing) none any more. An error: it goes on without.
    std::function<Status(uint32_t target, const std::optional<BlockDevice>& device)> kernel;
    std::function<Status(uint32_t target, const std::optional<BlockDevice>& device)> queues;
  };
  explicit DevicePaths(Users users) : users_(std::move(users)) {}

  // What operators want, of all targets.
  void SetMap(const idl::TargetMap& map);
  // What a gateway says: the namespace is reached (Ok), or not now, or (found null) is not there.
  void SetNamespace(uint32_t target, const Status& state, const nvmeof::Namespace* found);
  void Clear();

  // In force: "direct", "agent" or, when the target is out of reach, "".
  std::string NameOf(uint32_t target) const;

 private:
  struct Path {
    idl::DataPath::type wanted = idl::DataPath::AUTO;
    std::shared_ptr<std::atomic<bool>> leased = std::make_shared<std::atomic<bool>>(true);
    std::optional<BlockDevice> device;
    bool direct = false;  // the kernel has it
    bool queues = false;  // the queue threads have it
  };
  void Apply(uint32_t target, Path* path);
  void Drop(uint32_t target, Path* path);

  const Users users_;
  mutable std::mutex mutex_;  // guards all below; held while others are told
  std::map<uint32_t, Path> paths_;
};

}  // namespace weft::agent
