// SPDX-License-Identifier: MIT
//
// What repairs of fsck change a store with: the records, and the counters and free blocks that a running
// server mirrors. Offline, OfflineFixer does it on a store that nobody has open; in a server, the state machine
// does inside a batch. Repairs read with Read, which takes malformed records for absent, since that is what they
// are here for. One thread.
#pragma once

#include <optional>
#include <string>

#include "userland/meta/range_map.h"
#include "userland/meta/tables.h"
#include "userland/meta/transaction.h"

namespace weft {

class FsckFixer {
 public:
  FsckFixer(Transaction* tx, Counters* counters) : tx_(tx), counters_(counters) {}
  virtual ~FsckFixer() = default;
  FsckFixer(const FsckFixer&) = delete;
  FsckFixer& operator=(const FsckFixer&) = delete;

  Transaction& tx() { return *tx_; }
  Counters& counters() { return *counters_; }

  template <typename Record>
  std::optional<Record> Read(const std::string& key) {
    std::optional<std::string> bytes = tx_->Get(key);
    Record record;
    if (!bytes || !Record::Decode(*bytes, &record)) return std::nullopt;
    return record;
  }
  // The record is there and has these bytes.
  bool Is(const std::string& key, const std::string& bytes) { return tx_->Get(key) == bytes; }

  // Blocks that belong to nobody become free. False: some of them belong to somebody by now.
  virtual bool FreeLeaked(uint64_t first, uint64_t blocks) = 0;

 private:
  Transaction* const tx_;
  Counters* const counters_;
};

}  // namespace weft
