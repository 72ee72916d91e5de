// SPDX-License-Identifier: MIT
//
// What the metadata server needs from a store: an ordered map of byte strings with atomic, durable
// batches. RocksStore is the real one, MemoryStore the one of the tests; etcd fits the same interface.
// One thread uses a store at a time; snapshots of it may be read by others meanwhile.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "userland/base/status.h"

namespace weft {

// Key -> its new value, none: deleted.
using Changes = std::map<std::string, std::optional<std::string>, std::less<>>;

class StoreReader {
 public:
  // Returns false to end the scan.
  using Visitor = std::function<bool(std::string_view key, std::string_view value)>;

  virtual ~StoreReader() = default;

  // *value is set when the key exists, *found says whether it does.
  virtual Status Get(std::string_view key, std::string* value, bool* found) = 0;

  // Visits the keys of [from, to) in rising order. Inside visit other calls are allowed.
  virtual Status Scan(std::string_view from, std::string_view to, const Visitor& visit) = 0;
};

class Store : public StoreReader {
 public:
  // All changes or none; they are durable on success. After an error it is not known which: the caller
  // must stop and open the store again.
  virtual Status Commit(const Changes& changes) = 0;

  // What has been committed by now, unmoved by what comes. Taken by the thread that uses the store, read by any
  // one thread; it must go before the store does.
  virtual Result<std::unique_ptr<StoreReader>> Snapshot() = 0;
};

}  // namespace weft
