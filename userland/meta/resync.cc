// SPDX-License-Identifier: MIT
#include "userland/meta/resync.h"

#include <algorithm>
#include <cerrno>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr size_t kStepsPerBatch = 256;  // chunks that are looked at
constexpr size_t kMovesPerBatch = 64;   // that begin
constexpr int kActionsPerChunk = 8;     // at a time; each is a step towards a whole chunk, so they end
constexpr size_t kWokenPerLine = 8;     // when a turn is free: some of them may still have to wait, for a source
constexpr int64_t kRetryMs = 1000;      // after a job has failed; doubles
constexpr int64_t kRetryMsMax = 60'000;
constexpr int64_t kLifeMs = 500;  // how often a target whose copy went stale is looked at for signs of life

}  // namespace

void Resync::Load() {
  members_ = CurrentMembers();
  for (const auto& [index, chunk] : chunks_->all()) OnChunk(index);
  moves_wanted_ = true;
}

Members Resync::CurrentMembers() const {
  Members members;
  uint64_t chunk_bytes = ChunkBytes();
  if (chunk_bytes == 0) return members;
  auto count = [](const std::map<uint32_t, uint32_t>& jobs, uint32_t id) {
    auto it = jobs.find(id);
    return it == jobs.end() ? 0 : it->second;
  };
  for (const auto& [uuid, target] : targets_->all()) {
    if (target.id == 0) continue;
    Member& member = members[target.id];
    member.id = target.id;
    member.up = target.usable();
    member.draining = target.record.draining;
    member.weight = target.record.weight;
    member.zone = target.record.zone;
    member.places = target.record.capacity_bytes / chunk_bytes;
    member.used = chunks_->used_places(target.id);
    auto leaving = leaving_.find(target.id);
    member.staying = chunks_->on(target.id).size() - (leaving == leaving_.end() ? 0 : leaving->second);
    member.copying_in = count(in_, target.id);
    member.copying_out = count(out_, target.id);
  }
  return members;
}

// ---- what happens -----------------------------------------------------------------------------------

void Resync::OnChunk(uint64_t index) {
  const Chunk* chunk = chunks_->Find(index);
  Refresh(index);
  if (chunk == nullptr) {
    blocked_.erase(index);
    failures_.erase(index);
    changed_ms_.erase(index);
    turns_ = room_ = true;
    return;
  }
  if (chunk->Count(CopyState::kStale) > 0) {
    changed_ms_[index] = now_ms_;
  } else {
    changed_ms_.erase(index);
  }
  bool all_stay = std::ranges::all_of(chunk->copies, [this](const Copy& copy) { return Stays(copy, members_); });
  if (!chunk->Settled() || !all_stay) todo_.Push(index);
}

void Resync::OnTarget(uint32_t id, const TargetChange& change) {
  if ((change.stopped || change.silent) && targets_->FindId(id) != nullptr) {
    chunks_->StaleResyncing(id);
    auto stopped = [id](const auto& entry) { return entry.second.target == id; };
    for (auto job = jobs_.begin(); job != jobs_.end();) job = stopped(*job) ? EndJob(job) : std::next(job);
  }
  members_ = CurrentMembers();
  auto member = members_.find(id);
  bool all = member == members_.end() || member->second.draining;
  for (uint64_t index : chunks_->on(id)) {
    if (!all && !notes_.contains(index)) continue;
    failures_.erase(index);
    retry_at_ms_.erase(index);
    Refresh(index);
    todo_.Push(index);
  }
  // Sources that went away, or came back for a job that had none.
  for (auto& [index, job] : jobs_) {
    const Chunk* chunk = chunks_->Find(index);
    if (chunk == nullptr || (job.source != id && job.source != 0)) continue;
    SetSource(&job, PickSource(*chunk, job.target));
  }
  for (auto& line = lines_[id]; !line.empty();) todo_.Push(line.Pop());
  full_woken_ = full_.size();
  waits_.clear();  // told anew
  for (uint64_t index : std::exchange(blocked_, {})) todo_.Push(index);
  turns_ = room_ = true;
}

