// SPDX-License-Identifier: MIT
//
// What the checks of one run of fsck share: the state that they read, the table of inodes, and where findings
// go. Owned by FsckCheck; one thread.
#pragma once

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "userland/meta/fsck.h"
#include "userland/meta/keys.h"
#include "userland/meta/records.h"

namespace weft {

// An inode while it is checked.
struct FsckInode {
  enum Flag : uint8_t {
    kOrphan = 1,   // some session has it marked as one
    kPlaced = 2,   // directories: an entry in `parent` names it
    kRooted = 4,   // directories: a way leads to the root
    kVisited = 8,  // directories: the way from here is being walked
  };
  uint64_t ino = 0;
  uint64_t parent = 0;   // directories
  int64_t rest = 0;      // directories: entries that the record counts and that were not seen; files: blocks
  uint32_t nlink = 0;    // by the record
  uint32_t names = 0;    // entries that name it
  uint32_t subdirs = 0;  // entries in it that name directories
  uint8_t type = 0;      // DT_*
  uint8_t flags = 0;
  bool IsDir() const;
};

class FsckScan {
 public:
  explicit FsckScan(StoreReader* reader) : reader_(reader) {}

  // ---- reading. The first error of the store is kept, and then nothing is found.
  const Status& status() const { return status_; }
  std::optional<std::string> Get(const std::string& key);
  template <typename Record>
  std::optional<Record> Read(const std::string& key) {
    std::optional<std::string> bytes = Get(key);
    Record record;
    if (!bytes || !Record::Decode(*bytes, &record)) return std::nullopt;
    return record;
  }
  // Visits a table, or the part of it that begins with `prefix`. visit returns false for a record that is
  // malformed: it is reported.
  void Scan(const std::string& prefix, const StoreReader::Visitor& visit);

  // ---- inodes, in rising order
  void AddInode(FsckInode inode) { inodes_.push_back(inode); }
  std::vector<FsckInode>& inodes() { return inodes_; }
  FsckInode* Find(uint64_t ino);
  const FsckInode* Find(uint64_t ino) const { return const_cast<FsckScan*>(this)->Find(ino); }

  // ---- findings
  struct About {
    uint64_t ino = 0;
    uint64_t chunk = 0;
  };
  using Repair = std::function<bool(FsckFixer&)>;
  void Report(std::string_view kind, std::string message, About about, Repair repair = nullptr, bool offline = false);
  FsckResult& result() { return result_; }

  std::set<uint64_t> sessions;  // that exist
  int64_t malformed_inodes = 0;

 private:
  void ReportMalformed(std::string_view key, std::string_view value);

  StoreReader* const reader_;
  Status status_;
  std::vector<FsckInode> inodes_;
  FsckResult result_;
};

// Takes away the record, unless it has changed since.
FsckScan::Repair RemoveRecord(std::string_view key, std::string_view value);

// The checks; each in the file of its name.
void FsckClients(FsckScan* scan);  // sessions and slots; first
void FsckNames(FsckScan* scan);
void FsckOrphans(FsckScan* scan);  // after FsckNames
void FsckSpace(FsckScan* scan);    // after FsckNames
void FsckChunks(FsckScan* scan);
void FsckCounters(FsckScan* scan);  // last

// Gives findings about an inode its path, in front of the message too.
void FsckNamePaths(FsckScan* scan);

}  // namespace weft
