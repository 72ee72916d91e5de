// SPDX-License-Identifier: MIT
#include "userland/meta/namespace.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <sys/stat.h>

namespace weft {
namespace {

constexpr uint64_t kDirSize = 4096;        // st_size of every directory
constexpr size_t kReadDirHeaderBytes = 8;  // weft_readdir_rep
constexpr size_t kDirentBytes = 24;        // weft_dirent without its name

int CheckName(std::string_view name) {
  if (name.size() > kNameBytesMax) return ENAMETOOLONG;
  if (name.empty() || name == "." || name == "..") return EINVAL;
  return name.find('/') != name.npos || name.find('\0') != name.npos ? EINVAL : 0;
}

uint8_t DirentType(const Inode& inode) { return static_cast<uint8_t>(IFTODT(inode.mode)); }

}  // namespace

idl::Attr ToAttr(uint64_t ino, const Inode& inode) {
  idl::Attr attr;
  attr.ino = static_cast<int64_t>(ino);
  attr.size = static_cast<int64_t>(inode.size);
  attr.blocks = static_cast<int64_t>(inode.blocks);
  attr.atime_ns = inode.atime_ns;
  attr.mtime_ns = inode.mtime_ns;
  attr.ctime_ns = inode.ctime_ns;
  attr.btime_ns = inode.btime_ns;
  attr.mode = static_cast<int32_t>(inode.mode);
  attr.nlink = static_cast<int32_t>(inode.nlink);
  attr.uid = static_cast<int32_t>(inode.uid);
  attr.gid = static_cast<int32_t>(inode.gid);
  attr.rdev = static_cast<int32_t>(inode.rdev);
  attr.copies = static_cast<int32_t>(inode.copies);
  return attr;
}

void Namespace::Format(int64_t now_ns, uint32_t copies) {
  Inode root;
  root.mode = S_IFDIR | 0755;
  root.nlink = 2;
  root.size = kDirSize;
  root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = now_ns;
  root.parent = kRootIno;
  root.copies = copies;
  tables_->PutInode(kRootIno, root);
  ++counters_->inodes;
}

void Namespace::SetDefaultCopies(uint32_t before, uint32_t now) {
  UpdateDir(kRootIno, [=](Inode* dir) {
    if (dir->copies == before) dir->copies = now;
  });
}

int Namespace::GetDir(uint64_t ino, bool writable, Inode* dir) {
  std::optional<Inode> inode = tables_->GetInode(ino);
  if (!inode) return ENOENT;
  if (!inode->IsDir()) return ENOTDIR;
  if (writable && inode->nlink == 0) return ENOENT;
  *dir = *std::move(inode);
  return 0;
}

int Namespace::Find(uint64_t parent, std::string_view name, bool writable, Entry* entry) {
  Inode dir;
  if (int error = GetDir(parent, writable, &dir); error != 0) return error;
  if (int error = CheckName(name); error != 0) return error;
  entry->parent = parent;
  entry->name = name;
  entry->dirent = tables_->GetDirent(parent, name);
  if (!entry->dirent) return 0;
  std::optional<Inode> inode = tables_->GetInode(entry->dirent->ino);
  if (!tables_->Check(inode.has_value(), key::Inode(entry->dirent->ino))) return EIO;
  entry->inode = *std::move(inode);
  return 0;
}

bool Namespace::IsBelow(uint64_t dir, uint64_t ancestor) {
  while (dir != ancestor) {
    if (dir == kRootIno) return false;
    std::optional<Inode> inode = tables_->GetInode(dir);
    if (!inode) return false;
    dir = inode->parent;
  }
  return true;
}

void Namespace::UpdateDir(uint64_t ino, const std::function<void(Inode*)>& update) {
  std::optional<Inode> dir = tables_->GetInode(ino);
  if (!tables_->Check(dir.has_value(), key::Inode(ino))) return;
  update(&*dir);
  tables_->PutInode(ino, *dir);
}

void Namespace::AddEntry(const OpContext& context, uint64_t parent, std::string_view name, uint64_t ino,
                         const Inode& inode) {
  UpdateDir(parent, [&](Inode* dir) {
    tables_->PutDirent(parent, name, {ino, dir->next_cookie++, DirentType(inode)});
    ++dir->entries;
    if (inode.IsDir()) ++dir->nlink;
    dir->mtime_ns = dir->ctime_ns = context.now_ns;
  });
}

void Namespace::RemoveEntry(const OpContext& context, const Entry& entry) {
  tables_->DeleteDirent(entry.parent, entry.name, *entry.dirent);
  UpdateDir(entry.parent, [&](Inode* dir) {
    --dir->entries;
    if (entry.inode.IsDir()) --dir->nlink;
    dir->mtime_ns = dir->ctime_ns = context.now_ns;
  });
}

void Namespace::DropName(const OpContext& context, uint64_t ino, Inode* inode) {
  inode->nlink = inode->IsDir() ? 0 : inode->nlink - 1;
  inode->ctime_ns = context.now_ns;
  tables_->PutInode(ino, *inode);
  if (inode->nlink == 0) tables_->PutOrphan(context.session, ino);
}

int Namespace::Lookup(const idl::LookupOp& op, idl::Reply* reply) {
  Entry entry;
  if (int error = Find(op.parent, op.name, false, &entry); error != 0) return error;
  if (!entry.dirent) return ENOENT;
  reply->__set_attr(ToAttr(entry.dirent->ino, entry.inode));
  return 0;
}

int Namespace::ReadDir(const idl::ReadDirOp& op, idl::Reply* reply) {
  Inode dir;
  if (int error = GetDir(op.ino, false, &dir); error != 0) return error;
  if (op.cookie < 0 || op.bytes_max <= 0) return EINVAL;
  size_t room = std::min<size_t>(op.bytes_max, kMetaReplyBytes);
  room -= std::min(room, kReadDirHeaderBytes);
  bool eof = true;
  std::vector<idl::Dirent> entries;
  tables_->ScanDirents(op.ino, op.cookie, [&](uint64_t cookie, const CookieRecord& record) {
    size_t bytes = kDirentBytes + (record.name.size() + 7) / 8 * 8;
    if (bytes > room) {
      eof = false;
      return false;
    }
    room -= bytes;
    idl::Dirent& out = entries.emplace_back();
    out.ino = static_cast<int64_t>(record.ino);
    out.cookie = static_cast<int64_t>(cookie);
    out.type = static_cast<int8_t>(record.type);
    out.name = record.name;
    return true;
  });
  if (entries.empty() && !eof) return EINVAL;  // bytes_max is too small for one entry
  reply->__set_entries(std::move(entries));
  reply->__set_eof(eof);
  return 0;
}

int Namespace::Create(const OpContext& context, const idl::CreateOp& op, idl::Reply* reply) {
  Inode inode;
  inode.mode = static_cast<uint32_t>(op.mode) & (S_IFMT | 07777);
  inode.nlink = 1;
  inode.uid = static_cast<uint32_t>(op.uid);
  inode.gid = static_cast<uint32_t>(op.gid);
  inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = context.now_ns;
  switch (inode.mode & S_IFMT) {
    case S_IFDIR:
      inode.nlink = 2;
      inode.size = kDirSize;
      inode.parent = op.parent;
      break;
    case S_IFLNK:
      if (op.target.empty()) return EINVAL;
      if (op.target.size() > kSymlinkBytesMax) return ENAMETOOLONG;
      if (op.target.find('\0') != op.target.npos) return EINVAL;
      inode.target = op.target;
      inode.size = op.target.size();
      break;
    case S_IFCHR:
    case S_IFBLK:
      inode.rdev = static_cast<uint32_t>(op.rdev);
      break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    default:
      return EINVAL;
  }
  Entry entry;
  if (int error = Find(op.parent, op.name, true, &entry); error != 0) return error;
  if (entry.dirent) return EEXIST;
  Inode parent;
  if (int error = GetDir(op.parent, true, &parent); error != 0) return error;
  if (inode.IsDir() && parent.nlink >= limits_.link_max) return EMLINK;
  inode.copies = parent.copies;
  uint64_t ino = counters_->next_ino++;
  ++counters_->inodes;
  tables_->PutInode(ino, inode);
  AddEntry(context, op.parent, op.name, ino, inode);
  reply->__set_attr(ToAttr(ino, inode));
  return 0;
}

int Namespace::Remove(const OpContext& context, const idl::RemoveOp& op, idl::Reply* reply) {
  Entry entry;
  if (int error = Find(op.parent, op.name, false, &entry); error != 0) return error;
  if (!entry.dirent) return ENOENT;
  if (op.directory != entry.inode.IsDir()) return op.directory ? ENOTDIR : EISDIR;
  if (entry.inode.entries > 0) return ENOTEMPTY;
  RemoveEntry(context, entry);
  DropName(context, entry.dirent->ino, &entry.inode);
  reply->__set_attr(ToAttr(entry.dirent->ino, entry.inode));
  return 0;
}

int Namespace::Link(const OpContext& context, const idl::LinkOp& op, idl::Reply* reply) {
  std::optional<Inode> inode = tables_->GetInode(op.ino);
  if (!inode || inode->nlink == 0) return ENOENT;
  if (inode->IsDir()) return EPERM;
  Entry entry;
  if (int error = Find(op.parent, op.name, true, &entry); error != 0) return error;
  if (entry.dirent) return EEXIST;
  if (inode->nlink >= limits_.link_max) return EMLINK;
  ++inode->nlink;
  inode->ctime_ns = context.now_ns;
  tables_->PutInode(op.ino, *inode);
  AddEntry(context, op.parent, op.name, op.ino, *inode);
  reply->__set_attr(ToAttr(op.ino, *inode));
  return 0;
}

int Namespace::CheckReplace(const Entry& from, const Entry& to) {
  if (from.inode.IsDir() && !to.inode.IsDir()) return ENOTDIR;
  if (!from.inode.IsDir() && to.inode.IsDir()) return EISDIR;
  return to.inode.entries > 0 ? ENOTEMPTY : 0;
}

int Namespace::Rename(const OpContext& context, const idl::RenameOp& op, idl::Reply* reply) {
  if (op.noreplace && op.exchange) return EINVAL;
  Entry from;
  Entry to;
  if (int error = Find(op.old_parent, op.old_name, true, &from); error != 0) return error;
  if (int error = Find(op.new_parent, op.new_name, true, &to); error != 0) return error;
  if (!from.dirent) return ENOENT;
  if (to.dirent && op.noreplace) return EEXIST;
  if (!to.dirent && op.exchange) return ENOENT;
  reply->__set_attr(idl::Attr());  // ino 0: nothing was replaced
  if (to.dirent && to.dirent->ino == from.dirent->ino) return 0;
  if (from.inode.IsDir() && IsBelow(op.new_parent, from.dirent->ino)) return EINVAL;
  if (op.exchange) return Exchange(context, &from, &to);

  if (to.dirent) {
    if (int error = CheckReplace(from, to); error != 0) return error;
    RemoveEntry(context, to);
    DropName(context, to.dirent->ino, &to.inode);
    reply->__set_attr(ToAttr(to.dirent->ino, to.inode));
  }
  RemoveEntry(context, from);
  if (from.inode.IsDir()) {
    Inode parent;
    if (int error = GetDir(op.new_parent, true, &parent); error != 0) return error;
    if (parent.nlink >= limits_.link_max) return EMLINK;
    from.inode.parent = op.new_parent;
  }
  from.inode.ctime_ns = context.now_ns;
  tables_->PutInode(from.dirent->ino, from.inode);
  AddEntry(context, op.new_parent, op.new_name, from.dirent->ino, from.inode);
  return 0;
}

// Both entries keep their names and cookies and change what they name.
int Namespace::Exchange(const OpContext& context, Entry* from, Entry* to) {
  if (to->inode.IsDir() && IsBelow(from->parent, to->dirent->ino)) return EINVAL;
  Entry* entries[] = {from, to};
  for (int i = 0; i < 2; ++i) {
    Entry& here = *entries[i];
    Entry& comes = *entries[1 - i];
    tables_->PutDirent(here.parent, here.name, {comes.dirent->ino, here.dirent->cookie, DirentType(comes.inode)});
    int nlink = static_cast<int>(comes.inode.IsDir()) - static_cast<int>(here.inode.IsDir());
    int error = 0;
    UpdateDir(here.parent, [&](Inode* dir) {
      if (nlink > 0 && from->parent != to->parent && dir->nlink >= limits_.link_max) error = EMLINK;
      dir->nlink += nlink;
      dir->mtime_ns = dir->ctime_ns = context.now_ns;
    });
    if (error != 0) return error;
    if (comes.inode.IsDir()) comes.inode.parent = here.parent;
    comes.inode.ctime_ns = context.now_ns;
    tables_->PutInode(comes.dirent->ino, comes.inode);
  }
  return 0;
}

}  // namespace weft
