// SPDX-License-Identifier: MIT
//
// The places of a target: its data area cut into pieces as large as the pool's chunks, each of which holds
// one copy of a chunk. For each place this knows
//
//   - its floor: the highest chunk version that a command has named there. Smaller ones are refused, so that
//     a client with an old map does no harm. Durable (FloorStore) before the command that raises it runs;
//   - which accesses are under way, so that the first one of a new version runs alone: when it is answered,
//     nothing of an older version is going to happen any more;
//   - regions that are locked by the target's own work: writes that touch them wait;
//   - while a copy is being made (Track): the blocks that clients have written since it began. They are newer
//     than what the copy's source may have, and are left alone.
//
// See "Resync" in ARCHITECTURE.md for the protocol that this is a part of. Engine thread only; nothing blocks
// but FloorStore::Raise.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <unordered_map>
#include <vector>

#include "userland/base/status.h"

namespace weft::rdma {

// Where floors are kept.
class FloorStore {
 public:
  virtual ~FloorStore() = default;
  virtual uint32_t floor(uint64_t place) const = 0;  // 0: no command has named a version there
  // version > floor(place). Returns when it is durable. Happens once for each change of a chunk's copies.
  virtual Status Raise(uint64_t place, uint32_t version) = 0;
};

struct BlockRange {  // of the data area, bytes, multiples of 4096
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct Access {
  BlockRange range;
  bool writes = false;  // WRITE, DISCARD, WRITE_ZEROES
  uint32_t version = 0;
};

class Places {
 public:
  // place_bytes 0: not known yet.
  Places(FloorStore* store, uint64_t capacity_bytes, uint64_t place_bytes);

  // Once, from "not known": the target has become part of a pool.
  void SetPlaceBytes(uint64_t place_bytes);
  uint64_t place_bytes() const;

  // ---- for the commands of connections
  enum class Verdict : uint8_t {
    kGo,      // under way from now on, until Leave
    kWait,    // NextReady will name `waiter`; then Enter again
    kRefuse,  // *error: ESTALE (the version, or no pool), EINVAL (the range is not inside one place), EIO (floor not
              // durable)
  };
  Verdict Enter(const Access& access, uint64_t waiter, int* error);
  // executed: a write has changed the contents, or may have.
  void Leave(const Access& access, bool executed);
  void Forget(uint64_t waiter);      // its connection has ended
  bool NextReady(uint64_t* waiter);  // false: nobody may go on now

  // ---- for the target's own work on a place
  // Raises the floor of the place at `offset` and begins to note what is written there. Ends what was noted.
  // EINVAL: no place begins there. ESTALE: its floor is higher.
  Status Track(uint64_t offset, uint32_t version);
  void Untrack(uint64_t offset);
  bool Written(uint64_t block_offset) const;  // since Track, by a client; the block at this byte of the data area
  // Calls `locked` as soon as no write is under way in the range; until Unlock writes that touch it wait.
  void Lock(BlockRange range, std::function<void()> locked);
  void Unlock(BlockRange range);
};

}  // namespace weft::rdma
