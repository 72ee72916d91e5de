// SPDX-License-Identifier: MIT
//
// fsck: inodes against the entries of directories, in both of their orders.
#include <cerrno>
#include <dirent.h>
#include <sys/stat.h>

#include "userland/meta/fsck_fixer.h"
#include "userland/meta/fsck_lost_found.h"
#include "userland/meta/fsck_scan.h"

namespace weft {
namespace {

using Repair = FsckScan::Repair;

// An entry of a directory.
struct Named {
  uint64_t parent = 0;
  std::string name;
  Dirent dirent;
};

bool ParseDirentKey(std::string_view key, uint64_t* parent, std::string_view* name) {
  if (key.size() < 10 || !key::Parse(key.substr(0, 9), parent)) return false;
  *name = key.substr(9);
  return true;
}

class NameCheck {
 public:
  explicit NameCheck(FsckScan* scan) : scan_(*scan) {}

  void Run() {
    ScanInodes();
    CheckRoot();
    ScanDirents();
    ScanCookies();
    SettleParents();
    CheckCounts();
    CheckCycles();
  }

 private:
  void ScanInodes();
  void CheckRoot();
  void ScanDirents();
  void CheckDirent(Named named, FsckInode* parent);
  void PlaceDirectory(const Named& named, FsckInode* child);
  void ScanCookies();
  void CheckCookie(uint64_t parent, uint64_t cookie, const CookieRecord& record);
  void CheckNextCookie(uint64_t parent, uint64_t last);
  void SettleParents();
  void CheckCounts();
  void CheckInode(const FsckInode& inode);
  void CheckCycles();

  Repair RemoveEntry(const Named& named) const;
  Repair SetInode(uint64_t ino, std::function<void(Inode*)> change);

