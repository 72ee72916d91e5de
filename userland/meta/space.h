// SPDX-License-Identifier: MIT
//
// The pool's space: which blocks are free or granted, and the chunks that hold them. Free ranges, grants
// and chunks are kept in the store and mirrored here, so that a grant costs no read.
//
// At any time: free + granted + used by files == pool. Chunks are made in the order of their index, when
// their first block is granted; those that exist are [0, chunks().size()).
//
// Changes of one operation can be taken back (Begin ... Rollback) together with its Transaction.
// State machine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "userland/meta/placement.h"
#include "userland/meta/range_map.h"
#include "userland/meta/tables.h"

namespace weft {

inline constexpr uint64_t kBlockBytes = 4096;
inline constexpr size_t kSpreadChunks = 8;        // chunks that a grant draws from, when there are as many
inline constexpr uint64_t kShareBlocksMin = 256;  // of a grant from one chunk, if so many are wanted
inline constexpr uint64_t kGrantBlocksMax = 1 << 18;
inline constexpr size_t kFitSearchMax = 64;  // free ranges of a chunk that are looked at

struct BlockRange {
  uint64_t first = 0;
  uint64_t blocks = 0;
};

class Space {
 public:
  // What placement may use now; the chunks that are on a target are counted here.
  using TargetsView = std::function<std::vector<PlacementTarget>()>;

  Space(Tables* tables, TargetsView targets) : tables_(tables), targets_(std::move(targets)) {}

  // Reads the mirrors from the store. False: there is no pool.
  bool Load();
  // Everything is free.
  void Format(const PoolRecord& pool);

  bool formed() const { return pool_.pool_blocks > 0; }
  const PoolRecord& pool() const { return pool_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  uint64_t degraded() const { return degraded_; }
  uint64_t free_blocks() const { return free_.total(); }
  uint64_t granted_blocks() const { return granted_total_; }
  uint64_t granted_blocks(uint64_t session) const;
  uint64_t chunks_on(uint32_t target) const;

  void Begin() { undo_.clear(); }
  void Rollback();

  // Lends about `blocks` blocks in at most ranges_max ranges, from several chunks where that is possible.
  // Empty: nothing is free.
  std::vector<BlockRange> Grant(uint64_t session, uint64_t blocks, size_t ranges_max);
  // Blocks from `first` on that are granted to the session without a gap.
  uint64_t Granted(uint64_t session, uint64_t first) const;
  // Granted blocks become a file's.
  void Use(uint64_t session, BlockRange range);
  // Granted blocks become free. EINVAL: not granted to this session.
  int Release(uint64_t session, BlockRange range);
  void ReleaseAll(uint64_t session);
  // A file's blocks become free.
  void Free(BlockRange range);

  // ENOENT: no such chunk. EINVAL: bad mask or version. EBUSY: no copy in sync would be left.
  int MarkStale(uint64_t index, uint32_t version, uint32_t copy_mask);

 private:
  struct Undo {
    enum { kFreeAdded, kFreeTaken, kGrantAdded, kGrantTaken, kChunkMade, kChunkChanged } what;
    uint64_t session;
    BlockRange range;
    uint64_t index;
    Chunk chunk;
  };

  void AddFree(BlockRange range);
  void TakeFree(BlockRange range);
  void AddGrant(uint64_t session, BlockRange range);
  void TakeGrant(uint64_t session, BlockRange range);
  void ApplyFree(BlockRange range, bool add, const RangeMap::Sink& sink);
  void ApplyGrant(uint64_t session, BlockRange range, bool add, const RangeMap::Sink& sink);
  void CountFree(BlockRange range, bool add);
  void CountCopies(const Chunk& chunk, bool add);
  bool MakeChunk();
  void RefillActive();
  BlockRange FindFree(uint64_t chunk, uint64_t wanted) const;

  Tables* const tables_;
  const TargetsView targets_;
  PoolRecord pool_;
  RangeMap free_;
  std::map<uint64_t, RangeMap> granted_;  // by session
  uint64_t granted_total_ = 0;
  std::vector<Chunk> chunks_;
  std::vector<uint64_t> chunk_free_;                 // free blocks of each chunk that exists
  std::set<std::pair<uint64_t, uint64_t>> by_free_;  // (free blocks, chunk), those with any
  std::map<uint32_t, uint64_t> chunks_on_;           // target -> copies on it
  uint64_t degraded_ = 0;
  std::vector<uint64_t> active_;  // chunks that grants come from now: they stay until used up, so that
  size_t next_active_ = 0;        // consecutive grants continue each other
  std::vector<Undo> undo_;
};

}  // namespace weft
