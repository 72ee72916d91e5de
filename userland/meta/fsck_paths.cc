// SPDX-License-Identifier: MIT
//
// fsck: the paths of the inodes that findings are about. One pass over all entries finds the names of files;
// above them every directory knows its parent.
#include <dirent.h>
#include <map>

#include "userland/meta/fsck_scan.h"

namespace weft {
namespace {

constexpr int kDepthMax = 4096;  // a way that is longer is taken for a circle

struct Name {
  uint64_t parent = 0;
  std::string name;
};

class Paths {
 public:
  explicit Paths(FsckScan* scan) : scan_(*scan) {}

  void Learn(const std::set<uint64_t>& inos) {
    scan_.Scan("D", [&](std::string_view key, std::string_view value) {
      Dirent dirent;
      if (key.size() < 10 || !Dirent::Decode(value, &dirent) || !inos.contains(dirent.ino)) return true;
      uint64_t parent = 0;
      key::Parse(key.substr(0, 9), &parent);
      names_.try_emplace(dirent.ino, Name{parent, std::string(key.substr(9))});
      return true;
    });
  }

  // Empty: no way leads there from the root.
  std::string PathOf(uint64_t ino) {
    std::string path;
    for (int depth = 0; ino != kRootIno; ++depth) {
      const Name* name = depth < kDepthMax ? NameOf(ino) : nullptr;
      if (name == nullptr) return "";
      path = "/" + name->name + path;
      ino = name->parent;
    }
    return path.empty() ? "/" : path;
  }

 private:
  const Name* NameOf(uint64_t ino) {
    auto it = names_.find(ino);
    if (it != names_.end()) return &it->second;
    const FsckInode* inode = scan_.Find(ino);
    if (inode == nullptr || !inode->IsDir() || (inode->flags & FsckInode::kPlaced) == 0) return nullptr;
    std::string prefix = key::Inode(inode->parent).replace(0, 1, "D");
    scan_.Scan(prefix, [&](std::string_view key, std::string_view value) {
      Dirent dirent;
      if (Dirent::Decode(value, &dirent) && dirent.type == DT_DIR && key.size() > prefix.size()) {
        names_.try_emplace(dirent.ino, Name{inode->parent, std::string(key.substr(prefix.size()))});
      }
      return true;
    });
    it = names_.find(ino);
    return it == names_.end() ? nullptr : &it->second;
  }

  FsckScan& scan_;
  std::map<uint64_t, Name> names_;
};

}  // namespace

void FsckNamePaths(FsckScan* scan) {
  std::set<uint64_t> inos;
  for (const FsckFinding& finding : scan->result().findings) {
    if (finding.problem.ino != 0) inos.insert(static_cast<uint64_t>(finding.problem.ino));
  }
  if (inos.empty()) return;
  Paths paths(scan);
  paths.Learn(inos);
  for (FsckFinding& finding : scan->result().findings) {
    if (finding.problem.ino == 0) continue;
    finding.problem.path = paths.PathOf(static_cast<uint64_t>(finding.problem.ino));
    if (!finding.problem.path.empty()) {
      finding.problem.message = fmt::format("{}: {}", finding.problem.path, finding.problem.message);
    }
  }
}

}  // namespace weft
