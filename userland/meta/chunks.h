// SPDX-License-Identifier: MIT
//
// The chunk table: which chunks there are, where their copies lie and what state they are in; the places of
// targets; the damage that was reported. Kept in the store and mirrored here with the indexes that others
// search by (copies of a target, order of change, what needs work).
//
// Every change of a chunk's copies gives it a new version from one counter of the pool: versions are unique
// over all chunks and rise, so "changed since V" is a search, and a target that has seen a version refuses
// every older map.
//
// A target's data area is cut into places of a chunk's size. A copy holds a place from the moment it is added;
// a copy that was dropped holds it on until its target has said that it let go of it (ReleaseDone), so that a
// client with an old map can never write into another chunk.
//
// Changes of one operation can be taken back (Begin ... Rollback) together with its Transaction and the
// Counters. Functions return 0 or an errno; a failing one has changed nothing. State machine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "userland/meta/placement.h"
#include "userland/meta/range_map.h"
#include "userland/meta/tables.h"

namespace weft {

class Chunks {
 public:
  using PlacesOf = std::function<uint64_t(uint32_t target)>;  // that fit on it; 0: it is no member
  using IsUp = std::function<bool(uint32_t target)>;
  // (target, offset) -> what was there.
  using Releases = std::map<std::pair<uint32_t, uint64_t>, ReleaseRecord>;
  // (chunk, target) -> blocks.
  using DamageMap = std::map<std::pair<uint64_t, uint32_t>, std::set<uint32_t>>;

  Chunks(Tables* tables, Counters* counters, PlacesOf places_of)
      : tables_(tables), counters_(counters), places_of_(std::move(places_of)) {}

  // Reads the mirrors from the store. False: there is no pool.
  bool Load();
  void Format(const PoolRecord& pool) { SetPool(pool); }
  bool formed() const { return pool_.chunk_blocks > 0; }
  const PoolRecord& pool() const { return pool_; }
  // Other settings; the size of chunks must stay.
  void SetPool(const PoolRecord& pool);

  void Begin() { undo_.clear(); }
  void Rollback();

  // ---- what there is
  const std::map<uint64_t, Chunk>& all() const { return all_; }
  const Chunk* Find(uint64_t index) const;
  const std::set<uint64_t>& on(uint32_t target) const;                // chunks with a copy there
  uint64_t used_places(uint32_t target) const;                        // with those that are being released
  uint64_t unsynced(uint32_t target) const;                           // copies there that are not in sync
  uint64_t degraded() const { return degraded_; }                     // fewer copies in sync than wanted
  const std::set<uint64_t>& lost() const { return lost_; }            // no copy in sync
  const std::set<uint64_t>& unsettled() const { return unsettled_; }  // see Chunk::Settled
  // What Changed does not tell, since the last call: chunks that are gone, targets with other releases. May name
  // some where nothing changed in the end.
  std::set<uint64_t> TakeGone() { return std::exchange(gone_, {}); }
  std::set<uint32_t> TakeReleaseChanges() { return std::exchange(release_changes_, {}); }
  uint32_t map_version() const { return counters_->map_version; }
  // Chunks changed after `since`, by rising version, at most max. Chunks that were deleted are not told.
  std::vector<std::pair<uint64_t, const Chunk*>> Changed(uint32_t since, size_t max) const;

  // ---- chunks
  // A new chunk where placement wants it. Copies on targets that are down are stale from the start when
  // another one is on a target that is up. Nothing: there is no room.
  std::optional<uint64_t> Make(uint32_t copies, const std::vector<PlacementTarget>& targets);
  // All its copies are dropped and their places released. Only Space knows whether it may go: Space::Delete.
  void Remove(uint64_t index);