void Resync::OnProgress(uint32_t target, const idl::JobProgress& progress) {
  auto it = jobs_.find(static_cast<uint64_t>(progress.chunk));
  if (progress.kind != idl::JobKind::COPY || it == jobs_.end() || it->second.target != target ||
      it->second.version != static_cast<uint32_t>(progress.version))
    return;
  CopyJob& job = it->second;
  uint64_t done = std::min<uint64_t>(std::max<int64_t>(progress.done_bytes, 0), ChunkBytes());
  if (done <= job.done_bytes) return;
  meters_[job.why].Add(done - job.done_bytes, now_ms_);
  job.done_bytes = done;
}

void Resync::OnFinished(uint32_t target, const idl::JobResult& result) {
  auto index = static_cast<uint64_t>(result.chunk);
  auto it = jobs_.find(index);
  // The chunk may have changed in this very batch: jobs follow at its end.
  const Chunk* chunk = chunks_->Find(index);
  if (it == jobs_.end() || it->second.target != target || it->second.version != static_cast<uint32_t>(result.version) ||
      result.attempt != 0 || chunk == nullptr || chunk->version != it->second.version)
    return;
  CopyJob& job = it->second;
  if (result.error == 0) {
    meters_[job.why].Add(ChunkBytes() - job.done_bytes, now_ms_);
    job.done_bytes = 0;  // nothing to be done again
    failures_.erase(index);
    if (int error = chunks_->SetState(index, target, CopyState::kInSync); error != 0)
      LogError("chunk {}: copy on target {} could not be put in sync: {}", index, target, strerror(error));
    if (!result.bad_blocks.empty()) {
      LogError("chunk {}: {} blocks could not be read from any copy; their copy on target '{}' is bad as well", index,
               result.bad_blocks.size(), targets_->FindId(target)->record.name);
      if (chunks_->AddDamage(index, target, result.bad_blocks) != 0)
        LogError("chunk {}: target '{}' reports blocks outside the chunk", index,
                 targets_->FindId(target)->record.name);
    }
  } else {
    LogWarning("chunk {}: copying to target '{}' failed, it is tried again: {} ({})", index,
               targets_->FindId(target)->record.name, result.message.substr(0, 200), strerror(result.error));
    if (int error = chunks_->SetState(index, target, CopyState::kStale); error != 0)
      LogError("chunk {}: copy on target {} could not be marked stale: {}", index, target, strerror(error));
  }
  OnChunk(index);
}

// ---- jobs -------------------------------------------------------------------------------------------

uint32_t Resync::PickSource(const Chunk& chunk, uint32_t target) const {
  std::vector<uint32_t> sources = SourcesFor(chunk, target, members_);
  return sources.empty() ? 0 : sources.front();
}

void Resync::SetSource(CopyJob* job, uint32_t source) {
  if (job->source == source) return;
  auto count = [this](uint32_t id, int change) {
    if (id == 0) return;
    out_[id] += change;
    if (auto member = members_.find(id); member != members_.end()) member->second.copying_out = out_[id];
  };
  count(job->source, -1);
  count(source, 1);
  job->source = source;
  targets_->TouchJobs(job->target);
}

void Resync::StartJob(uint64_t index, const Chunk& chunk, uint32_t target, TaskKey why) {
  CopyJob& job = jobs_[index];
  job.target = target;
  job.version = chunk.version;
  job.why = why;
  ++in_[target];
  if (auto member = members_.find(target); member != members_.end()) member->second.copying_in = in_[target];
  SetSource(&job, PickSource(chunk, target));
  targets_->TouchJobs(target);
}

std::map<uint64_t, Resync::CopyJob>::iterator Resync::EndJob(std::map<uint64_t, CopyJob>::iterator it) {
  CopyJob& job = it->second;
  SetSource(&job, 0);
  --in_[job.target];
  if (auto member = members_.find(job.target); member != members_.end()) member->second.copying_in = in_[job.target];
  if (job.done_bytes > 0) meters_[job.why].Undo(job.done_bytes);
  targets_->TouchJobs(job.target);
  turns_ = true;
  return jobs_.erase(it);
}

