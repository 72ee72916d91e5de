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

constexpr size_t kUrisMax = 8;
constexpr size_t kUriBytesMax = 512;

bool IsAnnouncement(const idl::RegisterTargetArgs& args) { return args.__isset.nvme && args.host.empty(); }

NvmeRecord FromIdl(const idl::NvmeNamespace& nvme) {
  return {.uris = nvme.uris,
          .uuid = *UuidFromBytes(nvme.uuid),
          .nguid = *UuidFromBytes(nvme.nguid),
          .nsid = static_cast<uint32_t>(nvme.nsid),
          .data_path = static_cast<DataPath>(nvme.data_path)};
}

bool IsName(std::string_view name) {
  auto good = [](unsigned char c) { return isalnum(c) || c == '-' || c == '_' || c == '.'; };
  return !name.empty() && name.size() <= kTargetNameBytesMax && std::ranges::all_of(name, good);
}

}  // namespace

idl::NvmeNamespace ToIdl(const NvmeRecord& nvme) {
  idl::NvmeNamespace out;
  out.uris = nvme.uris;
  out.uuid = ToBytes(nvme.uuid);
  out.nguid = ToBytes(nvme.nguid);
  out.nsid = static_cast<int32_t>(nvme.nsid);
  out.data_path = static_cast<idl::DataPath::type>(nvme.data_path);
  return out;
}

void Targets::Load(int64_t now_ms, uint64_t starts) {
  version_ = static_cast<int64_t>(starts << 32) + 1;
  first_jobs_version_ = version_;
  told_at_ms_ = now_ms;
  now_ms_ = now_ms;
  tables_->Scan<TargetRecord>("T", [&](uint64_t id, TargetRecord record) {
    TargetState& target = targets_[record.uuid];
    target.id = static_cast<uint32_t>(id);
    members_[target.id] = record.uuid;
    target.record = std::move(record);
    target.jobs_version = first_jobs_version_;
    target.joined = true;
    // Up until the contrary is known; but not what no client has ever attended to.
    target.up = !target.record.nvme || !target.record.host.empty();
    if (target.up) target.heartbeat_at_ms = now_ms;
  });
}

const TargetState* Targets::FindId(uint32_t id) const {
  auto it = members_.find(id);
  return it == members_.end() ? nullptr : &targets_.at(it->second);
}

Result<const TargetState*> Targets::Check(const std::string& bytes, int64_t instance) const {
  Result<Uuid> uuid = UuidFromBytes(bytes);
  if (!uuid.ok()) return uuid.status().Annotate("target");
  auto it = targets_.find(*uuid);
  if (it == targets_.end()) return Error(ESTALE, "target {} has not registered", ToString(*uuid));
  if (it->second.record.instance != static_cast<uint64_t>(instance)) {
    return Error(ESTALE, "target '{}': instance {:x} has registered since, this is {:x}; register again",
                 it->second.record.name, it->second.record.instance, static_cast<uint64_t>(instance));
  }
  return &it->second;
}

const TargetState* Targets::FindName(std::string_view name) const {
  for (const auto& [uuid, target] : targets_) {
    if (target.record.name == name) return &target;
  }
  return nullptr;
}

idl::Peer Targets::PeerAt(const Copy& copy) const {
  idl::Peer peer;
  peer.id = static_cast<int32_t>(copy.target);
  peer.offset = static_cast<int64_t>(copy.offset);
  const TargetState* target = FindId(copy.target);
  if (target == nullptr) return peer;
  peer.uuid = ToBytes(target->record.uuid);
  peer.name = target->record.name;
  peer.host = target->record.host;
  peer.port = static_cast<int32_t>(target->record.port);
  return peer;
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
    out.device_latency_us = target.device_latency_us;
    out.report_age_ms = target.reported_at_ms < 0
                            ? -1
                            : static_cast<int32_t>(std::min<int64_t>(now_ms_ - target.reported_at_ms, INT32_MAX));
    if (target.record.nvme) out.__set_nvme(ToIdl(*target.record.nvme));
    out.leased = target.record.nvme && !target.reserved;
  }
  std::ranges::sort(map.targets, {}, &idl::TargetAddress::id);
  return map;
}

