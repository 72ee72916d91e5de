// SPDX-License-Identifier: MIT
#include "userland/meta/files.h"

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>

#include "userland/base/log.h"

namespace weft {
namespace {

constexpr uint32_t kExtentBlocksMax = 1U << 30;
// Extents that fit a reply of the kernel's channel (weft_get_extents_rep).
constexpr size_t kExtentsPerReply = (kMetaReplyBytes - 8) / 24;
// SET_* of meta.thrift, as constants of the compiler.
constexpr int32_t kSetMode = 0x001;
constexpr int32_t kSetUid = 0x002;
constexpr int32_t kSetGid = 0x004;
constexpr int32_t kSetSize = 0x008;
constexpr int32_t kSetAtime = 0x010;
constexpr int32_t kSetMtime = 0x020;
constexpr int32_t kSetCtime = 0x040;
constexpr int32_t kSetCopies = 0x080;
constexpr int32_t kSetBits = 0x0ff;
constexpr int32_t kCommitBits = kSetSize | kSetAtime | kSetMtime | kSetCtime;

}  // namespace

int Files::GetAttr(const idl::GetAttrOp& op, idl::Reply* reply) {
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode) return ENOENT;
  reply->__set_attr(ToAttr(op.ino, *inode));
  return 0;
}

int Files::SetAttr(const OpContext& context, const idl::SetAttrOp& op, idl::Reply* reply) {
  if ((op.valid & ~kSetBits) != 0) return EINVAL;
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode) return ENOENT;
  if (op.valid & kSetMode) inode->mode = (inode->mode & S_IFMT) | (op.mode & ~S_IFMT & 07777);
  if (op.valid & kSetUid) inode->uid = static_cast<uint32_t>(op.uid);
  if (op.valid & kSetGid) inode->gid = static_cast<uint32_t>(op.gid);
  if (op.valid & kSetSize) {
    if (inode->IsDir()) return EISDIR;
    if (!inode->IsRegular() || op.size < 0) return EINVAL;
    auto size = static_cast<uint64_t>(op.size);
    if (size < inode->size || inode->blocks > 0) {
      Unmap(op.ino, &*inode, (size + kBlockBytes - 1) / kBlockBytes, kFileBlocksMax);
    }
    if (size != inode->size) inode->mtime_ns = context.now_ns;
    inode->size = size;
  }
  if (op.valid & kSetCopies) {
    if ((!inode->IsDir() && !inode->IsRegular()) || op.copies < 1 || op.copies > static_cast<int>(kCopiesMax)) {
      return EINVAL;
    }
    if (static_cast<uint32_t>(op.copies) > space_->members_taking()) return ENOSPC;
    inode->copies = static_cast<uint32_t>(op.copies);
  }
  if (op.valid & kSetAtime) inode->atime_ns = op.atime_ns;
  if (op.valid & kSetMtime) inode->mtime_ns = op.mtime_ns;
  inode->ctime_ns = op.valid & kSetCtime ? op.ctime_ns : context.now_ns;
  tables_->PutInode(op.ino, *inode);
  reply->__set_attr(ToAttr(op.ino, *inode));
  return 0;
}

int Files::ReadLink(const idl::ReadLinkOp& op, idl::Reply* reply) {
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode) return ENOENT;
  if (!inode->IsSymlink()) return EINVAL;
  reply->__set_target(inode->target);
  return 0;
}

int Files::GetExtents(const idl::GetExtentsOp& op, idl::Reply* reply) {
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode) return ENOENT;
  if (!inode->IsRegular() || op.file_block < 0 || op.count_max <= 0) return EINVAL;
  size_t count_max = std::min<size_t>(op.count_max, kExtentsPerReply);
  bool eof = true;
  std::vector<idl::Extent> extents;
  tables_->ScanExtents(op.ino, op.file_block, [&](const Extent& extent) {
    if (extents.size() == count_max) {
      eof = false;
      return false;
    }
    idl::Extent& out = extents.emplace_back();
    out.file_block = static_cast<int64_t>(extent.first);
    out.pool_block = static_cast<int64_t>(extent.pool_block);
    out.blocks = static_cast<int32_t>(extent.blocks);
    out.unwritten = extent.unwritten;
    return true;
  });
  reply->__set_extents(std::move(extents));
  reply->__set_eof(eof);
  return 0;
}

int Files::Commit(const OpContext& context, const idl::CommitOp& op) {
  for (const idl::FileCommit& commit : op.files) {
    if (int error = CommitFile(context, commit); error != 0) return error;
  }
  return 0;
}

int Files::CommitFile(const OpContext& context, const idl::FileCommit& commit) {
  if ((commit.valid & ~kCommitBits) != 0) return EINVAL;
  std::optional<Inode> inode = tables_->GetInode(commit.ino);
  if (!inode) return 0;  // gone: what it named stays granted
  if ((commit.valid & kSetSize || !commit.extents.empty()) && !inode->IsRegular()) return EINVAL;
  for (const idl::Extent& extent : commit.extents) {
    if (int error = CommitExtent(context, commit.ino, &*inode, extent); error != 0) {
      LogWarning(
          "session {}: commit of inode {} names file block {}, pool block {}, {} blocks: not granted, not mapped "
          "there",
          context.session, commit.ino, extent.file_block, extent.pool_block, extent.blocks);
      return error;
    }
  }
  if (commit.valid & kSetSize) {
    if (commit.size < 0) return EINVAL;
    inode->size = static_cast<uint64_t>(commit.size);
  }
  if (commit.valid & kSetAtime) inode->atime_ns = commit.atime_ns;
  if (commit.valid & kSetMtime) inode->mtime_ns = commit.mtime_ns;
  if (commit.valid & kSetCtime) inode->ctime_ns = commit.ctime_ns;
  tables_->PutInode(commit.ino, *inode);
  return 0;
}

