// SPDX-License-Identifier: MIT
#include "userland/meta/repair.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr int64_t kRetryMs = 10'000;       // after an error
constexpr int64_t kUnreadableMs = 30'000;  // no other copy could be read either; it may have been written anew since

}  // namespace

void Repair::OnReport(uint32_t target, const idl::Damage& damage) {
  const TargetState* state = targets_->FindId(target);
  for (uint64_t index : chunks_->on(target)) {
    const Copy* copy = chunks_->Find(index)->On(target);
    if (copy->offset != static_cast<uint64_t>(damage.offset)) continue;
    // What is out of date is written anew as a whole.
    if (copy->state == CopyState::kStale) return;
    size_t before = chunks_->DamageOf(index, target).size();
    if (chunks_->AddDamage(index, target, damage.blocks) != 0) {
      LogError("target '{}' reports damage outside chunk {}", state->record.name, index);
      return;
    }
    // Known ones are read by the repair of another copy, too: that is no reason to try theirs again.
    if (chunks_->DamageOf(index, target).size() == before) return;
    LogError("chunk {}: {} blocks on target '{}' failed their checksum", index, damage.blocks.size(),
             state->record.name);
    failures_.erase({index, target});
    changed_ = true;
    return;
  }
  LogWarning("target '{}' reports damage at {}, where no copy is", state->record.name, damage.offset);
}

void Repair::OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  Place place{static_cast<uint64_t>(result.chunk), target};
  auto job = jobs_.find(place);
  // The chunk may have changed in this very batch: jobs follow at its end.
  const Chunk* chunk = chunks_->Find(place.first);
  if (job == jobs_.end() || job->second != static_cast<uint32_t>(result.version) || chunk == nullptr ||
      chunk->version != job->second)
    return;
  const std::string& name = targets_->FindId(target)->record.name;
  size_t before = chunks_->DamageOf(place.first, target).size();
  changed_ = true;
  if (result.error != 0) {
    LogWarning("chunk {}: repair on target '{}' failed, next try in {} ms: {} ({})", place.first, name, kRetryMs,
               result.message.substr(0, 200), strerror(result.error));
    failures_[place] = {job->second, now_ms + kRetryMs};
    return;
  }
  if (chunks_->RepairDamage(place.first, target) != 0) return;
  if (!result.bad_blocks.empty()) {
    if (unreadable_.insert(place).second) {
      LogError("chunk {}: {} blocks on target '{}' cannot be repaired: no other copy has them", place.first,
               result.bad_blocks.size(), name);
    }
    if (chunks_->AddDamage(place.first, target, result.bad_blocks) != 0)
      LogError("target '{}' reports blocks outside chunk {}", name, place.first);
    failures_[place] = {job->second, now_ms + kUnreadableMs};
  }
  size_t left = chunks_->DamageOf(place.first, target).size();
  if (left >= before) return;
  LogInfo("chunk {}: {} blocks on target '{}' were repaired", place.first, before - left, name);
  if (left == 0) unreadable_.erase(place);
  // Now there is a good copy for the others.
  std::erase_if(failures_, [&](const auto& entry) { return entry.first.first == place.first && entry.first != place; });
  meter_.Add((before - left) * kBlockBytes, now_ms);
}

int64_t Repair::deadline_ms() const {
  int64_t deadline = INT64_MAX;
  for (const auto& [place, failure] : failures_) deadline = std::min(deadline, failure.retry_ms);
  return deadline;
}

void Repair::Plan(const Members& members, int64_t now_ms) {
  size_t failed = failures_.size();
  std::erase_if(failures_, [&](const auto& entry) {
    const Chunk* chunk = chunks_->Find(entry.first.first);
    return now_ms >= entry.second.retry_ms || chunk == nullptr || chunk->version != entry.second.version;
  });
  if (!changed_ && failed == failures_.size()) return;
  changed_ = false;
  std::map<Place, uint32_t> jobs;
  std::map<uint32_t, size_t> count;
  for (const auto& [place, blocks] : chunks_->damage()) {
    const Chunk* chunk = chunks_->Find(place.first);
    const Copy* copy = chunk == nullptr ? nullptr : chunk->On(place.second);
    auto member = members.find(place.second);
    if (copy == nullptr || copy->state != CopyState::kInSync || member == members.end() || !member->second.up ||
        failures_.contains(place) || SourcesFor(*chunk, place.second, members).empty() ||
        count[place.second] >= kRepairJobsPerTarget)
      continue;
    ++count[place.second];
    jobs[place] = chunk->version;
  }
  std::set<uint32_t> touched;
  auto differs = [](const std::map<Place, uint32_t>& in, const auto& job) {
    auto it = in.find(job.first);
    return it == in.end() || it->second != job.second;
  };
  for (const auto& job : jobs) {
    if (differs(jobs_, job)) touched.insert(job.first.second);
  }
  for (const auto& job : jobs_) {
    if (differs(jobs, job)) touched.insert(job.first.second);
  }
  jobs_ = std::move(jobs);
  for (uint32_t target : touched) targets_->TouchJobs(target);
}

void Repair::AppendJobs(uint32_t target, const Members& members, std::vector<idl::Job>* jobs) const {
  for (const auto& [place, version] : jobs_) {
    const Chunk* chunk = chunks_->Find(place.first);
    if (place.second != target || chunk == nullptr || chunk->On(target) == nullptr) continue;
    idl::Job& out = jobs->emplace_back();
    out.kind = idl::JobKind::REPAIR;
    out.chunk = static_cast<int64_t>(place.first);
    out.version = static_cast<int32_t>(version);
    out.offset = static_cast<int64_t>(chunk->On(target)->offset);
    out.bytes = static_cast<int64_t>(chunks_->pool().chunk_bytes());
    for (uint32_t id : SourcesFor(*chunk, target, members)) out.peers.push_back(targets_->PeerAt(*chunk->On(id)));
    for (uint32_t block : chunks_->DamageOf(place.first, target)) out.blocks.push_back(block);
  }
}

void Repair::AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const {
  if (chunks_->bad_blocks() == 0) return;
  idl::TaskInfo& out = tasks->emplace_back();
  out.kind = idl::TaskKind::REPAIR;
  out.done_bytes = static_cast<int64_t>(meter_.done());
  out.total_bytes = out.done_bytes + static_cast<int64_t>(chunks_->bad_blocks() * kBlockBytes);
  out.bytes_per_s = static_cast<int64_t>(meter_.bytes_per_s(now_ms));
  out.eta_s = -1;
  if (jobs_.empty()) out.waits_for = "no good copy of the bad blocks is on a target that is up";
}

}  // namespace weft
