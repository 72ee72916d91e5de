// SPDX-License-Identifier: MIT
//
// The metadata server without its sockets: requests in, changes of the store and replies out. It reads no
// clock, starts no thread and asks nobody but its store, so that the same requests at the same times always
// give the same state: a test can run years of a cluster and kill it at any commit.
//
// Flow of a batch (engine.h drives it):
//   Begin(now)                      targets that went silent are marked down
//   Execute, OpenSession, ...       each sees what the ones before it did; a failing one leaves nothing
//   Commit()                        copies and jobs are planned; one atomic, synced write of the store; only now may
//   replies be sent
// When Commit fails the mirrors in memory are ahead of the store: throw the object away and open it again.
//
// The parts: Namespace (names), Files (attributes, extents), Chunks (copies and their states), OpenChunks (who may
// be writing), Space (free blocks, grants), Sessions (clients, slots), Targets, Upkeep (resync, scrub, repair: what
// goes on in the background); all write through one Transaction.
#pragma once

#include <map>
#include <memory>
#include <span>

#include "thrift-gen/AdminService.h"
#include "thrift-gen/MetaService.h"
#include "thrift-gen/TargetService.h"
#include "userland/meta/chunks.h"
#include "userland/meta/files.h"
#include "userland/meta/fsck.h"
#include "userland/meta/namespace.h"
#include "userland/meta/open_chunks.h"
#include "userland/meta/sessions.h"
#include "userland/meta/space.h"
#include "userland/meta/targets.h"
#include "userland/meta/upkeep.h"

namespace weft {

struct MetaOptions {
  std::string cluster = "weft";
  int lease_ms = 30'000;
  TargetTimes targets;
  NamespaceLimits names;
  SpaceLimits space;
  bool fence_command = false;  // there is one: see Fencer
  bool upkeep = true;          // false: nothing is changed in the background; for tests of single parts
};

struct MetaNow {
  int64_t mono_ms = 0;  // leases, heartbeats
  int64_t wall_ns = 0;  // what is recorded for people
};

// What the operator's command is to do: keep a host away from NVMe-oF targets, or let it in again.
struct FenceOrder {
  struct Target {
    std::string name;
    std::vector<std::string> uris;
  };
  bool fence = true;
  std::string hostnqn;
  std::vector<Target> targets;
};

class StateMachine {
 public:
  // Formats an empty store. EINVAL: the store is another cluster's or another version's; EUCLEAN: damaged.
  static Result<std::unique_ptr<StateMachine>> Open(Store* store, const MetaOptions& options, MetaNow now);

  void Begin(MetaNow now);
  Status Commit();
  // When Begin should be called at the latest; INT64_MAX: no need.
  int64_t deadline_ms() const;
  // Rises with everything that NextEvents or NextJobs should return for: wake those that wait.
  int64_t events_version() const {
    return targets_.version() + targets_.jobs_changes() + ended_sessions_ + fence_changes_ + chunks_.map_version();
  }

  // MetaService
  // EAGAIN: another session, or the host itself, is being dealt with by the fence command; ask again.
  Result<idl::Session> OpenSession(const idl::OpenSessionArgs& args);
  Result<idl::Session> ReclaimSession(uint64_t id);
  void CloseSession(uint64_t id);
  // No request of the session by an older map is under way.
  Status ChunksSettled(uint64_t id, int64_t version);
  uint32_t SettledVersion() const;                                    // of all sessions
  Status CheckSession(uint64_t id);                                   // ESTALE; else it is renewed
  idl::Reply Execute(uint64_t session, const idl::Request& request);  // after CheckSession in the same batch
  Result<idl::Events> NextEvents(uint64_t session, int64_t targets_version, int64_t chunks_version);

  // What the fence command is to do now, and what came of it.
  std::vector<FenceOrder> FenceOrders() const;
  void FenceDone(const FenceOrder& order, const Status& status);

  // fsck. What has been committed, without what this batch has changed so far.
  Result<std::unique_ptr<StoreReader>> Snapshot() { return store_->Snapshot(); }
  // Carries out repairs that are possible in a running server and sets problem.repaired of each.
  void RepairFindings(std::span<FsckFinding* const> findings);