  // ---- copies. ENOENT: no such chunk or no copy of it there.
  // A client failed to write the copies of copy_mask. ESTALE: version is not the chunk's. EINVAL: bad mask.
  // EBUSY: no copy in sync would be left. Stale already: nothing changes.
  int MarkStale(uint64_t index, uint32_t version, uint32_t copy_mask);
  int SetState(uint64_t index, uint32_t target, CopyState state);
  // RESYNCING. ENOSPC: the target has no place, or the chunk has kChunkCopiesMax copies. EEXIST.
  int AddCopy(uint64_t index, uint32_t target);
  // release: the place stays taken until ReleaseDone; else the target is gone for good.
  int DropCopy(uint64_t index, uint32_t target, bool release);
  int SetLeaving(uint64_t index, uint32_t target, bool leaving);
  // A doubtful copy (on a target that is up, if there is one) becomes the one in sync; one that was in sync
  // becomes doubtful. ENODATA: there is none.
  int Promote(uint64_t index, const IsUp& up = {});
  // The target has started anew: what was being resynchronised there is stale.
  void StaleResyncing(uint32_t target);
  // A client died that had the chunk open: its copies may differ. One copy in sync stays so (on a target that
  // is up, if there is one; fewest bad blocks, lowest id), the others become stale; those that were in sync: doubtful.
  void Equalize(uint64_t index, const IsUp& up);
  // Somebody will write: copies that get no writes do not have everything any more.
  void ClearDoubtful(uint64_t index);

  // ---- places being released
  const Releases& releases() const { return releases_; }
  std::vector<std::pair<uint64_t, ReleaseRecord>> ReleasesOf(uint32_t target) const;  // offset, what was there
  // ENOENT: it is not being released.
  int ReleaseDone(uint32_t target, uint64_t offset);
  // The target knows a higher version there: under the next one. ENOENT as above.
  int RenewRelease(uint32_t target, uint64_t offset);
  // The target is no member any more.
  void ForgetReleases(uint32_t target);

  // ---- damage. Blocks are counted from the start of the chunk. It is forgotten when the copy is dropped or
  // resynchronised.
  // EINVAL: a block outside the chunk.
  int AddDamage(uint64_t index, uint32_t target, const std::vector<int64_t>& blocks);
  // Those of that copy are good again.
  int RepairDamage(uint64_t index, uint32_t target, const std::vector<uint32_t>& blocks);
  const std::set<uint32_t>& DamageOf(uint64_t index, uint32_t target) const;
  const DamageMap& damage() const { return damage_; }
  uint64_t bad_blocks() const { return bad_blocks_; }

 private:
  auto RankIn(uint64_t index, const IsUp& up) const;
  uint32_t NextVersion();
  // The primitives: each changes the mirror, the store and the undo log.
  void Put(uint64_t index, std::optional<Chunk> chunk);
  void PutChanged(uint64_t index, Chunk chunk);  // under the next version
  void PutRelease(uint32_t target, uint64_t offset, std::optional<ReleaseRecord> record);
  void PutDamage(uint64_t index, uint32_t target, std::set<uint32_t> blocks);
  // Only the mirror.
  void Apply(uint64_t index, std::optional<Chunk> chunk);
  void ApplyRelease(uint32_t target, uint64_t offset, const std::optional<ReleaseRecord>& record);
  void ApplyDamage(uint64_t index, uint32_t target, std::set<uint32_t> blocks);
  void Count(uint64_t index, const Chunk& chunk, bool add);
  void CountPlace(uint32_t target, uint64_t offset, bool add);

  bool PlacesAreFree(const Chunk& chunk) const;
  void LoadReleases();
  void LoadDamage();
  std::optional<uint64_t> FreeIndex() const;
  uint64_t FreePlace(uint32_t target) const;  // lowest; offset in bytes

  Tables* const tables_;
  Counters* const counters_;
  const PlacesOf places_of_;
  PoolRecord pool_;
  std::map<uint64_t, Chunk> all_;
  std::map<uint32_t, uint64_t> by_version_;
  std::map<uint32_t, std::set<uint64_t>> on_;
  std::map<uint32_t, RangeMap> places_;  // used ones, by number
  std::map<uint32_t, uint64_t> unsynced_;
  uint64_t degraded_ = 0;
  std::set<uint64_t> lost_;
  std::set<uint64_t> unsettled_;
  Releases releases_;
  DamageMap damage_;
  uint64_t bad_blocks_ = 0;
  std::set<uint64_t> gone_;
  std::set<uint32_t> release_changes_;
  std::vector<std::function<void()>> undo_;  // run backwards
};

}  // namespace weft
