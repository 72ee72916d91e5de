// SPDX-License-Identifier: MIT
//
// StateMachine: the life of sessions.
#include <algorithm>
#include <cerrno>

#include "thrift-gen/meta_constants.h"
#include "userland/base/log.h"
#include "userland/meta/state_machine.h"

namespace weft {
namespace {

constexpr size_t kHostBytesMax = 255;
constexpr size_t kHostnqnBytesMax = 223;  // NVMe's

// A fence command gets it, and may give it to a shell. Empty: the client uses no NVMe-oF.
Status CheckHostnqn(const std::string& hostnqn, const std::string& host) {
  constexpr std::string_view kRemedy = "correct /etc/nvme/hostnqn, or nvme_hostnqn in weftd's configuration,";
  if (hostnqn.size() > kHostnqnBytesMax) {
    return Error(EINVAL, "host NQN '{}...' has {} bytes, {} is the most; {} on host '{}'",
                 hostnqn.substr(0, kHostnqnBytesMax), hostnqn.size(), kHostnqnBytesMax, kRemedy,
                 host.substr(0, kHostBytesMax));
  }
  bool good = std::ranges::all_of(hostnqn, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(".:_-").find(c) != std::string_view::npos;
  });
  if (good) return {};
  return Error(EINVAL, "host NQN '{}' has characters other than letters, digits and .:_-; {} on host '{}'", hostnqn,
               kRemedy, host.substr(0, kHostBytesMax));
}

}  // namespace

Result<idl::Session> StateMachine::OpenSession(const idl::OpenSessionArgs& args) {
  const auto& idl = idl::g_meta_constants;
  if (args.protocol < idl.PROTOCOL_VERSION_MIN || args.protocol > idl.PROTOCOL_VERSION) {
    return Error(EPROTO,
                 "client on '{}' speaks protocol {}; this server speaks {} to {}: install the same release on both",
                 args.host.substr(0, kHostBytesMax), args.protocol, idl.PROTOCOL_VERSION_MIN, idl.PROTOCOL_VERSION);
  }
  if (args.cluster != options_.cluster) {
    return Error(ENOENT,
                 "this server serves cluster '{}', not '{}'; correct the cluster's name or the server's address",
                 options_.cluster, args.cluster.substr(0, kHostBytesMax));
  }
  Result<Uuid> client = UuidFromBytes(args.client);
  if (!client.ok()) return client.status().Annotate("client id");
  if (Status status = CheckHostnqn(args.hostnqn, args.host); !status.ok()) return status;
  if (!chunks_.formed()) {
    return Error(ENODEV, "cluster '{}' has no pool yet; form one with `weftctl pool create`", options_.cluster);
  }
  uint64_t known = sessions_.FindClient(*client);
  // Its client mounts again, so it has nothing under way, and no other host is concerned.
  if (known != 0 && sessions_.Find(known)->record.ended) EndSession(known, false, sessions_.Find(known)->why);
  if (uint64_t id = sessions_.FindClient(*client); id != 0) {
    ClientSession* session = sessions_.Find(id);
    session->renewed_ms = now_.mono_ms;
    session->record.lease_ms = static_cast<uint32_t>(options_.lease_ms);
    sessions_.PutRecord(id);
    // A client that mounts has nothing open: what it has here is of a mount that was forced away.
    EqualizeChunksOf(id);
    open_chunks_.CloseAll(id);
    session->settled = chunks_.map_version();
    return Describe(id);
  }
  std::vector<uint64_t> late;
  for (const auto& [id, other] : sessions_.all()) {
    if (other.record.ended) return Retiring(id);
    int64_t silent_ms = now_.mono_ms - other.renewed_ms;
    if (silent_ms < other.record.lease_ms) {
      return Error(
          EBUSY,
          "cluster '{}' is in use by session {} of host '{}', which renewed its lease {} ms ago; unmount it there, "
          "or run `weftctl session evict {}` if that host will not come back",
          options_.cluster, id, other.record.host, silent_ms, id);
    }
    late.push_back(id);
  }
  for (uint64_t id : late) Retire(id, "its lease had run out when another client came");
  for (uint64_t id : late) {
    if (sessions_.Find(id)) return Retiring(id);
  }
  if (Status status = LetIn(args.hostnqn); !status.ok()) return status;
  uint64_t id = counters_.next_session++;
  sessions_.Add(id,
                {.client = *client,
                 .opened_ns = now_.wall_ns,
                 .host = args.host.substr(0, kHostBytesMax),
                 .hostnqn = args.hostnqn,
                 .lease_ms = static_cast<uint32_t>(options_.lease_ms),
                 .drain_ms = static_cast<uint64_t>(std::max(args.nvme_drain_ms, 0))},
                now_.mono_ms);
  sessions_.Find(id)->settled = chunks_.map_version();  // it goes by no map yet
  LogInfo("session {} of host '{}' opened", id, args.host.substr(0, kHostBytesMax));
  return Describe(id);
}

Result<idl::Session> StateMachine::ReclaimSession(uint64_t id) {
  if (Status status = CheckSession(id); !status.ok()) return status;
  return Describe(id);
}

