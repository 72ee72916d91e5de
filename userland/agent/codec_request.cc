// SPDX-License-Identifier: MIT
//
// Kernel -> server. See codec.h; the layouts are documented in kmod/uapi/weft.h.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "userland/agent/codec.h"

namespace weft::agent {
namespace {

// Takes a message apart. The first thing wrong is kept; what is read after it is zero.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T Get(const char* what) {
    T value = {};
    if (Have(sizeof value, what)) memcpy(&value, Advance(sizeof value), sizeof value);
    return value;
  }

  std::string Bytes(size_t count, const char* what) {
    if (!Have(count, what)) return {};
    return {reinterpret_cast<const char*>(Advance(count)), count};
  }

  // The name of a directory entry.
  std::string Name(uint32_t count, const char* what) {
    if (count == 0 || count > WEFT_NAME_MAX) Fail("{} has {} bytes, not 1 to {}", what, count, WEFT_NAME_MAX);
    std::string name = Bytes(count, what);
    if (name.find('/') != std::string::npos || name.find('\0') != std::string::npos || name == "." || name == "..") {
      Fail("{} \"{}\" is no name", what, name);
    }
    return name;
  }

  // Thrift knows signed integers only.
  int64_t Signed(unsigned long long value, const char* what) {
    if (value > INT64_MAX) Fail("{} {} is out of range", what, value);
    return static_cast<int64_t>(value);
  }
  int32_t Signed(unsigned int value, const char* what) {
    if (value > INT32_MAX) Fail("{} {} is out of range", what, value);
    return static_cast<int32_t>(value);
  }
  void Zero(uint64_t value, const char* what) {
    if (value != 0) Fail("{} is {}, not 0", what, value);
  }
  void Flags(uint32_t value, uint32_t known, const char* what) {
    if ((value & ~known) != 0) Fail("{} {:#x} has unknown bits", what, value);
  }
  // How many items of item_bytes are announced: bounded by what is left, so that nothing is allocated for a lie.
  uint32_t Count(uint32_t count, size_t item_bytes, const char* what) {
    if (count <= bytes_.size() / item_bytes) return count;
    Fail("{} {} does not fit the message", what, count);
    return 0;
  }

  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (error_.ok()) error_ = Error(EINVAL, format, std::forward<Args>(args)...);
    bytes_ = {};
  }

  Status Finish() {
    if (error_.ok() && !bytes_.empty()) Fail("{} bytes follow the request", bytes_.size());
    return error_;
  }

 private:
  bool Have(size_t count, const char* what) {
    if (count <= bytes_.size()) return true;
    Fail("{} is cut short", what);
    return false;
  }
  const std::byte* Advance(size_t count) {
    const std::byte* at = bytes_.data();
    bytes_ = bytes_.subspan(count);
    return at;
  }

  std::span<const std::byte> bytes_;
  Status error_;
};

void DecodeNothing(Reader&, int64_t, idl::Operation*) {}

void DecodeStatFs(Reader&, int64_t, idl::Operation* op) { op->__set_statfs({}); }

void DecodeLookup(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_lookup_req>("weft_lookup_req");
  in.Zero(args.reserved, "reserved");
  idl::LookupOp& lookup = op->lookup;
  lookup.__set_parent(ino);
  lookup.__set_name(in.Name(args.name_bytes, "name"));
  op->__isset.lookup = true;
}

void DecodeGetAttr(Reader&, int64_t ino, idl::Operation* op) {
  op->getattr.__set_ino(ino);
  op->__isset.getattr = true;
}

void DecodeSetAttr(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_setattr_req>("weft_setattr_req");
  in.Flags(args.valid, 0xff, "valid");
  in.Zero(args.reserved, "reserved");
  idl::SetAttrOp& set = op->setattr;
  set.__set_ino(ino);
  set.__set_valid(static_cast<int32_t>(args.valid));
  set.__set_mode(in.Signed(args.mode, "mode"));
  set.__set_uid(static_cast<int32_t>(args.uid));
  set.__set_gid(static_cast<int32_t>(args.gid));
  set.__set_size(in.Signed(args.size, "size"));
  set.__set_atime_ns(args.atime_ns);
  set.__set_mtime_ns(args.mtime_ns);
  set.__set_ctime_ns(args.ctime_ns);
  set.__set_copies(in.Signed(args.copies, "copies"));
  op->__isset.setattr = true;
}

