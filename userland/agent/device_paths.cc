// SPDX-License-Identifier: MIT
#include "userland/agent/device_paths.h"

#include <algorithm>
#include <utility>

#include "userland/base/log.h"
#include "userland/target/label.h"

namespace weft::agent {
namespace {

BlockDevice DeviceOf(const nvmeof::Namespace& ns, std::shared_ptr<std::atomic<bool>> reachable,
                     std::shared_ptr<std::atomic<bool>> leased) {
  uint64_t offset = target::AreasFor(0, target::Layout::kPlain).data;
  return {.path = ns.device,
          .number = ns.device_number,
          .data_offset = offset,
          .data_bytes = ns.bytes - std::min(offset, ns.bytes),
          .write_cache = ns.write_cache,
          .reachable = std::move(reachable),
          .leased = std::move(leased)};
}

}  // namespace

void DevicePaths::SetMap(const idl::TargetMap& map) {
  std::lock_guard lock(mutex_);
  for (const idl::TargetAddress& target : map.targets) {
    if (!target.__isset.nvme) continue;
    auto id = static_cast<uint32_t>(target.id);
    Path& path = paths_[id];
    path.wanted = target.nvme.data_path;
    *path.leased = target.leased;
    Apply(id, &path);
  }
}

void DevicePaths::SetNamespace(uint32_t target, const Status& state, const nvmeof::Namespace* found) {
  std::lock_guard lock(mutex_);
  Path& path = paths_[target];
  if (found == nullptr) return Drop(target, &path);
  if (!path.device || path.device->number != found->device_number) {
    // It went and came back as another block device: whoever has the old one gets errors alone.
    Drop(target, &path);
    path.device = DeviceOf(*found, std::make_shared<std::atomic<bool>>(state.ok()), path.leased);
  }
  *path.device->reachable = state.ok();
  Apply(target, &path);
}

void DevicePaths::Clear() {
  std::lock_guard lock(mutex_);
  for (auto& [target, path] : paths_) Drop(target, &path);
  paths_.clear();
}

void DevicePaths::Drop(uint32_t target, Path* path) {
  if (path->device) *path->device->reachable = false;
  path->device.reset();
  Apply(target, path);
}

void DevicePaths::Apply(uint32_t target, Path* path) {
  if (path->queues != path->device.has_value()) {
    Status s = users_.queues(target, path->device);
    if (!s.ok() && path->device) LogWarning("target {} goes by its gateway: {}", target, s.message());
    path->queues = path->device && s.ok();
  }
  bool direct = path->device && path->wanted != idl::DataPath::AGENT;
  if (path->direct == direct) return;
  Status s = users_.kernel(target, direct ? path->device : std::nullopt);
  if (!s.ok()) LogWarning("target {} is not reached directly: {}", target, s.message());
  path->direct = direct && s.ok();
  LogInfo("target {}: data path {}", target, path->direct ? "direct" : path->device ? "agent" : "none");
}

std::string DevicePaths::NameOf(uint32_t target) const {
  std::lock_guard lock(mutex_);
  auto path = paths_.find(target);
  if (path == paths_.end() || !path->second.device) return "";
  return path->second.direct ? "direct" : "agent";
}

}  // namespace weft::agent
