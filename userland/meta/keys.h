// SPDX-License-Identifier: MIT
//
// The keys of the metadata store. Integers are big-endian, so that the order of the bytes is the order
// of the numbers and a scan meets them sorted.
//
//   key        := superblock | pool | counters | inode | dirent | cookie | extent | chunk | target
//               | session | slot | orphan | grant | free | open | releasing | damage | scrub
//               | removed | kept_out
//   superblock := 'S'                          format version, cluster name and UUID
//   pool       := 'P'                          geometry; absent: no pool has been formed
//   counters   := 'X'                          next inode, next session, map's version, ...
//   inode      := 'I' ino:u64                  attributes; directories: parent; symbolic links: target
//   dirent     := 'D' parent:u64 name          by name: inode, cookie, type
//   cookie     := 'C' parent:u64 cookie:u64    the same entry in the order of READDIR
//   extent     := 'E' ino:u64 last:u64         by its LAST file block: the first key >= (ino, b) is the
//                                              first extent that ends behind b, found by one seek
//   chunk      := 'K' index:u64                version and copies
//   target     := 'T' id:u32                   members of the pool only
//   session    := 'N' id:u64                   client
//   slot       := 'L' session:u64 slot:u32     last sequence number and its reply
//   orphan     := 'O' session:u64 ino:u64      inode without a name that the client may still hold open
//   grant      := 'G' session:u64 first:u64    blocks lent to a client
//   free       := 'F' first:u64                blocks of chunks that belong to nobody
//   open       := 'W' session:u64 chunk:u64    chunk that the client may be writing to
//   releasing  := 'R' target:u32 offset:u64    place that its target has still to let go of
//   damage     := 'B' chunk:u64 target:u32     blocks of a copy that failed their checksum
//   scrub      := 'V'                          how far the background scrub is
//   removed    := 'Z' uuid[16]                 target that was given up for lost
//   kept_out   := 'Y' hostnqn                  host that the fence command keeps away from NVMe-oF targets
//
// Values are described in records.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::key {

std::string Superblock();
std::string Pool();
std::string Counters();
std::string Inode(uint64_t ino);
std::string Dirent(uint64_t parent, std::string_view name);
std::string Cookie(uint64_t parent, uint64_t cookie);
std::string Extent(uint64_t ino, uint64_t last);
std::string Chunk(uint64_t index);
std::string Target(uint32_t id);
std::string Session(uint64_t id);
std::string Slot(uint64_t session, uint32_t slot);
std::string Orphan(uint64_t session, uint64_t ino);
std::string Grant(uint64_t session, uint64_t first);
std::string Free(uint64_t first);
std::string OpenChunk(uint64_t session, uint64_t chunk);
std::string Releasing(uint32_t target, uint64_t offset);
std::string Damage(uint64_t chunk, uint32_t target);
std::string Scrub();
std::string Removed(std::string_view uuid);
std::string KeptOut(std::string_view hostnqn);

// The numbers behind the first byte of a key that has `count` of them; false: it is malformed.
bool Parse(std::string_view key, uint64_t* a);
bool Parse(std::string_view key, uint64_t* a, uint64_t* b);
bool ParseReleasing(std::string_view key, uint32_t* target, uint64_t* offset);

// The first key behind all that begin with `prefix`.
std::string End(std::string_view prefix);

}  // namespace weft::key