void DecodeCreate(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_create_req>("weft_create_req");
  idl::CreateOp& create = op->create;
  create.__set_parent(ino);
  create.__set_name(in.Name(args.name_bytes, "name"));
  create.__set_mode(in.Signed(args.mode, "mode"));
  create.__set_uid(static_cast<int32_t>(args.uid));
  create.__set_gid(static_cast<int32_t>(args.gid));
  create.__set_rdev(static_cast<int32_t>(args.rdev));
  bool link = S_ISLNK(args.mode);
  if (link ? args.target_bytes == 0 || args.target_bytes > WEFT_SYMLINK_MAX : args.target_bytes != 0) {
    in.Fail("target of a node of mode {:#o} has {} bytes", args.mode, args.target_bytes);
  }
  create.__set_target(in.Bytes(args.target_bytes, "target"));
  if (create.target.find('\0') != std::string::npos) in.Fail("target has a NUL in it");
  op->__isset.create = true;
}

void DecodeRemove(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_remove_req>("weft_remove_req");
  in.Flags(args.flags, WEFT_REMOVE_DIR, "flags");
  idl::RemoveOp& remove = op->remove;
  remove.__set_parent(ino);
  remove.__set_name(in.Name(args.name_bytes, "name"));
  remove.__set_directory((args.flags & WEFT_REMOVE_DIR) != 0);
  op->__isset.remove = true;
}

void DecodeRename(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_rename_req>("weft_rename_req");
  in.Flags(args.flags, WEFT_RENAME_NOREPLACE | WEFT_RENAME_EXCHANGE, "flags");
  in.Zero(args.reserved, "reserved");
  idl::RenameOp& rename = op->rename;
  rename.__set_noreplace((args.flags & WEFT_RENAME_NOREPLACE) != 0);
  rename.__set_exchange((args.flags & WEFT_RENAME_EXCHANGE) != 0);
  if (rename.noreplace && rename.exchange) in.Fail("flags name NOREPLACE and EXCHANGE");
  rename.__set_old_parent(ino);
  rename.__set_new_parent(in.Signed(args.new_parent, "new_parent"));
  rename.__set_old_name(in.Name(args.old_bytes, "old name"));
  rename.__set_new_name(in.Name(args.new_bytes, "new name"));
  op->__isset.rename = true;
}

void DecodeLink(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_link_req>("weft_link_req");
  in.Zero(args.reserved, "reserved");
  idl::LinkOp& link = op->link;
  link.__set_ino(ino);
  link.__set_parent(in.Signed(args.parent, "parent"));
  link.__set_name(in.Name(args.name_bytes, "name"));
  op->__isset.link = true;
}

void DecodeReadLink(Reader&, int64_t ino, idl::Operation* op) {
  op->readlink.__set_ino(ino);
  op->__isset.readlink = true;
}

void DecodeReadDir(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_readdir_req>("weft_readdir_req");
  in.Zero(args.reserved, "reserved");
  idl::ReadDirOp& read = op->readdir;
  read.__set_ino(ino);
  read.__set_cookie(in.Signed(args.cookie, "cookie"));
  uint32_t bytes_max = WEFT_META_REP_BYTES - sizeof(weft_readdir_rep);
  read.__set_bytes_max(static_cast<int32_t>(std::min(args.bytes_max, bytes_max)));
  op->__isset.readdir = true;
}

idl::Extent ToExtent(Reader& in, const weft_extent& extent) {
  in.Flags(extent.flags, WEFT_EXTENT_UNWRITTEN, "extent flags");
  if (extent.blocks == 0) in.Fail("extent of 0 blocks");
  idl::Extent out;
  out.__set_file_block(in.Signed(extent.file_block, "file_block"));
  out.__set_pool_block(in.Signed(extent.pool_block, "pool_block"));
  out.__set_blocks(in.Signed(extent.blocks, "blocks"));
  out.__set_unwritten((extent.flags & WEFT_EXTENT_UNWRITTEN) != 0);
  return out;
}

void DecodeGetExtents(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_get_extents_req>("weft_get_extents_req");
  in.Zero(args.reserved, "reserved");
  if (args.count_max == 0) in.Fail("count_max is 0");
  idl::GetExtentsOp& get = op->get_extents;
  get.__set_ino(ino);
  get.__set_file_block(in.Signed(args.file_block, "file_block"));
  constexpr uint32_t kCountMax = (WEFT_META_REP_BYTES - sizeof(weft_get_extents_rep)) / sizeof(weft_extent);
  get.__set_count_max(static_cast<int32_t>(std::min(args.count_max, kCountMax)));
  op->__isset.get_extents = true;
}

