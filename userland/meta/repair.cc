// SPDX-License-Identifier: MIT
#include "userland/meta/repair.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/base/log.h"
#include "userland/rpc/limits.h"

namespace weft {
namespace {

static_assert(kBlocksPerItem <= kContainerItemsMax);

constexpr int64_t kRetryMs = 10'000;       // after an error
constexpr int64_t kUnreadableMs = 30'000;  // no other copy could be read either; it may have been written anew since

}  // namespace

void Repair::OnReport(uint32_t target, const std::vector<idl::Damage>& damages) {
  std::map<uint64_t, const idl::Damage*> unknown;  // one of each place
  for (const idl::Damage& damage : damages) unknown[static_cast<uint64_t>(damage.offset)] = &damage;
  std::map<uint64_t, uint64_t> chunk_at;
  for (uint64_t index : chunks_->on(target)) {
    uint64_t offset = chunks_->Find(index)->On(target)->offset;
    if (unknown.erase(offset) > 0) chunk_at[offset] = index;
  }
  for (const idl::Damage& damage : damages) {
    if (auto chunk = chunk_at.find(static_cast<uint64_t>(damage.offset)); chunk != chunk_at.end())
      Report(chunk->second, target, damage.blocks);
  }
  for (const auto& [offset, damage] : unknown) {
    LogWarning("target '{}' reports damage at {}, where no copy is", targets_->FindId(target)->record.name,
               damage->offset);
  }
}

void Repair::Report(uint64_t index, uint32_t target, const std::vector<int64_t>& blocks) {
  const std::string& name = targets_->FindId(target)->record.name;
  // What is out of date is written anew as a whole.
  if (chunks_->Find(index)->On(target)->state == CopyState::kStale) return;
  size_t before = chunks_->DamageOf(index, target).size();
  if (chunks_->AddDamage(index, target, blocks) != 0) {
    LogError("target '{}' reports damage outside chunk {}", name, index);
    return;
  }
  // Known ones are read by the repair of another copy, too: that is no reason to try theirs again.
  if (chunks_->DamageOf(index, target).size() == before) return;
  LogError("chunk {}: {} blocks on target '{}' failed their checksum", index, blocks.size(), name);
  failures_.erase({index, target});
  changed_ = true;
}

void Repair::OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  Place place{static_cast<uint64_t>(result.chunk), target};
  auto job = jobs_.find(place);
  // The chunk may have changed in this very batch: jobs follow at its end.
  const Chunk* chunk = chunks_->Find(place.first);
  if (job == jobs_.end() || job->second.version != static_cast<uint32_t>(result.version) ||
      job->second.attempt != result.attempt || chunk == nullptr || chunk->version != job->second.version)
    return;
  const Order order = std::move(job->second);
  jobs_.erase(job);
  targets_->TouchJobs(target);
  changed_ = true;
  const std::string& name = targets_->FindId(target)->record.name;
  if (result.error != 0) {
    LogWarning("chunk {}: repair on target '{}' failed, next try in {} ms: {} ({})", place.first, name, kRetryMs,
               result.message.substr(0, 200), strerror(result.error));
    failures_[place] = {order.version, now_ms + kRetryMs};
    return;
  }
  size_t before = chunks_->DamageOf(place.first, target).size();
  if (chunks_->RepairDamage(place.first, target, order.blocks) != 0) return;
  if (!result.bad_blocks.empty()) {
    if (unreadable_.insert(place).second) {
      LogError("chunk {}: {} blocks on target '{}' cannot be repaired: no other copy has them", place.first,
               result.bad_blocks.size(), name);
    }
    if (chunks_->AddDamage(place.first, target, result.bad_blocks) != 0)
      LogError("target '{}' reports blocks outside chunk {}", name, place.first);
  }
  const std::set<uint32_t>& left = chunks_->DamageOf(place.first, target);
  // The next ones at once; when all have been tried, those that could not be read later.
  if (left.upper_bound(order.blocks.back()) != left.end()) {
    after_[place] = order.blocks.back();
  } else {
    after_.erase(place);
    if (!left.empty() && unreadable_.contains(place)) failures_[place] = {order.version, now_ms + kUnreadableMs};
  }
  if (left.empty()) unreadable_.erase(place);
  if (left.size() >= before) return;
  LogInfo("chunk {}: {} blocks on target '{}' were repaired", place.first, before - left.size(), name);
  // Now there is a good copy for the others.
  std::erase_if(failures_, [&](const auto& entry) { return entry.first.first == place.first && entry.first != place; });
  meter_.Add((before - left.size()) * kBlockBytes, now_ms);
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
  std::map<Place, Order> jobs;
  std::map<uint32_t, size_t> count;
  std::set<uint32_t> touched;
  for (const auto& [place, blocks] : chunks_->damage()) {
    const Chunk* chunk = chunks_->Find(place.first);
    const Copy* copy = chunk == nullptr ? nullptr : chunk->On(place.second);
    auto member = members.find(place.second);
    if (copy == nullptr || copy->state != CopyState::kInSync || member == members.end() || !member->second.up ||
        failures_.contains(place) || SourcesFor(*chunk, place.second, members).empty() ||
        count[place.second] >= kRepairJobsPerTarget)
      continue;
    ++count[place.second];
    // What is under way ends first: blocks that became bad meanwhile are the next job's.
    auto now = jobs_.find(place);
    if (now != jobs_.end() && now->second.version == chunk->version) {
      jobs.insert(jobs_.extract(now));
    } else {
      jobs[place] = OrderFor(place, chunk->version, blocks);
      touched.insert(place.second);
    }
  }
  for (const auto& [place, order] : jobs_) touched.insert(place.second);  // called off
  jobs_ = std::move(jobs);
  std::erase_if(after_, [this](const auto& entry) { return !chunks_->damage().contains(entry.first); });
  for (uint32_t target : touched) targets_->TouchJobs(target);
}

// As many blocks as one job takes, from where the last one ended.
Repair::Order Repair::OrderFor(const Place& place, uint32_t version, const std::set<uint32_t>& bad) {
  auto after = after_.find(place);
  auto from = after == after_.end() ? bad.begin() : bad.upper_bound(after->second);
  if (from == bad.end()) from = bad.begin();
  Order order{version, attempts_->Next(), {}};
  for (; from != bad.end() && order.blocks.size() < kBlocksPerItem; ++from) order.blocks.push_back(*from);
  return order;
}

void Repair::AppendJobs(uint32_t target, const Members& members, std::vector<idl::Job>* jobs) const {
  for (const auto& [place, order] : jobs_) {
    const Chunk* chunk = chunks_->Find(place.first);
    if (place.second != target || chunk == nullptr || chunk->On(target) == nullptr) continue;
    idl::Job& out = jobs->emplace_back();
    out.kind = idl::JobKind::REPAIR;
    out.chunk = static_cast<int64_t>(place.first);
    out.version = static_cast<int32_t>(order.version);
    out.attempt = order.attempt;
    out.offset = static_cast<int64_t>(chunk->On(target)->offset);
    out.bytes = static_cast<int64_t>(chunks_->pool().chunk_bytes());
    for (uint32_t id : SourcesFor(*chunk, target, members)) out.peers.push_back(targets_->PeerAt(*chunk->On(id)));
    out.blocks.assign(order.blocks.begin(), order.blocks.end());
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
