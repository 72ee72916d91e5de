// SPDX-License-Identifier: MIT
//
// Server -> kernel. See codec.h; the layouts are documented in kmod/uapi/weft.h.
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "userland/agent/codec.h"

namespace weft::agent {
namespace {

// Builds an answer. The first thing wrong is kept and returned by Finish.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}

  template <typename T>
  void Put(const T& value) {
    Bytes({reinterpret_cast<const char*>(&value), sizeof value});
  }
  void Bytes(std::string_view bytes) {
    if (bytes.size() > out_.size() - used_) return Fail("answer does not fit {} bytes", out_.size());
    memcpy(out_.data() + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }
  void PadTo8() {
    static constexpr char kZeroes[8] = {};
    Bytes({kZeroes, (8 - used_ % 8) % 8});
  }

  uint64_t Unsigned(int64_t value, const char* what) {
    if (value < 0) Fail("{} is {}", what, value);
    return static_cast<uint64_t>(value);
  }
  uint64_t Positive(int64_t value, const char* what) {
    if (value <= 0) Fail("{} is {}", what, value);
    return static_cast<uint64_t>(value);
  }
  uint32_t Unsigned(int32_t value, const char* what) { return static_cast<uint32_t>(Unsigned(int64_t{value}, what)); }
  uint32_t Positive(int32_t value, const char* what) { return static_cast<uint32_t>(Positive(int64_t{value}, what)); }
  void Want(bool is_set, const char* what) {
    if (!is_set) Fail("{} is missing", what);
  }

  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (error_.ok()) error_ = Error(EIO, format, std::forward<Args>(args)...);
  }
  bool ok() const { return error_.ok(); }

  Result<size_t> Finish(std::string_view name) const {
    if (!error_.ok()) return error_.Annotate(name);
    return used_;
  }

