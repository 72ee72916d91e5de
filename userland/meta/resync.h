// SPDX-License-Identifier: MIT
//
// Which copies are made now: carries out what planner.h says for the chunks that need something, a few at a time
// for each target, and knows the COPY jobs that result. What is going on is in the chunks' records alone: a copy
// that is RESYNCING is a job. After a restart of the server the rest is found again from them.
//
// A batch does a bounded amount of work: chunks that something happened to are looked at (todo_), those that have
// to wait stand in lines for their turn (lines_), for room (full_) or until a target changes (blocked_). State machine
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "thrift-gen/AdminService.h"
#include "thrift-gen/TargetService.h"
#include "userland/meta/chunks.h"
#include "userland/meta/meter.h"
#include "userland/meta/planner.h"
#include "userland/meta/space.h"
#include "userland/meta/targets.h"

namespace weft {

// Chunks in the order in which they came, each once.
class ChunkLine {
 public:
  void Push(uint64_t index) {
    if (in_.insert(index).second) line_.push_back(index);
  }
  uint64_t Pop() {
    uint64_t index = line_.front();
    line_.pop_front();
    in_.erase(index);
    return index;
  }
  bool empty() const { return line_.empty(); }
  size_t size() const { return line_.size(); }

 private:
  std::deque<uint64_t> line_;
  std::unordered_set<uint64_t> in_;
};

class Resync {
 public:
  Resync(Tables* tables, Chunks* chunks, Space* space, Targets* targets)
      : tables_(tables), chunks_(chunks), space_(space), targets_(targets) {}

  // Finds what goes on. One look at every chunk.
  void Load();
  // The time of what is told next.
  void SetNow(int64_t now_ms) { now_ms_ = now_ms; }

  // A chunk has a new version, or is gone.
  void OnChunk(uint64_t index);
  void OnTarget(uint32_t id, const TargetChange& change);
  // A place has become free, or a chunk.
  void OnRoom() { room_ = true; }
  // Looks at chunks that need something; true: there are more to look at at once.
  bool Plan();
  // When Plan has something to do without anything else happening; INT64_MAX: never.
  int64_t deadline_ms() const;

  void OnProgress(uint32_t target, const idl::JobProgress& progress);
  // Ignored when it is not, or no longer, a job.
  void OnFinished(uint32_t target, const idl::JobResult& result);

  // Evens out how full the targets are, until they are even or it is stopped.
  void SetRebalancing(bool on);

  void AppendJobs(uint32_t target, std::vector<idl::Job>* jobs) const;
  void AppendTasks(int64_t now_ms, std::vector<idl::TaskInfo>* tasks) const;
  // The targets of the pool as the planner sees them now.
  Members CurrentMembers() const;
  // The same as of the last change of a target; how full and how busy they are, as of the last plan.
  const Members& members() const { return members_; }

 private:
  using Kind = idl::TaskKind::type;
  using TaskKey = std::pair<Kind, uint32_t>;  // target 0: of the pool

  struct CopyJob {
    uint32_t target = 0;
    uint32_t version = 0;
    uint32_t source = 0;  // counts as reading from it; 0: none is up
    TaskKey why;
    uint64_t done_bytes = 0;
  };
  // What a chunk that is not whole adds to the counts.
  struct Note {
    bool unsettled = false;
    std::vector<uint32_t> resync;   // targets of copies that missed writes
    uint32_t rebuild = 0;           // copies that are missing
    std::vector<uint32_t> leaving;  // targets
    bool operator==(const Note&) const = default;
  };

  void Step(uint64_t index);
  int Carry(uint64_t index, const Chunk& chunk, const ChunkPlan& plan);
  // The copy on `target` has a block that is bad in all others in sync.
  bool HasBlocksOthersLack(uint64_t index, const Chunk& chunk, uint32_t target) const;
  void Stand(uint64_t index, const Chunk& chunk, const ChunkPlan& plan);
  void StartMoves();
  void WakeLines();
  void Retry();
  // The job failed, or a client could not write to its copy: the chunk waits, longer each time.
  void Delay(uint64_t index);
  void Later(uint64_t index, int64_t at_ms);
  // The target of a copy that went stale lives: it was heard of since.
  bool ShowsLife(uint64_t index, uint32_t target) const;

  // added: the copy is made anew.
  TaskKey Why(const Chunk& chunk, uint32_t target, bool added) const;
  void Refresh(uint64_t index);
  Note NoteOf(uint64_t index, const Chunk& chunk) const;
  void Count(const Note& note, bool add);
  void StartJob(uint64_t index, const Chunk& chunk, uint32_t target, TaskKey why);
  void SetSource(CopyJob* job, uint32_t source);
  void UpdateJob(uint64_t index, const Chunk* chunk);
  std::map<uint64_t, CopyJob>::iterator EndJob(std::map<uint64_t, CopyJob>::iterator job);
  uint32_t PickSource(const Chunk& chunk, uint32_t target) const;
  uint64_t CopiesLeft(const TaskKey& key) const;
  uint64_t Remaining(const TaskKey& key) const;  // bytes
  uint64_t MovesLeft() const;
  std::string WaitsFor(const TaskKey& key, const TargetState* target) const;
  std::vector<idl::Peer> PeersOf(const Chunk& chunk, const CopyJob& job) const;
  uint64_t ChunkBytes() const { return chunks_->pool().chunk_bytes(); }

  Tables* const tables_;
  Chunks* const chunks_;
  Space* const space_;
  Targets* const targets_;

  std::map<uint64_t, CopyJob> jobs_;  // by chunk
  std::map<uint32_t, uint32_t> in_;   // jobs by destination
  std::map<uint32_t, uint32_t> out_;  // jobs by source

  ChunkLine todo_;
  std::map<uint32_t, ChunkLine> lines_;  // by destination; 0: any
  ChunkLine full_;                       // that wait for room
  size_t full_woken_ = 0;                // of them, still to be looked at
  std::set<uint64_t> blocked_;
  std::multimap<int64_t, uint64_t> later_;   // when to try again after a failure
  std::map<uint64_t, int64_t> retry_at_ms_;  // the same by chunk
  std::map<uint64_t, uint32_t> failures_;    // of the chunk's jobs in a row
  std::map<uint64_t, int64_t> changed_ms_;   // of chunks with stale copies
  bool turns_ = false;                       // a job has ended
  bool room_ = false;
  bool moves_wanted_ = false;  // rebalance: something has changed since no move was found
  Members members_;
  int64_t now_ms_ = 0;

  std::map<uint64_t, Note> notes_;
  std::map<uint32_t, uint64_t> resync_;   // copies by target
  uint64_t rebuild_ = 0;                  // copies that are missing
  std::map<uint32_t, uint64_t> leaving_;  // copies by target
  std::map<TaskKey, Meter> meters_;
  std::map<TaskKey, Wait> waits_;
};

}  // namespace weft
