// SPDX-License-Identifier: MIT
//
// StateMachine: forming the pool, and showing it.
#include <algorithm>
#include <bit>
#include <cerrno>

#include "userland/base/config.h"
#include "userland/base/log.h"
#include "userland/meta/state_machine.h"

namespace weft {
namespace {

constexpr uint64_t kChunkBytesDefault = 64 << 20;
constexpr uint64_t kChunkBytesMax = 4ULL << 30;
constexpr uint64_t kScrubBytesPerSecond = 64 << 20;
constexpr uint32_t kScrubIntervalSeconds = 7 * 24 * 3600;

}  // namespace

Result<std::vector<Uuid>> StateMachine::ChooseTargets(const idl::CreatePoolArgs& args) const {
  std::vector<Uuid> chosen;
  if (args.targets.empty()) {
    std::vector<const TargetState*> all;
    for (const auto& [uuid, target] : targets_.all()) {
      if (target.up || target.record.nvme) all.push_back(&target);
    }
    std::ranges::sort(all, {}, [](const TargetState* target) { return target->record.name; });
    for (const TargetState* target : all) chosen.push_back(target->record.uuid);
    if (chosen.empty()) {
      return Error(ENOENT,
                   "no target has registered with cluster '{}'; start weft-target, or `weftctl target add` an NVMe-oF "
                   "one, first",
                   options_.cluster);
    }
    return chosen;
  }
  for (const std::string& name : args.targets) {
    const TargetState* target = targets_.FindName(name);
    if (target == nullptr || (!target->up && !target->record.nvme)) {
      return Error(ENOENT, "target '{}' {}", name.substr(0, kTargetNameBytesMax),
                   target == nullptr ? "has not registered; start it first" : "sends no heartbeats; restart it");
    }
    if (std::ranges::find(chosen, target->record.uuid) != chosen.end()) {
      return Error(EINVAL, "target '{}' is named twice", name);
    }
    chosen.push_back(target->record.uuid);
  }
  return chosen;
}

Result<idl::PoolStatus> StateMachine::CreatePool(const idl::CreatePoolArgs& args) {
  if (chunks_.formed()) {
    return Error(EEXIST, "cluster '{}' has a pool already; `weftctl pool status` shows it", options_.cluster);
  }
  Result<std::vector<Uuid>> chosen = ChooseTargets(args);
  if (!chosen.ok()) return chosen.status();
  int64_t chunk_bytes = args.chunk_bytes == 0 ? kChunkBytesDefault : args.chunk_bytes;
  if (chunk_bytes < static_cast<int64_t>(kChunkBytesMin) || chunk_bytes > static_cast<int64_t>(kChunkBytesMax) ||
      !std::has_single_bit(static_cast<uint64_t>(chunk_bytes))) {
    return Error(EINVAL, "chunk size {} is not a power of two from {} to {}", chunk_bytes, FormatBytes(kChunkBytesMin),
                 FormatBytes(kChunkBytesMax));
  }
  int copies = args.copies == 0 ? (chosen->size() >= 2 ? 2 : 1) : args.copies;
  if (copies < 1 || copies > static_cast<int>(kCopiesMax))
    return Error(EINVAL, "{} copies: it takes 1 to {}", copies, kCopiesMax);
  if (static_cast<size_t>(copies) > chosen->size()) {
    return Error(EINVAL, "{} copies need as many targets; there are {}", copies, chosen->size());
  }
  std::vector<PlacementTarget> view;
  for (const Uuid& uuid : *chosen) {
    PlacementTarget target;
    target.slots = targets_.all().at(uuid).record.capacity_bytes / static_cast<uint64_t>(chunk_bytes);
    view.push_back(target);
  }
  uint64_t chunks = PlacementCapacity(view, static_cast<uint32_t>(copies));
  if (chunks == 0) {
    return Error(EINVAL, "the targets are too small for one chunk of {} in {} copies; choose a smaller chunk size",
                 FormatBytes(chunk_bytes), copies);
  }
  for (const Uuid& uuid : *chosen) targets_.Join(uuid, counters_.next_target++, false);
  uint64_t chunk_blocks = static_cast<uint64_t>(chunk_bytes) / kBlockBytes;
  PoolRecord pool;
  pool.copies = static_cast<uint32_t>(copies);
  pool.chunk_blocks = chunk_blocks;
  pool.scrub_bytes_per_s = kScrubBytesPerSecond;
  pool.scrub_interval_s = kScrubIntervalSeconds;
  chunks_.Format(pool);
  targets_.SetChunkBytes(pool.chunk_bytes());
  names_.Format(now_.wall_ns, pool.copies);
  upkeep_.OnFormed(now_.wall_ns / 1'000'000'000);
  LogInfo("pool formed: {} targets, {} copies, {} chunks of {}", chosen->size(), copies, chunks,
          FormatBytes(chunk_bytes));
  return PoolStatus();
}

void StateMachine::DescribeTargets(std::vector<idl::TargetInfo>* out) const {
  uint64_t chunk_bytes = chunks_.pool().chunk_bytes();
  for (const auto& [uuid, target] : targets_.all()) {
    idl::TargetInfo& info = out->emplace_back();
    info.id = static_cast<int32_t>(target.id);
    info.uuid = ToBytes(uuid);
    info.name = target.record.name;
    info.host = target.record.host;
    info.port = static_cast<int32_t>(target.record.port);
    info.capacity_bytes = static_cast<int64_t>(target.record.capacity_bytes);
    info.used_bytes = static_cast<int64_t>(target.id == 0 ? 0 : chunks_.used_places(target.id) * chunk_bytes);
    info.stale_bytes = static_cast<int64_t>(target.id == 0 ? 0 : chunks_.unsynced(target.id) * chunk_bytes);
    info.weight = static_cast<int32_t>(target.record.weight);
    info.zone = target.record.zone;
    info.up = target.up;
    info.heartbeat_age_ms = target.heartbeat_at_ms < 0 ? -1 : now_.mono_ms - target.heartbeat_at_ms;
    info.queue_depth = target.queue_depth;
    info.load = target.load;
    info.device_latency_us = target.device_latency_us;
    info.joined = target.id != 0 && target.joined;
    if (target.record.nvme) info.__set_nvme(ToIdl(*target.record.nvme));
    info.fence = FenceOf(target);
    if (target.up) {
      info.paths = target.paths;
      info.data_path = target.data_path;
      if (target.traits) info.__set_traits(*target.traits);
    }
    if (target.id != 0) info.state = target.record.draining ? idl::TargetState::DRAINING : idl::TargetState::ACTIVE;
  }
  std::ranges::sort(*out, {}, &idl::TargetInfo::name);
}

void StateMachine::DescribeSessions(std::vector<idl::SessionInfo>* out) const {
  for (const auto& [id, session] : sessions_.all()) {
    idl::SessionInfo& info = out->emplace_back();
    info.id = static_cast<int64_t>(id);
    info.host = session.record.host;
    info.age_ms = (now_.wall_ns - session.record.opened_ns) / 1'000'000;
    info.renewed_ms = now_.mono_ms - session.renewed_ms;
    info.granted_blocks = static_cast<int64_t>(space_.granted_blocks(id));
    info.open_chunks = static_cast<int64_t>(open_chunks_.of(id).size());
    info.ended = session.record.ended;
    if (info.ended) info.gone_in_ms = std::max<int64_t>(session.gone_at_ms - now_.mono_ms, 0);
    info.fence_error = session.fence_error;
  }
}

idl::PoolStatus StateMachine::PoolStatus() const {
  idl::PoolStatus out;
  out.formed = chunks_.formed();
  out.cluster = options_.cluster;
  out.cluster_uuid = ToBytes(superblock_.uuid);
  uint64_t chunk_bytes = chunks_.pool().chunk_bytes();
  out.copies = static_cast<int32_t>(chunks_.pool().copies);
  out.chunk_bytes = static_cast<int64_t>(chunk_bytes);
  if (chunks_.formed()) {
    uint64_t free = space_.free_blocks(chunks_.pool().copies);
    out.pool_blocks = static_cast<int64_t>(space_.used_blocks() + space_.granted_blocks() + free);
    out.free_blocks = static_cast<int64_t>(free);
  }
  out.granted_blocks = static_cast<int64_t>(space_.granted_blocks());
  out.chunks = static_cast<int64_t>(chunks_.all().size());
  out.chunks_degraded = static_cast<int64_t>(chunks_.degraded());
  out.chunks_lost = static_cast<int64_t>(chunks_.lost().size());
  out.bad_blocks = static_cast<int64_t>(chunks_.bad_blocks());
  out.files = static_cast<int64_t>(counters_.inodes);
  DescribeTargets(&out.targets);
  DescribeSessions(&out.sessions);
  out.tasks = upkeep_.Tasks(now_.mono_ms);
  out.settings.__set_copies(out.copies);
  out.settings.__set_resync_bytes_per_s(static_cast<int64_t>(chunks_.pool().resync_bytes_per_s));
  out.settings.__set_scrub_bytes_per_s(static_cast<int64_t>(chunks_.pool().scrub_bytes_per_s));
  out.settings.__set_scrub_interval_s(static_cast<int32_t>(chunks_.pool().scrub_interval_s));
  out.scrubbed_s = upkeep_.scrubbed_s();
  return out;
}

}  // namespace weft
