// SPDX-License-Identifier: MIT
//
// Resync: what is left to do, told to operators.
#include <algorithm>

#include "userland/meta/resync.h"

namespace weft {

Resync::Note Resync::NoteOf(uint64_t index, const Chunk& chunk) const {
  Note note;
  auto job = jobs_.find(index);
  uint32_t staying = 0;
  bool moving = false;
  // Nothing can be made of a lost chunk: it waits for its files to be removed, not for a target.
  bool lost = chunk.Lost() && std::ranges::none_of(chunk.copies, &Copy::doubtful);
  for (const Copy& copy : chunk.copies) {
    if (copy.leaving) note.leaving.push_back(copy.target);
    if (!Stays(copy, members_)) {
      moving = true;
      continue;
    }
    ++staying;
    if (copy.state == CopyState::kInSync || lost) continue;
    bool is_job = job != jobs_.end() && job->second.target == copy.target;
    if (is_job && job->second.why.first == idl::TaskKind::REBUILD) ++note.rebuild;
    if (!is_job || job->second.why.first == idl::TaskKind::RESYNC) note.resync.push_back(copy.target);
  }
  if (!moving && !lost && staying < chunk.copies_wanted) note.rebuild += chunk.copies_wanted - staying;
  note.unsettled = moving || !chunk.Settled();
  return note;
}

void Resync::Count(const Note& note, bool add) {
  for (uint32_t target : note.resync) resync_[target] += add ? 1 : -1;
  for (uint32_t target : note.leaving) leaving_[target] += add ? 1 : -1;
  rebuild_ += add ? note.rebuild : -static_cast<uint64_t>(note.rebuild);
}

// Chunks that have still to move for the targets to be evenly full, besides those that are moving.
uint64_t Resync::MovesLeft() const {
  using Wide = unsigned __int128;
  if (!chunks_->pool().rebalancing) return 0;
  Members members = CurrentMembers();
  Wide total = 0;
  Wide size = 0;
  for (const auto& [id, member] : members) {
    if (!member.up || member.draining) continue;
    total += member.staying;
    size += Wide(member.places) * member.weight;
  }
  uint64_t moves = 0;
  for (const auto& [id, member] : members) {
    if (!member.up || member.draining || size == 0) continue;
    auto even = static_cast<uint64_t>(total * member.places * member.weight / size);
    if (member.staying > even + 1) moves += member.staying - even - 1;
  }
  return moves;
}

uint64_t Resync::CopiesLeft(const TaskKey& key) const {
  auto at = [](const std::map<uint32_t, uint64_t>& counts, uint32_t id) {
    auto it = counts.find(id);
    return it == counts.end() ? 0 : it->second;
  };
  uint64_t copies = 0;
  switch (key.first) {
    case idl::TaskKind::RESYNC:
      copies = at(resync_, key.second);
      break;
    case idl::TaskKind::REBUILD:
      copies = rebuild_;
      break;
    case idl::TaskKind::DRAIN: {
      const TargetState* target = targets_->FindId(key.second);
      if (target != nullptr && target->record.draining) copies = chunks_->on(key.second).size();
      break;
    }
    default:
      for (const auto& [target, count] : leaving_) copies += count;
      copies += MovesLeft();
      break;
  }
  return copies;
}

uint64_t Resync::Remaining(const TaskKey& key) const {
  uint64_t bytes = CopiesLeft(key) * ChunkBytes();
  for (const auto& [index, job] : jobs_) {
    if (job.why == key) bytes -= std::min(bytes, job.done_bytes);
  }
  return bytes;
}

void Resync::AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const {
  std::set<TaskKey> keys;
  for (const auto& [target, copies] : resync_) {
    if (copies > 0) keys.insert({idl::TaskKind::RESYNC, target});
  }
  if (rebuild_ > 0) keys.insert({idl::TaskKind::REBUILD, 0});
  for (const auto& [id, member] : members_) {
    if (member.draining && !chunks_->on(id).empty()) keys.insert({idl::TaskKind::DRAIN, id});
  }
  if (chunks_->pool().rebalancing) keys.insert({idl::TaskKind::REBALANCE, 0});

  for (const TaskKey& key : keys) {
    idl::TaskInfo& out = tasks->emplace_back();
    out.kind = key.first;
    const TargetState* target = targets_->FindId(key.second);
    if (target != nullptr) out.target = target->record.name;
    uint64_t remaining = Remaining(key);
    uint64_t rate = 0;
    if (auto meter = meters_.find(key); meter != meters_.end()) {
      out.done_bytes = static_cast<int64_t>(meter->second.done());
      rate = meter->second.bytes_per_s(now_ms);
    }
    out.total_bytes = out.done_bytes + static_cast<int64_t>(remaining);
    out.bytes_per_s = static_cast<int64_t>(rate);
    out.eta_s = rate == 0 ? -1 : static_cast<int64_t>((remaining + rate - 1) / rate);
    out.waits_for = WaitsFor(key, target);
  }
}

std::string Resync::WaitsFor(const TaskKey& key, const TargetState* target) const {
  if (std::ranges::any_of(jobs_, [&](const auto& entry) { return entry.second.why == key; })) return "";
  if (key.first == idl::TaskKind::RESYNC && target != nullptr && !target->up)
    return std::string(Describe(Wait::kTargetDown));
  if (auto wait = waits_.find(key); wait != waits_.end() && wait->second != Wait::kNothing)
    return std::string(Describe(wait->second));
  return later_.empty() ? "" : "a copy failed: it is tried again; the log of weft-meta says why";
}

}  // namespace weft