 private:
  std::span<std::byte> out_;
  size_t used_ = 0;
  Status error_;
};

weft_attr ToAttr(Writer& out, const idl::Attr& attr) {
  weft_attr to = {};
  to.ino = out.Positive(attr.ino, "attr.ino");
  to.size = out.Unsigned(attr.size, "attr.size");
  to.blocks = out.Unsigned(attr.blocks, "attr.blocks");
  to.atime_ns = attr.atime_ns;
  to.mtime_ns = attr.mtime_ns;
  to.ctime_ns = attr.ctime_ns;
  to.btime_ns = attr.btime_ns;
  to.mode = out.Unsigned(attr.mode, "attr.mode");
  to.nlink = out.Unsigned(attr.nlink, "attr.nlink");
  to.uid = static_cast<uint32_t>(attr.uid);
  to.gid = static_cast<uint32_t>(attr.gid);
  to.rdev = static_cast<uint32_t>(attr.rdev);
  to.copies = out.Unsigned(attr.copies, "attr.copies");
  if (to.copies > WEFT_COPIES_MAX) out.Fail("attr.copies is {}", attr.copies);
  switch (to.mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    default:
      out.Fail("attr.mode {:#o} has no file type", to.mode);
  }
  return to;
}

void EncodeNothing(Writer&, const idl::Operation&, const idl::Reply&) {}

void EncodeAttr(Writer& out, const idl::Operation&, const idl::Reply& reply) {
  out.Want(reply.__isset.attr, "attr");
  if (out.ok()) out.Put(ToAttr(out, reply.attr));
}

// RENAME: nothing was replaced when there is no attr, or one of inode 0.
void EncodeReplaced(Writer& out, const idl::Operation&, const idl::Reply& reply) {
  bool replaced = reply.__isset.attr && reply.attr.ino != 0;
  out.Put(replaced ? ToAttr(out, reply.attr) : weft_attr{});
}

void EncodeStatFs(Writer& out, const idl::Operation&, const idl::Reply& reply) {
  out.Want(reply.__isset.statfs, "statfs");
  weft_statfs_rep to = {};
  to.blocks = out.Unsigned(reply.statfs.blocks, "statfs.blocks");
  to.free_blocks = out.Unsigned(reply.statfs.free_blocks, "statfs.free_blocks");
  to.granted_blocks = out.Unsigned(reply.statfs.granted_blocks, "statfs.granted_blocks");
  to.files = out.Unsigned(reply.statfs.files, "statfs.files");
  out.Put(to);
}

void EncodeReadLink(Writer& out, const idl::Operation&, const idl::Reply& reply) {
  out.Want(reply.__isset.target, "target");
  const std::string& target = reply.target;
  if (target.empty() || target.size() > WEFT_SYMLINK_MAX || target.find('\0') != std::string::npos) {
    out.Fail("target of {} bytes is no path", target.size());
  }
  out.Bytes(target);
}

void EncodeReadDir(Writer& out, const idl::Operation& op, const idl::Reply& reply) {
  out.Want(reply.__isset.entries, "entries");
  out.Want(reply.__isset.eof, "eof");
  if (reply.entries.empty() && !reply.eof) out.Fail("no entries, and no end of the directory");
  weft_readdir_rep head = {};
  head.count = static_cast<uint32_t>(reply.entries.size());
  head.eof = reply.eof;
  out.Put(head);
  int64_t last_cookie = op.readdir.cookie;
  for (const idl::Dirent& entry : reply.entries) {
    if (entry.cookie <= last_cookie) out.Fail("cookie {} follows {}", entry.cookie, last_cookie);
    last_cookie = entry.cookie;
    if (entry.name.empty() || entry.name.size() > WEFT_NAME_MAX || entry.name.find('/') != std::string::npos ||
        entry.name.find('\0') != std::string::npos) {
      out.Fail("name of the entry with cookie {} is no name", entry.cookie);
    }
    weft_dirent to = {};
    to.ino = out.Positive(entry.ino, "entry.ino");
    to.cookie = static_cast<uint64_t>(entry.cookie);
    to.name_bytes = static_cast<uint16_t>(entry.name.size());
    to.type = static_cast<uint8_t>(entry.type);
    if (!out.ok()) return;
    out.Put(to);
    out.Bytes(entry.name);
    out.PadTo8();
  }
}

void EncodeGetExtents(Writer& out, const idl::Operation& op, const idl::Reply& reply) {
  out.Want(reply.__isset.extents, "extents");
  out.Want(reply.__isset.eof, "eof");
  if (reply.extents.empty() && !reply.eof) out.Fail("no extents, and no end of the file");
  if (reply.extents.size() > static_cast<size_t>(op.get_extents.count_max)) {
    out.Fail("{} extents where {} were asked for", reply.extents.size(), op.get_extents.count_max);
  }
  weft_get_extents_rep head = {};
  head.count = static_cast<uint32_t>(reply.extents.size());
  head.eof = reply.eof;
  out.Put(head);
  int64_t end = 0;
  for (const idl::Extent& extent : reply.extents) {
    if (extent.file_block < end) out.Fail("extent.file_block {} lies before {}", extent.file_block, end);
    weft_extent to = {};
    to.file_block = out.Unsigned(extent.file_block, "extent.file_block");
    to.pool_block = out.Unsigned(extent.pool_block, "extent.pool_block");
    to.blocks = out.Positive(extent.blocks, "extent.blocks");
    to.flags = extent.unwritten ? WEFT_EXTENT_UNWRITTEN : 0;
    if (extent.file_block > INT64_MAX - extent.blocks) out.Fail("extent.file_block {}", extent.file_block);
    if (!out.ok()) return;
    end = extent.file_block + extent.blocks;
    if (end <= op.get_extents.file_block) out.Fail("extent ends at {}, before what was asked for", end);
    out.Put(to);
  }
}

void EncodeGrant(Writer& out, const idl::Operation& op, const idl::Reply& reply) {
  out.Want(reply.__isset.ranges, "ranges");
  if (reply.ranges.empty() || reply.ranges.size() > static_cast<size_t>(op.grant.ranges_max)) {
    out.Fail("{} ranges where 1 to {} were asked for", reply.ranges.size(), op.grant.ranges_max);
  }
  weft_ranges head = {};
  head.count = static_cast<uint32_t>(reply.ranges.size());
  out.Put(head);
  for (const idl::Range& range : reply.ranges) {
    weft_range to = {};
    to.pool_block = out.Unsigned(range.pool_block, "range.pool_block");
    to.blocks = out.Positive(range.blocks, "range.blocks");
    out.Put(to);
  }
}

weft_chunk ToChunk(Writer& out, const idl::Chunk& chunk) {
  weft_chunk to = {};
  to.index = out.Unsigned(chunk.index, "chunk.index");
  to.version = static_cast<uint32_t>(chunk.version);  // unsigned on this side
  if (chunk.copies.size() > WEFT_CHUNK_COPIES_MAX) {
    out.Fail("chunk {} has {} copies", chunk.index, chunk.copies.size());
    return to;
  }
  to.count = static_cast<uint32_t>(chunk.copies.size());
  for (uint32_t i = 0; i < to.count; ++i) {
    const idl::Copy& copy = chunk.copies[i];
    to.copies[i].target = out.Positive(copy.target, "copy.target");
    to.copies[i].offset = out.Unsigned(copy.offset, "copy.offset");
    if (copy.offset % WEFT_BLOCK_BYTES != 0) out.Fail("copy.offset {} is no multiple of a block", copy.offset);
    switch (copy.state) {
      case idl::CopyState::IN_SYNC:
        to.copies[i].state = WEFT_COPY_IN_SYNC;
        break;
      case idl::CopyState::STALE:
        to.copies[i].state = WEFT_COPY_STALE;
        break;
      case idl::CopyState::RESYNCING:
        to.copies[i].state = WEFT_COPY_RESYNCING;
        break;
      default:
        out.Fail("copy.state {} is unknown", static_cast<int>(copy.state));
    }
  }
  return to;
}

void EncodeGetChunks(Writer& out, const idl::Operation& op, const idl::Reply& reply) {
  out.Want(reply.__isset.chunks, "chunks");
  weft_get_chunks_rep head = {};
  head.count = static_cast<uint32_t>(reply.chunks.size());
  out.Put(head);
  int64_t next = op.get_chunks.first;
  for (const idl::Chunk& chunk : reply.chunks) {
    // Unsigned: first + count may pass INT64_MAX.
    uint64_t place = static_cast<uint64_t>(chunk.index) - static_cast<uint64_t>(op.get_chunks.first);
    if (chunk.index < next || place >= static_cast<uint64_t>(op.get_chunks.count)) {
      out.Fail("chunk.index {} is not in order, or was not asked for", chunk.index);
    }
    if (!out.ok()) return;
    next = chunk.index + 1;
    out.Put(ToChunk(out, chunk));
  }
}

void EncodeMarkStale(Writer& out, const idl::Operation& op, const idl::Reply& reply) {
  out.Want(reply.__isset.chunks, "chunks");
  if (reply.chunks.size() != 1 || reply.chunks[0].index != op.mark_stale.index) {
    out.Fail("chunks is not the one chunk {}", op.mark_stale.index);
  }
  if (out.ok()) out.Put(ToChunk(out, reply.chunks[0]));
}

using Encode = void (*)(Writer& out, const idl::Operation& op, const idl::Reply& reply);

Encode FindEncoder(uint32_t op) {
  switch (op) {
    case WEFT_META_STATFS:
      return EncodeStatFs;
    case WEFT_META_LOOKUP:
    case WEFT_META_GETATTR:
    case WEFT_META_SETATTR:
    case WEFT_META_CREATE:
    case WEFT_META_REMOVE:
    case WEFT_META_LINK:
    case WEFT_META_PUNCH:
      return EncodeAttr;
    case WEFT_META_RENAME:
      return EncodeReplaced;
    case WEFT_META_READLINK:
      return EncodeReadLink;
    case WEFT_META_READDIR:
      return EncodeReadDir;
    case WEFT_META_GET_EXTENTS:
      return EncodeGetExtents;
    case WEFT_META_GRANT:
      return EncodeGrant;
    case WEFT_META_GET_CHUNKS:
      return EncodeGetChunks;
    case WEFT_META_MARK_STALE:
      return EncodeMarkStale;
    default:  // COMMIT, EVICT, RELEASE, OPEN_CHUNKS, CLOSE_CHUNKS, UNMOUNT
      return EncodeNothing;
  }
}

}  // namespace