std::vector<PlacementTarget> Targets::ForPlacement(uint64_t chunk_bytes) const {
  std::vector<PlacementTarget> view;
  for (const auto& [uuid, target] : targets_) {
    if (target.id == 0) continue;
    view.push_back({target.id, target.record.capacity_bytes / chunk_bytes, 0, target.record.weight, target.record.zone,
                    target.usable(), target.record.draining});
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
  if (Status s = CheckNvme(args); !s.ok()) return s;
  bool reachable = !args.host.empty() && args.host.size() <= kHostBytesMax && args.port >= 1 && args.port <= 65535;
  if (!reachable && !IsAnnouncement(args)) {
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

Status Targets::CheckNvme(const idl::RegisterTargetArgs& args) const {
  if (!args.__isset.nvme) return {};
  const idl::NvmeNamespace& nvme = args.nvme;
  if (nvme.uris.empty() || nvme.uris.size() > kUrisMax)
    return Error(EINVAL, "target '{}' has {} paths; it takes 1 to {}", args.name, nvme.uris.size(), kUrisMax);
  for (const std::string& uri : nvme.uris) {
    if (uri.empty() || uri.size() > kUriBytesMax)
      return Error(EINVAL, "target '{}': a path of {} bytes; it takes 1 to {}", args.name, uri.size(), kUriBytesMax);
  }
  if (nvme.uuid.size() != 16 || nvme.nguid.size() != 16)
    return Error(EINVAL, "target '{}': its namespace's identifiers have {} and {} bytes, not 16", args.name,
                 nvme.uuid.size(), nvme.nguid.size());
  if (nvme.nsid < 1) return Error(EINVAL, "target '{}': namespace {} is none", args.name, nvme.nsid);
  if (nvme.data_path < idl::DataPath::AUTO || nvme.data_path > idl::DataPath::DIRECT)
    return Error(EINVAL, "target '{}': data path {} is none", args.name, static_cast<int>(nvme.data_path));
  return {};
}

Status Targets::CheckIdentity(const Uuid& uuid, const idl::RegisterTargetArgs& args) const {
  auto known = targets_.find(uuid);
  bool member = known != targets_.end() && known->second.id != 0;
  if (tables_->tx().Get(key::Removed(args.uuid))) {
    return Error(
        EINVAL,
        "target '{}' ({}) was removed from the pool as lost: what it holds is out of date; wipe its backing to "
        "use it anew",
        args.name, ToString(uuid));
  }
  if (!args.cluster_uuid.empty()) {
    if (args.cluster_uuid != ToBytes(cluster_)) {
      Result<Uuid> other = UuidFromBytes(args.cluster_uuid);
      return Error(EINVAL,
                   "target '{}' holds data of another cluster ({}; this one is {}); give it another --backing, or wipe "
                   "this one if its data is not needed",
                   args.name, other.ok() ? ToString(*other) : "malformed UUID", ToString(cluster_));
    }
    if (!member && !args.__isset.nvme) {
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
  if (known != targets_.end() && known->second.record.nvme.has_value() != args.__isset.nvme) {
    return Error(EINVAL, "target '{}' ({}) is {}an NVMe-oF target; how it is reached cannot change", args.name,
                 ToString(uuid), args.__isset.nvme ? "not " : "");
  }
  if (args.__isset.nvme && !IsAnnouncement(args)) {
    if (known != targets_.end()) return {};
    return Error(ENOENT, "target '{}' ({}) is not known here; `weftctl target add` makes an NVMe-oF namespace a target",
                 args.name, ToString(uuid));
  }
  if (const TargetState* same = FindName(args.name); same != nullptr && same->record.uuid != uuid) {
    if (same->id != 0 || same->up || same->record.nvme) {
      return Error(EEXIST, "another target is named '{}' ({} at {}:{}); choose another --name", args.name,
                   ToString(same->record.uuid), same->record.host, same->record.port);
    }
  }
  if (args.__isset.nvme) {
    if (Status s = CheckNamespaceIsFree(uuid, args); !s.ok()) return s;
  }
  if (known == targets_.end() && targets_.size() >= kTargetsMax) {
    return Error(ENOSPC, "target '{}': there are {} targets already, the most that a cluster takes", args.name,
                 kTargetsMax);
  }
  return {};
}

// Whoever relabels the namespace of a member makes two targets of it.
Status Targets::CheckNamespaceIsFree(const Uuid& uuid, const idl::RegisterTargetArgs& args) const {
  NvmeRecord wanted = FromIdl(args.nvme);
  if (IsNil(wanted.uuid) && IsNil(wanted.nguid)) return {};
  for (const auto& [other, target] : targets_) {
    if (other == uuid || target.id == 0 || !target.record.nvme) continue;
    if (target.record.nvme->uuid != wanted.uuid || target.record.nvme->nguid != wanted.nguid) continue;
    return Error(EEXIST,
                 "namespace {} is target '{}' of the pool already; if it has lost its label and its data with it, "
                 "`weftctl target remove {} --lost` first",
                 args.nvme.uris.front(), target.record.name, target.record.name);
  }
  return {};
}

Status Targets::Check(const idl::RegisterTargetArgs& args) const {
  if (Status status = CheckArgs(args); !status.ok()) return status;
  return CheckIdentity(*UuidFromBytes(args.uuid), args);
}

void Targets::SetUp(TargetState* target, bool up) {
  if (target->up == up) return;
  target->up = up;
  if (target->id != 0) {
    ++version_;
    // Heard of before anybody acted: it was this server that did not listen.
    changes_[target->id].silent = !up;
  }
  if (up) {
    LogInfo("target '{}' is up", target->record.name);
  } else {
    LogWarning("target '{}' ({}:{}) is down: no heartbeat for {} ms", target->record.name, target->record.host,
               target->record.port, times_.down_ms);
  }
}

idl::TargetOrders Targets::OrdersFor(TargetState* target) {
  idl::TargetOrders orders;
  orders.id = static_cast<int32_t>(target->id);
  if (target->id != 0) {
    orders.cluster_uuid = ToBytes(cluster_);
    orders.chunk_bytes = static_cast<int64_t>(chunk_bytes_);
    target->told = true;
  }
  orders.heartbeat_ms = times_.heartbeat_ms;
  return orders;
}

Result<idl::TargetOrders> Targets::Register(const idl::RegisterTargetArgs& args, int64_t now_ms) {
  if (Status status = Check(args); !status.ok()) return status;
  Uuid uuid = *UuidFromBytes(args.uuid);
  bool gateway = args.__isset.nvme && !IsAnnouncement(args);  // which does not name the target
  if (const TargetState* same = FindName(args.name); !gateway && same != nullptr && same->record.uuid != uuid) {
    targets_.erase(Uuid(same->record.uuid));  // it never joined a pool and is gone
  }
  bool fresh = !targets_.contains(uuid);
  TargetState& target = targets_[uuid];
  if (fresh) target.jobs_version = first_jobs_version_;
  if (IsAnnouncement(args)) {
    if (fresh) target.up = false;
    Announce(&target, args);
    return idl::TargetOrders();  // it is not the target that is told
  }
  TargetRecord record = target.record;
  record.uuid = uuid;
  record.host = args.host;
  record.port = static_cast<uint32_t>(args.port);
  if (!record.nvme) {  // of which the gateway may not have heard yet what is announced
    record.name = args.name;
    record.weight = static_cast<uint32_t>(args.weight);
    record.zone = args.zone;
  }
  if (target.id == 0) record.capacity_bytes = static_cast<uint64_t>(args.capacity_bytes);
  bool changed = record.Encode() != target.record.Encode();
  record.instance = static_cast<uint64_t>(args.instance);
  bool restarted = !fresh && record.instance != target.record.instance;
  if (fresh || changed || restarted) {
    LogInfo("target '{}' ({}) registered: {}:{}, {}", record.name, ToString(uuid), record.host, record.port,
            FormatBytes(args.capacity_bytes));
  }
  target.record = std::move(record);
  target.heartbeat_at_ms = now_ms;
  if (restarted) target.told = false;
  if (target.id != 0 && !args.cluster_uuid.empty()) target.joined = true;
  if (target.id != 0 && (changed || restarted)) {
    tables_->tx().Put(key::Target(target.id), target.record.Encode());
    TargetChange& change = changes_[target.id];
    if (restarted) change.stopped = true;
    if (changed) ++version_;
  }
  SetUp(&target, true);
  return OrdersFor(&target);
}

void Targets::Announce(TargetState* target, const idl::RegisterTargetArgs& args) {
  TargetRecord record = target->record;
  record.uuid = *UuidFromBytes(args.uuid);
  record.name = args.name;
  record.weight = static_cast<uint32_t>(args.weight);
  record.zone = args.zone;
  if (target->id == 0) record.capacity_bytes = static_cast<uint64_t>(args.capacity_bytes);
  record.nvme = FromIdl(args.nvme);
  if (record.Encode() == target->record.Encode()) return;
  LogInfo("target '{}' ({}) is {}, {}", record.name, ToString(record.uuid), record.nvme->uris.front(),
          FormatBytes(args.capacity_bytes));
  target->record = std::move(record);
  if (target->id == 0) return;
  tables_->tx().Put(key::Target(target->id), target->record.Encode());
  changes_[target->id];
  ++version_;
}

bool Targets::Report(TargetState* target, const idl::TargetReport& report, int64_t now_ms) {
  target->reported_at_ms = now_ms;
  target->queue_depth = std::max(report.queue_depth, 0);
  target->load = std::clamp(report.load, 0, 1000);
  target->device_latency_us = std::max(report.device_latency_us, 0);
  target->paths = report.paths;
  target->data_path = report.data_path;
  target->traits = report.__isset.traits ? std::optional(report.traits) : std::nullopt;
  bool reserved = std::exchange(target->reserved, report.reserved) != report.reserved;
  if (target->id == 0) return false;
  return reserved || std::abs(target->load - target->told_load) >= kLoadStep || now_ms - told_at_ms_ >= kReportsTellMs;
}

Result<idl::TargetOrders> Targets::Heartbeat(const std::string& uuid, const idl::TargetReport& report, int64_t instance,
                                             int64_t now_ms) {
  Result<const TargetState*> checked = Check(uuid, instance);
  if (!checked.ok()) return checked.status();
  TargetState& target = targets_.at((*checked)->record.uuid);
  target.heartbeat_at_ms = now_ms;
  if (target.told && !target.joined) {
    target.joined = true;
    changes_[target.id];
  }
  if (Report(&target, report, now_ms)) {
    told_at_ms_ = now_ms;
    for (const auto& [id, member] : members_) Mutable(id)->told_load = Mutable(id)->load;
    ++version_;
  }
  SetUp(&target, true);
  return OrdersFor(&target);
}

// ---- members ------------------------------------------------------------------------------------

void Targets::Join(const Uuid& uuid, uint32_t id, bool awaited) {
  TargetState& target = targets_.at(uuid);
  target.id = id;
  target.told = false;
  target.awaited = awaited;
  members_[id] = uuid;
  tables_->tx().Put(key::Target(id), target.record.Encode());
  changes_[id];
  TouchJobs(id);  // it is to ask for its orders
  ++version_;
}

void Targets::SetDraining(uint32_t id, bool draining) {
  TargetState* target = Mutable(id);
  if (target->record.draining == draining) return;
  target->record.draining = draining;
  tables_->tx().Put(key::Target(id), target->record.Encode());
  changes_[id];
}

void Targets::SetDataPath(uint32_t id, DataPath path) {
  TargetState* target = Mutable(id);
  if (target->record.nvme->data_path == path) return;
  target->record.nvme->data_path = path;
  tables_->tx().Put(key::Target(id), target->record.Encode());
  ++version_;
}

void Targets::Remove(uint32_t id, bool lost) {
  Uuid uuid = members_.at(id);
  if (lost) tables_->tx().Put(key::Removed(ToBytes(uuid)), "");
  tables_->tx().Delete(key::Target(id));
  members_.erase(id);
  targets_.erase(uuid);
  changes_[id].stopped = true;
  ++jobs_changes_;  // who waits for its jobs learns that it is unknown
  ++version_;
}

void Targets::TouchJobs(uint32_t id) {
  TargetState* target = Mutable(id);
  if (target == nullptr) return;
  ++target->jobs_version;
  ++jobs_changes_;
}

void Targets::TouchAllJobs() {
  for (const auto& [id, uuid] : members_) TouchJobs(id);
}

void Targets::Tick(int64_t now_ms) {
  now_ms_ = now_ms;
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