Resync::TaskKey Resync::Why(const Chunk& chunk, uint32_t target, bool added) const {
  for (const Copy& copy : chunk.copies) {
    if (copy.leaving) return {idl::TaskKind::REBALANCE, 0};
    auto member = members_.find(copy.target);
    if (member != members_.end() && member->second.draining) return {idl::TaskKind::DRAIN, copy.target};
  }
  return added ? TaskKey{idl::TaskKind::REBUILD, 0} : TaskKey{idl::TaskKind::RESYNC, target};
}

// Makes the job of a chunk what its record says.
void Resync::UpdateJob(uint64_t index, const Chunk* chunk) {
  const Copy* copy = nullptr;
  if (chunk != nullptr) {
    auto it = std::ranges::find(chunk->copies, CopyState::kResyncing, &Copy::state);
    if (it != chunk->copies.end()) copy = &*it;
  }
  auto job = jobs_.find(index);
  if (job != jobs_.end() && (copy == nullptr || job->second.target != copy->target)) {
    const Copy* ended = chunk == nullptr ? nullptr : chunk->On(job->second.target);
    if (ended != nullptr && ended->state == CopyState::kStale) Delay(index);
    EndJob(job);
    job = jobs_.end();
  }
  if (copy == nullptr) return;
  if (job == jobs_.end()) {
    StartJob(index, *chunk, copy->target, Why(*chunk, copy->target, false));
  } else if (job->second.version != chunk->version) {
    meters_[job->second.why].Undo(job->second.done_bytes);
    job->second.done_bytes = 0;
    job->second.version = chunk->version;
    SetSource(&job->second, PickSource(*chunk, copy->target));
    targets_->TouchJobs(copy->target);
  }
}

// The indexes follow the chunk's record.
void Resync::Refresh(uint64_t index) {
  const Chunk* chunk = chunks_->Find(index);
  UpdateJob(index, chunk);
  Note note = chunk == nullptr ? Note{} : NoteOf(index, *chunk);
  auto it = notes_.find(index);
  if (it != notes_.end()) {
    if (it->second == note) return;
    Count(it->second, false);
    notes_.erase(it);
  }
  if (note == Note{}) return;
  Count(note, true);
  notes_.emplace(index, std::move(note));
}

std::vector<idl::Peer> Resync::PeersOf(const Chunk& chunk, const CopyJob& job) const {
  std::vector<uint32_t> sources = SourcesFor(chunk, job.target, members_);
  std::ranges::stable_partition(sources, [&](uint32_t id) { return id == job.source; });
  std::vector<idl::Peer> peers;
  for (uint32_t id : sources) peers.push_back(targets_->PeerAt(*chunk.On(id)));
  return peers;
}

void Resync::AppendJobs(uint32_t target, std::vector<idl::Job>* jobs) const {
  for (const auto& [index, job] : jobs_) {
    if (job.target != target) continue;
    const Chunk* chunk = chunks_->Find(index);
    if (chunk == nullptr || chunk->On(target) == nullptr) continue;
    idl::Job& out = jobs->emplace_back();
    out.kind = idl::JobKind::COPY;
    out.chunk = static_cast<int64_t>(index);
    out.version = static_cast<int32_t>(job.version);
    out.offset = static_cast<int64_t>(chunk->On(target)->offset);
    out.bytes = static_cast<int64_t>(ChunkBytes());
    out.peers = PeersOf(*chunk, job);
  }
}

// ---- planning ---------------------------------------------------------------------------------------

int64_t Resync::deadline_ms() const {
  if (!todo_.empty()) return 0;
  return later_.empty() ? INT64_MAX : later_.begin()->first;
}

void Resync::Later(uint64_t index, int64_t at_ms) {
  later_.emplace(at_ms, index);
  retry_at_ms_[index] = at_ms;
}

void Resync::Delay(uint64_t index) {
  uint32_t failures = std::min(failures_[index]++, 16U);
  Later(index, now_ms_ + std::min(kRetryMs << failures, kRetryMsMax));
}

void Resync::Retry() {
  while (!later_.empty() && later_.begin()->first <= now_ms_) {
    uint64_t index = later_.begin()->second;
    later_.erase(later_.begin());
    if (auto it = retry_at_ms_.find(index); it != retry_at_ms_.end() && it->second <= now_ms_) retry_at_ms_.erase(it);
    todo_.Push(index);
  }
}

