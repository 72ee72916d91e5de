// SPDX-License-Identifier: MIT
#include "userland/meta/fsck.h"

#include <cerrno>
#include <dirent.h>

#include "userland/meta/fsck_fixer.h"
#include "userland/meta/fsck_scan.h"

namespace weft {
namespace {

// Tables that a server keeps in its memory too: behind its back they must not change.
constexpr std::string_view kMirrored = "XKTNLGFWRBVZP";
constexpr std::string_view kTables = "SPXIDCEKTNLOGFWRBVZY";

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (unsigned char c : bytes.substr(0, 32)) hex += fmt::format("{:02x}", c);
  return hex;
}

Status CheckSuperblock(FsckScan* scan) {
  std::optional<std::string> bytes = scan->Get(key::Superblock());
  if (!scan->status().ok()) return scan->status();
  Superblock superblock;
  if (!bytes || !Superblock::Decode(*bytes, &superblock)) {
    return Error(EUCLEAN, "the superblock of the metadata store is {}; restore the data folder from a good copy",
                 bytes ? "malformed" : "missing");
  }
  if (superblock.format != kStoreFormat) {
    return Error(EINVAL, "the metadata store has format {}, this release reads format {}; use the one that wrote it",
                 superblock.format, kStoreFormat);
  }
  return {};
}

// Records of no table that this release knows.
void CheckTables(FsckScan* scan) {
  scan->Scan("", [&](std::string_view key, std::string_view) {
    if (kTables.find(key.front()) == kTables.npos) {
      scan->Report("unknown-record", fmt::format("record {} belongs to no table that this release knows", Hex(key)),
                   {});
    }
    return true;
  });
}

}  // namespace

bool FsckInode::IsDir() const { return type == DT_DIR; }

std::optional<std::string> FsckScan::Get(const std::string& key) {
  std::string value;
  bool found = false;
  if (!status_.ok()) return std::nullopt;
  status_ = reader_->Get(key, &value, &found);
  if (!status_.ok() || !found) return std::nullopt;
  return value;
}

void FsckScan::Scan(const std::string& prefix, const StoreReader::Visitor& visit) {
  if (!status_.ok()) return;
  std::string end = prefix.empty() ? "\xff" : key::End(prefix);
  Status status = reader_->Scan(prefix, end, [&](std::string_view key, std::string_view value) {
    if (!visit(key, value)) ReportMalformed(key, value);
    return status_.ok();
  });
  if (status_.ok()) status_ = std::move(status);
}

FsckInode* FsckScan::Find(uint64_t ino) {
  auto it = std::ranges::lower_bound(inodes_, ino, {}, &FsckInode::ino);
  return it != inodes_.end() && it->ino == ino ? &*it : nullptr;
}

void FsckScan::Report(std::string_view kind, std::string message, About about, Repair repair, bool offline) {
  ++result_.total;
  if (result_.findings.size() >= kFsckFindingsMax) return;
  FsckFinding& finding = result_.findings.emplace_back();
  finding.problem.kind = kind;
  finding.problem.message = std::move(message);
  finding.problem.repairable = repair != nullptr;
  finding.problem.ino = static_cast<int64_t>(about.ino);
  finding.problem.chunk = static_cast<int64_t>(about.chunk);
  finding.repair = std::move(repair);
  finding.offline = offline;
}

void FsckScan::ReportMalformed(std::string_view key, std::string_view value) {
  char table = key.front();
  std::string message = fmt::format("record {} of table '{}' is malformed", Hex(key), table);
  // What others can be rebuilt from, or what is only kept for later, may go. Not so chunks, targets, sessions and
  // what a session that may still live has: their loss would let data be overwritten.
  if (std::string_view("IDCEFOLV").find(table) == std::string_view::npos)
    return Report("malformed-record", message, {});
  uint64_t ino = 0;
  if (table == 'I') {
    ++malformed_inodes;
    if (!key::Parse(key, &ino)) ino = 0;
  }
  if (table == 'E' && key.size() >= 9) key::Parse(key.substr(0, 9), &ino);
  auto repair = [key = std::string(key), value = std::string(value), ino](FsckFixer& fixer) {
    if (!fixer.Is(key, value)) return false;
    fixer.tx().Delete(key);
    if (key.front() == 'I' && fixer.counters().inodes > 0) --fixer.counters().inodes;
    return true;
  };
  Report("malformed-record", std::move(message), {.ino = ino}, std::move(repair),
         kMirrored.find(table) != kMirrored.npos);
}

FsckScan::Repair RemoveRecord(std::string_view key, std::string_view value) {
  return [key = std::string(key), value = std::string(value)](FsckFixer& fixer) {
    if (!fixer.Is(key, value)) return false;
    fixer.tx().Delete(key);
    return true;
  };
}

Result<FsckResult> FsckCheck(StoreReader* reader) {
  FsckScan scan(reader);
  if (Status status = CheckSuperblock(&scan); !status.ok()) return status;
  CheckTables(&scan);
  FsckClients(&scan);
  FsckNames(&scan);
  FsckOrphans(&scan);
  FsckSpace(&scan);
  FsckChunks(&scan);
  FsckCounters(&scan);
  FsckNamePaths(&scan);
  if (!scan.status().ok()) return scan.status();
  return std::move(scan.result());
}

}  // namespace weft
