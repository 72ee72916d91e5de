// SPDX-License-Identifier: MIT
//
// Names: directories, links, rename. Semantics are POSIX's as the Linux VFS expects them from a file
// system (permissions, sticky and setgid bits are the kernel's). Functions return 0 or an errno; one that
// fails after it changed something relies on Transaction::Rollback of its caller.
//
// A directory's inode holds its parent ('..'), the count of its entries and the next cookie. Cookies rise
// and are never used again in the directory, so a reader that continues behind the last cookie it saw
// meets every entry that was there all the time exactly once.
// State machine thread.
#pragma once

#include <functional>

#include "userland/meta/op_context.h"
#include "userland/meta/tables.h"

namespace weft {

class Namespace {
 public:
  Namespace(Tables* tables, Counters* counters, NamespaceLimits limits)
      : tables_(tables), counters_(counters), limits_(limits) {}

  // Makes the root directory; what is made in it has so many copies.
  // The pool's default has changed: the root directory follows unless it was given a number of its own.
  void SetDefaultCopies(uint32_t before, uint32_t now);
  void Format(int64_t now_ns, uint32_t copies);

  int Lookup(const idl::LookupOp& op, idl::Reply* reply);
  int ReadDir(const idl::ReadDirOp& op, idl::Reply* reply);
  int Create(const OpContext& context, const idl::CreateOp& op, idl::Reply* reply);
  int Remove(const OpContext& context, const idl::RemoveOp& op, idl::Reply* reply);
  int Rename(const OpContext& context, const idl::RenameOp& op, idl::Reply* reply);
  int Link(const OpContext& context, const idl::LinkOp& op, idl::Reply* reply);

 private:
  struct Entry {
    uint64_t parent = 0;
    std::string_view name;
    std::optional<Dirent> dirent;  // none: the name is free
    Inode inode;                   // of the dirent
  };

  // ENOENT, ENOTDIR. `writable`: a directory that was removed takes no new entries (ENOENT).
  int GetDir(uint64_t ino, bool writable, Inode* dir);
  // Looks a name up: the errors of names and of the directory; a free name is no error.
  int Find(uint64_t parent, std::string_view name, bool writable, Entry* entry);
  // True when `dir` is `ancestor` or lies below it.
  bool IsBelow(uint64_t dir, uint64_t ancestor);

  void UpdateDir(uint64_t ino, const std::function<void(Inode*)>& update);
  // Adds or removes an entry with all that depends on it in its directory: count, times, nlink.
  void AddEntry(const OpContext& context, uint64_t parent, std::string_view name, uint64_t ino, const Inode& inode);
  void RemoveEntry(const OpContext& context, const Entry& entry);
  // One name fewer: an inode without a name becomes an orphan of the session.
  void DropName(const OpContext& context, uint64_t ino, Inode* inode);

  int CheckReplace(const Entry& from, const Entry& to);
  int Exchange(const OpContext& context, Entry* from, Entry* to);

  Tables* const tables_;
  Counters* const counters_;
  const NamespaceLimits limits_;
};

}  // namespace weft
