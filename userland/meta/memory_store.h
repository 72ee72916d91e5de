// SPDX-License-Identifier: MIT
//
// A Store in memory, with faults: for tests and simulations. What was committed survives a new state
// machine on the same object, as a disk would.
#pragma once

#include "userland/meta/store.h"

namespace weft {

class MemoryStore final : public Store {
 public:
  enum class Fault {
    kNone,
    kLoseCommit,  // the next Commit fails and nothing of it is kept: a crash before the sync
    kLoseAnswer,  // the next Commit fails although all of it is kept: a crash after the sync
    kFailReads,   // every Get and Scan fails
  };
  void set_fault(Fault fault) { fault_ = fault; }
  const std::map<std::string, std::string, std::less<>>& contents() const { return map_; }
  uint64_t commits() const { return commits_; }
  // Damages a record: no commit, no fault.
  void Set(std::string key, std::string value) { map_.insert_or_assign(std::move(key), std::move(value)); }
  void Erase(std::string_view key) {
    if (auto it = map_.find(key); it != map_.end()) map_.erase(it);
  }

  Status Get(std::string_view key, std::string* value, bool* found) override;
  Status Scan(std::string_view from, std::string_view to, const Visitor& visit) override;
  Status Commit(const Changes& changes) override;
  Result<std::unique_ptr<StoreReader>> Snapshot() override;

 private:
  std::map<std::string, std::string, std::less<>> map_;
  Fault fault_ = Fault::kNone;
  uint64_t commits_ = 0;
};

}  // namespace weft