Result<size_t> EncodeReply(const MetaCall& call, const idl::Reply& reply, std::span<std::byte> out) {
  Writer writer(out);
  FindEncoder(call.op)(writer, call.request.op, reply);
  return writer.Finish(MetaOpName(call.op));
}

Result<std::vector<weft_chunk>> EncodeChunks(const std::vector<idl::Chunk>& chunks) {
  Writer writer({});
  std::vector<weft_chunk> out;
  for (const idl::Chunk& chunk : chunks) out.push_back(ToChunk(writer, chunk));
  if (Result<size_t> s = writer.Finish("events"); !s.ok()) return s.status();
  return out;
}

Result<size_t> EncodeMount(const idl::Session& session, std::span<std::byte> out) {
  Writer writer(out);
  weft_mount_rep to = {};
  to.session = writer.Positive(session.id, "session.id");
  to.root_ino = writer.Positive(session.root_ino, "session.root_ino");
  to.pool_blocks = writer.Positive(session.pool_blocks, "session.pool_blocks");
  to.block_bytes = WEFT_BLOCK_BYTES;
  to.chunk_blocks = writer.Positive(session.chunk_blocks, "session.chunk_blocks");
  if (!std::has_single_bit(to.chunk_blocks)) writer.Fail("session.chunk_blocks {} is no power of 2", to.chunk_blocks);
  to.copies = writer.Positive(session.copies, "session.copies");
  if (to.copies > WEFT_COPIES_MAX) writer.Fail("session.copies is {}", to.copies);
  if (session.cluster_uuid.size() == sizeof to.cluster_uuid) {
    memcpy(to.cluster_uuid, session.cluster_uuid.data(), sizeof to.cluster_uuid);
  } else {
    writer.Fail("session.cluster_uuid has {} bytes", session.cluster_uuid.size());
  }
  to.root = ToAttr(writer, session.root);
  if (!S_ISDIR(to.root.mode) || to.root.ino != to.root_ino) writer.Fail("session.root is not the root directory");
  writer.Put(to);
  return writer.Finish("MOUNT");
}

}  // namespace weft::agent
