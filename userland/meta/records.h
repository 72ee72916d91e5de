// SPDX-License-Identifier: MIT
//
// The values of the metadata store (keys: keys.h). Each record has Encode and a Decode that returns false
// for bytes that are not such a record. Integers are big-endian; a string is length:u32 bytes.
//
//   superblock := "weftmeta" format:u32 uuid[16] name:string
//   pool       := copies:u32 chunk_blocks:u64 resync_bytes_per_s:u64 scrub_bytes_per_s:u64
//                 scrub_interval_s:u32 rebalancing:u8
//   counters   := next_ino:u64 next_session:u64 starts:u64 inodes:u64 map_version:u32 next_chunk:u64
//                 next_target:u32
//   inode      := mode:u32 nlink:u32 uid:u32 gid:u32 rdev:u32 size:u64 blocks:u64
//                 atime:i64 mtime:i64 ctime:i64 btime:i64 copies:u8 [directory | symlink]
//   directory  := parent:u64 next_cookie:u64 entries:u64
//   symlink    := target (the rest)
//   dirent     := ino:u64 cookie:u64 type:u8
//   cookie     := ino:u64 type:u8 name (the rest)
//   extent     := blocks:u32 pool_block:u64 unwritten:u8
//   chunk      := version:u32 copies_wanted:u8 count:u8 count * copy
//   copy       := target:u32 state:u8 flags:u8 offset:u64     flags: 1 leaving, 2 doubtful
//   target     := uuid[16] name:string host:string port:u32 capacity:u64 weight:u32 zone:string
//                 draining:u8 instance:u64 nvmeof:u8 [nvme]
//   nvme       := count:u32 count * uri:string uuid[16] nguid[16] nsid:u32 data_path:u8
//   releasing  := version:u32 chunk:u64
//   scrub      := active:u8 next:u64 began_s:i64 ended_s:i64
//   damage     := block:u32 ... (rising, at least one)
//   session    := client[16] opened_ns:i64 host:string hostnqn:string lease_ms:u32 drain_ms:u64 ended:u8
//   slot       := seq:u64 reply (Thrift compact, the rest)
//   grant,free := blocks:u64
//   orphan, open, removed := nothing
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "userland/base/block.h"
#include "userland/base/uuid.h"

namespace weft {

inline constexpr uint32_t kStoreFormat = 4;
// Of the logical address space, in which chunks lie sparsely; how much can be stored is up to the targets.
inline constexpr uint64_t kPoolBlocksMax = 1ULL << 40;
inline constexpr uint32_t kCopiesMax = 4;     // that a chunk is wanted to have
inline constexpr size_t kChunkCopiesMax = 5;  // that it may have while one moves
inline constexpr uint64_t kRootIno = 1;
inline constexpr uint64_t kFirstCookie = 3;  // smaller numbers are left to "." and ".." of readers

struct Superblock {
  uint32_t format = kStoreFormat;
  Uuid uuid{};
  std::string cluster;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, Superblock* out);
};

struct PoolRecord {
  uint32_t copies = 0;
  uint64_t chunk_blocks = 0;
  uint64_t resync_bytes_per_s = 0;  // of each target; 0: no limit
  uint64_t scrub_bytes_per_s = 0;   // of each target; 0: no limit
  uint32_t scrub_interval_s = 0;    // 0: only when asked for
  bool rebalancing = false;
  uint64_t chunk_bytes() const { return chunk_blocks * kBlockBytes; }
  std::string Encode() const;
  static bool Decode(std::string_view bytes, PoolRecord* out);
};

struct Counters {
  uint64_t next_ino = kRootIno + 1;
  uint64_t next_session = 1;
  uint64_t starts = 0;
  uint64_t inodes = 0;
  uint32_t map_version = 0;  // of the chunk that was changed last
  uint64_t next_chunk = 0;   // index to try first: an index comes again only after all others
  uint32_t next_target = 1;  // ids are never used again
  bool operator==(const Counters&) const = default;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, Counters* out);
};

struct Inode {
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t rdev = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;
  int64_t atime_ns = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  int64_t btime_ns = 0;
  uint32_t copies = 1;  // of new data, or of what is made in this directory
  // directories
  uint64_t parent = 0;
  uint64_t next_cookie = kFirstCookie;
  uint64_t entries = 0;
  // symbolic links
  std::string target;

  bool IsDir() const;
  bool IsRegular() const;
  bool IsSymlink() const;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, Inode* out);
};

