// SPDX-License-Identifier: MIT
//
// Repairs of directories by fsck: entries are made, removed and listed anew, and what has no name any more is put
// into /lost+found. Pure changes through a FsckFixer; one thread.
#pragma once

#include <cstdint>
#include <string>

#include "userland/meta/fsck_fixer.h"

namespace weft {

inline constexpr uint64_t kFsckDirSize = 4096;  // as every directory has

// Removes an entry and what lists it; the directory counts one fewer.
void FsckRemoveEntry(FsckFixer& fixer, uint64_t parent, const std::string& name, const Dirent& dirent);

// Gives the entry this type and writes anew what lists it, under another cookie if its own is taken.
bool FsckRelist(FsckFixer& fixer, uint64_t parent, const std::string& name, uint8_t type);

// Names inode `ino`, which has no name, "#INO" in /lost+found, which is made when it is not there. subdirs: that it
// has itself.
bool FsckReattach(FsckFixer& fixer, uint64_t ino, uint32_t subdirs);

// Removes the entry of directory `ino` in `parent`, so that it can be reattached.
bool FsckCutOff(FsckFixer& fixer, uint64_t parent, uint64_t ino);

}  // namespace weft
