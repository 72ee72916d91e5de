// SPDX-License-Identifier: MIT
#include "userland/agent/target_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "userland/base/log.h"
#include "userland/base/uuid.h"

namespace weft::agent {

Result<std::vector<rdma::TargetEndpoint>> EndpointsOf(const idl::TargetMap& map) {
  if (map.targets.size() > WEFT_TARGETS_MAX) return Error(EIO, "target map has {} targets", map.targets.size());
  std::vector<rdma::TargetEndpoint> endpoints;
  std::set<int32_t> ids;
  for (const idl::TargetAddress& target : map.targets) {
    Result<Uuid> uuid = UuidFromBytes(target.uuid);
    if (target.id <= 0 || !ids.insert(target.id).second) return Error(EIO, "target map: id {}", target.id);
    if (!uuid.ok()) return Error(EIO, "target map: uuid of target {}: {}", target.id, uuid.status().message());
    if (target.host.empty() && target.__isset.nvme) continue;  // until its gateway has registered
    if (target.host.empty()) return Error(EIO, "target map: target {} has no host", target.id);
    if (target.port <= 0 || target.port > UINT16_MAX) {
      return Error(EIO, "target map: port {} of target {}", target.port, target.id);
    }
    endpoints.push_back({.id = static_cast<uint32_t>(target.id),
                         .uuid = *uuid,
                         .name = target.name,
                         .host = target.host,
                         .port = static_cast<uint16_t>(target.port)});
  }
  return endpoints;
}

void TargetTable::SetMap(const idl::TargetMap& map) {
  std::lock_guard lock(mutex_);
  std::map<uint32_t, Target> next;
  for (const idl::TargetAddress& address : map.targets) {
    auto id = static_cast<uint32_t>(address.id);
    Target& target = next[id];
    if (auto known = targets_.find(id); known != targets_.end()) {
      target.paths = std::move(known->second.paths);
      target.gateway = std::move(known->second.gateway);
      target.controllers = known->second.controllers;
      target.controllers_usable = known->second.controllers_usable;
      target.incarnation = known->second.incarnation;
    }
    target.address = address;
  }
  targets_ = std::move(next);
  PublishLocked();
}

void TargetTable::SetPath(size_t queue, uint32_t id, const Status& state, uint64_t incarnation) {
  std::lock_guard lock(mutex_);
  auto found = targets_.find(id);
  if (found == targets_.end()) return;  // removed meanwhile
  const std::string& name = found->second.address.name;
  if (state.ok()) {
    LogInfo("target {} is connected queue={}", name, queue);
  } else {
    LogWarning("target {} is not reachable queue={}: {}", name, queue, state.message());
  }
  Target& target = found->second;
  target.paths[queue] = state;
  if (state.ok() && incarnation != target.incarnation) {
    if (target.incarnation != 0) LogWarning("target {} was started anew: what it had not flushed may be lost", name);
    target.incarnation = incarnation;
  }
  PublishLocked();
}

void TargetTable::SetGateway(uint32_t id, const Status& state, const std::vector<nvmeof::Path>& paths) {
  std::lock_guard lock(mutex_);
  auto found = targets_.find(id);
  if (found == targets_.end()) return;  // removed meanwhile
  Target& target = found->second;
  target.gateway = state;
  target.controllers = static_cast<uint16_t>(std::min<size_t>(paths.size(), UINT16_MAX));
  target.controllers_usable =
      static_cast<uint16_t>(std::min<size_t>(std::ranges::count_if(paths, &nvmeof::Path::usable), UINT16_MAX));
  PublishLocked();
}

void TargetTable::Clear() {
  std::lock_guard lock(mutex_);
  targets_.clear();
  PublishLocked();
}

Status TargetTable::WaitForPath(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  Status failed;
  bool settled = changed_.wait_for(lock, timeout, [&] {
    bool all_tried = true;
    failed = {};
    for (const auto& [id, target] : targets_) {
      if (target.paths.empty()) all_tried = false;
      for (const auto& [queue, state] : target.paths) {
        if (state.ok()) {
          failed = {};
          return true;
        }
        if (failed.ok()) failed = state;
      }
    }
    return all_tried;
  });
  if (!settled && failed.ok()) return Error(ETIMEDOUT, "no target answered within {} ms", timeout.count());
  return failed;
}

bool TargetTable::IsUp(const Target& target) {
  if (target.address.__isset.nvme && (!target.gateway || !target.gateway->ok())) return false;
  if (target.paths.empty()) return target.address.up;
  return std::all_of(target.paths.begin(), target.paths.end(), [](const auto& path) { return path.second.ok(); });
}

uint32_t TargetTable::ZoneNumber(const std::string& zone) {
  if (zone.empty()) return 0;
  return zones_.emplace(zone, static_cast<uint32_t>(zones_.size() + 1)).first->second;
}

void TargetTable::PublishLocked() {
  std::vector<weft_target_info> infos;
  for (const auto& [id, target] : targets_) {
    const idl::TargetAddress& address = target.address;
    weft_target_info info = {};
    info.id = id;
    info.state = IsUp(target) ? WEFT_TARGET_UP : WEFT_TARGET_DOWN;
    info.weight = static_cast<uint32_t>(std::clamp(address.weight, 0, 1'000'000));
    info.zone = ZoneNumber(address.zone);
    if (!zone_.empty() && address.zone == zone_) info.flags |= WEFT_TARGET_LOCAL;
    if (address.report_age_ms >= 0) {
      info.flags |= WEFT_TARGET_REPORTED;
      info.queue_depth = static_cast<uint32_t>(std::max(address.queue_depth, 0));
      info.load = static_cast<uint32_t>(std::clamp(address.load, 0, 1000));
      info.device_latency_us = static_cast<uint32_t>(std::max(address.device_latency_us, 0));
      info.report_age_ms = static_cast<uint32_t>(address.report_age_ms);
    }
    if (address.__isset.nvme) info.flags |= WEFT_TARGET_DURABLE;
    if (address.leased) info.flags |= WEFT_TARGET_LEASED;
    info.paths = target.controllers;
    info.paths_usable = target.controllers_usable;
    info.incarnation = target.incarnation;
    address.name.copy(info.name, sizeof info.name - 1);
    infos.push_back(info);
  }
  changed_.notify_all();
  auto same = [](const weft_target_info& a, const weft_target_info& b) { return memcmp(&a, &b, sizeof a) == 0; };
  if (std::equal(infos.begin(), infos.end(), published_.begin(), published_.end(), same)) return;
  if (Status s = publish_(infos); !s.ok()) {
    LogError("{}", s.message());
    return;
  }
  published_ = std::move(infos);
}

}  // namespace weft::agent