// Piece by piece: granted blocks are mapped (what the file had there is freed); blocks that the file has
// at this place already get the new flag.
int Files::CommitExtent(const OpContext& context, uint64_t ino, Inode* inode, const idl::Extent& extent) {
  if (extent.blocks <= 0 || extent.file_block < 0 || extent.pool_block < 0) return EINVAL;
  Extent rest{static_cast<uint64_t>(extent.file_block), static_cast<uint32_t>(extent.blocks),
              static_cast<uint64_t>(extent.pool_block), extent.unwritten};
  if (rest.end() > kFileBlocksMax || rest.pool_block + rest.blocks > kPoolBlocksMax) return EINVAL;
  while (rest.blocks > 0) {
    Extent piece = rest;
    if (uint64_t granted = space_->Granted(context.session, rest.pool_block); granted > 0) {
      piece.blocks = static_cast<uint32_t>(std::min<uint64_t>(granted, rest.blocks));
      Unmap(ino, inode, piece.first, piece.end());
      space_->Use(context.session, {piece.pool_block, piece.blocks});
      inode->blocks += piece.blocks;
      Map(ino, piece);
    } else {
      std::optional<Extent> here;
      tables_->ScanExtents(ino, rest.first, [&](const Extent& found) {
        here = found;
        return false;
      });
      if (!here || here->first > rest.first || here->pool_block + (rest.first - here->first) != rest.pool_block) {
        return EINVAL;
      }
      piece.blocks = static_cast<uint32_t>(std::min<uint64_t>(here->end() - rest.first, rest.blocks));
      if (here->unwritten != piece.unwritten) {
        Cut(ino, *here, piece.first, piece.end());
        Map(ino, piece);
      }
    }
    rest.first += piece.blocks;
    rest.pool_block += piece.blocks;
    rest.blocks -= piece.blocks;
  }
  return 0;
}

void Files::Cut(uint64_t ino, const Extent& extent, uint64_t first, uint64_t end) {
  tables_->DeleteExtent(ino, extent);
  if (extent.first < first) {
    tables_->PutExtent(
        ino, {extent.first, static_cast<uint32_t>(first - extent.first), extent.pool_block, extent.unwritten});
  }
  if (end < extent.end()) {
    tables_->PutExtent(ino, {end, static_cast<uint32_t>(extent.end() - end), extent.pool_block + (end - extent.first),
                             extent.unwritten});
  }
}

void Files::Unmap(uint64_t ino, Inode* inode, uint64_t first, uint64_t end) {
  if (inode->blocks == 0 || first >= end) return;
  std::vector<Extent> hit;
  tables_->ScanExtents(ino, first, [&](const Extent& extent) {
    if (extent.first >= end) return false;
    hit.push_back(extent);
    return true;
  });
  for (const Extent& extent : hit) {
    uint64_t from = std::max(first, extent.first);
    uint64_t to = std::min(end, extent.end());
    Cut(ino, extent, from, to);
    space_->Free({extent.pool_block + (from - extent.first), to - from});
    inode->blocks -= to - from;
  }
}

void Files::Map(uint64_t ino, Extent extent) {
  auto joins = [](const Extent& a, const Extent& b) {
    return a.end() == b.first && a.pool_block + a.blocks == b.pool_block && a.unwritten == b.unwritten &&
           a.blocks + b.blocks <= kExtentBlocksMax;
  };
  if (extent.first > 0) {
    std::optional<Extent> before = tables_->GetExtentEndingAt(ino, extent.first - 1);
    if (before && joins(*before, extent)) {
      tables_->DeleteExtent(ino, *before);
      extent = {before->first, before->blocks + extent.blocks, before->pool_block, extent.unwritten};
    }
  }
  std::optional<Extent> behind;
  tables_->ScanExtents(ino, extent.end(), [&](const Extent& found) {
    behind = found;
    return false;
  });
  if (behind && joins(extent, *behind)) extent.blocks += behind->blocks;  // same key: it is replaced
  tables_->PutExtent(ino, extent);
}

int Files::Punch(const OpContext& context, const idl::PunchOp& op, idl::Reply* reply) {
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode) return ENOENT;
  if (!inode->IsRegular() || op.file_block < 0 || op.blocks <= 0) return EINVAL;
  uint64_t first = op.file_block;
  uint64_t end = first + static_cast<uint64_t>(op.blocks);
  Unmap(op.ino, &*inode, first, std::min(end, kFileBlocksMax));
  inode->mtime_ns = inode->ctime_ns = context.now_ns;
  tables_->PutInode(op.ino, *inode);
  reply->__set_attr(ToAttr(op.ino, *inode));
  return 0;
}

int Files::Evict(const OpContext& context, const idl::EvictOp& op) {
  for (int64_t ino : op.inos) {
    if (tables_->IsOrphan(context.session, ino)) {
      Destroy(context.session, ino);
    } else if (tables_->GetInode(ino)) {
      LogWarning("session {}: evict of inode {}, which is no orphan of this session", context.session, ino);
      return EINVAL;
    }
  }
  return 0;
}

void Files::Destroy(uint64_t session, uint64_t ino) {
  if (std::optional<Inode> inode = tables_->GetInode(ino)) {
    Unmap(ino, &*inode, 0, kFileBlocksMax);
    tables_->DeleteInode(ino);
    --counters_->inodes;
  }
  tables_->DeleteOrphan(session, ino);
}

}  // namespace weft