idl::FileCommit ToFileCommit(Reader& in) {
  auto args = in.Get<weft_commit>("weft_commit");
  in.Flags(args.valid, WEFT_SET_SIZE | WEFT_SET_ATIME | WEFT_SET_MTIME | WEFT_SET_CTIME, "valid");
  idl::FileCommit file;
  file.__set_ino(in.Signed(args.ino, "ino"));
  file.__set_valid(static_cast<int32_t>(args.valid));
  file.__set_size(in.Signed(args.size, "size"));
  file.__set_atime_ns(args.atime_ns);
  file.__set_mtime_ns(args.mtime_ns);
  file.__set_ctime_ns(args.ctime_ns);
  uint32_t count = in.Count(args.extents, sizeof(weft_extent), "extents");
  file.extents.reserve(count);
  for (uint32_t i = 0; i < count; ++i) file.extents.push_back(ToExtent(in, in.Get<weft_extent>("extent")));
  file.__isset.extents = true;
  return file;
}

void DecodeCommit(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_commit_req>("weft_commit_req");
  in.Zero(args.reserved, "reserved");
  uint32_t count = in.Count(args.count, sizeof(weft_commit), "count");
  op->commit.files.reserve(count);
  for (uint32_t i = 0; i < count; ++i) op->commit.files.push_back(ToFileCommit(in));
  op->commit.__isset.files = true;
  op->__isset.commit = true;
}

void DecodePunch(Reader& in, int64_t ino, idl::Operation* op) {
  auto args = in.Get<weft_punch_req>("weft_punch_req");
  if (args.blocks == 0) in.Fail("blocks is 0");
  idl::PunchOp& punch = op->punch;
  punch.__set_ino(ino);
  punch.__set_file_block(in.Signed(args.file_block, "file_block"));
  punch.__set_blocks(in.Signed(args.blocks, "blocks"));
  op->__isset.punch = true;
}

void DecodeEvict(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_evict_req>("weft_evict_req");
  in.Zero(args.reserved, "reserved");
  uint32_t count = in.Count(args.count, sizeof(uint64_t), "count");
  op->evict.inos.reserve(count);
  for (uint32_t i = 0; i < count; ++i) op->evict.inos.push_back(in.Signed(in.Get<__u64>("ino"), "ino"));
  op->evict.__isset.inos = true;
  op->__isset.evict = true;
}

void DecodeGrant(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_grant_req>("weft_grant_req");
  if (args.copies == 0 || args.copies > WEFT_COPIES_MAX)
    in.Fail("copies {} is not 1 to {}", args.copies, WEFT_COPIES_MAX);
  if (args.blocks == 0) in.Fail("blocks is 0");
  if (args.ranges_max == 0) in.Fail("ranges_max is 0");
  constexpr uint32_t kRangesMax = (WEFT_META_REP_BYTES - sizeof(weft_ranges)) / sizeof(weft_range);
  op->grant.__set_blocks(in.Signed(args.blocks, "blocks"));
  op->grant.__set_ranges_max(static_cast<int32_t>(std::min(args.ranges_max, kRangesMax)));
  op->grant.__set_copies(static_cast<int32_t>(args.copies));
  op->__isset.grant = true;
}

void DecodeRelease(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_ranges>("weft_ranges");
  in.Zero(args.reserved, "reserved");
  uint32_t count = in.Count(args.count, sizeof(weft_range), "count");
  op->release.ranges.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    auto range = in.Get<weft_range>("range");
    if (range.blocks == 0) in.Fail("range of 0 blocks");
    idl::Range out;
    out.__set_pool_block(in.Signed(range.pool_block, "pool_block"));
    out.__set_blocks(in.Signed(range.blocks, "blocks"));
    op->release.ranges.push_back(out);
  }
  op->release.__isset.ranges = true;
  op->__isset.release = true;
}

void DecodeGetChunks(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_get_chunks_req>("weft_get_chunks_req");
  in.Zero(args.reserved, "reserved");
  static_assert(sizeof(weft_get_chunks_rep) + WEFT_CHUNKS_PER_CALL * sizeof(weft_chunk) <= WEFT_META_REP_BYTES);
  // Not clipped: a chunk left out of the answer does not exist.
  if (args.count == 0 || args.count > WEFT_CHUNKS_PER_CALL) {
    in.Fail("count {} is not 1 to {}", args.count, WEFT_CHUNKS_PER_CALL);
  }
  op->get_chunks.__set_first(in.Signed(args.first, "first"));
  op->get_chunks.__set_count(static_cast<int32_t>(args.count));
  op->__isset.get_chunks = true;
}

