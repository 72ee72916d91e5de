// SPDX-License-Identifier: MIT
//
// The places of a target: its data area cut into pieces as large as the pool's chunks, each of which holds
// one copy of a chunk. For each place this knows
//
//   - its floor: the highest chunk version that a command has named there. Smaller ones are refused, so that
//     a client with an old map does no harm. Durable (FloorStore) before the command that raises it runs;
//   - which accesses are under way. Those of one version only: who comes with a higher one waits until they
//     have ended, so that when it is answered nothing of an older version is going to happen any more;
//   - regions that are locked by the target's own work: writes that touch them wait;
//   - the blocks that clients have written since the floor was raised: while a copy is made they are newer than
//     what its source may have, and are left alone. This is noted from the raise on and not from the job's
//     beginning (Track), because clients may know of the new version, and write, before the job arrives.
//
// Who waits goes on in the order in which it came: writes of the same blocks and locks of them take turns, so
// neither starves the other.
//
// See "Resync" in ARCHITECTURE.md for the protocol that this is a part of. Engine thread only; nothing blocks
// but FloorStore::Raise.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
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
  bool writes = false;   // WRITE, DISCARD, WRITE_ZEROES
  uint32_t version = 0;  // 0: a look at what is there, see block_wire.h
};

class Places {
 public:
  // place_bytes 0: not known yet.
  Places(FloorStore* store, uint64_t capacity_bytes, uint64_t place_bytes);

  // Once, from "not known": the target has become part of a pool.
  void SetPlaceBytes(uint64_t place_bytes);
  uint64_t place_bytes() const { return place_bytes_; }
  Status CheckPlace(uint64_t offset) const;  // EINVAL: no place begins there

  // ---- for the commands of connections
  enum class Verdict : uint8_t {
    kGo,      // under way from now on, until Leave
    kWait,    // NextReady will name `waiter`; then Enter again
    kRefuse,  // *error: ESTALE (the version, or no pool), EINVAL (the range is not inside one place), EIO (floor not
              // durable: store_error() says why)
  };
  Verdict Enter(const Access& access, uint64_t waiter, int* error);
  // executed: what a write brought is there now. One that failed changes what the copy's source has to bring.
  void Leave(const Access& access, bool executed);
  void Forget(uint64_t waiter);      // its connection has ended
  bool NextReady(uint64_t* waiter);  // false: nobody may go on now
  bool HasReady() const { return !ready_.empty(); }
  const std::string& store_error() const { return store_error_; }

  // ---- for the target's own work on a place
  // Raises the floor of the place at `offset` to `version`, if it is lower, and keeps what Written says of it until
  // Untrack. EINVAL: no place begins there. ESTALE: its floor is higher; with kRaise also if the floor was at
  // `version` already and what was written since is not known any more (this process began later, or too
  // many others were raised since): the copy has to be made under a new version. EIO: floor not durable. EBUSY: kNow
  // for a place that is tracked.
  enum class Since : uint8_t {
    kRaise,  // Written: since the floor was raised to `version`. For making a copy
    kNow,    // Written: since this call. For RELEASE, which only wants the floor raised
  };
  Status Track(uint64_t offset, uint32_t version, Since since);
  void Untrack(uint64_t offset);
  bool Written(uint64_t block_offset) const;  // by a client; the block at this byte of the data area
  // Calls `locked` as soon as no write is under way in the range and nothing below the floor in the place, maybe before
  // this returns; until Unlock writes that touch it wait. The range is inside one place. Locks that overlap are held
  // one after the other.
  void Lock(BlockRange range, std::function<void()> locked);
  void Unlock(BlockRange range);  // before `locked` was called: it never will be

 private:
  struct Waiter {
    uint64_t id = 0;
    uint64_t ticket = 0;  // order of arrival
    Access access;
    bool named = false;  // in ready_, until it enters again
  };
  struct Region {
    uint64_t ticket = 0;
    BlockRange range;
    bool held = false;
    std::function<void()> locked;  // until held
  };
  struct Notes {  // of what was written
    uint32_t version = 0;
    bool since_raise = false;   // all of that version, in this process
    bool tracked = false;       // else it may be forgotten
    std::vector<bool> written;  // by block of the place; empty: nothing
  };
  struct Place {
    uint32_t running = 0;            // accesses under way, all of running_version
    uint32_t running_version = 0;    // at most the floor
    std::vector<BlockRange> writes;  // of them
    std::list<Waiter> waiters;       // as they came
    std::vector<Region> regions;     // as they came
    std::optional<Notes> notes;
    bool idle() const { return running == 0 && waiters.empty() && regions.empty() && !notes; }
  };
  struct WaiterAt {
    uint64_t place = 0;
    std::list<Waiter>::iterator waiter;
  };

  Status RaiseFloor(uint64_t place, uint32_t version);
  int Admit(const Access& access, uint64_t* place);  // 0 or why it is refused
  static bool Blocked(const Place& place, const Access& access, uint64_t ticket);
  static bool Grantable(const Place& place, const Region& region, uint32_t floor);
  void Settle(uint64_t place);  // lets those go on who may now
  void GrantRegions(uint64_t place);
  void ForgetOldNotes();
  void DropIfIdle(uint64_t place);

  FloorStore* const store_;
  const uint64_t capacity_bytes_;
  uint64_t place_bytes_ = 0;
  std::unordered_map<uint64_t, Place> places_;       // by number: those with something to remember, and a few more
  std::unordered_map<uint64_t, WaiterAt> waiting_;   // by id
  std::deque<uint64_t> ready_;                       // ids; some may have been forgotten
  std::deque<std::pair<uint64_t, uint32_t>> noted_;  // place and version of notes, the oldest first
  size_t notes_max_ = 0;
  uint64_t next_ticket_ = 0;
  std::string store_error_;
};

}  // namespace weft::rdma
