// SPDX-License-Identifier: MIT
//
// StateMachine: targets that come and go, settings, and what operators start in the background.
#include <algorithm>
#include <cerrno>

#include "userland/base/config.h"
#include "userland/base/log.h"
#include "userland/meta/state_machine.h"

namespace weft {

Result<const TargetState*> StateMachine::FindTarget(const std::string& name) const {
  if (!chunks_.formed()) {
    return Error(ENODEV, "cluster '{}' has no pool yet; form one with `weftctl pool create`", options_.cluster);
  }
  const TargetState* target = targets_.FindName(name);
  if (target == nullptr) {
    return Error(ENOENT, "there is no target '{}'; `weftctl target list` shows them",
                 name.substr(0, kTargetNameBytesMax));
  }
  return target;
}

Result<const TargetState*> StateMachine::FindMember(const std::string& name) const {
  Result<const TargetState*> target = FindTarget(name);
  if (target.ok() && (*target)->id == 0) return Error(ENOENT, "target '{}' is not part of the pool", name);
  return target;
}

Status StateMachine::CheckHoldsChunk(const std::string& name, uint64_t capacity_bytes) const {
  if (capacity_bytes >= chunks_.pool().chunk_bytes()) return {};
  return Error(EINVAL, "target '{}' holds {}; a chunk of this pool takes {}", name, FormatBytes(capacity_bytes),
               FormatBytes(chunks_.pool().chunk_bytes()));
}

Result<idl::PoolStatus> StateMachine::AddTarget(const std::string& name) {
  Result<const TargetState*> found = FindTarget(name);
  if (!found.ok()) return found.status();
  const TargetState* target = *found;
  if (target->id != 0) return Error(EEXIST, "target '{}' is part of the pool already", name);
  if (!target->up && !target->record.nvme) return Error(ENOENT, "target '{}' sends no heartbeats; restart it", name);
  if (Status s = CheckHoldsChunk(name, target->record.capacity_bytes); !s.ok()) return s;
  uint32_t id = counters_.next_target++;
  LogInfo("target '{}' joins the pool as {}", name, id);
  targets_.Join(Uuid(target->record.uuid), id, true);
  return PoolStatus();
}

Result<idl::PoolStatus> StateMachine::AddNvmeTarget(const idl::RegisterTargetArgs& args, bool only_check) {
  if (!args.__isset.nvme || !args.host.empty())
    return Error(EINVAL, "target '{}' is described by its namespace and has no host of its own", args.name);
  BeginOperation();
  if (Status s = targets_.Check(args); !s.ok()) return s;
  auto known = targets_.all().find(*UuidFromBytes(args.uuid));
  bool joins = chunks_.formed() && (known == targets_.all().end() || known->second.id == 0);
  if (joins) {
    if (Status s = CheckHoldsChunk(args.name, static_cast<uint64_t>(args.capacity_bytes)); !s.ok()) return s;
  }
  if (only_check) return PoolStatus();
  if (Result<idl::TargetOrders> orders = targets_.Register(args, now_.mono_ms); !orders.ok()) return orders.status();
  return joins ? AddTarget(args.name) : PoolStatus();
}

Result<idl::PoolStatus> StateMachine::SetDataPath(const std::string& name, idl::DataPath::type path) {
  Result<const TargetState*> found = FindMember(name);
  if (!found.ok()) return found.status();
  if (!(*found)->record.nvme)
    return Error(EINVAL, "target '{}' is a weft-target: only NVMe-oF targets have another data path", name);
  if (path < idl::DataPath::AUTO || path > idl::DataPath::DIRECT)
    return Error(EINVAL, "target '{}': data path {} is none", name, static_cast<int>(path));
  BeginOperation();
  targets_.SetDataPath((*found)->id, static_cast<DataPath>(path));
  LogInfo("target '{}': data path {}", name, static_cast<int>(path));
  return PoolStatus();
}

// Of each copy there, another target must be able to take it: one that has none of the chunk, and room.
Status StateMachine::CheckDrain(const TargetState& target) const {
  Members members = upkeep_.CurrentMembers();
  const std::set<uint64_t>& leaving = chunks_.on(target.id);
  std::map<uint32_t, uint64_t> holds;  // of the chunks
  for (uint64_t index : leaving) {
    for (const Copy& copy : chunks_.Find(index)->copies) ++holds[copy.target];
  }
  uint64_t places = 0;
  size_t active = 0;
  for (const auto& [id, member] : members) {
    if (id == target.id || member.draining) continue;
    ++active;
    uint64_t takes = leaving.size() - holds[id];
    places += std::min(takes, member.places > member.used ? member.places - member.used : 0);
  }
  for (uint64_t index : leaving) {
    uint32_t wanted = chunks_.Find(index)->copies_wanted;
    if (wanted <= active) continue;
    return Error(ENOSPC, "target '{}' cannot be drained: there are chunks of {} copies and {} other targets; add one",
                 target.record.name, wanted, active);
  }
  if (places >= leaving.size()) return {};
  return Error(ENOSPC,
               "target '{}' cannot be drained: it holds {} chunks, the other targets can take {}; add a target or "
               "remove files",
               target.record.name, leaving.size(), places);
}

Result<idl::PoolStatus> StateMachine::DrainTarget(const std::string& name, bool cancel) {
  Result<const TargetState*> found = FindMember(name);
  if (!found.ok()) return found.status();
  const TargetState* target = *found;
  if (target->record.draining == !cancel) return PoolStatus();
  if (!cancel) {
    BeginOperation();
    // What nothing is stored in has not to go anywhere.
    for (uint64_t index : std::set(chunks_.on(target->id))) space_.Delete(index);
    if (Status status = CheckDrain(*target); !status.ok()) return status;
  }
  LogInfo("target '{}': draining {}", name, cancel ? "was cancelled" : "begins");
  targets_.SetDraining(target->id, !cancel);
  return PoolStatus();
}

Result<idl::PoolStatus> StateMachine::RemoveTarget(const std::string& name, bool lost) {
  Result<const TargetState*> found = FindMember(name);
  if (!found.ok()) return found.status();
  const TargetState* target = *found;
  uint32_t id = target->id;
  if (lost && target->up) {
    return Error(EBUSY, "target '{}' is up: it is not lost; drain it, or stop it first", name);
  }
  BeginOperation();
  if (!lost) {
    for (uint64_t index : std::set(chunks_.on(id))) space_.Delete(index);
    if (size_t holds = chunks_.on(id).size(); holds > 0) {
      return Error(EBUSY,
                   "target '{}' holds {} chunks: drain it first (`weftctl target drain {}`), or if it will never come "
                   "back: `weftctl target remove --lost {}`",
                   name, holds, name, name);
    }
  }
  size_t lost_before = chunks_.lost().size();
  size_t held = chunks_.on(id).size();
  for (uint64_t index : std::set(chunks_.on(id))) {
    if (int error = chunks_.DropCopy(index, id, false); error != 0)
      LogError("chunk {}: its copy on target '{}' could not be dropped: {}", index, name, strerror(error));
  }
  chunks_.ForgetReleases(id);
  targets_.Remove(id, lost);
  LogInfo("target '{}' was removed from the pool{}; it held {} chunks", name, lost ? " as lost" : "", held);
  if (size_t without = chunks_.lost().size() - lost_before; without > 0) {
    LogError(
        "{} chunks have no copy in sync any more; where a copy is left that has all that was acknowledged, it is "
        "taken; `weftctl fsck` names the files of the others",
        without);
  }
  return PoolStatus();
}

Result<idl::PoolStatus> StateMachine::Rebalance(bool stop) {
  if (!chunks_.formed()) {
    return Error(ENODEV, "cluster '{}' has no pool yet; form one with `weftctl pool create`", options_.cluster);
  }
  BeginOperation();
  upkeep_.SetRebalancing(!stop);
  return PoolStatus();
}

Result<idl::PoolStatus> StateMachine::Scrub(bool stop) {
  if (!chunks_.formed()) {
    return Error(ENODEV, "cluster '{}' has no pool yet; form one with `weftctl pool create`", options_.cluster);
  }
  BeginOperation();
  if (stop) {
    upkeep_.StopScrub();
  } else {
    upkeep_.StartScrub(now_.wall_ns / 1'000'000'000);
  }
  return PoolStatus();
}

Result<idl::PoolStatus> StateMachine::SetPool(const idl::PoolSettings& settings) {
  if (!chunks_.formed()) {
    return Error(ENODEV, "cluster '{}' has no pool yet; form one with `weftctl pool create`", options_.cluster);
  }
  PoolRecord pool = chunks_.pool();
  if (settings.__isset.copies) {
    if (settings.copies < 1 || settings.copies > static_cast<int>(kCopiesMax))
      return Error(EINVAL, "{} copies: it takes 1 to {}", settings.copies, kCopiesMax);
    pool.copies = static_cast<uint32_t>(settings.copies);
    if (uint32_t members = space_.members_taking(); pool.copies > members)
      return Error(EINVAL, "{} copies need as many targets; there are {}", settings.copies, members);
  }
  if (settings.__isset.resync_bytes_per_s) {
    if (settings.resync_bytes_per_s < 0)
      return Error(EINVAL, "resync rate {} is negative; 0 means no limit", settings.resync_bytes_per_s);
    pool.resync_bytes_per_s = static_cast<uint64_t>(settings.resync_bytes_per_s);
  }
  if (settings.__isset.scrub_bytes_per_s) {
    if (settings.scrub_bytes_per_s < 0)
      return Error(EINVAL, "scrub rate {} is negative; 0 means no limit", settings.scrub_bytes_per_s);
    pool.scrub_bytes_per_s = static_cast<uint64_t>(settings.scrub_bytes_per_s);
  }
  if (settings.__isset.scrub_interval_s) {
    if (settings.scrub_interval_s < 0)
      return Error(EINVAL, "scrub interval {} s is negative; 0 means only when asked for", settings.scrub_interval_s);
    pool.scrub_interval_s = static_cast<uint32_t>(settings.scrub_interval_s);
  }
  BeginOperation();
  names_.SetDefaultCopies(chunks_.pool().copies, pool.copies);
  chunks_.SetPool(pool);
  targets_.TouchAllJobs();  // rates travel with the jobs
  return PoolStatus();
}

}  // namespace weft
