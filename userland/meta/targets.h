// SPDX-License-Identifier: MIT
//
// The targets that have registered: members of the pool (stored) and others (in memory until a pool takes
// them). A target is up while its heartbeats arrive. The map that clients get has a version that rises with
// every change they should know, also across restarts of the server; so has each target's list of jobs.
// State machine thread.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "thrift-gen/TargetService.h"
#include "userland/base/status.h"
#include "userland/meta/placement.h"
#include "userland/meta/tables.h"

namespace weft {

inline constexpr size_t kTargetNameBytesMax = 31;  // weft_target_info.name
inline constexpr size_t kTargetsMax = 1024;        // WEFT_TARGETS_MAX
inline constexpr int32_t kLoadStep = 100;          // of 1000: a smaller change of load wakes nobody
inline constexpr uint64_t kChunkBytesMin = 1 << 20;
// Reports that changed less are told with the next change, at the latest when they are this old: their age is what
// clients judge them by.
inline constexpr int64_t kReportsTellMs = 2000;

struct TargetTimes {
  int heartbeat_ms = 1000;
  int down_ms = 5000;  // without a heartbeat
};

struct TargetState {
  uint32_t id = 0;  // 0: not part of the pool
  TargetRecord record;
  bool up = true;
  bool told = false;             // that it is a member
  bool joined = false;           // it has shown that it knows
  bool awaited = false;          // it came into a pool that is in use: gets nothing before it has joined
  int64_t heartbeat_at_ms = -1;  // -1: never
  int64_t reported_at_ms = -1;   // -1: never
  int32_t queue_depth = 0;
  int32_t load = 0;
  int32_t told_load = 0;  // when the map last changed
  int32_t device_latency_us = 0;
  int64_t jobs_version = 0;
  std::vector<idl::NvmePath> paths;       // reported, as is
  std::string data_path;                  // likewise; see TargetInfo
  std::optional<idl::NvmeTraits> traits;  // likewise
  bool reserved = false;                  // likewise; see TargetReport
  bool usable() const { return up && (joined || !awaited); }
};

// What happened to a member since it was last asked.
struct TargetChange {
  bool stopped = false;  // another process came, or it was removed: what it was doing is void
  bool silent = false;   // it went down, and has not been heard of since
};

idl::NvmeNamespace ToIdl(const NvmeRecord& nvme);

class Targets {
 public:
  Targets(Tables* tables, Uuid cluster, std::string cluster_name, TargetTimes times)
      : tables_(tables), cluster_(cluster), cluster_name_(std::move(cluster_name)), times_(times) {}

  // starts: how often this store has been opened; the high half of the map's version.
  void Load(int64_t now_ms, uint64_t starts);

  const std::map<Uuid, TargetState>& all() const { return targets_; }
  const TargetState* FindName(std::string_view name) const;
  const TargetState* FindId(uint32_t id) const;  // members
  // ESTALE: unknown, or another instance has registered; it must register again.
  Result<const TargetState*> Check(const std::string& uuid, int64_t instance) const;
  idl::Peer PeerAt(const Copy& copy) const;
  int64_t version() const { return version_; }
  idl::TargetMap Map() const;  // members of the pool
  // Those that may get new chunks; `used` is 0.
  std::vector<PlacementTarget> ForPlacement(uint64_t chunk_bytes) const;

  // A target, by itself or by the client that lends its hand to an NVMe-oF target; or (args.nvme and no host) a
  // target of that kind is made known by an operator, who alone says its name, zone, weight and paths.
  Status Check(const idl::RegisterTargetArgs& args) const;  // what Register refuses
  Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args, int64_t now_ms);
  Result<idl::TargetOrders> Heartbeat(const std::string& uuid, const idl::TargetReport& report, int64_t instance,
                                      int64_t now_ms);
  // Makes a registered target a member of the pool. awaited: of one that is in use.
  void Join(const Uuid& uuid, uint32_t id, bool awaited);
  void SetDraining(uint32_t id, bool draining);
  void SetDataPath(uint32_t id, DataPath path);
  // It is no member any more. lost: what it holds is out of date, and it will be refused should it come back.
  void Remove(uint32_t id, bool lost);
  void SetChunkBytes(uint64_t chunk_bytes) { chunk_bytes_ = chunk_bytes; }  // of the pool

  // The list of jobs of one target, or of all, has changed.
  void TouchJobs(uint32_t id);
  void TouchAllJobs();
  int64_t jobs_changes() const { return jobs_changes_; }
  // Members that something happened to since the last call: up, down, restarted, joined, draining, removed.
  std::map<uint32_t, TargetChange> TakeChanges() { return std::exchange(changes_, {}); }

  // Marks those down that have been silent too long.
  void Tick(int64_t now_ms);
  // When Tick has something to do; INT64_MAX: never.
  int64_t deadline_ms() const;

 private:
  Status CheckArgs(const idl::RegisterTargetArgs& args) const;
  Status CheckNvme(const idl::RegisterTargetArgs& args) const;
  void Announce(TargetState* target, const idl::RegisterTargetArgs& args);
  // EEXIST, EINVAL: it may not take the place of what is known under its UUID or name. ENOENT: it is the gateway of a
  // target that nobody has announced.
  Status CheckIdentity(const Uuid& uuid, const idl::RegisterTargetArgs& args) const;
  Status CheckNamespaceIsFree(const Uuid& uuid, const idl::RegisterTargetArgs& args) const;
  void SetUp(TargetState* target, bool up);
  TargetState* Mutable(uint32_t id) { return const_cast<TargetState*>(FindId(id)); }
  idl::TargetOrders OrdersFor(TargetState* target);
  // Keeps the report; true: clients should know at once.
  bool Report(TargetState* target, const idl::TargetReport& report, int64_t now_ms);

  Tables* const tables_;
  const Uuid cluster_;
  const std::string cluster_name_;
  const TargetTimes times_;
  std::map<Uuid, TargetState> targets_;
  std::map<uint32_t, Uuid> members_;
  std::map<uint32_t, TargetChange> changes_;
  int64_t version_ = 1;
  int64_t told_at_ms_ = 0;  // the map's version rose last
  int64_t now_ms_ = 0;
  int64_t first_jobs_version_ = 1;
  int64_t jobs_changes_ = 0;
  uint64_t chunk_bytes_ = 0;
};

}  // namespace weft
