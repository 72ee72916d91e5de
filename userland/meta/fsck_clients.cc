// SPDX-License-Identifier: MIT
//
// fsck: what sessions have (orphans, slots, open chunks) against the sessions that there are, and the counters.
#include <algorithm>

#include "userland/meta/fsck_fixer.h"
#include "userland/meta/fsck_scan.h"
#include "userland/meta/sessions.h"

namespace weft {
namespace {

// Of a store whose counters are lost: numbers that nobody has seen yet.
constexpr uint32_t kMapVersionMargin = 1 << 20;  // versions of chunks that are gone, which targets remember
constexpr uint64_t kStartsMargin = 1 << 20;

// An inode without a name that nobody can hold open any more. Its blocks are found as leaked in the next round.
bool DestroyOrphan(FsckFixer& fixer, uint64_t session, uint64_t ino) {
  if (!fixer.tx().Get(key::Orphan(session, ino))) return false;
  fixer.tx().Delete(key::Orphan(session, ino));
  std::optional<Inode> inode = fixer.Read<Inode>(key::Inode(ino));
  if (!inode || inode->nlink > 0) return true;
  std::vector<std::string> keys{key::Inode(ino)};
  std::string prefix = key::Inode(ino).replace(0, 1, "E");
  fixer.tx().Scan(prefix, key::End(prefix), [&](std::string_view key, std::string_view) {
    keys.emplace_back(key);
    return true;
  });
  for (std::string& key : keys) fixer.tx().Delete(std::move(key));
  --fixer.counters().inodes;
  return true;
}

void CheckOrphan(FsckScan* scan, std::string_view key, uint64_t session, uint64_t ino) {
  const FsckInode* inode = scan->Find(ino);
  bool alive = scan->sessions.contains(session);
  if (alive && inode != nullptr && inode->names == 0) return;
  if (inode == nullptr || inode->names > 0) {
    return scan->Report("orphan-mark",
                        fmt::format("session {} has inode {} as an orphan, which {}", session, ino,
                                    inode == nullptr ? "does not exist" : "has a name"),
                        {.ino = inode == nullptr ? 0 : ino}, RemoveRecord(key, ""));
  }
  scan->Report("orphan-stale",
               fmt::format("inode {} has no name and is kept for session {}, which does not exist", ino, session),
               {.ino = ino}, [=](FsckFixer& fixer) { return DestroyOrphan(fixer, session, ino); });
}

void CheckSlots(FsckScan* scan) {
  scan->Scan("L", [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t slot = 0;
    SlotRecord record;
    idl::Reply reply;
    bool good = key.size() == 13 && key::Parse(key, &session, &slot) && slot < kSessionSlots &&
                SlotRecord::Decode(value, &record) && DecodeReply(record.reply, &reply);
    if (!good) return false;
    if (scan->sessions.contains(session)) return true;
    scan->Report("slot-stale", fmt::format("slot {} belongs to session {}, which does not exist", slot, session), {},
                 RemoveRecord(key, value), true);
    return true;
  });
}

}  // namespace

void FsckClients(FsckScan* scan) {
  scan->Scan("N", [&](std::string_view key, std::string_view value) {
    uint64_t id = 0;
    SessionRecord record;
    if (!key::Parse(key, &id)) return false;
    scan->sessions.insert(id);  // malformed or not: it may be alive
    return SessionRecord::Decode(value, &record);
  });
  CheckSlots(scan);
}

void FsckOrphans(FsckScan* scan) {
  scan->Scan("O", [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t ino = 0;
    if (key.size() != 17 || !key::Parse(key, &session, &ino) || !value.empty()) return false;
    CheckOrphan(scan, key, session, ino);
    return true;
  });
}

// ---- counters -----------------------------------------------------------------------------------

namespace {

struct Highest {
  uint64_t ino = kRootIno;
  uint64_t session = 0;
  uint64_t target = 0;
  uint32_t version = 0;
};

Highest FindHighest(FsckScan* scan) {
  Highest highest;
  if (!scan->inodes().empty()) highest.ino = std::max(highest.ino, scan->inodes().back().ino);
  if (!scan->sessions.empty()) highest.session = *scan->sessions.rbegin();
  scan->Scan("T", [&](std::string_view key, std::string_view) {
    uint64_t id = 0;
    if (key::Parse(key, &id)) highest.target = std::max(highest.target, id);
    return true;
  });
  scan->Scan("K", [&](std::string_view, std::string_view value) {
    Chunk chunk;
    if (Chunk::Decode(value, &chunk)) highest.version = std::max(highest.version, chunk.version);
    return true;
  });
  scan->Scan("R", [&](std::string_view, std::string_view value) {
    ReleaseRecord record;
    if (ReleaseRecord::Decode(value, &record)) highest.version = std::max(highest.version, record.version);
    return true;
  });
  return highest;
}

void Raise(FsckFixer& fixer, const Highest& highest) {
  Counters& counters = fixer.counters();
  counters.next_ino = std::max(counters.next_ino, highest.ino + 1);
  counters.next_session = std::max(counters.next_session, highest.session + 1);
  counters.next_target = std::max(counters.next_target, static_cast<uint32_t>(highest.target + 1));
  counters.map_version = std::max(counters.map_version, highest.version);
}

void ReportLostCounters(FsckScan* scan, const Highest& highest) {
  scan->Report(
      "counters", "the record of the counters is missing or malformed", {},
      [highest, inodes = scan->result().inodes](FsckFixer& fixer) {
        if (fixer.Read<Counters>(key::Counters())) return false;
        Raise(fixer, highest);
        fixer.counters().map_version = highest.version + kMapVersionMargin;
        fixer.counters().starts += kStartsMargin;
        fixer.counters().inodes = static_cast<uint64_t>(inodes);
        return true;
      },
      true);
}

}  // namespace

void FsckCounters(FsckScan* scan) {
  Highest highest = FindHighest(scan);
  if (!scan->status().ok()) return;
  std::optional<Counters> counters = scan->Read<Counters>(key::Counters());
  if (!counters) {
    // A server that was killed in its first moments has written none yet.
    if (scan->Get(key::Counters()) || scan->Get(key::Pool())) ReportLostCounters(scan, highest);
    return;
  }
  auto lower = [&](std::string_view what, uint64_t next, uint64_t there) {
    if (next > there) return;
    scan->Report(
        "counters", fmt::format("the next {} would be {}, there is {} already", what, next, there), {},
        [highest](FsckFixer& fixer) {
          Raise(fixer, highest);
          return true;
        },
        true);
  };
  lower("inode", counters->next_ino, highest.ino);
  lower("session", counters->next_session, highest.session);
  lower("target", counters->next_target, highest.target);
  if (counters->map_version < highest.version) lower("version of a chunk", counters->map_version, highest.version);
  int64_t missing = scan->result().inodes + scan->malformed_inodes - static_cast<int64_t>(counters->inodes);
  if (missing == 0) return;
  scan->Report("counters", fmt::format("{} inodes are counted, there are {}", counters->inodes, scan->result().inodes),
               {}, [missing](FsckFixer& fixer) {
                 fixer.counters().inodes += static_cast<uint64_t>(missing);
                 return true;
               });
}

}  // namespace weft