void DecodeMarkStale(Reader& in, int64_t, idl::Operation* op) {
  auto args = in.Get<weft_mark_stale_req>("weft_mark_stale_req");
  in.Flags(args.copy_mask, (1u << WEFT_CHUNK_COPIES_MAX) - 1, "copy_mask");
  if (args.copy_mask == 0) in.Fail("copy_mask is 0");
  op->mark_stale.__set_index(in.Signed(args.index, "index"));
  op->mark_stale.__set_version(static_cast<int32_t>(args.version));  // unsigned on both sides
  op->mark_stale.__set_copy_mask(static_cast<int32_t>(args.copy_mask));
  op->__isset.mark_stale = true;
}

std::vector<int64_t> DecodeIndexes(Reader& in) {
  auto args = in.Get<weft_chunks_req>("weft_chunks_req");
  in.Zero(args.reserved, "reserved");
  if (args.count == 0 || args.count > WEFT_CHUNKS_PER_CALL) {
    in.Fail("count {} is not 1 to {}", args.count, WEFT_CHUNKS_PER_CALL);
  }
  uint32_t count = in.Count(args.count, sizeof(uint64_t), "count");
  std::vector<int64_t> indexes;
  indexes.reserve(count);
  for (uint32_t i = 0; i < count; ++i) indexes.push_back(in.Signed(in.Get<__u64>("index"), "index"));
  return indexes;
}

void DecodeOpenChunks(Reader& in, int64_t, idl::Operation* op) {
  op->open_chunks.__set_indexes(DecodeIndexes(in));
  op->__isset.open_chunks = true;
}

void DecodeCloseChunks(Reader& in, int64_t, idl::Operation* op) {
  op->close_chunks.__set_indexes(DecodeIndexes(in));
  op->__isset.close_chunks = true;
}

struct Decoder {
  uint32_t op;
  const char* name;
  void (*decode)(Reader& in, int64_t ino, idl::Operation* op);
};

constexpr Decoder kDecoders[] = {
    {WEFT_META_MOUNT, "MOUNT", DecodeNothing},
    {WEFT_META_UNMOUNT, "UNMOUNT", DecodeNothing},
    {WEFT_META_STATFS, "STATFS", DecodeStatFs},
    {WEFT_META_LOOKUP, "LOOKUP", DecodeLookup},
    {WEFT_META_GETATTR, "GETATTR", DecodeGetAttr},
    {WEFT_META_SETATTR, "SETATTR", DecodeSetAttr},
    {WEFT_META_CREATE, "CREATE", DecodeCreate},
    {WEFT_META_REMOVE, "REMOVE", DecodeRemove},
    {WEFT_META_RENAME, "RENAME", DecodeRename},
    {WEFT_META_LINK, "LINK", DecodeLink},
    {WEFT_META_READLINK, "READLINK", DecodeReadLink},
    {WEFT_META_READDIR, "READDIR", DecodeReadDir},
    {WEFT_META_GET_EXTENTS, "GET_EXTENTS", DecodeGetExtents},
    {WEFT_META_COMMIT, "COMMIT", DecodeCommit},
    {WEFT_META_PUNCH, "PUNCH", DecodePunch},
    {WEFT_META_EVICT, "EVICT", DecodeEvict},
    {WEFT_META_GRANT, "GRANT", DecodeGrant},
    {WEFT_META_RELEASE, "RELEASE", DecodeRelease},
    {WEFT_META_GET_CHUNKS, "GET_CHUNKS", DecodeGetChunks},
    {WEFT_META_MARK_STALE, "MARK_STALE", DecodeMarkStale},
    {WEFT_META_OPEN_CHUNKS, "OPEN_CHUNKS", DecodeOpenChunks},
    {WEFT_META_CLOSE_CHUNKS, "CLOSE_CHUNKS", DecodeCloseChunks},
};

const Decoder* FindDecoder(uint32_t op) {
  for (const Decoder& decoder : kDecoders) {
    if (decoder.op == op) return &decoder;
  }
  return nullptr;
}

}  // namespace

std::string_view MetaOpName(uint32_t op) {
  const Decoder* decoder = FindDecoder(op);
  return decoder == nullptr ? "" : decoder->name;
}

Status DecodeRequest(std::span<const std::byte> message, MetaCall* call) {
  Reader in(message);
  auto header = in.Get<weft_meta_req>("weft_meta_req");
  if (header.length != message.size()) in.Fail("length {} is not the {} of its SQE", header.length, message.size());
  in.Zero(header.reserved, "reserved");
  const Decoder* decoder = FindDecoder(header.op);
  if (decoder == nullptr) return Error(EINVAL, "metadata operation {} is unknown", header.op);
  call->op = header.op;
  call->request.__set_now_ns(header.now_ns);
  decoder->decode(in, in.Signed(header.ino, "ino"), &call->request.op);
  call->request.__isset.op = true;
  return in.Finish().Annotate(decoder->name);
}

}  // namespace weft::agent
