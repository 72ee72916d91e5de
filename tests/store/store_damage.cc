// SPDX-License-Identifier: MIT
//
// Damages the store of a metadata server that is stopped, one record at a time, for the tests of fsck.
//
//   store_damage --data DIR KIND NAME [OTHER]
//
// NAME and OTHER are names of directory entries, each used once in the whole pool. Kinds:
//   dangling-dirent      the inode of NAME is deleted, its entry stays
//   unreferenced-inode   the entry of NAME is deleted (by name and by cookie), its inode stays
//   missing-cookie       the entry of NAME is found by name, and not when the directory is read
//   link-count           the inode of NAME says that it has seven names more
//   block-count          the inode of NAME says that it has seven blocks more
//   entry-count          the directory NAME says that it has seven entries more
//   double-use           the first extent of NAME is in the blocks of the first extent of OTHER
//   beyond-chunks        the first extent of NAME is in a chunk that does not exist
//   lost-blocks          the blocks of the first extent of NAME belong to nobody
// Prints what was changed. Exit status 0: it was; 2: it could not be.
#include <iostream>
#include <optional>

#include "userland/meta/keys.h"
#include "userland/meta/records.h"
#include "userland/meta/rocks_store.h"

namespace weft {
namespace {

constexpr uint64_t kMore = 7;
constexpr uint64_t kFarBlock = 1ull << 38;

struct Entry {
  uint64_t parent = 0;
  std::string name;
  Dirent dirent;
};

class Damager {
 public:
  explicit Damager(Store* store) : store_(*store) {}

  Status Apply(const std::string& kind, const std::string& name, const std::string& other) {
    Result<Entry> entry = Find(name);
    if (!entry.ok()) return entry.status();
    Status s = Damage(kind, *entry, other);
    return s.ok() ? store_.Commit(changes_) : s;
  }

 private:
  Status Damage(const std::string& kind, const Entry& entry, const std::string& other) {
    const uint64_t ino = entry.dirent.ino;
    if (kind == "dangling-dirent") {
      changes_[key::Inode(ino)] = std::nullopt;
      return {};
    }
    if (kind == "unreferenced-inode" || kind == "missing-cookie") {
      changes_[key::Cookie(entry.parent, entry.dirent.cookie)] = std::nullopt;
      if (kind == "unreferenced-inode") changes_[key::Dirent(entry.parent, entry.name)] = std::nullopt;
      return {};
    }
    if (kind == "link-count" || kind == "block-count" || kind == "entry-count") return DamageInode(kind, ino);
    if (kind == "double-use" || kind == "beyond-chunks" || kind == "lost-blocks") return DamageExtent(kind, ino, other);
    return Error(EINVAL, "there is no damage '{}'", kind);
  }

  Status DamageInode(const std::string& kind, uint64_t ino) {
    std::string bytes;
    bool found = false;
    if (Status s = store_.Get(key::Inode(ino), &bytes, &found); !s.ok()) return s;
    Inode inode;
    if (!found || !Inode::Decode(bytes, &inode)) return Error(ENOENT, "no inode {}", ino);
    if (kind == "link-count") inode.nlink += kMore;
    if (kind == "block-count") inode.blocks += kMore;
    if (kind == "entry-count") inode.entries += kMore;
    changes_[key::Inode(ino)] = inode.Encode();
    return {};
  }

  Status DamageExtent(const std::string& kind, uint64_t ino, const std::string& other) {
    Result<Extent> extent = FirstExtent(ino);
    if (!extent.ok()) return extent.status();
    const std::string where = key::Extent(ino, extent->end() - 1);
    if (kind == "lost-blocks") {
      changes_[where] = std::nullopt;
      return {};
    }
    if (kind == "beyond-chunks") {
      extent->pool_block = kFarBlock;
    } else {
      Result<Entry> entry = Find(other);
      if (!entry.ok()) return entry.status();
      Result<Extent> theirs = FirstExtent(entry->dirent.ino);
      if (!theirs.ok()) return theirs.status();
      extent->pool_block = theirs->pool_block;
    }
    changes_[where] = extent->Encode();
    return {};
  }

  Result<Entry> Find(const std::string& name) {
    std::optional<Entry> found;
    Status s = store_.Scan("D", key::End("D"), [&](std::string_view key, std::string_view value) {
      constexpr size_t kNameAt = 1 + sizeof(uint64_t);
      Entry entry;
      if (key.size() <= kNameAt || key.substr(kNameAt) != name) return true;
      if (!key::Parse(key.substr(0, kNameAt), &entry.parent) || !Dirent::Decode(value, &entry.dirent)) return true;
      entry.name = name;
      found = entry;
      return false;
    });
    if (!s.ok()) return s;
    if (!found) return Error(ENOENT, "no directory has an entry '{}'", name);
    return *found;
  }

  Result<Extent> FirstExtent(uint64_t ino) {
    std::optional<Extent> found;
    Status s =
        store_.Scan(key::Extent(ino, 0), key::Extent(ino + 1, 0), [&](std::string_view key, std::string_view value) {
          uint64_t owner = 0, last = 0;
          Extent extent;
          if (key::Parse(key, &owner, &last) && Extent::Decode(last, value, &extent)) found = extent;
          return false;
        });
    if (!s.ok()) return s;
    if (!found) return Error(ENOENT, "inode {} has no extents", ino);
    return *found;
  }

  Store& store_;
  Changes changes_;
};

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  using namespace weft;
  if (argc < 5 || argc > 6 || std::string(argv[1]) != "--data") {
    std::cerr << "usage: store_damage --data DIR KIND NAME [OTHER]\n";
    return 2;
  }
  Result<std::unique_ptr<RocksStore>> store = RocksStore::Open(argv[2], {});
  Status s = store.status();
  if (store.ok()) s = Damager(store->get()).Apply(argv[3], argv[4], argc > 5 ? argv[5] : "");
  if (!s.ok()) {
    std::cerr << "store_damage: " << s.message() << '\n';
    return 2;
  }
  std::cout << argv[3] << ' ' << argv[4] << '\n';
  return 0;
}
