// SPDX-License-Identifier: MIT
#include "userland/meta/keys.h"

#include "userland/meta/codec.h"

namespace weft::key {
namespace {

std::string Make(char table) { return std::string(1, table); }
std::string Make(char table, uint64_t a) { return Writer().U8(table).U64(a).Take(); }
std::string Make(char table, uint64_t a, uint64_t b) { return Writer().U8(table).U64(a).U64(b).Take(); }

}  // namespace

std::string Superblock() { return Make('S'); }
std::string Pool() { return Make('P'); }
std::string Counters() { return Make('X'); }
std::string Inode(uint64_t ino) { return Make('I', ino); }
std::string Dirent(uint64_t parent, std::string_view name) { return Writer().U8('D').U64(parent).Raw(name).Take(); }
std::string Cookie(uint64_t parent, uint64_t cookie) { return Make('C', parent, cookie); }
std::string Extent(uint64_t ino, uint64_t last) { return Make('E', ino, last); }
std::string Chunk(uint64_t index) { return Make('K', index); }
std::string Target(uint32_t id) { return Writer().U8('T').U32(id).Take(); }
std::string Session(uint64_t id) { return Make('N', id); }
std::string Slot(uint64_t session, uint32_t slot) { return Writer().U8('L').U64(session).U32(slot).Take(); }
std::string Orphan(uint64_t session, uint64_t ino) { return Make('O', session, ino); }
std::string Grant(uint64_t session, uint64_t first) { return Make('G', session, first); }
std::string Free(uint64_t first) { return Make('F', first); }
std::string OpenChunk(uint64_t session, uint64_t chunk) { return Make('W', session, chunk); }
std::string Releasing(uint32_t target, uint64_t offset) { return Writer().U8('R').U32(target).U64(offset).Take(); }
std::string Damage(uint64_t chunk, uint32_t target) { return Writer().U8('B').U64(chunk).U32(target).Take(); }
std::string Scrub() { return Make('V'); }
std::string KeptOut(std::string_view hostnqn) { return Writer().U8('Y').Raw(hostnqn).Take(); }
std::string Removed(std::string_view uuid) { return Writer().U8('Z').Raw(uuid).Take(); }

bool Parse(std::string_view key, uint64_t* a) {
  Reader in(key);
  in.U8();
  *a = key.size() == 5 ? in.U32() : in.U64();
  return in.Finish();
}

bool Parse(std::string_view key, uint64_t* a, uint64_t* b) {
  Reader in(key);
  in.U8();
  *a = in.U64();
  *b = key.size() == 13 ? in.U32() : in.U64();
  return in.Finish();
}

bool ParseReleasing(std::string_view key, uint32_t* target, uint64_t* offset) {
  Reader in(key);
  in.U8();
  *target = in.U32();
  *offset = in.U64();
  return in.Finish();
}

std::string End(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) ++end.back();
  return end;
}

}  // namespace weft::key
