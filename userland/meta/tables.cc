// SPDX-License-Identifier: MIT
#include "userland/meta/tables.h"

#include <cerrno>

namespace weft {

bool Tables::Check(bool good, std::string_view key) {
  if (good) return true;
  std::string hex;
  for (unsigned char c : key.substr(0, 32)) hex += fmt::format("{:02x}", c);
  tx_->Fail(Error(EUCLEAN,
                  "metadata store: record {} (table '{}') is malformed; restore the data folder from a good copy", hex,
                  key.empty() ? ' ' : key.front()));
  return false;
}

void Tables::PutDirent(uint64_t parent, std::string_view name, const Dirent& entry) {
  tx_->Put(key::Dirent(parent, name), entry.Encode());
  tx_->Put(key::Cookie(parent, entry.cookie), CookieRecord{entry.ino, entry.type, std::string(name)}.Encode());
}

void Tables::DeleteDirent(uint64_t parent, std::string_view name, const Dirent& entry) {
  tx_->Delete(key::Dirent(parent, name));
  tx_->Delete(key::Cookie(parent, entry.cookie));
}

void Tables::ScanDirents(uint64_t parent, uint64_t cookie,
                         const std::function<bool(uint64_t, const CookieRecord&)>& visit) {
  if (cookie == UINT64_MAX) return;
  std::string end = key::End(key::Inode(parent).replace(0, 1, "C"));
  tx_->Scan(key::Cookie(parent, cookie + 1), end, [&](std::string_view key, std::string_view value) {
    uint64_t dir = 0;
    uint64_t at = 0;
    CookieRecord entry;
    if (!Check(key::Parse(key, &dir, &at) && CookieRecord::Decode(value, &entry), key)) return false;
    return visit(at, entry);
  });
}

std::optional<Extent> Tables::GetExtentEndingAt(uint64_t ino, uint64_t last) {
  std::string key = key::Extent(ino, last);
  std::optional<std::string> bytes = tx_->Get(key);
  Extent extent;
  if (!bytes || !Check(Extent::Decode(last, *bytes, &extent), key)) return std::nullopt;
  return extent;
}

void Tables::ScanExtents(uint64_t ino, uint64_t block, const std::function<bool(const Extent&)>& visit) {
  std::string end = key::End(key::Inode(ino).replace(0, 1, "E"));
  tx_->Scan(key::Extent(ino, block), end, [&](std::string_view key, std::string_view value) {
    uint64_t file = 0;
    uint64_t last = 0;
    Extent extent;
    if (!Check(key::Parse(key, &file, &last) && Extent::Decode(last, value, &extent), key)) return false;
    return visit(extent);
  });
}

}  // namespace weft