  FsckScan& scan_;
  std::vector<Named> misplaced_;  // entries of directories that say they lie elsewhere
  std::vector<Named> twice_;      // further entries of directories that have one
};

void NameCheck::ScanInodes() {
  std::set<uint64_t> orphans;
  scan_.Scan("O", [&](std::string_view key, std::string_view) {
    uint64_t session = 0;
    uint64_t ino = 0;
    if (key::Parse(key, &session, &ino)) orphans.insert(ino);  // else FsckClients has reported it
    return true;
  });
  scan_.Scan("I", [&](std::string_view key, std::string_view value) {
    uint64_t ino = 0;
    Inode record;
    if (!key::Parse(key, &ino) || !Inode::Decode(value, &record) || IFTODT(record.mode) == DT_UNKNOWN) return false;
    FsckInode inode;
    inode.ino = ino;
    inode.type = static_cast<uint8_t>(IFTODT(record.mode));
    inode.nlink = record.nlink;
    inode.parent = record.IsDir() ? record.parent : 0;
    inode.rest = static_cast<int64_t>(record.IsDir() ? record.entries : record.blocks);
    if (orphans.contains(ino)) inode.flags |= FsckInode::kOrphan;
    scan_.AddInode(inode);
    ++scan_.result().inodes;
    return true;
  });
}

void NameCheck::CheckRoot() {
  if (scan_.inodes().empty() && !scan_.Get(key::Pool())) return;  // no pool has been formed
  const FsckInode* root = scan_.Find(kRootIno);
  if (root != nullptr && root->IsDir()) return;
  if (root != nullptr) {
    return scan_.Report("root-missing", "inode 1, which is the root, is no directory", {.ino = kRootIno});
  }
  scan_.Report("root-missing", "the root directory has no inode", {.ino = kRootIno}, [](FsckFixer& fixer) {
    if (fixer.Read<Inode>(key::Inode(kRootIno))) return false;
    Inode inode;
    inode.mode = S_IFDIR | 0755;
    inode.nlink = 2;  // this, entries and the next cookie are counted in the next round
    inode.size = kFsckDirSize;
    inode.parent = kRootIno;
    fixer.tx().Put(key::Inode(kRootIno), inode.Encode());
    ++fixer.counters().inodes;
    return true;
  });
}

// ---- entries by name ----------------------------------------------------------------------------

void NameCheck::ScanDirents() {
  FsckInode* parent = nullptr;
  uint64_t parent_ino = 0;
  scan_.Scan("D", [&](std::string_view key, std::string_view value) {
    Named named;
    std::string_view name;
    if (!ParseDirentKey(key, &named.parent, &name) || !Dirent::Decode(value, &named.dirent)) return false;
    named.name = name;
    if (parent_ino != named.parent) parent = scan_.Find(named.parent);
    parent_ino = named.parent;
    CheckDirent(std::move(named), parent);
    return true;
  });
}

void NameCheck::CheckDirent(Named named, FsckInode* parent) {
  const Dirent& dirent = named.dirent;
  if (parent == nullptr || !parent->IsDir()) {
    return scan_.Report("dirent-without-directory",
                        fmt::format("entry '{}' of inode {}, which is no directory, names inode {}", named.name,
                                    named.parent, dirent.ino),
                        {.ino = dirent.ino}, RemoveEntry(named));
  }
  --parent->rest;
  FsckInode* child = scan_.Find(dirent.ino);
  // What is to be removed is counted as what it says that it is: its removal takes it out of the counts.
  if (dirent.type == DT_DIR && (child == nullptr || child->ino == kRootIno)) ++parent->subdirs;
  if (child == nullptr) {
    return scan_.Report("dirent-dangling",
                        fmt::format("entry '{}' of directory {} names inode {}, which does not exist", named.name,
                                    named.parent, dirent.ino),
                        {.ino = named.parent}, RemoveEntry(named));
  }
  if (child->ino == kRootIno) {
    return scan_.Report("directory-linked-twice",
                        fmt::format("entry '{}' of directory {} names the root", named.name, named.parent),
                        {.ino = named.parent}, RemoveEntry(named));
  }
  ++child->names;
  if (child->IsDir()) {
    ++parent->subdirs;
    PlaceDirectory(named, child);
  }
  std::optional<CookieRecord> twin = scan_.Read<CookieRecord>(key::Cookie(named.parent, dirent.cookie));
  bool matches = twin && twin->name == named.name && twin->ino == dirent.ino && twin->type == dirent.type;
  if (matches && dirent.type == child->type) return;
  scan_.Report(matches ? "dirent-type" : "dirent-cookie",
               matches ? fmt::format("entry '{}' of directory {} has type {}, inode {} has {}", named.name,
                                     named.parent, dirent.type, child->ino, child->type)
                       : fmt::format("entry '{}' of directory {} is not found when the directory is listed", named.name,
                                     named.parent),
               {.ino = child->ino}, [named, type = child->type](FsckFixer& fixer) {
                 if (!fixer.Is(key::Dirent(named.parent, named.name), named.dirent.Encode())) return false;
                 return FsckRelist(fixer, named.parent, named.name, type);
               });
}

void NameCheck::PlaceDirectory(const Named& named, FsckInode* child) {
  if (child->parent != named.parent) {
    misplaced_.push_back(named);
  } else if ((child->flags & FsckInode::kPlaced) != 0) {
    twice_.push_back(named);
  } else {
    child->flags |= FsckInode::kPlaced;
  }
}

Repair NameCheck::RemoveEntry(const Named& named) const {
  return [named](FsckFixer& fixer) {
    if (!fixer.Is(key::Dirent(named.parent, named.name), named.dirent.Encode())) return false;
    FsckRemoveEntry(fixer, named.parent, named.name, named.dirent);
    return true;
  };
}

// ---- entries by cookie --------------------------------------------------------------------------

void NameCheck::ScanCookies() {
  uint64_t parent = 0;
  uint64_t last = 0;
  scan_.Scan("C", [&](std::string_view key, std::string_view value) {
    uint64_t of = 0;
    uint64_t cookie = 0;
    CookieRecord record;
    if (!key::Parse(key, &of, &cookie) || !CookieRecord::Decode(value, &record)) return false;
    if (of != parent && parent != 0) CheckNextCookie(parent, last);
    parent = of;
    last = cookie;
    CheckCookie(of, cookie, record);
    return true;
  });
  if (parent != 0) CheckNextCookie(parent, last);
}

void NameCheck::CheckCookie(uint64_t parent, uint64_t cookie, const CookieRecord& record) {
  std::optional<Dirent> dirent = scan_.Read<Dirent>(key::Dirent(parent, record.name));
  if (dirent && dirent->cookie == cookie) return;  // what else differs was seen from the other side
  const FsckInode* dir = scan_.Find(parent);
  const FsckInode* child = scan_.Find(record.ino);
  // Without its entry by name, this one is the only witness of it.
  bool restore = !dirent && dir != nullptr && dir->IsDir() && child != nullptr && child->ino != kRootIno;
  scan_.Report(
      "cookie-without-dirent",
      fmt::format("directory {} lists '{}' (inode {}), which is not found by name", parent, record.name, record.ino),
      {.ino = restore ? record.ino : parent}, [=](FsckFixer& fixer) {
        std::string key = key::Cookie(parent, cookie);
        std::optional<Dirent> now = fixer.Read<Dirent>(key::Dirent(parent, record.name));
        if (!fixer.Is(key, record.Encode()) || (now && now->cookie == cookie)) return false;
        if (restore && !now) {
          fixer.tx().Put(key::Dirent(parent, record.name), Dirent{record.ino, cookie, record.type}.Encode());
        } else {
          fixer.tx().Delete(key);
        }
        return true;
      });
  // It is counted as the entry that it will be: the counts of the directory and of the inode are not wrong.
  if (!restore) return;
  FsckInode* parent_inode = scan_.Find(parent);
  FsckInode* child_inode = scan_.Find(record.ino);
  --parent_inode->rest;
  ++child_inode->names;
  if (!child_inode->IsDir()) return;
  ++parent_inode->subdirs;
  if (child_inode->parent == parent) child_inode->flags |= FsckInode::kPlaced;
}

void NameCheck::CheckNextCookie(uint64_t parent, uint64_t last) {
  std::optional<Inode> dir = scan_.Read<Inode>(key::Inode(parent));
  if (!dir || !dir->IsDir() || dir->next_cookie > last) return;
  scan_.Report("next-cookie",
               fmt::format("directory {} would use cookie {} next, it has entry {}", parent, dir->next_cookie, last),
               {.ino = parent}, [=](FsckFixer& fixer) {
                 std::optional<Inode> now = fixer.Read<Inode>(key::Inode(parent));
                 if (!now || !now->IsDir() || now->next_cookie > last) return false;
                 now->next_cookie = last + 1;
                 fixer.tx().Put(key::Inode(parent), now->Encode());
                 return true;
               });
}

// ---- the tree -----------------------------------------------------------------------------------

void NameCheck::SettleParents() {
  for (const Named& named : misplaced_) {
    FsckInode* child = scan_.Find(named.dirent.ino);
    if ((child->flags & FsckInode::kPlaced) != 0) {
      twice_.push_back(named);
      continue;
    }
    scan_.Report("directory-parent",
                 fmt::format("directory {} says that it lies in directory {}, it lies in {}", child->ino, child->parent,
                             named.parent),
                 {.ino = child->ino},
                 SetInode(child->ino, [parent = named.parent](Inode* inode) { inode->parent = parent; }));
    child->parent = named.parent;
    child->flags |= FsckInode::kPlaced;
  }
  for (const Named& named : twice_) {
    FsckInode* child = scan_.Find(named.dirent.ino);
    --child->names;
    scan_.Report("directory-linked-twice",
                 fmt::format("entry '{}' of directory {} is a second name of directory {}", named.name, named.parent,
                             child->ino),
                 {.ino = child->ino}, RemoveEntry(named));
  }
}

// A repair of the record that fails when anything in it has changed since.
Repair NameCheck::SetInode(uint64_t ino, std::function<void(Inode*)> change) {
  std::optional<std::string> bytes = scan_.Get(key::Inode(ino));
  if (!bytes) return nullptr;
  return [ino, bytes = *bytes, change = std::move(change)](FsckFixer& fixer) {
    Inode inode;
    if (!fixer.Is(key::Inode(ino), bytes) || !Inode::Decode(bytes, &inode)) return false;
    change(&inode);
    fixer.tx().Put(key::Inode(ino), inode.Encode());
    return true;
  };
}

void NameCheck::CheckCounts() {
  for (const FsckInode& inode : scan_.inodes()) {
    if (!scan_.status().ok()) return;
    CheckInode(inode);
  }
}

void NameCheck::CheckInode(const FsckInode& inode) {
  uint64_t ino = inode.ino;
  bool root = ino == kRootIno;
  if (inode.names == 0 && !root) {
    if ((inode.flags & FsckInode::kOrphan) == 0) {
      std::optional<std::string> bytes = scan_.Get(key::Inode(ino));
      if (!bytes) return;
      return scan_.Report("inode-unreferenced",
                          fmt::format("inode {} has no name; a repair puts it into /lost+found", ino), {.ino = ino},
                          [ino, bytes = *bytes, subdirs = inode.subdirs](FsckFixer& fixer) {
                            return fixer.Is(key::Inode(ino), bytes) && FsckReattach(fixer, ino, subdirs);
                          });
    }
  } else if ((inode.flags & FsckInode::kOrphan) != 0) {
    return;  // FsckClients says which mark is wrong; then the counts are looked at again
  }
  uint32_t links = inode.names;
  if (inode.IsDir()) links = inode.names > 0 || root ? 2 + inode.subdirs : 0;
  if (inode.nlink != links) {
    scan_.Report("link-count", fmt::format("inode {} has link count {}, it should be {}", ino, inode.nlink, links),
                 {.ino = ino}, SetInode(ino, [links](Inode* record) { record->nlink = links; }));
  }
  if (inode.IsDir() && inode.rest != 0) {
    scan_.Report("directory-entries",
                 fmt::format("directory {} counts {} entries {} than it has", ino, std::abs(inode.rest),
                             inode.rest > 0 ? "more" : "fewer"),
                 {.ino = ino}, SetInode(ino, [rest = inode.rest](Inode* record) { record->entries -= rest; }));
  }
}

// Directories that only lead to each other.
void NameCheck::CheckCycles() {
  if (FsckInode* root = scan_.Find(kRootIno)) root->flags |= FsckInode::kRooted;
  for (FsckInode& start : scan_.inodes()) {
    if (!start.IsDir() || (start.flags & FsckInode::kRooted) != 0) continue;
    std::vector<FsckInode*> way;
    FsckInode* at = &start;
    while (at != nullptr && (at->flags & (FsckInode::kRooted | FsckInode::kVisited)) == 0) {
      at->flags |= FsckInode::kVisited;
      way.push_back(at);
      // One without a name ends the way: it was reported, or it is an orphan.
      at = (at->flags & FsckInode::kPlaced) != 0 ? scan_.Find(at->parent) : nullptr;
    }
    if (at != nullptr && (at->flags & FsckInode::kVisited) != 0) {
      scan_.Report("directory-cycle",
                   fmt::format("directory {} lies below itself; a repair puts it into /lost+found", at->ino),
                   {.ino = at->ino},
                   [ino = at->ino, parent = at->parent](FsckFixer& fixer) { return FsckCutOff(fixer, parent, ino); });
    }
    for (FsckInode* inode : way) {
      inode->flags &= ~FsckInode::kVisited;
      inode->flags |= FsckInode::kRooted;
    }
  }
}

}  // namespace

void FsckNames(FsckScan* scan) { NameCheck(scan).Run(); }

}  // namespace weft
