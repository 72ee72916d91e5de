// SPDX-License-Identifier: MIT
//
// StateMachine: what targets report, and what they are to do.
#include "userland/meta/state_machine.h"

namespace weft {

Result<idl::TargetOrders> StateMachine::RegisterTarget(const idl::RegisterTargetArgs& args) {
  return targets_.Register(args, now_.mono_ms);
}

Result<idl::TargetOrders> StateMachine::Heartbeat(const std::string& uuid, const idl::TargetReport& report,
                                                  int64_t instance) {
  Result<idl::TargetOrders> orders = targets_.Heartbeat(uuid, report, instance, now_.mono_ms);
  if (orders.ok() && orders->id != 0) upkeep_.OnProgress(static_cast<uint32_t>(orders->id), report.jobs, now_.mono_ms);
  return orders;
}

Result<idl::Jobs> StateMachine::NextJobs(const std::string& uuid, int64_t instance, int64_t known) {
  Result<const TargetState*> target = targets_.Check(uuid, instance);
  if (!target.ok()) return target.status();
  idl::Jobs jobs;
  jobs.version = (*target)->jobs_version;
  if (jobs.version <= known) return jobs;
  jobs.resync_bytes_per_s = static_cast<int64_t>(chunks_.pool().resync_bytes_per_s);
  jobs.scrub_bytes_per_s = static_cast<int64_t>(chunks_.pool().scrub_bytes_per_s);
  if ((*target)->id != 0) jobs.jobs = upkeep_.JobsOf((*target)->id);
  return jobs;
}

Status StateMachine::FinishJobs(const std::string& uuid, int64_t instance, const std::vector<idl::JobResult>& results) {
  Result<const TargetState*> target = targets_.Check(uuid, instance);
  if (!target.ok()) return target.status();
  if ((*target)->id == 0) return {};  // it was removed meanwhile, and what it did with it
  BeginOperation();
  for (const idl::JobResult& result : results) upkeep_.OnFinished((*target)->id, result, now_.mono_ms);
  return {};
}

Status StateMachine::ReportDamage(const std::string& uuid, int64_t instance, const std::vector<idl::Damage>& damages) {
  Result<const TargetState*> target = targets_.Check(uuid, instance);
  if (!target.ok()) return target.status();
  if ((*target)->id == 0) return {};
  BeginOperation();
  upkeep_.OnDamage((*target)->id, damages);
  return {};
}

}  // namespace weft
