// SPDX-License-Identifier: MIT
#include "userland/meta/fsck_lost_found.h"

#include <dirent.h>
#include <sys/stat.h>

namespace weft {
namespace {

constexpr char kLostFound[] = "lost+found";
constexpr uint32_t kLostFoundMode = S_IFDIR | 0700;

std::optional<Inode> ReadDir(FsckFixer& fixer, uint64_t ino) {
  std::optional<Inode> dir = fixer.Read<Inode>(key::Inode(ino));
  return dir && dir->IsDir() ? dir : std::nullopt;
}

bool AddEntry(FsckFixer& fixer, uint64_t parent, const std::string& name, uint64_t ino, const Inode& inode) {
  std::optional<Inode> dir = ReadDir(fixer, parent);
  if (!dir) return false;
  while (fixer.tx().Get(key::Cookie(parent, dir->next_cookie))) ++dir->next_cookie;
  Dirent dirent{ino, dir->next_cookie++, static_cast<uint8_t>(IFTODT(inode.mode))};
  ++dir->entries;
  if (inode.IsDir()) ++dir->nlink;
  fixer.tx().Put(key::Inode(parent), dir->Encode());
  fixer.tx().Put(key::Dirent(parent, name), dirent.Encode());
  fixer.tx().Put(key::Cookie(parent, dirent.cookie), CookieRecord{ino, dirent.type, name}.Encode());
  return true;
}

// 0: the root cannot take it.
uint64_t FindOrMakeLostFound(FsckFixer& fixer) {
  if (std::optional<Dirent> dirent = fixer.Read<Dirent>(key::Dirent(kRootIno, kLostFound))) {
    std::optional<Inode> dir = ReadDir(fixer, dirent->ino);
    return dir && dir->nlink > 0 ? dirent->ino : 0;
  }
  std::optional<Inode> root = ReadDir(fixer, kRootIno);
  if (!root) return 0;
  uint64_t ino = fixer.counters().next_ino;
  while (fixer.tx().Get(key::Inode(ino))) ++ino;
  Inode dir;
  dir.mode = kLostFoundMode;
  dir.nlink = 2;
  dir.size = kFsckDirSize;
  dir.parent = kRootIno;
  dir.copies = root->copies;
  dir.atime_ns = dir.mtime_ns = dir.ctime_ns = dir.btime_ns = root->mtime_ns;
  if (!AddEntry(fixer, kRootIno, kLostFound, ino, dir)) return 0;
  fixer.tx().Put(key::Inode(ino), dir.Encode());
  fixer.counters().next_ino = ino + 1;
  ++fixer.counters().inodes;
  return ino;
}

}  // namespace

void FsckRemoveEntry(FsckFixer& fixer, uint64_t parent, const std::string& name, const Dirent& dirent) {
  fixer.tx().Delete(key::Dirent(parent, name));
  std::optional<CookieRecord> twin = fixer.Read<CookieRecord>(key::Cookie(parent, dirent.cookie));
  if (twin && twin->name == name) fixer.tx().Delete(key::Cookie(parent, dirent.cookie));
  std::optional<Inode> dir = ReadDir(fixer, parent);
  if (!dir || dir->entries == 0) return;
  --dir->entries;
  if (dirent.type == DT_DIR && dir->nlink > 2) --dir->nlink;
  fixer.tx().Put(key::Inode(parent), dir->Encode());
}

bool FsckRelist(FsckFixer& fixer, uint64_t parent, const std::string& name, uint8_t type) {
  std::optional<Dirent> dirent = fixer.Read<Dirent>(key::Dirent(parent, name));
  std::optional<Inode> dir = ReadDir(fixer, parent);
  if (!dirent || !dir) return false;
  std::optional<CookieRecord> there = fixer.Read<CookieRecord>(key::Cookie(parent, dirent->cookie));
  if (there && there->name != name) {
    while (fixer.tx().Get(key::Cookie(parent, dir->next_cookie))) ++dir->next_cookie;
    dirent->cookie = dir->next_cookie++;
    fixer.tx().Put(key::Inode(parent), dir->Encode());
  }
  dirent->type = type;
  fixer.tx().Put(key::Dirent(parent, name), dirent->Encode());
  fixer.tx().Put(key::Cookie(parent, dirent->cookie), CookieRecord{dirent->ino, type, name}.Encode());
  return true;
}

bool FsckReattach(FsckFixer& fixer, uint64_t ino, uint32_t subdirs) {
  std::optional<Inode> inode = fixer.Read<Inode>(key::Inode(ino));
  uint64_t lost_found = FindOrMakeLostFound(fixer);
  if (!inode || lost_found == 0 || lost_found == ino) return false;
  inode->nlink = inode->IsDir() ? 2 + subdirs : 1;
  if (inode->IsDir()) inode->parent = lost_found;
  std::string name = fmt::format("#{}", ino);
  while (fixer.tx().Get(key::Dirent(lost_found, name))) name += '#';
  if (!AddEntry(fixer, lost_found, name, ino, *inode)) return false;
  fixer.tx().Put(key::Inode(ino), inode->Encode());
  return true;
}

bool FsckCutOff(FsckFixer& fixer, uint64_t parent, uint64_t ino) {
  std::string prefix = key::Inode(parent).replace(0, 1, "D");
  std::string name;
  Dirent dirent;
  fixer.tx().Scan(prefix, key::End(prefix), [&](std::string_view key, std::string_view value) {
    Dirent record;
    if (!Dirent::Decode(value, &record) || record.ino != ino) return true;
    name = key.substr(prefix.size());
    dirent = record;
    return false;
  });
  if (name.empty()) return false;
  FsckRemoveEntry(fixer, parent, name, dirent);
  return true;
}

}  // namespace weft