// A client that cannot reach a target finds out before its heartbeats are missed. Were the copy written to again at
// once, the client would fail again, and so on until the target is down.
bool Resync::ShowsLife(uint64_t index, uint32_t target) const {
  auto changed = changed_ms_.find(index);
  const TargetState* state = targets_->FindId(target);
  return changed == changed_ms_.end() || (state != nullptr && state->heartbeat_at_ms >= changed->second);
}

void Resync::WakeLines() {
  // With no job under way nothing else would wake those that are left.
  bool idle = jobs_.empty();
  if (room_) full_woken_ = idle ? full_.size() : std::max(full_woken_, std::min(full_.size(), kStepsPerBatch));
  if (turns_ || room_) {
    moves_wanted_ = true;
    for (auto& [target, line] : lines_) {
      auto member = members_.find(target);
      if (member != members_.end() && member->second.copying_in >= kCopyJobsPerTarget) continue;
      size_t woken = idle ? kStepsPerBatch : kWokenPerLine;
      for (size_t n = 0; n < woken && !line.empty(); ++n) todo_.Push(line.Pop());
    }
  }
  turns_ = room_ = false;
  for (size_t n = 0; n < kStepsPerBatch && full_woken_ > 0; ++n, --full_woken_) {
    if (!full_.empty()) todo_.Push(full_.Pop());
  }
}

bool Resync::Plan() {
  Retry();
  if (todo_.empty() && !turns_ && !room_ && full_woken_ == 0 && !moves_wanted_) return false;
  members_ = CurrentMembers();
  WakeLines();
  for (size_t steps = 0; steps < kStepsPerBatch && !todo_.empty(); ++steps) Step(todo_.Pop());
  if (todo_.empty() && moves_wanted_) StartMoves();
  std::erase_if(meters_, [this](const auto& entry) { return CopiesLeft(entry.first) == 0; });
  if (jobs_.empty() && std::ranges::any_of(lines_, [](const auto& entry) { return !entry.second.empty(); }))
    turns_ = true;
  return !todo_.empty() || full_woken_ > 0 || moves_wanted_ || (turns_ && jobs_.empty());
}

void Resync::Step(uint64_t index) {
  const Chunk* chunk = chunks_->Find(index);
  if (chunk == nullptr || retry_at_ms_.contains(index)) return;
  blocked_.erase(index);
  for (int actions = 0; actions < kActionsPerChunk; ++actions) {
    // What nothing is stored in need not be copied: the chunk ends here.
    if (!chunk->Settled() || CopiesThatStay(*chunk, members_) < chunk->copies.size()) {
      tables_->tx().Begin();
      if (space_->Delete(index)) return OnChunk(index);
    }
    ChunkPlan plan = PlanChunk(*chunk, members_);
    if (plan.action == Action::kNothing) return Stand(index, *chunk, plan);
    if (plan.action == Action::kResync && !ShowsLife(index, plan.target)) return Later(index, now_ms_ + kLifeMs);
    if (plan.action == Action::kDrop && HasBlocksOthersLack(index, *chunk, plan.target))
      return Later(index, now_ms_ + kRetryMs);  // they are repaired from it first
    tables_->tx().Begin();
    chunks_->Begin();
    if (int error = Carry(index, *chunk, plan); error != 0) {
      LogWarning("chunk {}: a copy on target {} cannot be made or dropped: {}", index, plan.target, strerror(error));
      return Stand(index, *chunk, {Action::kNothing, 0, 0, Wait::kRoom});
    }
    Refresh(index);
    if (auto member = members_.find(plan.target); member != members_.end())
      member->second.used = chunks_->used_places(plan.target);
  }
  todo_.Push(index);
}

int Resync::Carry(uint64_t index, const Chunk& chunk, const ChunkPlan& plan) {
  int error = 0;
  switch (plan.action) {
    case Action::kPromote:
      LogWarning("chunk {}: the copy on target {} becomes the one in sync: it has all that was acknowledged", index,
                 plan.target);
      return chunks_->Promote(index, [this](uint32_t id) {
        auto member = members_.find(id);
        return member != members_.end() && member->second.up;
      });
    case Action::kResync: {
      error = chunks_->SetState(index, plan.target, CopyState::kResyncing);
      if (error == 0) StartJob(index, chunk, plan.target, Why(chunk, plan.target, false));
      return error;
    }
    case Action::kAdd: {
      TaskKey why = Why(chunk, plan.target, true);
      error = chunks_->AddCopy(index, plan.target);
      if (error == 0) StartJob(index, chunk, plan.target, why);
      return error;
    }
    case Action::kDrop:
      turns_ = true;
      return chunks_->DropCopy(index, plan.target, true);
    case Action::kNothing:
      break;
  }
  return 0;
}

