// SPDX-License-Identifier: MIT
//
// The store as typed tables: records instead of bytes, inside the batch of a Transaction. A record that
// does not decode fails the transaction (EUCLEAN), so that a damaged store stops the server instead of
// being written to. State machine thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "userland/meta/keys.h"
#include "userland/meta/records.h"
#include "userland/meta/transaction.h"

namespace weft {

class Tables {
 public:
  explicit Tables(Transaction* tx) : tx_(tx) {}

  Transaction& tx() { return *tx_; }

  std::optional<Inode> GetInode(uint64_t ino) { return Get<Inode>(key::Inode(ino)); }
  void PutInode(uint64_t ino, const Inode& inode) { tx_->Put(key::Inode(ino), inode.Encode()); }
  void DeleteInode(uint64_t ino) { tx_->Delete(key::Inode(ino)); }

  // A directory entry and its twin in the order of cookies.
  std::optional<Dirent> GetDirent(uint64_t parent, std::string_view name) {
    return Get<Dirent>(key::Dirent(parent, name));
  }
  void PutDirent(uint64_t parent, std::string_view name, const Dirent& entry);
  void DeleteDirent(uint64_t parent, std::string_view name, const Dirent& entry);
  // Entries behind `cookie`; visit returns false to end.
  void ScanDirents(uint64_t parent, uint64_t cookie,
                   const std::function<bool(uint64_t cookie, const CookieRecord&)>& visit);

  // The extent whose last block is `last`.
  std::optional<Extent> GetExtentEndingAt(uint64_t ino, uint64_t last);
  void PutExtent(uint64_t ino, const Extent& e) { tx_->Put(key::Extent(ino, e.end() - 1), e.Encode()); }
  void DeleteExtent(uint64_t ino, const Extent& e) { tx_->Delete(key::Extent(ino, e.end() - 1)); }
  // Extents that end behind `block`; visit must not change extents and returns false to end.
  void ScanExtents(uint64_t ino, uint64_t block, const std::function<bool(const Extent&)>& visit);

  bool IsOrphan(uint64_t session, uint64_t ino) { return tx_->Get(key::Orphan(session, ino)).has_value(); }
  void PutOrphan(uint64_t session, uint64_t ino) { tx_->Put(key::Orphan(session, ino), ""); }
  void DeleteOrphan(uint64_t session, uint64_t ino) { tx_->Delete(key::Orphan(session, ino)); }

  template <typename Record>
  std::optional<Record> Get(const std::string& key) {
    std::optional<std::string> bytes = tx_->Get(key);
    Record record;
    if (!bytes || !Check(Record::Decode(*bytes, &record), key)) return std::nullopt;
    return record;
  }
  // Visits all records of a table whose keys hold one number; visit may not change the table.
  template <typename Record>
  void Scan(const std::string& prefix, const std::function<void(uint64_t id, Record)>& visit) {
    tx_->Scan(prefix, key::End(prefix), [&](std::string_view key, std::string_view value) {
      uint64_t id = 0;
      Record record;
      if (!Check(key::Parse(key, &id) && Record::Decode(value, &record), key)) return false;
      visit(id, std::move(record));
      return true;
    });
  }

  // Passes `good` on; false fails the transaction and names the key.
  bool Check(bool good, std::string_view key);

 private:
  Transaction* const tx_;
};

}  // namespace weft
