// SPDX-License-Identifier: MIT
//
// What inodes hold: attributes, sizes and the extents that map them to the pool. Functions return 0 or an
// errno; a failing one leaves the taking back to its caller (Transaction::Rollback, Space::Rollback).
// State machine thread.
#pragma once

#include <vector>

#include "userland/meta/op_context.h"
#include "userland/meta/space.h"
#include "userland/meta/tables.h"

namespace weft {

class Files {
 public:
  Files(Tables* tables, Space* space, Counters* counters) : tables_(tables), space_(space), counters_(counters) {}

  int GetAttr(const idl::GetAttrOp& op, idl::Reply* reply);
  int SetAttr(const OpContext& context, const idl::SetAttrOp& op, idl::Reply* reply);
  int ReadLink(const idl::ReadLinkOp& op, idl::Reply* reply);
  int GetExtents(const idl::GetExtentsOp& op, idl::Reply* reply);
  int Commit(const OpContext& context, const idl::CommitOp& op);
  int Punch(const OpContext& context, const idl::PunchOp& op, idl::Reply* reply);
  int Evict(const OpContext& context, const idl::EvictOp& op);

  // Frees an orphan: its blocks, its inode, its mark.
  void Destroy(uint64_t session, uint64_t ino);

 private:
  int CommitFile(const OpContext& context, const idl::FileCommit& commit);
  int CommitExtent(const OpContext& context, uint64_t ino, Inode* inode, const idl::Extent& extent);
  // Unmaps [first, end) and frees its blocks.
  void Unmap(uint64_t ino, Inode* inode, uint64_t first, uint64_t end);
  // Maps blocks of a hole; joins neighbours.
  void Map(uint64_t ino, Extent extent);
  // Takes [first, end) out of an extent that holds it; the rest stays mapped.
  void Cut(uint64_t ino, const Extent& extent, uint64_t first, uint64_t end);

  Tables* const tables_;
  Space* const space_;
  Counters* const counters_;
};

}  // namespace weft
