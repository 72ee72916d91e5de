// SPDX-License-Identifier: MIT
//
// A run of fsck: checks, and with repairs checks and repairs in rounds until a round finds nothing that it can
// repair: one repair may uncover what the next round repairs. One thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "userland/meta/fsck.h"
#include "userland/meta/fsck_fixer.h"

namespace weft {

// How a run sees and changes what it checks.
struct FsckAccess {
  // The state to check now.
  std::function<Result<std::unique_ptr<StoreReader>>()> snapshot;
  // Carries out the repairs of findings and sets problem.repaired of those that were made; durable on success.
  std::function<Status(std::vector<FsckFinding*>)> repair;
  // Findings that can only be repaired offline are passed over.
  bool online = false;
};

Result<idl::FsckReport> FsckRun(const FsckAccess& access, bool repair);

// A store that no server has open.
Result<idl::FsckReport> FsckOffline(Store* store, bool repair);
// In a data folder of weft-meta. ENOENT: there is none; EBUSY: a server has it open.
Result<idl::FsckReport> FsckOffline(const std::string& data, bool repair);

}  // namespace weft