Status StateMachine::ChunksSettled(uint64_t id, int64_t version) {
  if (Status status = CheckSession(id); !status.ok()) return status;
  ClientSession* session = sessions_.Find(id);
  auto settled = static_cast<uint32_t>(std::clamp<int64_t>(version, 0, chunks_.map_version()));
  if (settled <= session->settled) return {};
  session->settled = settled;
  upkeep_.OnSettled();
  return {};
}

uint32_t StateMachine::SettledVersion() const {
  uint32_t settled = UINT32_MAX;
  for (const auto& [id, session] : sessions_.all()) settled = std::min(settled, session.settled);
  return settled;
}

Status StateMachine::CheckSession(uint64_t id) {
  ClientSession* session = sessions_.Find(id);
  if (session == nullptr || session->record.ended) {
    return Error(ESTALE, "session {} has ended; unmount and mount again", id);
  }
  session->renewed_ms = now_.mono_ms;
  return {};
}

idl::Session StateMachine::Describe(uint64_t id) {
  idl::Session out;
  out.id = static_cast<int64_t>(id);
  out.root_ino = kRootIno;
  out.pool_blocks = static_cast<int64_t>(kPoolBlocksMax);
  out.chunk_blocks = static_cast<int32_t>(chunks_.pool().chunk_blocks);
  out.copies = static_cast<int32_t>(chunks_.pool().copies);
  out.cluster_uuid = ToBytes(superblock_.uuid);
  out.lease_ms = static_cast<int32_t>(sessions_.Find(id)->record.lease_ms);
  out.fence_below = out.id;  // one client at a time: all before it have ended
  if (std::optional<Inode> root = tables_.GetInode(kRootIno)) out.root = ToAttr(kRootIno, *root);
  out.targets = targets_.Map();
  out.chunks_version = chunks_.map_version();
  return out;
}

// Its writes may have reached some copies and not others.
void StateMachine::EqualizeChunksOf(uint64_t session) {
  size_t changed = 0;
  for (uint64_t chunk : open_chunks_.of(session)) {
    uint32_t version = chunks_.map_version();
    chunks_.Equalize(chunk, [this](uint32_t target) { return IsTargetUp(target); });
    changed += chunks_.map_version() != version;
    bool still_open = std::ranges::any_of(
        open_chunks_.all(), [&](const auto& other) { return other.first != session && other.second.contains(chunk); });
    if (still_open) chunks_.ClearDoubtful(chunk);
  }
  if (changed > 0)
    LogWarning("session {}: {} chunks that it may have been writing to are resynchronised", session, changed);
}

void StateMachine::EndSession(uint64_t id, bool clean, std::string_view why) {
  ClientSession* session = sessions_.Find(id);
  if (session == nullptr) return;
  std::vector<uint64_t> orphans;
  std::string prefix = key::Session(id).replace(0, 1, "O");
  tx_.Scan(prefix, key::End(prefix), [&](std::string_view key, std::string_view) {
    uint64_t owner = 0;
    uint64_t ino = 0;
    if (!tables_.Check(key::Parse(key, &owner, &ino), key)) return false;
    orphans.push_back(ino);
    return true;
  });
  uint64_t granted = space_.granted_blocks(id);
  for (uint64_t ino : orphans) files_.Destroy(id, ino);
  space_.ReleaseAll(id);
  if (!clean) EqualizeChunksOf(id);
  open_chunks_.CloseAll(id);
  LogInfo("session {} of host '{}' ended: {}; freed {} orphans and {} granted blocks", id, session->record.host, why,
          orphans.size(), granted);
  sessions_.Remove(id);
  upkeep_.OnSettled();
  ++ended_sessions_;
}

Status StateMachine::EvictSession(uint64_t id, bool host_is_off) {
  if (sessions_.Find(id) == nullptr)
    return Error(ENOENT, "there is no session {}; `weftctl session list` shows them", id);
  if (host_is_off) {
    EndSession(id, false, "evicted by an operator, who says that its host is off");
  } else {
    Retire(id, "evicted by an operator");
  }
  return {};
}

// A client that closes has nothing under way. One that had ended before may have left copies unequal.
void StateMachine::CloseSession(uint64_t id) {
  ClientSession* session = sessions_.Find(id);
  if (session != nullptr) EndSession(id, !session->record.ended, "closed");
}

Result<idl::Events> StateMachine::NextEvents(uint64_t session, int64_t targets_version, int64_t chunks_version) {
  if (Status status = CheckSession(session); !status.ok()) return status;
  idl::Events events;
  if (targets_.version() > targets_version) events.__set_targets(targets_.Map());
  events.chunks_version = chunks_.map_version();
  auto since = static_cast<uint32_t>(std::clamp<int64_t>(chunks_version, 0, UINT32_MAX));
  size_t max = idl::g_meta_constants.CHUNKS_PER_EVENT;
  auto changed = chunks_.Changed(since, max);
  if (changed.size() == max) events.chunks_version = changed.back().second->version;
  std::vector<idl::Chunk> chunks;
  for (const auto& [index, chunk] : changed) chunks.push_back(ToIdl(index, *chunk));
  if (!chunks.empty()) events.__set_chunks(std::move(chunks));
  return events;
}

}  // namespace weft
