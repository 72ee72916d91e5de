// SPDX-License-Identifier: MIT
#include "userland/meta/records.h"

#include <algorithm>
#include <sys/stat.h>

#include "userland/meta/codec.h"

namespace weft {
namespace {

constexpr std::string_view kMagic = "weftmeta";
constexpr uint8_t kCopyLeaving = 1;
constexpr uint8_t kCopyDoubtful = 2;

std::string_view View(const Uuid& uuid) { return {reinterpret_cast<const char*>(uuid.data()), uuid.size()}; }

Uuid ReadUuid(Reader& in) {
  Uuid uuid{};
  std::ranges::copy(in.Raw(uuid.size()), uuid.begin());
  return uuid;
}

}  // namespace

std::string Superblock::Encode() const {
  return Writer().Raw(kMagic).U32(format).Raw(View(uuid)).String(cluster).Take();
}
bool Superblock::Decode(std::string_view bytes, Superblock* out) {
  Reader in(bytes);
  if (in.Raw(kMagic.size()) != kMagic) return false;
  out->format = in.U32();
  if (out->format != kStoreFormat) return true;  // what follows is not ours to read
  out->uuid = ReadUuid(in);
  out->cluster = in.String();
  return in.Finish();
}

std::string PoolRecord::Encode() const {
  Writer out;
  out.U32(copies).U64(chunk_blocks).U64(resync_bytes_per_s).U64(scrub_bytes_per_s);
  return out.U32(scrub_interval_s).U8(rebalancing).Take();
}
bool PoolRecord::Decode(std::string_view bytes, PoolRecord* out) {
  Reader in(bytes);
  out->copies = in.U32();
  out->chunk_blocks = in.U64();
  out->resync_bytes_per_s = in.U64();
  out->scrub_bytes_per_s = in.U64();
  out->scrub_interval_s = in.U32();
  out->rebalancing = in.U8() != 0;
  return in.Finish() && out->chunk_blocks > 0 && out->chunk_blocks <= kPoolBlocksMax && out->copies >= 1 &&
         out->copies <= kCopiesMax;
}

std::string Counters::Encode() const {
  Writer out;
  out.U64(next_ino).U64(next_session).U64(starts).U64(inodes);
  return out.U32(map_version).U64(next_chunk).U32(next_target).Take();
}
bool Counters::Decode(std::string_view bytes, Counters* out) {
  Reader in(bytes);
  out->next_ino = in.U64();
  out->next_session = in.U64();
  out->starts = in.U64();
  out->inodes = in.U64();
  out->map_version = in.U32();
  out->next_chunk = in.U64();
  out->next_target = in.U32();
  return in.Finish();
}

bool Inode::IsDir() const { return S_ISDIR(mode); }
bool Inode::IsRegular() const { return S_ISREG(mode); }
bool Inode::IsSymlink() const { return S_ISLNK(mode); }

std::string Inode::Encode() const {
  Writer out;
  out.U32(mode).U32(nlink).U32(uid).U32(gid).U32(rdev).U64(size).U64(blocks);
  out.I64(atime_ns).I64(mtime_ns).I64(ctime_ns).I64(btime_ns).U8(static_cast<uint8_t>(copies));
  if (IsDir()) out.U64(parent).U64(next_cookie).U64(entries);
  if (IsSymlink()) out.Raw(target);
  return out.Take();
}
bool Inode::Decode(std::string_view bytes, Inode* out) {
  Reader in(bytes);
  out->mode = in.U32();
  out->nlink = in.U32();
  out->uid = in.U32();
  out->gid = in.U32();
  out->rdev = in.U32();
  out->size = in.U64();
  out->blocks = in.U64();
  out->atime_ns = in.I64();
  out->mtime_ns = in.I64();
  out->ctime_ns = in.I64();
  out->btime_ns = in.I64();
  out->copies = in.U8();
  if (out->IsDir()) {
    out->parent = in.U64();
    out->next_cookie = in.U64();
    out->entries = in.U64();
  }
  if (out->IsSymlink()) out->target = in.Rest();
  return in.Finish();
}

std::string Dirent::Encode() const { return Writer().U64(ino).U64(cookie).U8(type).Take(); }
bool Dirent::Decode(std::string_view bytes, Dirent* out) {
  Reader in(bytes);
  out->ino = in.U64();
  out->cookie = in.U64();
  out->type = in.U8();
  return in.Finish();
}

std::string CookieRecord::Encode() const { return Writer().U64(ino).U8(type).Raw(name).Take(); }
bool CookieRecord::Decode(std::string_view bytes, CookieRecord* out) {
  Reader in(bytes);
  out->ino = in.U64();
  out->type = in.U8();
  out->name = in.Rest();
  return in.Finish();
}

std::string Extent::Encode() const { return Writer().U32(blocks).U64(pool_block).U8(unwritten).Take(); }
bool Extent::Decode(uint64_t last, std::string_view bytes, Extent* out) {
  Reader in(bytes);
  out->blocks = in.U32();
  out->pool_block = in.U64();
  out->unwritten = in.U8() != 0;
  out->first = last + 1 - out->blocks;
  return in.Finish() && out->blocks > 0 && out->first <= last;
}

const Copy* Chunk::On(uint32_t target) const {
  auto it = std::ranges::find(copies, target, &Copy::target);
  return it == copies.end() ? nullptr : &*it;
}
size_t Chunk::Count(CopyState state) const {
  return static_cast<size_t>(std::ranges::count(copies, state, &Copy::state));
}
bool Chunk::Settled() const {
  return copies.size() == copies_wanted && Count(CopyState::kInSync) == copies_wanted &&
         std::ranges::none_of(copies, &Copy::leaving);
}

std::string Chunk::Encode() const {
  Writer out;
  out.U32(version).U8(static_cast<uint8_t>(copies_wanted)).U8(static_cast<uint8_t>(copies.size()));
  for (const Copy& copy : copies) {
    int flags = (copy.leaving ? kCopyLeaving : 0) | (copy.doubtful ? kCopyDoubtful : 0);
    out.U32(copy.target).U8(static_cast<uint8_t>(copy.state)).U8(static_cast<uint8_t>(flags)).U64(copy.offset);
  }
  return out.Take();
}
bool Chunk::Decode(std::string_view bytes, Chunk* out) {
  Reader in(bytes);
  out->version = in.U32();
  out->copies_wanted = in.U8();
  out->copies.resize(in.U8());
  bool good = out->copies_wanted >= 1 && out->copies_wanted <= kCopiesMax && out->copies.size() <= kChunkCopiesMax;
  for (Copy& copy : out->copies) {
    copy.target = in.U32();
    uint8_t state = in.U8();
    uint8_t flags = in.U8();
    copy.offset = in.U64();
    good = good && state >= 1 && state <= 3 && (flags & ~(kCopyLeaving | kCopyDoubtful)) == 0;
    copy.state = static_cast<CopyState>(state);
    copy.leaving = (flags & kCopyLeaving) != 0;
    copy.doubtful = (flags & kCopyDoubtful) != 0;
  }
  return in.Finish() && good;
}

std::string ScrubRecord::Encode() const {
  return Writer().U8(active ? 1 : 0).U64(next).I64(began_s).I64(ended_s).Take();
}
bool ScrubRecord::Decode(std::string_view bytes, ScrubRecord* out) {
  Reader in(bytes);
  out->active = in.U8() != 0;
  out->next = in.U64();
  out->began_s = in.I64();
  out->ended_s = in.I64();
  return in.Finish();
}

std::string ReleaseRecord::Encode() const { return Writer().U32(version).U64(chunk).Take(); }
bool ReleaseRecord::Decode(std::string_view bytes, ReleaseRecord* out) {
  Reader in(bytes);
  out->version = in.U32();
  out->chunk = in.U64();
  return in.Finish();
}

std::string DamageRecord::Encode() const {
  Writer out;
  for (uint32_t block : blocks) out.U32(block);
  return out.Take();
}
bool DamageRecord::Decode(std::string_view bytes, DamageRecord* out) {
  if (bytes.empty() || bytes.size() % 4 != 0) return false;
  out->blocks.clear();
  Reader in(bytes);
  for (size_t left = bytes.size() / 4; left > 0; --left) {
    uint32_t block = in.U32();
    if (!out->blocks.empty() && block <= *out->blocks.rbegin()) return false;
    out->blocks.insert(out->blocks.end(), block);
  }
  return true;
}

namespace {

void Put(const NvmeRecord& nvme, Writer* out) {
  out->U32(static_cast<uint32_t>(nvme.uris.size()));
  for (const std::string& uri : nvme.uris) out->String(uri);
  out->Raw(View(nvme.uuid)).Raw(View(nvme.nguid)).U32(nvme.nsid).U8(static_cast<uint8_t>(nvme.data_path));
}

bool Get(Reader* in, NvmeRecord* out) {
  uint32_t uris = in->U32();
  for (uint32_t i = 0; i < uris && in->ok(); ++i) out->uris.emplace_back(in->String());
  out->uuid = ReadUuid(*in);
  out->nguid = ReadUuid(*in);
  out->nsid = in->U32();
  uint8_t path = in->U8();
  out->data_path = static_cast<DataPath>(path);
  return path <= static_cast<uint8_t>(DataPath::kDirect);
}

}  // namespace

std::string TargetRecord::Encode() const {
  Writer out;
  out.Raw(View(uuid)).String(name).String(host).U32(port).U64(capacity_bytes).U32(weight).String(zone);
  out.U8(draining).U64(instance).U8(nvme.has_value());
  if (nvme) Put(*nvme, &out);
  return out.Take();
}
bool TargetRecord::Decode(std::string_view bytes, TargetRecord* out) {
  Reader in(bytes);
  out->uuid = ReadUuid(in);
  out->name = in.String();
  out->host = in.String();
  out->port = in.U32();
  out->capacity_bytes = in.U64();
  out->weight = in.U32();
  out->zone = in.String();
  out->draining = in.U8() != 0;
  out->instance = in.U64();
  uint8_t nvmeof = in.U8();
  out->nvme.reset();
  if (nvmeof > 1 || (nvmeof == 1 && !Get(&in, &out->nvme.emplace()))) return false;
  return in.Finish();
}

std::string SessionRecord::Encode() const {
  return Writer()
      .Raw(View(client))
      .I64(opened_ns)
      .String(host)
      .String(hostnqn)
      .U32(lease_ms)
      .U64(drain_ms)
      .U8(ended)
      .Take();
}
bool SessionRecord::Decode(std::string_view bytes, SessionRecord* out) {
  Reader in(bytes);
  out->client = ReadUuid(in);
  out->opened_ns = in.I64();
  out->host = in.String();
  out->hostnqn = in.String();
  out->lease_ms = in.U32();
  out->drain_ms = in.U64();
  out->ended = in.U8();
  return in.Finish();
}

std::string SlotRecord::Encode() const { return Writer().U64(seq).Raw(reply).Take(); }
bool SlotRecord::Decode(std::string_view bytes, SlotRecord* out) {
  Reader in(bytes);
  out->seq = in.U64();
  out->reply = in.Rest();
  return in.Finish();
}

}  // namespace weft
