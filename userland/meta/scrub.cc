// SPDX-License-Identifier: MIT
#include "userland/meta/scrub.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr int kTriesMax = 8;          // of a chunk that changes while it is scrubbed
constexpr size_t kRunningMax = 4096;  // chunks
constexpr int kSkippedPerBatch = 256;

bool IsUp(const Members& members, uint32_t id) {
  auto it = members.find(id);
  return it != members.end() && it->second.up;
}

}  // namespace

void Scrub::Load() {
  if (std::optional<ScrubRecord> record = tables_->Get<ScrubRecord>(key::Scrub())) record_ = *record;
  stored_ = record_;
  next_ = record_.next;
  done_ = static_cast<uint64_t>(std::distance(chunks_->all().begin(), chunks_->all().lower_bound(next_)));
}

void Scrub::Save() {
  record_.next = running_.empty() ? next_ : std::min(next_, running_.begin()->first);
  if (record_ == stored_) return;
  stored_ = record_;
  tables_->tx().Put(key::Scrub(), record_.Encode());
}

void Scrub::OnFormed(int64_t now_s) {
  record_.began_s = now_s;
  Save();
}

void Scrub::Start(int64_t now_s) {
  Stop();
  record_.active = true;
  record_.began_s = now_s;
  next_ = 0;
  done_ = skipped_ = 0;
  meter_ = {};
  LogInfo("scrub of {} chunks begins", chunks_->all().size());
  Save();
}

void Scrub::Stop() {
  while (!running_.empty()) Drop(running_.begin());
  record_.active = false;
  Save();
}

void Scrub::Drop(std::map<uint64_t, Running>::iterator running) {
  for (uint32_t target : running->second.pending) {
    --busy_[target];
    targets_->TouchJobs(target);
  }
  running_.erase(running);
}

bool Scrub::HasTurn(const Chunk& chunk, const Members& members) const {
  return std::ranges::none_of(chunk.copies, [&](const Copy& copy) {
    auto busy = busy_.find(copy.target);
    return copy.state == CopyState::kInSync && busy != busy_.end() && busy->second >= kScrubJobsPerTarget;
  });
}

bool Scrub::Begin(uint64_t index, const Chunk& chunk, const Members& members, int tries) {
  Running running;
  running.version = chunk.version;
  running.tries = tries;
  for (const Copy& copy : chunk.copies) {
    if (copy.state != CopyState::kInSync || !IsUp(members, copy.target)) continue;
    if (running.pending.empty()) running.lead = copy.target;
    running.pending.insert(copy.target);
  }
  if (running.pending.empty()) return false;
  for (uint32_t target : running.pending) {
    ++busy_[target];
    targets_->TouchJobs(target);
  }
  running_[index] = std::move(running);
  return true;
}

void Scrub::OnChunk(uint64_t index, const Members& members) {
  auto it = running_.find(index);
  if (it == running_.end()) return;
  const Chunk* chunk = chunks_->Find(index);
  if (chunk != nullptr && chunk->version == it->second.version) return;
  int tries = it->second.tries + 1;
  Drop(it);
  if (chunk == nullptr) return;
  if (tries >= kTriesMax || !Begin(index, *chunk, members, tries)) ++skipped_;
}

void Scrub::OnTarget(uint32_t id, const Members& members) {
  if (IsUp(members, id)) return;
  for (auto it = running_.begin(); it != running_.end();) {
    auto running = it++;
    if (running->second.pending.erase(id) == 0) continue;
    --busy_[id];
    ++skipped_;
    if (running->second.pending.empty()) running_.erase(running);
  }
}

void Scrub::OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  auto index = static_cast<uint64_t>(result.chunk);
  auto it = running_.find(index);
  // The chunk may have changed in this very batch: what runs follows at its end.
  const Chunk* chunk = chunks_->Find(index);
  if (it == running_.end() || it->second.version != static_cast<uint32_t>(result.version) || chunk == nullptr ||
      chunk->version != it->second.version || it->second.pending.erase(target) == 0)
    return;
  --busy_[target];
  targets_->TouchJobs(target);
  bool lead = it->second.lead == target;
  if (it->second.pending.empty()) {
    running_.erase(it);
    ++done_;
    meter_.Add(chunks_->pool().chunk_bytes(), now_ms);
  }
  if (result.error != 0) {
    ++skipped_;
    LogWarning("chunk {}: scrub on target '{}' failed: {} ({})", index, targets_->FindId(target)->record.name,
               result.message.substr(0, 200), strerror(result.error));
    return;
  }
  if (lead && !result.mismatches.empty()) OnMismatches(index, target, result);
}

