// SPDX-License-Identifier: MIT
//
// The targets that have registered: members of the pool (stored) and others (in memory until a pool takes
// them). A target is up while its heartbeats arrive. The map that clients get has a version that rises with
// every change they should know, also across restarts of the server. State machine thread.
#pragma once

#include <cstdint>
#include <map>
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

struct TargetTimes {
  int heartbeat_ms = 1000;
  int down_ms = 5000;  // without a heartbeat
};

struct TargetState {
  uint32_t id = 0;  // 0: not part of the pool
  TargetRecord record;
  bool up = true;
  int64_t heartbeat_at_ms = 0;
  int32_t queue_depth = 0;
  int32_t load = 0;
  int32_t told_load = 0;  // when the map last changed
};

class Targets {
 public:
  Targets(Tables* tables, Uuid cluster, std::string cluster_name, TargetTimes times)
      : tables_(tables), cluster_(cluster), cluster_name_(std::move(cluster_name)), times_(times) {}

  // starts: how often this store has been opened; the high half of the map's version.
  void Load(int64_t now_ms, uint64_t starts);

  const std::map<Uuid, TargetState>& all() const { return targets_; }
  const TargetState* FindName(std::string_view name) const;
  int64_t version() const { return version_; }
  idl::TargetMap Map() const;                                             // members of the pool
  std::vector<PlacementTarget> ForPlacement(uint64_t chunk_bytes) const;  // `used` is 0

  Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args, int64_t now_ms);
  Result<idl::TargetOrders> Heartbeat(const Uuid& uuid, const idl::TargetReport& report, int64_t now_ms);
  // Makes a registered target a member of the pool.
  void Join(const Uuid& uuid, uint32_t id);

  // Marks those down that have been silent too long.
  void Tick(int64_t now_ms);
  // When Tick has something to do; INT64_MAX: never.
  int64_t deadline_ms() const;

 private:
  Status CheckArgs(const idl::RegisterTargetArgs& args) const;
  // EEXIST, EINVAL: it may not take the place of what is known under its UUID or name.
  Status CheckIdentity(const Uuid& uuid, const idl::RegisterTargetArgs& args);
  void SetUp(TargetState* target, bool up);
  idl::TargetOrders OrdersFor(const TargetState& target) const;

  Tables* const tables_;
  const Uuid cluster_;
  const std::string cluster_name_;
  const TargetTimes times_;
  std::map<Uuid, TargetState> targets_;
  int64_t version_ = 1;
};

}  // namespace weft
