// SPDX-License-Identifier: MIT
#include "userland/meta/state_machine.h"

#include <algorithm>
#include <cerrno>

#include "userland/base/log.h"

namespace weft {
namespace {

// Chunks that one call names or gets (WEFT_CHUNKS_PER_CALL).
constexpr size_t kChunksPerCall = 256;
// Ranges that fit (weft_ranges).
constexpr size_t kRangesPerReply = (kMetaReplyBytes - 8) / 16;

bool ChangesState(const idl::Operation& op) {
  const auto& set = op.__isset;
  return set.setattr || set.create || set.remove || set.rename || set.link || set.commit || set.punch || set.evict ||
         set.grant || set.release || set.mark_stale || set.open_chunks || set.close_chunks;
}

int CountSet(const idl::Operation& op) {
  const auto& set = op.__isset;
  return set.statfs + set.lookup + set.getattr + set.setattr + set.create + set.remove + set.rename + set.link +
         set.readlink + set.readdir + set.get_extents + set.commit + set.punch + set.evict + set.grant + set.release +
         set.get_chunks + set.mark_stale + set.open_chunks + set.close_chunks;
}

idl::Reply Failed(int error) {
  idl::Reply reply;
  reply.error = error;
  return reply;
}

Result<Superblock> ReadOrMakeSuperblock(Tables* tables, const std::string& cluster) {
  std::optional<std::string> bytes = tables->tx().Get(key::Superblock());
  Superblock superblock;
  if (!bytes) {
    bool empty = true;
    tables->tx().Scan("", "\xff", [&](std::string_view, std::string_view) { return empty = false; });
    if (!tables->tx().status().ok()) return tables->tx().status();
    if (!empty)
      return Error(EINVAL, "the data folder holds a database that is not weft-meta's; choose another with --data");
    superblock.uuid = RandomUuid();
    superblock.cluster = cluster;
    tables->tx().Put(key::Superblock(), superblock.Encode());
    LogInfo("new metadata store for cluster '{}' ({})", cluster, ToString(superblock.uuid));
    return superblock;
  }
  if (!Superblock::Decode(*bytes, &superblock)) {
    return Error(EUCLEAN,
                 "the superblock of the metadata store is malformed; restore the data folder from a good copy");
  }
  if (superblock.format != kStoreFormat) {
    return Error(EINVAL,
                 "the metadata store has format {}, this weft-meta reads format {}; install the release that wrote it",
                 superblock.format, kStoreFormat);
  }
  if (superblock.cluster != cluster) {
    return Error(EINVAL, "the metadata store belongs to cluster '{}', not '{}'; correct --cluster or --data",
                 superblock.cluster, cluster);
  }
  return superblock;
}

}  // namespace

idl::Chunk ToIdl(uint64_t index, const Chunk& chunk) {
  idl::Chunk out;
  out.index = static_cast<int64_t>(index);
  out.version = static_cast<int32_t>(chunk.version);
  for (const Copy& copy : chunk.copies) {
    idl::Copy& to = out.copies.emplace_back();
    to.target = static_cast<int32_t>(copy.target);
    to.state = static_cast<idl::CopyState::type>(copy.state);
    to.offset = static_cast<int64_t>(copy.offset);
  }
  return out;
}

Result<std::unique_ptr<StateMachine>> StateMachine::Open(Store* store, const MetaOptions& options, MetaNow now) {
  Transaction tx(store);
  Tables tables(&tx);
  Result<Superblock> superblock = ReadOrMakeSuperblock(&tables, options.cluster);
  if (!superblock.ok()) return superblock.status();
  if (Status status = tx.Commit(); !status.ok()) return status;
  std::unique_ptr<StateMachine> machine(new StateMachine(store, options, *superblock));
  if (Status status = machine->Load(now); !status.ok()) return status;
  return machine;
}

StateMachine::StateMachine(Store* store, const MetaOptions& options, const Superblock& superblock)
    : store_(store),
      options_(options),
      superblock_(superblock),
      tx_(store),
      tables_(&tx_),
      names_(&tables_, &counters_, options.names),
      targets_(&tables_, superblock.uuid, options.cluster, options.targets),
      chunks_(&tables_, &counters_,
              [this](uint32_t id) {
                const TargetState* target = targets_.FindId(id);
                return target == nullptr ? 0 : target->record.capacity_bytes / chunks_.pool().chunk_bytes();
              }),
      open_chunks_(&tables_),
      space_(
          &tables_, &chunks_, &open_chunks_, [this] { return PlacementView(); }, options.space),
      files_(&tables_, &space_, &counters_),
      sessions_(&tables_),
      upkeep_(
          &tables_, &chunks_, &space_, &targets_, [this] { BeginOperation(); }, [this] { return SettledVersion(); }) {}

Status StateMachine::Load(MetaNow now) {
  now_ = now;
  if (std::optional<Counters> counters = tables_.Get<Counters>(key::Counters())) counters_ = *counters;
  ++counters_.starts;
  if (chunks_.Load()) {
    open_chunks_.Load();
    space_.Load();
  }
  targets_.Load(now.mono_ms, counters_.starts);
  targets_.SetChunkBytes(chunks_.pool().chunk_bytes());
  sessions_.Load(now.mono_ms);
  LoadFencing();
  upkeep_.Load(now.mono_ms, counters_.starts);
  if (Status status = CommitStore(); !status.ok()) return status;
  if (chunks_.formed()) {
    LogInfo("cluster '{}': {} inodes, {} blocks used, {} free, {} chunks, {} sessions", options_.cluster,
            counters_.inodes, space_.used_blocks(), space_.free_blocks(chunks_.pool().copies), chunks_.all().size(),
            sessions_.all().size());
  }
  return {};
}

std::vector<PlacementTarget> StateMachine::PlacementView() const {
  std::vector<PlacementTarget> view = targets_.ForPlacement(chunks_.pool().chunk_bytes());
  for (PlacementTarget& target : view) target.used = chunks_.used_places(target.id);
  return view;
}

bool StateMachine::IsTargetUp(uint32_t target) const {
  const TargetState* state = targets_.FindId(target);
  return state != nullptr && state->up;
}

// From here on nothing is taken back that was done before.
void StateMachine::BeginOperation() {
  tx_.Begin();
  chunks_.Begin();
  open_chunks_.Begin();
  space_.Begin();
}

void StateMachine::Begin(MetaNow now) {
  now_ = now;
  BeginOperation();
  targets_.Tick(now.mono_ms);
  EndRetired();
}

Status StateMachine::Commit() {
  if (options_.upkeep) upkeep_.Run(now_.mono_ms, now_.wall_ns / 1'000'000'000);
  return CommitStore();
}

Status StateMachine::CommitStore() {
  if (counters_ != stored_counters_) {
    tx_.Put(key::Counters(), counters_.Encode());
    stored_counters_ = counters_;
  }
  return tx_.Commit();
}

// ---- operations -----------------------------------------------------------------------------------

idl::Reply StateMachine::Execute(uint64_t session_id, const idl::Request& request) {
  ClientSession* session = sessions_.Find(session_id);
  if (session == nullptr) return Failed(ESTALE);
  OpContext context{session_id, request.now_ns};
  if (CountSet(request.op) != 1) return Failed(EINVAL);
  if (!ChangesState(request.op)) return ExecuteOnce(context, request.op);

  if (request.slot < 0 || request.slot >= static_cast<int>(kSessionSlots) || request.seq <= 0) {
    LogWarning("session {}: changing request with slot {}, sequence {}", session_id, request.slot, request.seq);
    return Failed(EINVAL);
  }
  const ClientSession::Slot& slot = session->slots[request.slot];
  auto seq = static_cast<uint64_t>(request.seq);
  if (seq == slot.seq) return slot.reply;
  if (seq < slot.seq) {
    LogWarning("session {}: slot {} has passed sequence {}, request has {}", session_id, request.slot, slot.seq, seq);
    return Failed(EINVAL);
  }
  idl::Reply reply = ExecuteOnce(context, request.op);
  sessions_.StoreReply(session_id, static_cast<uint32_t>(request.slot), seq, reply);
  return reply;
}

idl::Reply StateMachine::ExecuteOnce(const OpContext& context, const idl::Operation& op) {
  Counters counters = counters_;
  BeginOperation();
  idl::Reply reply;
  int error = Dispatch(context, op, &reply);
  if (!tx_.status().ok()) error = EIO;  // nothing of this batch will be committed
  if (error == 0) return reply;
  tx_.Rollback();
  space_.Rollback();
  open_chunks_.Rollback();
  chunks_.Rollback();
  counters_ = counters;
  if (op.__isset.grant && error == ENOSPC) {
    BeginOperation();
    space_.MakeRoom(ClassOf(op.grant));
  }
  return Failed(error);
}

int StateMachine::Dispatch(const OpContext& context, const idl::Operation& op, idl::Reply* reply) {
  const auto& set = op.__isset;
  if (set.lookup) return names_.Lookup(op.lookup, reply);
  if (set.getattr) return files_.GetAttr(op.getattr, reply);
  if (set.setattr) return files_.SetAttr(context, op.setattr, reply);
  if (set.create) return names_.Create(context, op.create, reply);
  if (set.remove) return names_.Remove(context, op.remove, reply);
  if (set.rename) return names_.Rename(context, op.rename, reply);
  if (set.link) return names_.Link(context, op.link, reply);
  if (set.readlink) return files_.ReadLink(op.readlink, reply);
  if (set.readdir) return names_.ReadDir(op.readdir, reply);
  if (set.get_extents) return files_.GetExtents(op.get_extents, reply);
  if (set.commit) return files_.Commit(context, op.commit);
  if (set.punch) return files_.Punch(context, op.punch, reply);
  if (set.evict) return files_.Evict(context, op.evict);
  if (set.grant) return Grant(context, op.grant, reply);
  if (set.release) return Release(context, op.release);
  if (set.get_chunks) return GetChunks(op.get_chunks, reply);
  if (set.mark_stale) return MarkStale(context, op.mark_stale, reply);
  if (set.open_chunks) return OpenChunksOf(context, op.open_chunks);
  if (set.close_chunks) return CloseChunksOf(context, op.close_chunks);
  return StatFs(context, reply);
}

uint32_t StateMachine::ClassOf(const idl::GrantOp& op) const {
  return op.copies == 0 ? chunks_.pool().copies : static_cast<uint32_t>(op.copies);
}

int StateMachine::Grant(const OpContext& context, const idl::GrantOp& op, idl::Reply* reply) {
  if (op.blocks <= 0 || op.ranges_max <= 0 || op.copies < 0 || op.copies > static_cast<int>(kCopiesMax)) return EINVAL;
  size_t ranges_max = std::min<size_t>(op.ranges_max, kRangesPerReply);
  std::vector<BlockRange> ranges = space_.Grant(context.session, op.blocks, ranges_max, ClassOf(op));
  if (ranges.empty()) return ENOSPC;
  std::vector<idl::Range> out(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    out[i].pool_block = static_cast<int64_t>(ranges[i].first);
    out[i].blocks = static_cast<int64_t>(ranges[i].blocks);
  }
  reply->__set_ranges(std::move(out));
  return 0;
}

int StateMachine::Release(const OpContext& context, const idl::ReleaseOp& op) {
  for (const idl::Range& range : op.ranges) {
    if (range.pool_block < 0 || range.blocks <= 0) return EINVAL;
    int error =
        space_.Release(context.session, {static_cast<uint64_t>(range.pool_block), static_cast<uint64_t>(range.blocks)});
    if (error != 0) {
      LogWarning("session {}: release of pool blocks {} + {}: not granted to it", context.session, range.pool_block,
                 range.blocks);
      return error;
    }
  }
  return 0;
}

int StateMachine::GetChunks(const idl::GetChunksOp& op, idl::Reply* reply) {
  if (op.first < 0 || op.count <= 0) return EINVAL;
  std::vector<idl::Chunk> chunks;
  uint64_t end = static_cast<uint64_t>(op.first) + static_cast<uint64_t>(op.count);
  for (auto it = chunks_.all().lower_bound(op.first); it != chunks_.all().end() && it->first < end; ++it) {
    if (chunks.size() >= kChunksPerCall) break;
    chunks.push_back(ToIdl(it->first, it->second));
  }
  reply->__set_chunks(std::move(chunks));
  return 0;
}

int StateMachine::MarkStale(const OpContext& context, const idl::MarkStaleOp& op, idl::Reply* reply) {
  if (op.index < 0) return ENOENT;
  uint32_t version = chunks_.map_version();
  int error = chunks_.MarkStale(op.index, static_cast<uint32_t>(op.version), static_cast<uint32_t>(op.copy_mask));
  if (error != 0) return error;
  const Chunk& chunk = *chunks_.Find(op.index);
  if (chunk.version > version) {
    LogWarning("session {}: chunk {}: write to copies {:#x} failed, they are stale; {} of {} are in sync",
               context.session, op.index, op.copy_mask, chunk.Count(CopyState::kInSync), chunk.copies_wanted);
  }
  reply->__set_chunks({ToIdl(op.index, chunk)});
  return 0;
}

int StateMachine::OpenChunksOf(const OpContext& context, const idl::OpenChunksOp& op) {
  if (op.indexes.size() > kChunksPerCall) return EINVAL;
  for (int64_t index : op.indexes) {
    if (chunks_.Find(index) == nullptr) return ENOENT;
    open_chunks_.Open(context.session, index);
    chunks_.ClearDoubtful(index);
  }
  return 0;
}

// One that was deleted meanwhile is closed already.
int StateMachine::CloseChunksOf(const OpContext& context, const idl::CloseChunksOp& op) {
  if (op.indexes.size() > kChunksPerCall) return EINVAL;
  for (int64_t index : op.indexes) open_chunks_.Close(context.session, index);
  return 0;
}

int StateMachine::StatFs(const OpContext& context, idl::Reply* reply) {
  idl::StatFs out;
  uint64_t free = space_.free_blocks(chunks_.pool().copies);
  out.blocks = static_cast<int64_t>(space_.used_blocks() + space_.granted_blocks() + free);
  out.free_blocks = static_cast<int64_t>(free);
  out.granted_blocks = static_cast<int64_t>(space_.granted_blocks(context.session));
  out.files = static_cast<int64_t>(counters_.inodes);
  reply->__set_statfs(out);
  return 0;
}

}  // namespace weft
