// SPDX-License-Identifier: MIT
//
// The Store on RocksDB: every Commit is one WriteBatch whose write-ahead log is synced before it returns.
#pragma once

#include <memory>

#include "userland/meta/store.h"

namespace rocksdb {
class DB;
}

namespace weft {

struct RocksOptions {
  uint64_t cache_bytes = 64 << 20;
  uint64_t write_buffer_bytes = 32 << 20;
};

class RocksStore final : public Store {
 public:
  // Makes the folder when it does not exist. EBUSY: another process has it open.
  static Result<std::unique_ptr<RocksStore>> Open(const std::string& path, const RocksOptions& options);
  ~RocksStore() override;

  Status Get(std::string_view key, std::string* value, bool* found) override;
  Status Scan(std::string_view from, std::string_view to, const Visitor& visit) override;
  Status Commit(const Changes& changes) override;
  Result<std::unique_ptr<StoreReader>> Snapshot() override;

 private:
  explicit RocksStore(std::unique_ptr<rocksdb::DB> db);
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace weft
