// SPDX-License-Identifier: MIT
#include "userland/meta/scrub.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr int kTriesMax = 8;          // of a chunk that changes while it is scrubbed, or whose jobs fail
constexpr int64_t kRetryMs = 10'000;  // after a job has failed
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
  record_.next = next_;
  if (!running_.empty()) record_.next = std::min(record_.next, running_.begin()->first);
  if (!missed_.empty()) record_.next = std::min(record_.next, missed_.begin()->first);
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
  missed_.clear();
  due_.clear();
  later_.clear();
  record_.active = false;
  Save();
}

void Scrub::Drop(RunningAt running) {
  for (uint32_t target : running->second.pending) {
    --busy_[target];
    targets_->TouchJobs(target);
  }
  running_.erase(running);
}

void Scrub::Visited(uint64_t index, bool skipped) {
  missed_.erase(index);
  due_.erase(index);
  ++done_;
  if (skipped) ++skipped_;
}

void Scrub::End(RunningAt running, int64_t now_ms) {
  uint64_t index = running->first;
  if (running->second.missed && running->second.tries < kTriesMax) {
    Miss(index, running->second.tries);
    if (running->second.failed) {
      later_.emplace_back(now_ms + kRetryMs, index);
    } else {
      due_.insert(index);  // the target may be up again
    }
  } else {
    Visited(index, running->second.missed);
    meter_.Add(chunks_->pool().chunk_bytes(), now_ms);
  }
  running_.erase(running);
}

bool Scrub::HasTurn(const Chunk& chunk) const {
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
    if (copy.state != CopyState::kInSync) continue;
    if (!IsUp(members, copy.target)) {
      running.missed = true;
      continue;
    }
    if (running.pending.empty()) running.lead = copy.target;
    running.pending.insert(copy.target);
  }
  if (running.pending.empty()) return false;
  running.attempt = attempts_->Next();
  for (uint32_t target : running.pending) {
    ++busy_[target];
    targets_->TouchJobs(target);
  }
  missed_.erase(index);
  due_.erase(index);
  running_[index] = std::move(running);
  return true;
}

void Scrub::OnChunk(uint64_t index, const Members& members) {
  const Chunk* chunk = chunks_->Find(index);
  if (missed_.contains(index)) {
    if (chunk == nullptr) return Visited(index, false);
    due_.insert(index);
  }
  auto it = running_.find(index);
  if (it == running_.end() || (chunk != nullptr && chunk->version == it->second.version)) return;
  int tries = it->second.tries + 1;
  Drop(it);
  if (chunk == nullptr) return Visited(index, false);
  if (tries >= kTriesMax) return Visited(index, true);
  if (!Begin(index, *chunk, members, tries)) Miss(index, tries);
}

void Scrub::OnTarget(uint32_t id, const Members& members, int64_t now_ms) {
  for (uint64_t index : chunks_->on(id)) {
    if (missed_.contains(index)) due_.insert(index);
  }
  if (IsUp(members, id)) return;
  for (auto it = running_.begin(); it != running_.end();) {
    auto running = it++;
    const Chunk* chunk = chunks_->Find(running->first);
    const Copy* copy = chunk == nullptr ? nullptr : chunk->On(id);
    // The lead compares with those that have answered, too.
    bool compared = copy != nullptr && copy->state == CopyState::kInSync;
    if (compared && running->second.pending.contains(running->second.lead)) running->second.missed = true;
    if (running->second.pending.erase(id) == 0) continue;
    --busy_[id];
    targets_->TouchJobs(id);
    running->second.missed = true;
    if (running->second.pending.empty()) End(running, now_ms);
  }
}

void Scrub::OnFinished(uint32_t target, const idl::JobResult& result, int64_t now_ms) {
  auto index = static_cast<uint64_t>(result.chunk);
  auto it = running_.find(index);
  // The chunk may have changed in this very batch: what runs follows at its end.
  const Chunk* chunk = chunks_->Find(index);
  if (it == running_.end() || it->second.version != static_cast<uint32_t>(result.version) ||
      it->second.attempt != result.attempt || chunk == nullptr || chunk->version != it->second.version ||
      it->second.pending.erase(target) == 0)
    return;
  --busy_[target];
  targets_->TouchJobs(target);
  bool lead = it->second.lead == target;
  if (result.error != 0) {
    LogWarning("chunk {}: scrub on target '{}' failed: {} ({})", index, targets_->FindId(target)->record.name,
               result.message.substr(0, 200), strerror(result.error));
    it->second.missed = it->second.failed = true;
    ++it->second.tries;
  }
  if (it->second.pending.empty()) End(it, now_ms);
  if (result.error == 0 && lead && !result.mismatches.empty()) OnMismatches(index, target, result);
}