// Which copy is right? With three or more, what most of them say; of two, the first: nothing tells them apart, for
// each agrees with its own checksums.
void Scrub::OnMismatches(uint64_t index, uint32_t lead, const idl::JobResult& result) {
  const Chunk* chunk = chunks_->Find(index);
  if (chunk == nullptr) return;
  std::set<uint32_t> in_sync;
  for (const Copy& copy : chunk->copies) {
    if (copy.state == CopyState::kInSync) in_sync.insert(copy.target);
  }
  std::set<uint32_t> differ;
  for (const idl::Mismatch& mismatch : result.mismatches) {
    auto peer = static_cast<uint32_t>(mismatch.peer);
    if (peer == lead || !in_sync.contains(peer)) continue;
    differ.insert(peer);
    LogError("chunk {}: {} blocks differ between the copies on targets '{}' and '{}'", index, mismatch.blocks.size(),
             targets_->FindId(lead)->record.name, targets_->FindId(peer)->record.name);
  }
  std::set<uint32_t> wrong = differ;
  if (in_sync.size() >= 3 && differ.size() * 2 > in_sync.size()) wrong = {lead};
  for (uint32_t target : wrong) {
    if (int error = chunks_->SetState(index, target, CopyState::kStale); error != 0)
      LogError("chunk {}: copy on target {} could not be marked stale: {}", index, target, strerror(error));
  }
}

void Scrub::Plan(const Members& members, int64_t now_ms, int64_t now_s) {
  const PoolRecord& pool = chunks_->pool();
  if (!record_.active && pool.scrub_interval_s > 0 && now_s >= record_.began_s + pool.scrub_interval_s) Start(now_s);
  if (record_.active) Advance(members, now_ms, now_s);
  Save();
}

void Scrub::Advance(const Members& members, int64_t now_ms, int64_t now_s) {
  int skipped = 0;
  auto it = chunks_->all().lower_bound(next_);
  while (it != chunks_->all().end() && running_.size() < kRunningMax && HasTurn(it->second, members)) {
    if (!Begin(it->first, it->second, members, 0)) {
      ++skipped_;
      ++done_;
      if (++skipped >= kSkippedPerBatch) {
        next_ = it->first + 1;
        return;
      }
    }
    next_ = it->first + 1;
    ++it;
  }
  if (it != chunks_->all().end() || !running_.empty()) return;
  record_.active = false;
  record_.ended_s = now_s;
  next_ = 0;
  LogInfo("scrub has ended: {} chunks, {} copies could not be looked at", done_, skipped_);
}

int64_t Scrub::deadline_ms(int64_t now_ms, int64_t now_s) const {
  if (record_.active) {
    bool more = running_.empty() && next_ <= (chunks_->all().empty() ? 0 : chunks_->all().rbegin()->first);
    return more ? now_ms : INT64_MAX;
  }
  const PoolRecord& pool = chunks_->pool();
  if (pool.scrub_interval_s == 0) return INT64_MAX;
  return now_ms + std::max<int64_t>(record_.began_s + pool.scrub_interval_s - now_s, 0) * 1000;
}

void Scrub::AppendJobs(uint32_t target, const Members& members, std::vector<idl::Job>* jobs) const {
  for (const auto& [index, running] : running_) {
    const Chunk* chunk = chunks_->Find(index);
    if (!running.pending.contains(target) || chunk == nullptr || chunk->On(target) == nullptr) continue;
    idl::Job& out = jobs->emplace_back();
    out.kind = idl::JobKind::SCRUB;
    out.chunk = static_cast<int64_t>(index);
    out.version = static_cast<int32_t>(running.version);
    out.offset = static_cast<int64_t>(chunk->On(target)->offset);
    out.bytes = static_cast<int64_t>(chunks_->pool().chunk_bytes());
    if (target != running.lead) continue;
    for (uint32_t id : SourcesFor(*chunk, target, members)) out.peers.push_back(targets_->PeerAt(*chunk->On(id)));
  }
}

void Scrub::AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const {
  if (!record_.active) return;
  uint64_t chunk_bytes = chunks_->pool().chunk_bytes();
  uint64_t total = std::max<uint64_t>(chunks_->all().size(), done_);
  idl::TaskInfo& out = tasks->emplace_back();
  out.kind = idl::TaskKind::SCRUB;
  out.done_bytes = static_cast<int64_t>(done_ * chunk_bytes);
  out.total_bytes = static_cast<int64_t>(total * chunk_bytes);
  uint64_t rate = meter_.bytes_per_s(now_ms);
  out.bytes_per_s = static_cast<int64_t>(rate);
  out.eta_s = rate == 0 ? -1 : static_cast<int64_t>((total - done_) * chunk_bytes / rate);
  if (running_.empty()) out.waits_for = "no target with a copy in sync is up";
}

}  // namespace weft
