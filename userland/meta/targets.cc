// SPDX-License-Identifier: MIT
#include "userland/meta/targets.h"

#include <algorithm>
#include <cerrno>

#include "thrift-gen/meta_constants.h"
#include "userland/base/config.h"
#include "userland/base/log.h"

namespace weft {
namespace {

constexpr size_t kHostBytesMax = 255;
constexpr size_t kZoneBytesMax = 63;
constexpr int32_t kWeightMax = 10'000;

bool IsName(std::string_view name) {
  auto good = [](unsigned char c) { return isalnum(c) || c == '-' || c == '_' || c == '.'; };
  return !name.empty() && name.size() <= kTargetNameBytesMax && std::ranges::all_of(name, good);
}

}  // namespace

void Targets::Load(int64_t now_ms, uint64_t starts) {
  version_ = static_cast<int64_t>(starts << 32) + 1;
  tables_->Scan<TargetRecord>("T", [&](uint64_t id, TargetRecord record) {
    TargetState& target = targets_[record.uuid];
    target.id = static_cast<uint32_t>(id);
    target.record = std::move(record);
    target.heartbeat_at_ms = now_ms;  // up until the contrary is known
  });
}

const TargetState* Targets::FindName(std::string_view name) const {
  for (const auto& [uuid, target] : targets_) {
    if (target.record.name == name) return &target;
  }
  return nullptr;
}

idl::TargetMap Targets::Map() const {
  idl::TargetMap map;
  map.version = version_;
  for (const auto& [uuid, target] : targets_) {
    if (target.id == 0) continue;
    idl::TargetAddress& out = map.targets.emplace_back();
    out.id = static_cast<int32_t>(target.id);
    out.uuid = ToBytes(uuid);
    out.name = target.record.name;
    out.host = target.record.host;
    out.port = static_cast<int32_t>(target.record.port);
    out.weight = static_cast<int32_t>(target.record.weight);
    out.zone = target.record.zone;
    out.up = target.up;
    out.queue_depth = target.queue_depth;
    out.load = target.load;
  }
  std::ranges::sort(map.targets, {}, &idl::TargetAddress::id);
  return map;
}

std::vector<PlacementTarget> Targets::ForPlacement(uint64_t chunk_bytes) const {
  std::vector<PlacementTarget> view;
  for (const auto& [uuid, target] : targets_) {
    if (target.id == 0) continue;
    view.push_back({target.id, target.record.capacity_bytes / chunk_bytes, 0, target.record.weight, target.record.zone,
                    target.up, target.record.draining});
  }
  std::ranges::sort(view, {}, &PlacementTarget::id);
  return view;
}

Status Targets::CheckArgs(const idl::RegisterTargetArgs& args) const {
  if (args.protocol < idl::g_meta_constants.PROTOCOL_VERSION_MIN ||
      args.protocol > idl::g_meta_constants.PROTOCOL_VERSION) {
    return Error(
        EPROTO, "target '{}' speaks protocol {}; this server speaks {} to {}: install the same release on both",
        args.name, args.protocol, idl::g_meta_constants.PROTOCOL_VERSION_MIN, idl::g_meta_constants.PROTOCOL_VERSION);
  }
  if (args.cluster != cluster_name_) {
    return Error(EINVAL, "target '{}' asks for cluster '{}', this server serves '{}'; correct --cluster or --meta",
                 args.name, args.cluster, cluster_name_);
  }
  if (!IsName(args.name)) {
    return Error(EINVAL, "target name '{}' is not 1..{} letters, digits, '.', '-' or '_'", args.name.substr(0, 64),
                 kTargetNameBytesMax);
  }
  if (args.uuid.size() != 16)
    return Error(EINVAL, "target '{}': its UUID has {} bytes, not 16", args.name, args.uuid.size());
  if (args.host.empty() || args.host.size() > kHostBytesMax || args.port < 1 || args.port > 65535) {
    return Error(EINVAL, "target '{}': '{}' port {} is no address that clients can reach; give one with --listen",
                 args.name, args.host.substr(0, 64), args.port);
  }
  if (args.capacity_bytes < static_cast<int64_t>(kChunkBytesMin)) {
    return Error(EINVAL, "target '{}' holds {} bytes; the smallest size is {}", args.name, args.capacity_bytes,
                 FormatBytes(kChunkBytesMin));
  }
  if (args.weight < 1 || args.weight > kWeightMax) {
    return Error(EINVAL, "target '{}': weight {} is not 1..{}", args.name, args.weight, kWeightMax);
  }
  if (args.zone.size() > kZoneBytesMax) {
    return Error(EINVAL, "target '{}': its zone has more than {} bytes", args.name, kZoneBytesMax);
  }
  return {};
}

Status Targets::CheckIdentity(const Uuid& uuid, const idl::RegisterTargetArgs& args) {
  auto known = targets_.find(uuid);
  bool member = known != targets_.end() && known->second.id != 0;
  if (!args.cluster_uuid.empty()) {
    if (args.cluster_uuid != ToBytes(cluster_)) {
      Result<Uuid> other = UuidFromBytes(args.cluster_uuid);
      return Error(EINVAL,
                   "target '{}' holds data of another cluster ({}; this one is {}); give it another --backing, or wipe "
                   "this one if its data is not needed",
                   args.name, other.ok() ? ToString(*other) : "malformed UUID", ToString(cluster_));
    }
    if (!member) {
      return Error(
          EINVAL,
          "target '{}' ({}) is labelled for this cluster but is not in its pool; wipe its backing to use it anew",
          args.name, ToString(uuid));
    }
  }
  if (member && static_cast<uint64_t>(args.capacity_bytes) < known->second.record.capacity_bytes) {
    return Error(EINVAL, "target '{}' has shrunk: {} now, {} when the pool was formed; restore its size", args.name,
                 FormatBytes(args.capacity_bytes), FormatBytes(known->second.record.capacity_bytes));
  }
  if (const TargetState* same = FindName(args.name); same != nullptr && same->record.uuid != uuid) {
    if (same->id != 0 || same->up) {
      return Error(EEXIST, "another target is named '{}' ({} at {}:{}); choose another --name", args.name,
                   ToString(same->record.uuid), same->record.host, same->record.port);
    }
    targets_.erase(Uuid(same->record.uuid));  // it never joined a pool and is gone
  }
  if (known == targets_.end() && targets_.size() >= kTargetsMax) {
    return Error(ENOSPC, "target '{}': there are {} targets already, the most that a cluster takes", args.name,
                 kTargetsMax);
  }
  return {};
}

void Targets::SetUp(TargetState* target, bool up) {
  if (target->up == up) return;
  target->up = up;
  if (target->id != 0) ++version_;
  if (up) {
    LogInfo("target '{}' is up", target->record.name);
  } else {
    LogWarning("target '{}' ({}:{}) is down: no heartbeat for {} ms", target->record.name, target->record.host,
               target->record.port, times_.down_ms);
  }
}

idl::TargetOrders Targets::OrdersFor(const TargetState& target) const {
  idl::TargetOrders orders;
  orders.id = static_cast<int32_t>(target.id);
  if (target.id != 0) orders.cluster_uuid = ToBytes(cluster_);
  orders.heartbeat_ms = times_.heartbeat_ms;
  return orders;
}

Result<idl::TargetOrders> Targets::Register(const idl::RegisterTargetArgs& args, int64_t now_ms) {
  if (Status status = CheckArgs(args); !status.ok()) return status;
  Uuid uuid = *UuidFromBytes(args.uuid);
  if (Status status = CheckIdentity(uuid, args); !status.ok()) return status;
  bool fresh = !targets_.contains(uuid);
  TargetState& target = targets_[uuid];
  TargetRecord record = target.record;
  record.uuid = uuid;
  record.name = args.name;
  record.host = args.host;
  record.port = static_cast<uint32_t>(args.port);
  record.weight = static_cast<uint32_t>(args.weight);
  record.zone = args.zone;
  if (target.id == 0) record.capacity_bytes = static_cast<uint64_t>(args.capacity_bytes);
  bool changed = record.Encode() != target.record.Encode();
  if (fresh || changed) {
    LogInfo("target '{}' ({}) registered: {}:{}, {}", record.name, ToString(uuid), record.host, record.port,
            FormatBytes(args.capacity_bytes));
  }
  target.record = std::move(record);
  target.heartbeat_at_ms = now_ms;
  if (target.id != 0 && changed) {
    tables_->tx().Put(key::Target(target.id), target.record.Encode());
    ++version_;
  }
  SetUp(&target, true);
  return OrdersFor(target);
}

Result<idl::TargetOrders> Targets::Heartbeat(const Uuid& uuid, const idl::TargetReport& report, int64_t now_ms) {
  auto it = targets_.find(uuid);
  if (it == targets_.end()) return Error(ESTALE, "target {} has not registered", ToString(uuid));
  TargetState& target = it->second;
  target.heartbeat_at_ms = now_ms;
  target.queue_depth = std::max(report.queue_depth, 0);
  target.load = std::clamp(report.load, 0, 1000);
  if (target.id != 0 && std::abs(target.load - target.told_load) >= kLoadStep) {
    target.told_load = target.load;
    ++version_;
  }
  SetUp(&target, true);
  return OrdersFor(target);
}

void Targets::Join(const Uuid& uuid, uint32_t id) {
  TargetState& target = targets_.at(uuid);
  target.id = id;
  tables_->tx().Put(key::Target(id), target.record.Encode());
  ++version_;
}

void Targets::Tick(int64_t now_ms) {
  for (auto& [uuid, target] : targets_) {
    if (now_ms - target.heartbeat_at_ms >= times_.down_ms) SetUp(&target, false);
  }
}

int64_t Targets::deadline_ms() const {
  int64_t deadline = INT64_MAX;
  for (const auto& [uuid, target] : targets_) {
    if (target.up) deadline = std::min(deadline, target.heartbeat_at_ms + times_.down_ms);
  }
  return deadline;
}

}  // namespace weft
