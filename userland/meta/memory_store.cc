// SPDX-License-Identifier: MIT
#include "userland/meta/memory_store.h"

#include <cerrno>

namespace weft {

Status MemoryStore::Get(std::string_view key, std::string* value, bool* found) {
  if (fault_ == Fault::kFailReads) return Error(EIO, "injected read error");
  auto it = map_.find(key);
  *found = it != map_.end();
  if (*found) *value = it->second;
  return {};
}

Status MemoryStore::Scan(std::string_view from, std::string_view to, const Visitor& visit) {
  if (fault_ == Fault::kFailReads) return Error(EIO, "injected read error");
  for (auto it = map_.lower_bound(from); it != map_.end() && it->first < to; ++it) {
    if (!visit(it->first, it->second)) break;
  }
  return {};
}

Status MemoryStore::Commit(const Changes& changes) {
  Fault fault = fault_;
  if (fault == Fault::kLoseCommit || fault == Fault::kLoseAnswer) fault_ = Fault::kNone;
  if (fault == Fault::kLoseCommit) return Error(EIO, "injected crash before the commit");
  ++commits_;
  for (const auto& [key, value] : changes) {
    if (value) {
      map_.insert_or_assign(key, *value);
    } else {
      map_.erase(key);
    }
  }
  if (fault == Fault::kLoseAnswer) return Error(EIO, "injected crash after the commit");
  return {};
}

Result<std::unique_ptr<StoreReader>> MemoryStore::Snapshot() {
  if (fault_ == Fault::kFailReads) return Error(EIO, "injected read error");
  auto copy = std::make_unique<MemoryStore>();
  copy->map_ = map_;
  return std::unique_ptr<StoreReader>(std::move(copy));
}

}  // namespace weft