// Which copy is right? With three or more, what most of them say of a block; of two, the first: nothing tells them
// apart, for each agrees with its own checksums.
void Scrub::OnMismatches(uint64_t index, uint32_t lead, const idl::JobResult& result) {
  const Chunk* chunk = chunks_->Find(index);
  if (chunk == nullptr) return;
  std::set<uint32_t> in_sync;
  for (const Copy& copy : chunk->copies) {
    if (copy.state == CopyState::kInSync) in_sync.insert(copy.target);
  }
  std::map<int64_t, std::set<uint32_t>> by_block;  // -> the peers that differ from the lead
  for (const idl::Mismatch& mismatch : result.mismatches) {
    auto peer = static_cast<uint32_t>(mismatch.peer);
    if (peer == lead || !in_sync.contains(peer)) continue;
    for (int64_t block : mismatch.blocks) by_block[block].insert(peer);
    LogError("chunk {}: {} blocks differ between the copies on targets '{}' and '{}'", index, mismatch.blocks.size(),
             targets_->FindId(lead)->record.name, targets_->FindId(peer)->record.name);
  }
  std::set<uint32_t> wrong;
  for (const auto& [block, peers] : by_block) {
    if (in_sync.size() >= 3 && peers.size() * 2 > in_sync.size()) {
      wrong.insert(lead);
    } else {
      wrong.insert(peers.begin(), peers.end());
    }
  }
  for (uint32_t target : wrong) {
    int error = chunks_->SetState(index, target, CopyState::kStale);
    // Each has been wrong somewhere: the last one stays.
    if (error == EBUSY) {
      LogWarning("chunk {}: every copy differs from most others in some block; the one on target {} is kept", index,
                 target);
    } else if (error != 0) {
      LogError("chunk {}: copy on target {} could not be marked stale: {}", index, target, strerror(error));
    }
  }
}

void Scrub::Plan(const Members& members, int64_t now_ms, int64_t now_s) {
  const PoolRecord& pool = chunks_->pool();
  if (!record_.active && pool.scrub_interval_s > 0 && now_s >= record_.began_s + pool.scrub_interval_s) Start(now_s);
  if (record_.active) Advance(members, now_ms, now_s);
  Save();
}

void Scrub::Revisit(const Members& members, int64_t now_ms) {
  for (; !later_.empty() && later_.front().first <= now_ms; later_.pop_front()) {
    if (missed_.contains(later_.front().second)) due_.insert(later_.front().second);
  }
  for (auto it = due_.begin(); it != due_.end() && running_.size() < kRunningMax;) {
    uint64_t index = *it++;
    const Chunk* chunk = chunks_->Find(index);
    if (chunk == nullptr || chunk->Lost()) {
      Visited(index, chunk != nullptr);
      continue;
    }
    bool whole = std::ranges::all_of(chunk->copies, [&](const Copy& copy) {
      return copy.state != CopyState::kInSync || IsUp(members, copy.target);
    });
    if (!whole) {
      due_.erase(index);
    } else if (HasTurn(*chunk)) {
      Begin(index, *chunk, members, missed_.at(index));
    }
  }
}

void Scrub::Advance(const Members& members, int64_t now_ms, int64_t now_s) {
  int skipped = 0;
  auto it = chunks_->all().lower_bound(next_);
  while (it != chunks_->all().end() && running_.size() < kRunningMax && HasTurn(it->second)) {
    next_ = it->first + 1;
    if (!Begin(it->first, it->second, members, 0)) {
      it->second.Lost() ? Visited(it->first, true) : Miss(it->first, 0);
      if (++skipped >= kSkippedPerBatch) return;
    }
    ++it;
  }
  Revisit(members, now_ms);
  if (it != chunks_->all().end() || !running_.empty() || !missed_.empty()) return;
  record_.active = false;
  record_.ended_s = now_s;
  next_ = 0;
  later_.clear();
  LogInfo("scrub has ended: {} chunks, {} could not be looked at as a whole", done_, skipped_);
}

int64_t Scrub::deadline_ms(int64_t now_ms, int64_t now_s) const {
  if (record_.active) {
    bool more = running_.empty() && (chunks_->all().lower_bound(next_) != chunks_->all().end() || missed_.empty());
    if (more) return now_ms;
    return later_.empty() ? INT64_MAX : later_.front().first;
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
    out.attempt = running.attempt;
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
  if (running_.empty() && !missed_.empty() && later_.empty())
    out.waits_for = "chunks have copies on targets that are down: start them, or remove them with --lost";
}

}  // namespace weft
