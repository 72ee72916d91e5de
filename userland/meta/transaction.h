// SPDX-License-Identifier: MIT
//
// The changes of one batch over a store: reads see them, Commit writes them at once. Inside a batch each
// operation can be taken back alone (Begin ... Rollback), so that one that fails half-way leaves nothing.
// An error of the store is kept: from then on nothing is found, and Commit refuses. State machine thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "userland/meta/store.h"

namespace weft {

class Transaction {
 public:
  explicit Transaction(Store* store) : store_(store) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  std::optional<std::string> Get(std::string_view key);
  void Scan(std::string_view from, std::string_view to, const Store::Visitor& visit);
  void Put(std::string key, std::string value) { Set(std::move(key), std::move(value)); }
  void Delete(std::string key) { Set(std::move(key), std::nullopt); }

  // Start of an operation: Rollback returns to here.
  void Begin() { undo_.clear(); }
  void Rollback();

  bool empty() const { return changes_.empty(); }
  const Status& status() const { return status_; }
  void Fail(Status status);
  Status Commit();

 private:
  struct Undo {
    std::string key;
    bool existed;  // in changes_
    std::optional<std::string> value;
  };
  void Set(std::string key, std::optional<std::string> value);

  Store* const store_;
  Changes changes_;
  std::vector<Undo> undo_;
  Status status_;
};

}  // namespace weft
