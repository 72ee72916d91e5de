// SPDX-License-Identifier: MIT
#include "userland/meta/open_chunks.h"

#include <ranges>

namespace weft {

void OpenChunks::Load() {
  tables_->tx().Scan("W", key::End("W"), [&](std::string_view key, std::string_view value) {
    uint64_t session = 0;
    uint64_t chunk = 0;
    if (!tables_->Check(key::Parse(key, &session, &chunk) && value.empty(), key)) return false;
    Apply(session, chunk, true);
    return true;
  });
}

void OpenChunks::Rollback() {
  for (const auto& take_back : undo_ | std::views::reverse) take_back();
  undo_.clear();
}

const std::set<uint64_t>& OpenChunks::of(uint64_t session) const {
  static const std::set<uint64_t> none;
  auto it = open_.find(session);
  return it == open_.end() ? none : it->second;
}

void OpenChunks::Apply(uint64_t session, uint64_t chunk, bool open) {
  std::set<uint64_t>& chunks = open_[session];
  if (open) {
    chunks.insert(chunk);
  } else {
    chunks.erase(chunk);
  }
  if (chunks.empty()) open_.erase(session);
}

void OpenChunks::Open(uint64_t session, uint64_t chunk) {
  if (IsOpen(session, chunk)) return;
  tables_->tx().Put(key::OpenChunk(session, chunk), "");
  Apply(session, chunk, true);
  undo_.push_back([=, this] { Apply(session, chunk, false); });
}

void OpenChunks::Close(uint64_t session, uint64_t chunk) {
  if (!IsOpen(session, chunk)) return;
  tables_->tx().Delete(key::OpenChunk(session, chunk));
  Apply(session, chunk, false);
  undo_.push_back([=, this] { Apply(session, chunk, true); });
}

void OpenChunks::CloseAll(uint64_t session) {
  for (uint64_t chunk : std::set(of(session))) Close(session, chunk);
}

void OpenChunks::Forget(uint64_t chunk) {
  std::vector<uint64_t> sessions;
  for (const auto& [session, chunks] : open_) {
    if (chunks.contains(chunk)) sessions.push_back(session);
  }
  for (uint64_t session : sessions) Close(session, chunk);
}

}  // namespace weft