  // AdminService
  Result<idl::PoolStatus> CreatePool(const idl::CreatePoolArgs& args);
  idl::PoolStatus PoolStatus() const;
  Status EvictSession(uint64_t id, bool host_is_off);
  Result<idl::PoolStatus> SetPool(const idl::PoolSettings& settings);
  Result<idl::PoolStatus> AddTarget(const std::string& name);
  Result<idl::PoolStatus> AddNvmeTarget(const idl::RegisterTargetArgs& args, bool only_check = false);
  Result<idl::PoolStatus> SetDataPath(const std::string& name, idl::DataPath::type path);
  Result<idl::PoolStatus> DrainTarget(const std::string& name, bool cancel);
  Result<idl::PoolStatus> RemoveTarget(const std::string& name, bool lost);
  Result<idl::PoolStatus> Rebalance(bool stop);
  Result<idl::PoolStatus> Scrub(bool stop);

  // TargetService
  Result<idl::TargetOrders> RegisterTarget(const idl::RegisterTargetArgs& args);
  Result<idl::TargetOrders> Heartbeat(const std::string& uuid, const idl::TargetReport& report, int64_t instance);
  // All that the target is to do now, and the version of that list; that alone when it is not above `known`.
  Result<idl::Jobs> NextJobs(const std::string& uuid, int64_t instance, int64_t known = -1);
  Status FinishJobs(const std::string& uuid, int64_t instance, const std::vector<idl::JobResult>& results);
  Status ReportDamage(const std::string& uuid, int64_t instance, const std::vector<idl::Damage>& damages);

  const MetaOptions& options() const { return options_; }
  const Chunks& chunks() const { return chunks_; }
  Chunks* mutable_chunks() { return &chunks_; }  // between Begin and Commit
  const OpenChunks& open_chunks() const { return open_chunks_; }
  const Space& space() const { return space_; }

 private:
  StateMachine(Store* store, const MetaOptions& options, const Superblock& superblock);
  Status Load(MetaNow now);
  Status CommitStore();

  void BeginOperation();
  idl::Reply ExecuteOnce(const OpContext& context, const idl::Operation& op);
  int Dispatch(const OpContext& context, const idl::Operation& op, idl::Reply* reply);
  uint32_t ClassOf(const idl::GrantOp& op) const;
  int Grant(const OpContext& context, const idl::GrantOp& op, idl::Reply* reply);
  int Release(const OpContext& context, const idl::ReleaseOp& op);
  int GetChunks(const idl::GetChunksOp& op, idl::Reply* reply);
  int MarkStale(const OpContext& context, const idl::MarkStaleOp& op, idl::Reply* reply);
  int OpenChunksOf(const OpContext& context, const idl::OpenChunksOp& op);
  int CloseChunksOf(const OpContext& context, const idl::CloseChunksOp& op);
  int StatFs(const OpContext& context, idl::Reply* reply);

  void DescribeTargets(std::vector<idl::TargetInfo>* out) const;
  void DescribeSessions(std::vector<idl::SessionInfo>* out) const;
  idl::Session Describe(uint64_t id);
  // clean: the client has flushed everything and says so; else the copies that it may have been writing to are
  // made equal.
  void EndSession(uint64_t id, bool clean, std::string_view why);
  void EqualizeChunksOf(uint64_t session);

  // What keeps an ended session away from a target of kind nvmeof: "reservation", "command" or "lease"; else "".
  std::string FenceOf(const TargetState& target) const;
  bool MustFence() const;
  // Ends it for its client, and altogether as soon as nothing that it sent can take effect any more.
  void Retire(uint64_t id, std::string_view why);
  void EndRetired();
  Status Retiring(uint64_t id) const;  // EBUSY or EAGAIN: why nobody else is let in
  Status LetIn(const std::string& hostnqn);
  void LoadFencing();
  std::vector<PlacementTarget> PlacementView() const;
  bool IsTargetUp(uint32_t target) const;
  // ENODEV: no pool. ENOENT: the name is unknown, or (FindMember) not part of the pool.
  Result<const TargetState*> FindTarget(const std::string& name) const;
  Result<const TargetState*> FindMember(const std::string& name) const;
  Status CheckHoldsChunk(const std::string& name, uint64_t capacity_bytes) const;
  Status CheckDrain(const TargetState& target) const;  // ENOSPC
  Result<std::vector<Uuid>> ChooseTargets(const idl::CreatePoolArgs& args) const;

  Store* const store_;
  const MetaOptions options_;
  const Superblock superblock_;
  Transaction tx_;
  Tables tables_;
  Counters counters_;
  Counters stored_counters_;
  Namespace names_;
  Targets targets_;
  Chunks chunks_;
  OpenChunks open_chunks_;
  Space space_;
  Files files_;
  Sessions sessions_;
  Upkeep upkeep_;
  MetaNow now_;
  int64_t ended_sessions_ = 0;
  int64_t fence_changes_ = 0;
  std::map<std::string, std::string> letting_in_;  // hosts, and why that failed last
};

}  // namespace weft