struct Dirent {
  uint64_t ino = 0;
  uint64_t cookie = 0;
  uint8_t type = 0;  // DT_*
  std::string Encode() const;
  static bool Decode(std::string_view bytes, Dirent* out);
};

struct CookieRecord {
  uint64_t ino = 0;
  uint8_t type = 0;
  std::string name;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, CookieRecord* out);
};

// [first, first + blocks) of a file at [pool_block, pool_block + blocks) of the pool.
struct Extent {
  uint64_t first = 0;  // not in the value: key's last block + 1 - blocks
  uint32_t blocks = 0;
  uint64_t pool_block = 0;
  bool unwritten = false;
  uint64_t end() const { return first + blocks; }
  bool operator==(const Extent&) const = default;
  std::string Encode() const;
  static bool Decode(uint64_t last, std::string_view bytes, Extent* out);
};

// IN_SYNC is read and written, RESYNCING written, STALE neither.
enum class CopyState : uint8_t { kInSync = 1, kStale = 2, kResyncing = 3 };

struct Copy {
  uint32_t target = 0;
  CopyState state = CopyState::kInSync;
  uint64_t offset = 0;    // bytes, of its place in the target's data area
  bool leaving = false;   // to be dropped when there are enough others in sync
  bool doubtful = false;  // not in sync, but it has all that was acknowledged: a client died while writing
  bool operator==(const Copy&) const = default;
};

struct Chunk {
  uint32_t version = 0;
  uint32_t copies_wanted = 0;  // the chunk's class; never changes
  std::vector<Copy> copies;    // on distinct targets; none: all were lost

  const Copy* On(uint32_t target) const;
  size_t Count(CopyState state) const;
  bool Lost() const { return Count(CopyState::kInSync) == 0; }
  bool Degraded() const { return Count(CopyState::kInSync) < copies_wanted; }
  // As many copies as wanted, all in sync, none that is to leave.
  bool Settled() const;
  bool operator==(const Chunk&) const = default;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, Chunk* out);
};

// How far the background scrub is.
struct ScrubRecord {
  bool active = false;
  uint64_t next = 0;    // chunks before it have been scrubbed
  int64_t began_s = 0;  // wall clock; also that of the pool's forming
  int64_t ended_s = 0;  // of the last whole one; 0: never
  bool operator==(const ScrubRecord&) const = default;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, ScrubRecord* out);
};

// A place on a target that was a copy and is not free yet.
struct ReleaseRecord {
  uint32_t version = 0;  // of the pool's map when the copy was dropped
  uint64_t chunk = 0;    // whose copy it was
  bool operator==(const ReleaseRecord&) const = default;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, ReleaseRecord* out);
};

// Blocks of a copy that failed their checksum, by their number in the chunk.
struct DamageRecord {
  std::set<uint32_t> blocks;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, DamageRecord* out);
};

// A target of kind nvmeof; see meta.thrift.
enum class DataPath : uint8_t { kAuto = 0, kAgent = 1, kDirect = 2 };

struct NvmeRecord {
  std::vector<std::string> uris;
  Uuid uuid{};
  Uuid nguid{};
  uint32_t nsid = 0;
  DataPath data_path = DataPath::kAuto;
  bool operator==(const NvmeRecord&) const = default;
};

struct TargetRecord {
  Uuid uuid{};
  std::string name;
  std::string host;
  uint32_t port = 0;
  uint64_t capacity_bytes = 0;  // when it became a member
  uint32_t weight = 100;
  std::string zone;
  bool draining = false;
  uint64_t instance = 0;  // of its process that has registered last
  std::optional<NvmeRecord> nvme;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, TargetRecord* out);
};

struct SessionRecord {
  Uuid client{};
  int64_t opened_ns = 0;
  std::string host;
  std::string hostnqn;    // empty: it uses no NVMe-oF targets
  uint32_t lease_ms = 0;  // that it was promised
  uint64_t drain_ms = 0;  // so long after its lease the last requests that it sent to them may take effect
  bool ended = false;     // for its client; what it had is kept until it is kept away from those targets
  // Nothing of it takes effect when it was silent for so long.
  int64_t silence_ms() const { return static_cast<int64_t>(lease_ms + drain_ms); }
  std::string Encode() const;
  static bool Decode(std::string_view bytes, SessionRecord* out);
};

struct SlotRecord {
  uint64_t seq = 0;
  std::string reply;
  std::string Encode() const;
  static bool Decode(std::string_view bytes, SlotRecord* out);
};

}  // namespace weft
