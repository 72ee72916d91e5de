// SPDX-License-Identifier: MIT
//
// The checker of the metadata: reads one consistent state of a store and finds what cannot be. It trusts
// nothing that it reads, changes nothing, and knows for each finding whether and how it can be repaired.
//
// What is compared:
//   names     inodes <-> directory entries in both orders; link counts, parents, cycles
//   space     extents <-> block counts, chunks, free ranges and grants: every block of every chunk has one owner
//   chunks    copies <-> targets and their places; chunks and blocks without a good copy, by file
//   clients   orphans, grants, slots and open chunks <-> sessions; the counters
//
// It streams through the tables. What it keeps in memory: 40 bytes an inode, one bit a block of the chunks that
// hold data, one record a chunk, and at most kFsckFindingsMax findings.
//
// A repair looks again before it changes anything, so that it may come later, and in a server that has worked
// on meanwhile: see fsck_fixer.h. Any thread, one at a time on a reader.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "thrift-gen/admin_types.h"
#include "userland/base/status.h"
#include "userland/meta/store.h"

namespace weft {

class FsckFixer;

inline constexpr size_t kFsckFindingsMax = 4096;  // FSCK_PROBLEMS_MAX

struct FsckFinding {
  idl::FsckProblem problem;
  // Null: not repairable. False: it is no longer as it was found; nothing was changed.
  std::function<bool(FsckFixer& fixer)> repair;
  // It concerns tables that a running server mirrors in its memory.
  bool offline = false;
};

struct FsckResult {
  std::vector<FsckFinding> findings;
  int64_t total = 0;  // may be more than are listed
  int64_t inodes = 0;
  int64_t extents = 0;
  int64_t chunks = 0;
};

// EUCLEAN, EINVAL: the store is not weft-meta's or too damaged to be known as such; EIO: it cannot be read.
Result<FsckResult> FsckCheck(StoreReader* reader);

}  // namespace weft
