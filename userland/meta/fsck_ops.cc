// SPDX-License-Identifier: MIT
//
// StateMachine: repairs that fsck has found necessary. Only of records that are not mirrored, of counters and of
// free blocks: the findings about other tables are repaired offline.
#include "userland/meta/fsck_fixer.h"
#include "userland/meta/state_machine.h"

namespace weft {
namespace {

class ServerFixer final : public FsckFixer {
 public:
  ServerFixer(Transaction* tx, Counters* counters, Space* space) : FsckFixer(tx, counters), space_(space) {}
  bool FreeLeaked(uint64_t first, uint64_t blocks) override { return space_->FreeLeaked({first, blocks}); }

 private:
  Space* const space_;
};

}  // namespace

void StateMachine::RepairFindings(std::span<FsckFinding* const> findings) {
  ServerFixer fixer(&tx_, &counters_, &space_);
  for (FsckFinding* finding : findings) {
    if (finding->offline || !finding->repair) continue;
    Counters counters = counters_;
    BeginOperation();
    finding->problem.repaired = finding->repair(fixer);
    if (finding->problem.repaired) continue;
    tx_.Rollback();
    space_.Rollback();
    counters_ = counters;
  }
}

}  // namespace weft
