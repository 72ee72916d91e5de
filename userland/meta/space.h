// SPDX-License-Identifier: MIT
//
// Which blocks of the pool are free or granted. Free ranges and grants are kept in the store and mirrored
// here, so that a grant costs no read.
//
// At any time: free + granted + used by files == blocks of the chunks that exist. A chunk belongs to a class,
// the number of copies it is wanted to have; a grant draws from the chunks of one class and makes new ones when
// they run short. A chunk of which every block is free is deleted when its class has others to spare, when
// another class needs its places, or when somebody asks for it (Delete).
//
// Changes of one operation can be taken back (Begin ... Rollback) together with its Transaction and those of
// Chunks and OpenChunks. State machine thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "userland/meta/chunks.h"
#include "userland/meta/open_chunks.h"
#include "userland/meta/placement.h"
#include "userland/meta/range_map.h"
#include "userland/meta/tables.h"

namespace weft {

inline constexpr size_t kSpreadChunks = 8;        // chunks that a grant draws from, when there are as many
inline constexpr uint64_t kShareBlocksMin = 256;  // of a grant from one chunk, if so many are wanted
inline constexpr uint64_t kGrantBlocksMax = 1 << 18;
inline constexpr size_t kFitSearchMax = 64;  // free ranges of a chunk that are looked at

// Chunks of a class that are kept although all of them is free, so that what is deleted can be written again
// at once: so many blocks of them, but at least kSpreadChunks. Tests lower it.
struct SpaceLimits {
  uint64_t spare_blocks = kGrantBlocksMax;
};

struct BlockRange {
  uint64_t first = 0;
  uint64_t blocks = 0;
};

class Space {
 public:
  // What placement may use now, with the places that are used.
  using TargetsView = std::function<std::vector<PlacementTarget>()>;

  Space(Tables* tables, Chunks* chunks, OpenChunks* open_chunks, TargetsView targets, SpaceLimits limits)
      : tables_(tables), chunks_(chunks), open_chunks_(open_chunks), targets_(std::move(targets)), limits_(limits) {}

  // Reads the mirrors from the store, after Chunks and OpenChunks.
  void Load();

  // What could be granted in chunks of so many copies: free in those there are, and in those that could be made.
  uint64_t free_blocks(uint32_t copies) const;
  // Free in the chunks there are, of whatever class.
  uint64_t free_in_chunks() const { return free_.total(); }
  uint64_t used_blocks() const;  // by files
  uint64_t granted_blocks() const { return granted_total_; }
  uint64_t granted_blocks(uint64_t session) const;
  bool AllFree(uint64_t chunk) const;

  void Begin() { undo_.clear(); }
  void Rollback();

  // Lends about `blocks` blocks in at most ranges_max ranges, of chunks of so many copies (1..kCopiesMax), from
  // several chunks where that is possible, and opens those chunks for the session. Empty: nothing is free.
  std::vector<BlockRange> Grant(uint64_t session, uint64_t blocks, size_t ranges_max, uint32_t copies);
  // Blocks from `first` on that are granted to the session without a gap.
  uint64_t Granted(uint64_t session, uint64_t first) const;
  // Granted blocks become a file's.
  void Use(uint64_t session, BlockRange range);
  // Granted blocks become free. EINVAL: not granted to this session.
  int Release(uint64_t session, BlockRange range);
  void ReleaseAll(uint64_t session);
  // A file's blocks become free.
  void Free(BlockRange range);
  // Blocks of a chunk that no file has, as fsck found, become free. False: they are free or granted already.
  bool FreeLeaked(BlockRange range);
  // False: not all of the chunk is free.
  bool Delete(uint64_t chunk);
  // After a grant of this class found nothing: deletes what other classes have to spare.
  void MakeRoom(uint32_t copies);

  // Targets that may get chunks, up or not: as many copies can a chunk have.
  uint32_t members_taking() const;

 private:
  struct Undo {
    enum { kFreeAdded, kFreeTaken, kGrantAdded, kGrantTaken, kChunkAdded, kChunkRemoved } what;
    uint64_t session;
    BlockRange range;
    uint64_t chunk;
    uint32_t copies;
  };
  struct FreeOf {  // a chunk
    uint32_t copies = 0;
    uint64_t blocks = 0;
  };
  struct Class {
    std::set<std::pair<uint64_t, uint64_t>> by_free;  // (free blocks, chunk), those with any
    uint64_t free = 0;
    uint64_t spare = 0;            // chunks of which all is free
    std::vector<uint64_t> active;  // chunks that grants come from now: they stay until used up, so that
    size_t next_active = 0;        // consecutive grants continue each other
  };

  void AddFree(BlockRange range);
  void TakeFree(BlockRange range);
  void AddGrant(uint64_t session, BlockRange range);
  void TakeGrant(uint64_t session, BlockRange range);
  void ApplyFree(BlockRange range, bool add, const RangeMap::Sink& sink);
  void ApplyGrant(uint64_t session, BlockRange range, bool add, const RangeMap::Sink& sink);
  void ApplyChunk(uint64_t chunk, uint32_t copies, bool add);
  void CountFree(BlockRange range, bool add);
  RangeMap::Sink FreeSink();
  RangeMap::Sink GrantSink(uint64_t session);
  std::pair<uint64_t, uint64_t> Key(uint64_t chunk) const { return {chunk_free_.at(chunk).blocks, chunk}; }
  uint64_t SpareChunksMax() const;

  bool MakeChunk(uint32_t copies, const std::vector<PlacementTarget>& targets);
  void RefillActive(uint32_t copies);
  // Deletes chunks of the range that nobody needs.
  void Trim(BlockRange range);
  BlockRange FindFree(uint64_t chunk, uint64_t wanted) const;

  Tables* const tables_;
  Chunks* const chunks_;
  OpenChunks* const open_chunks_;
  const TargetsView targets_;
  const SpaceLimits limits_;
  RangeMap free_;
  std::map<uint64_t, RangeMap> granted_;  // by session
  uint64_t granted_total_ = 0;
  std::map<uint64_t, FreeOf> chunk_free_;  // every chunk that exists
  std::array<Class, kCopiesMax + 1> classes_;
  std::vector<Undo> undo_;
};

}  // namespace weft
