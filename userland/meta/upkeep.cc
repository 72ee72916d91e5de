// SPDX-License-Identifier: MIT
#include "userland/meta/upkeep.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr size_t kChangesPerRead = 256;
constexpr int64_t kReleaseRetryMs = 10'000;
constexpr int kRoundsMax = 4;  // what a round changes is looked at by the next one; the rest waits for the next batch

}  // namespace

void Upkeep::Load(int64_t now_ms, uint64_t starts) {
  attempts_.Load(starts);
  if (!chunks_->formed()) return;
  resync_.SetNow(now_ms + 1);  // all targets count as heard of now: that is no sign of life
  resync_.Load();
  scrub_.Load();
  seen_version_ = chunks_->map_version();
}

bool Upkeep::TakeTargetChanges(int64_t now_ms) {
  std::map<uint32_t, TargetChange> changes = targets_->TakeChanges();
  for (const auto& [id, change] : changes) {
    resync_.OnTarget(id, change);
    scrub_.OnTarget(id, resync_.members(), now_ms);
    repair_.OnChange();
  }
  return !changes.empty();
}

bool Upkeep::TakeChunkChanges() {
  bool any = false;
  auto changed = [&](uint64_t index) {
    any = true;
    resync_.OnChunk(index);
    scrub_.OnChunk(index, resync_.members());
    repair_.OnChange();
  };
  for (uint64_t index : chunks_->TakeGone()) changed(index);
  for (;;) {
    auto changes = chunks_->Changed(seen_version_, kChangesPerRead);
    if (changes.empty()) break;
    seen_version_ = changes.back().second->version;
    for (const auto& [index, chunk] : changes) changed(index);
  }
  seen_version_ = chunks_->map_version();
  for (uint32_t target : chunks_->TakeReleaseChanges()) targets_->TouchJobs(target);
  return any;
}

void Upkeep::Run(int64_t now_ms, int64_t now_s) {
  if (!chunks_->formed()) return;
  begin_operation_();
  resync_.SetNow(now_ms);
  RetryReleases(now_ms);
  bool more = false;
  for (int round = 0; round < kRoundsMax; ++round) {
    bool happened = TakeTargetChanges(now_ms);
    happened = TakeChunkChanges() || happened;
    if (round > 0 && !happened) break;
    more = resync_.Plan();
    scrub_.Plan(resync_.members(), now_ms, now_s);
    repair_.Plan(resync_.members(), now_ms);
  }
  more = more || seen_version_ != chunks_->map_version();
  deadline_ms_ = more ? now_ms
                      : std::min({resync_.deadline_ms(), repair_.deadline_ms(), scrub_.deadline_ms(now_ms, now_s),
                                  release_deadline_ms()});
}

void Upkeep::OnProgress(uint32_t target, const std::vector<idl::JobProgress>& jobs, int64_t now_ms) {
  resync_.SetNow(now_ms);
  for (const idl::JobProgress& job : jobs) resync_.OnProgress(target, job);
}

void Upkeep::OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  switch (result.kind) {
    case idl::JobKind::COPY:
      resync_.SetNow(now_ms);
      return resync_.OnFinished(target, result);
    case idl::JobKind::REPAIR:
      return repair_.OnFinished(target, result, now_ms);
    case idl::JobKind::SCRUB:
      return scrub_.OnFinished(target, result, now_ms);
    case idl::JobKind::RELEASE:
      return OnReleased(target, result, now_ms);
  }
}

void Upkeep::OnReleased(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  auto offset = static_cast<uint64_t>(result.offset);
  auto release = chunks_->releases().find({target, offset});
  if (release == chunks_->releases().end() || release->second.version != static_cast<uint32_t>(result.version)) return;
  auto retry = release_retry_.find({target, offset});
  if (result.attempt != (retry == release_retry_.end() ? attempts_.first() : retry->second.attempt)) return;
  if (result.error == 0) {
    if (chunks_->ReleaseDone(target, offset) == 0) resync_.OnRoom();
    release_retry_.erase({target, offset});
    return;
  }
  LogWarning("target '{}' could not let go of its place at {}, next try in {} ms: {} ({})",
             targets_->FindId(target)->record.name, offset, kReleaseRetryMs, result.message.substr(0, 200),
             strerror(result.error));
  if (result.error == ESTALE) chunks_->RenewRelease(target, offset);
  release_retry_[{target, offset}] = {attempts_.Next(), now_ms + kReleaseRetryMs};
  targets_->TouchJobs(target);
}

