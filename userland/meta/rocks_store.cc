// SPDX-License-Identifier: MIT
#include "userland/meta/rocks_store.h"

#include <algorithm>
#include <cerrno>

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

namespace weft {
namespace {

constexpr int kBloomBitsPerKey = 10;
constexpr size_t kLogFiles = 4;
constexpr size_t kLogFileBytes = 4 << 20;

rocksdb::Slice ToSlice(std::string_view view) { return {view.data(), view.size()}; }

Status ToStatus(const rocksdb::Status& s, std::string_view doing) {
  if (s.ok()) return {};
  int code = s.IsNoSpace() ? ENOSPC : s.IsCorruption() ? EUCLEAN : s.IsInvalidArgument() ? EINVAL : EIO;
  return Error(code, "metadata store: {}: {}", doing, s.ToString());
}

rocksdb::Options MakeOptions(const RocksOptions& wanted) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(wanted.cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  table.whole_key_filtering = true;
  rocksdb::Options options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.create_if_missing = true;
  options.write_buffer_size = wanted.write_buffer_bytes;
  options.max_write_buffer_number = 3;
  options.level_compaction_dynamic_level_bytes = true;
  options.keep_log_file_num = kLogFiles;
  options.max_log_file_size = kLogFileBytes;
  // Every commit is synced, so only the very end of the log may be torn: anything else is damage to report.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  std::vector<rocksdb::CompressionType> have = rocksdb::GetSupportedCompressions();
  bool lz4 = std::ranges::find(have, rocksdb::kLZ4Compression) != have.end();
  options.compression = lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
  return options;
}

Status GetFrom(rocksdb::DB* db, const rocksdb::ReadOptions& options, std::string_view key, std::string* value,
               bool* found) {
  rocksdb::Status s = db->Get(options, ToSlice(key), value);
  *found = s.ok();
  return s.IsNotFound() ? Status::Ok() : ToStatus(s, "read");
}

Status ScanFrom(rocksdb::DB* db, rocksdb::ReadOptions options, std::string_view from, std::string_view to,
                const StoreReader::Visitor& visit) {
  rocksdb::Slice bound = ToSlice(to);
  options.iterate_upper_bound = &bound;
  std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options));
  for (it->Seek(ToSlice(from)); it->Valid(); it->Next()) {
    if (!visit(it->key().ToStringView(), it->value().ToStringView())) break;
  }
  return ToStatus(it->status(), "scan");
}

class RocksSnapshot final : public StoreReader {
 public:
  explicit RocksSnapshot(rocksdb::DB* db) : db_(db) {
    options_.snapshot = db->GetSnapshot();
    options_.fill_cache = false;  // whoever reads everything would push out what the server needs
  }
  ~RocksSnapshot() override { db_->ReleaseSnapshot(options_.snapshot); }
  RocksSnapshot(const RocksSnapshot&) = delete;
  RocksSnapshot& operator=(const RocksSnapshot&) = delete;

  Status Get(std::string_view key, std::string* value, bool* found) override {
    return GetFrom(db_, options_, key, value, found);
  }
  Status Scan(std::string_view from, std::string_view to, const Visitor& visit) override {
    return ScanFrom(db_, options_, from, to, visit);
  }

 private:
  rocksdb::DB* const db_;
  rocksdb::ReadOptions options_;
};

}  // namespace

Result<std::unique_ptr<RocksStore>> RocksStore::Open(const std::string& path, const RocksOptions& options) {
  rocksdb::DB* db = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(MakeOptions(options), path, &db);
  if (s.ok()) return std::unique_ptr<RocksStore>(new RocksStore(std::unique_ptr<rocksdb::DB>(db)));
  std::string text = s.ToString();
  if (s.IsIOError() && text.find("lock") != std::string::npos) {
    return Error(EBUSY, "data folder {} is in use by another weft-meta; stop it or choose another with --data", path);
  }
  return ToStatus(s, fmt::format("cannot open {}", path));
}

RocksStore::RocksStore(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}
RocksStore::~RocksStore() = default;

Status RocksStore::Get(std::string_view key, std::string* value, bool* found) {
  return GetFrom(db_.get(), rocksdb::ReadOptions(), key, value, found);
}

Status RocksStore::Scan(std::string_view from, std::string_view to, const Visitor& visit) {
  return ScanFrom(db_.get(), rocksdb::ReadOptions(), from, to, visit);
}

Result<std::unique_ptr<StoreReader>> RocksStore::Snapshot() {
  return std::unique_ptr<StoreReader>(std::make_unique<RocksSnapshot>(db_.get()));
}

Status RocksStore::Commit(const Changes& changes) {
  rocksdb::WriteBatch batch;
  for (const auto& [key, value] : changes) {
    rocksdb::Status s = value ? batch.Put(key, *value) : batch.Delete(key);
    if (!s.ok()) return ToStatus(s, "batch");
  }
  rocksdb::WriteOptions options;
  options.sync = true;
  return ToStatus(db_->Write(options, &batch), "commit");
}

}  // namespace weft
