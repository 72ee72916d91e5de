// SPDX-License-Identifier: MIT
#include "userland/meta/fsck_run.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "userland/meta/codec.h"
#include "userland/meta/fsck_fixer.h"
#include "userland/meta/rocks_store.h"
#include "userland/rpc/limits.h"

namespace weft {
namespace {

static_assert(kFsckFindingsMax <= kContainerItemsMax);

constexpr int kRoundsMax = 100;  // each but the last repairs something
constexpr char kOfflineHint[] = "; to repair it, stop weft-meta and run `weftctl fsck --offline --repair --data DIR`";

// ---- offline ------------------------------------------------------------------------------------

class OfflineFixer final : public FsckFixer {
 public:
  OfflineFixer(Transaction* tx, Counters* counters) : FsckFixer(tx, counters) {
    tx->Scan("F", key::End("F"), [this](std::string_view key, std::string_view value) {
      uint64_t first = 0;
      Reader in(value);
      uint64_t blocks = in.U64();
      if (key::Parse(key, &first) && in.Finish() && blocks > 0 && !free_.Overlaps(first, blocks)) {
        free_.Add(first, blocks);
      }
      return true;
    });
  }

  bool FreeLeaked(uint64_t first, uint64_t blocks) override {
    // A range that another repair of this round has changed is left to the next.
    if (free_.Overlaps(first, blocks)) return false;
    free_.Add(first, blocks, [this](uint64_t at, uint64_t length) {
      if (length > 0) {
        tx().Put(key::Free(at), Writer().U64(length).Take());
      } else {
        tx().Delete(key::Free(at));
      }
    });
    return true;
  }

 private:
  RangeMap free_;
};

bool IsLeak(const FsckFinding& finding) { return finding.problem.kind == "blocks-leaked"; }

// How many were repaired.
int RepairThose(FsckFixer& fixer, const std::vector<FsckFinding*>& findings, bool leaks) {
  int repaired = 0;
  for (FsckFinding* finding : findings) {
    if (IsLeak(*finding) != leaks) continue;
    fixer.tx().Begin();
    Counters before = fixer.counters();
    finding->problem.repaired = finding->repair(fixer);
    if (finding->problem.repaired) {
      ++repaired;
      continue;
    }
    fixer.tx().Rollback();
    fixer.counters() = before;
  }
  return repaired;
}

Status RepairOffline(Store* store, const std::vector<FsckFinding*>& findings) {
  Transaction tx(store);
  Counters stored;
  std::optional<std::string> bytes = tx.Get(key::Counters());
  if (bytes && !Counters::Decode(*bytes, &stored)) stored = {};
  Counters counters = stored;
  OfflineFixer fixer(&tx, &counters);
  // Leaks come in rounds of their own: other repairs may write records of free blocks.
  if (RepairThose(fixer, findings, false) == 0) RepairThose(fixer, findings, true);
  if (counters != stored) tx.Put(key::Counters(), counters.Encode());
  return tx.Commit();
}

}  // namespace

Result<idl::FsckReport> FsckRun(const FsckAccess& access, bool repair) {
  idl::FsckReport report;
  int64_t repaired = 0;
  for (int round = 0;; ++round) {
    Result<std::unique_ptr<StoreReader>> reader = access.snapshot();
    if (!reader.ok()) return reader.status();
    Result<FsckResult> found = FsckCheck(reader->get());
    if (!found.ok()) return found.status();
    reader->reset();
    std::vector<FsckFinding*> todo;
    for (FsckFinding& finding : found->findings) {
      if (finding.repair && !(access.online && finding.offline)) todo.push_back(&finding);
    }
    int64_t before = repaired;
    if (repair && !todo.empty() && round < kRoundsMax) {
      if (Status status = access.repair(todo); !status.ok()) return status;
      for (const FsckFinding* finding : todo) {
        if (!finding->problem.repaired) continue;
        ++repaired;
        if (report.problems.size() < kFsckFindingsMax) report.problems.push_back(finding->problem);
      }
    }
    if (repaired > before) continue;
    for (FsckFinding& finding : found->findings) {
      if (report.problems.size() >= kFsckFindingsMax) break;
      if (access.online && finding.offline && finding.problem.repairable) finding.problem.message += kOfflineHint;
      report.problems.push_back(std::move(finding.problem));
    }
    report.problems_total = repaired + found->total;
    report.repaired_total = repaired;
    report.inodes = found->inodes;
    report.extents = found->extents;
    report.chunks = found->chunks;
    return report;
  }
}

Result<idl::FsckReport> FsckOffline(Store* store, bool repair) {
  FsckAccess access;
  access.snapshot = [store] { return store->Snapshot(); };
  access.repair = [store](const std::vector<FsckFinding*>& findings) { return RepairOffline(store, findings); };
  return FsckRun(access, repair);
}

Result<idl::FsckReport> FsckOffline(const std::string& data, bool repair) {
  // Opening would make what is not there.
  if (!std::filesystem::exists(std::filesystem::path(data) / "CURRENT")) {
    return Error(ENOENT, "{} is no data folder of weft-meta; name the one of its --data", data);
  }
  Result<std::unique_ptr<RocksStore>> store = RocksStore::Open(data, {});
  if (!store.ok()) return store.status();
  return FsckOffline(store->get(), repair);
}

}  // namespace weft