void Upkeep::RetryReleases(int64_t now_ms) {
  std::erase_if(release_retry_, [this](const auto& entry) { return !chunks_->releases().contains(entry.first); });
  for (auto& [place, retry] : release_retry_) {
    if (retry.at_ms > now_ms) continue;
    retry.at_ms = INT64_MAX;
    targets_->TouchJobs(place.first);
  }
}

int64_t Upkeep::release_deadline_ms() const {
  int64_t deadline = INT64_MAX;
  for (const auto& [place, retry] : release_retry_) deadline = std::min(deadline, retry.at_ms);
  return deadline;
}

void Upkeep::AppendReleases(uint32_t target, std::vector<idl::Job>* jobs) const {
  size_t n = 0;
  for (auto it = chunks_->releases().lower_bound({target, 0});
       n < kReleaseJobsPerTarget && it != chunks_->releases().end() && it->first.first == target; ++it) {
    auto retry = release_retry_.find(it->first);
    if (retry != release_retry_.end() && retry->second.at_ms != INT64_MAX) continue;  // those behind it have a turn
    ++n;
    idl::Job& out = jobs->emplace_back();
    out.kind = idl::JobKind::RELEASE;
    out.chunk = static_cast<int64_t>(it->second.chunk);
    out.version = static_cast<int32_t>(it->second.version);
    out.offset = static_cast<int64_t>(it->first.second);
    out.bytes = static_cast<int64_t>(chunks_->pool().chunk_bytes());
    out.attempt = retry == release_retry_.end() ? attempts_.first() : retry->second.attempt;
  }
}

std::vector<idl::Job> Upkeep::JobsOf(uint32_t target) const {
  std::vector<idl::Job> jobs;
  AppendReleases(target, &jobs);
  resync_.AppendJobs(target, &jobs);
  HoldUnsettled(target, &jobs);
  repair_.AppendJobs(target, resync_.members(), &jobs);
  scrub_.AppendJobs(target, resync_.members(), &jobs);
  return jobs;
}

bool Upkeep::IsNvme(uint32_t target) const {
  const TargetState* state = targets_->FindId(target);
  return state != nullptr && state->record.nvme.has_value();
}

// COPY reads its source, and RELEASE gives a place away, as if all writes from now on knew of it.
// A weft-target's own floors see to it for its places.
void Upkeep::HoldUnsettled(uint32_t target, std::vector<idl::Job>* jobs) const {
  uint32_t settled = settled_();
  auto unsettled = [&](const idl::Job& job) {
    if (static_cast<uint32_t>(job.version) <= settled) return false;
    if (job.kind == idl::JobKind::RELEASE) return IsNvme(target);
    const Chunk* chunk = chunks_->Find(static_cast<uint64_t>(job.chunk));
    return chunk != nullptr &&
           std::ranges::any_of(chunk->copies, [this](const Copy& copy) { return IsNvme(copy.target); });
  };
  held_ = std::erase_if(*jobs, unsettled) > 0 || held_;
}

void Upkeep::OnSettled() {
  if (std::exchange(held_, false)) targets_->TouchAllJobs();
}

std::vector<idl::TaskInfo> Upkeep::Tasks(int64_t now_ms) const {
  std::vector<idl::TaskInfo> tasks;
  if (!chunks_->formed()) return tasks;
  resync_.AppendTasks(now_ms, &tasks);
  repair_.AppendTasks(now_ms, &tasks);
  scrub_.AppendTasks(now_ms, &tasks);
  return tasks;
}

}  // namespace weft