bool Resync::HasBlocksOthersLack(uint64_t index, const Chunk& chunk, uint32_t target) const {
  const Copy* dropped = chunk.On(target);
  if (dropped == nullptr || dropped->state != CopyState::kInSync) return false;
  std::vector<const std::set<uint32_t>*> others;
  for (const Copy& copy : chunk.copies) {
    if (copy.target != target && copy.state == CopyState::kInSync)
      others.push_back(&chunks_->DamageOf(index, copy.target));
  }
  if (others.empty()) return false;
  const std::set<uint32_t>& own = chunks_->DamageOf(index, target);
  return std::ranges::any_of(*others.front(), [&](uint32_t block) {
    return !own.contains(block) && std::ranges::all_of(others, [&](const auto* bad) { return bad->contains(block); });
  });
}

// The chunk needs nothing, or has to wait.
void Resync::Stand(uint64_t index, const Chunk& chunk, const ChunkPlan& plan) {
  if (plan.wait == Wait::kNothing) return;
  auto stale = std::ranges::find_if(
      chunk.copies, [this](const Copy& copy) { return copy.state == CopyState::kStale && Stays(copy, members_); });
  bool added = stale == chunk.copies.end();
  // Who waits for a turn waits for one that is blocked otherwise, once all turns are over.
  Wait& wait = waits_[Why(chunk, added ? 0 : stale->target, added)];
  if (plan.wait != Wait::kTurn || wait == Wait::kNothing) wait = plan.wait;
  if (plan.wait == Wait::kTurn) {
    lines_[plan.target].Push(index);
  } else if (plan.wait == Wait::kRoom) {
    full_.Push(index);
  } else {
    blocked_.insert(index);
  }
}

// ---- rebalance --------------------------------------------------------------------------------------

void Resync::SetRebalancing(bool on) {
  PoolRecord pool = chunks_->pool();
  if (pool.rebalancing == on) return;
  pool.rebalancing = on;
  chunks_->SetPool(pool);
  moves_wanted_ = true;
  if (on) return;
  std::vector<uint64_t> moving;
  for (const auto& [index, note] : notes_) {
    if (!note.leaving.empty()) moving.push_back(index);
  }
  for (uint64_t index : moving) {
    for (uint32_t target : std::vector(notes_.at(index).leaving)) chunks_->SetLeaving(index, target, false);
    OnChunk(index);
  }
}

void Resync::StartMoves() {
  moves_wanted_ = false;
  if (!chunks_->pool().rebalancing) return;
  bool blocked = false;
  size_t started = 0;
  auto on = [this](uint32_t id) -> const std::set<uint64_t>& { return chunks_->on(id); };
  for (;;) {
    members_ = CurrentMembers();
    if (started++ == kMovesPerBatch) {
      moves_wanted_ = true;
      return;
    }
    std::optional<Move> move = PickMove(chunks_->all(), members_, on, &blocked);
    if (!move) break;
    tables_->tx().Begin();
    chunks_->Begin();
    int error = chunks_->AddCopy(move->chunk, move->to);
    if (error == 0) error = chunks_->SetLeaving(move->chunk, move->from, true);
    if (error != 0) {
      tables_->tx().Rollback();
      chunks_->Rollback();
      LogWarning("chunk {} cannot move from target {} to {}: {}", move->chunk, move->from, move->to, strerror(error));
      return;
    }
    StartJob(move->chunk, *chunks_->Find(move->chunk), move->to, {idl::TaskKind::REBALANCE, 0});
    Refresh(move->chunk);
  }
  bool moving = std::ranges::any_of(leaving_, [](const auto& entry) { return entry.second > 0; });
  if (blocked || moving) return;
  LogInfo("the targets are evenly full: rebalancing has ended");
  SetRebalancing(false);
}

}  // namespace weft
