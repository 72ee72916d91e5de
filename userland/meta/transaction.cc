// SPDX-License-Identifier: MIT
#include "userland/meta/transaction.h"

namespace weft {

void Transaction::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::optional<std::string> Transaction::Get(std::string_view key) {
  if (auto it = changes_.find(key); it != changes_.end()) return it->second;
  std::string value;
  bool found = false;
  Status status = store_->Get(key, &value, &found);
  if (!status.ok()) Fail(std::move(status));
  if (!found || !status_.ok()) return std::nullopt;
  return value;
}

void Transaction::Scan(std::string_view from, std::string_view to, const Store::Visitor& visit) {
  auto own = changes_.lower_bound(from);
  bool more = true;
  // Visits the batch's own entries in front of `key`.
  auto visit_own = [&](std::string_view key) {
    while (more && own != changes_.end() && own->first < key) {
      if (own->second) more = visit(own->first, *own->second);
      ++own;
    }
  };
  Status status = store_->Scan(from, to, [&](std::string_view key, std::string_view value) {
    visit_own(key);
    if (!more) return false;
    if (own != changes_.end() && own->first == key) return true;  // replaced or deleted: visited with the next
    more = visit(key, value);
    return more;
  });
  if (!status.ok()) Fail(std::move(status));
  visit_own(to);
}

void Transaction::Set(std::string key, std::optional<std::string> value) {
  auto [it, inserted] = changes_.try_emplace(std::move(key));
  Undo& undo = undo_.emplace_back(it->first, !inserted, std::nullopt);
  if (!inserted) undo.value = std::move(it->second);
  it->second = std::move(value);
}

void Transaction::Rollback() {
  for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) {
    if (it->existed) {
      changes_[it->key] = std::move(it->value);
    } else {
      changes_.erase(it->key);
    }
  }
  undo_.clear();
}

Status Transaction::Commit() {
  undo_.clear();
  if (status_.ok() && !changes_.empty()) {
    if (Status status = store_->Commit(changes_); !status.ok()) Fail(std::move(status));
  }
  changes_.clear();
  return status_;
}

}  // namespace weft
