// SPDX-License-Identifier: MIT
//
// Which chunks each client may be writing to. When a client dies, the copies of its open chunks may differ and
// are made equal (Chunks::Equalize). Kept in the store, mirrored here. Changes of one operation can be taken
// back as those of Chunks. State machine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "userland/meta/tables.h"

namespace weft {

class OpenChunks {
 public:
  explicit OpenChunks(Tables* tables) : tables_(tables) {}

  void Load();
  void Begin() { undo_.clear(); }
  void Rollback();

  const std::set<uint64_t>& of(uint64_t session) const;
  const std::map<uint64_t, std::set<uint64_t>>& all() const { return open_; }  // by session
  bool IsOpen(uint64_t session, uint64_t chunk) const { return of(session).contains(chunk); }

  // Doing again what is done changes nothing.
  void Open(uint64_t session, uint64_t chunk);
  void Close(uint64_t session, uint64_t chunk);
  void CloseAll(uint64_t session);
  void Forget(uint64_t chunk);  // it is deleted: nobody has it open

 private:
  void Apply(uint64_t session, uint64_t chunk, bool open);

  Tables* const tables_;
  std::map<uint64_t, std::set<uint64_t>> open_;
  std::vector<std::function<void()>> undo_;  // run backwards
};

}  // namespace weft
