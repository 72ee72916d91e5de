// SPDX-License-Identifier: MIT
//
// Implementation of test_server.h; among the tests so that it is linked into them only.
#include "userland/meta/test_server.h"

#include <dirent.h>
#include <set>
#include <sys/stat.h>

#include "thrift-gen/meta_constants.h"
#include "userland/base/log.h"
#include "userland/meta/codec.h"

namespace weft {

TestServer::TestServer(MetaOptions options) : options_(std::move(options)) {
  EXPECT_TRUE(InitLog("meta_test", "error").ok());
  options_.space.spare_blocks = 0;  // the pools of the tests are small
  Open();
}

void TestServer::Open() {
  machine_.reset();
  auto machine = StateMachine::Open(&store_, options_, now());
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  machine_ = *std::move(machine);
}

void TestServer::BeginBatch() {
  machine_->Begin(now());
  in_batch_ = true;
}

void TestServer::EndBatch() {
  in_batch_ = false;
  Status status = machine_->Commit();
  EXPECT_TRUE(status.ok()) << status.message();
}

idl::RegisterTargetArgs TestServer::TargetArgs(const std::string& name, int64_t capacity_bytes) {
  idl::RegisterTargetArgs args;
  args.protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  args.cluster = "weft";
  args.uuid = (name + std::string(16, '.')).substr(0, 16);
  args.name = name;
  args.host = "10.0.0.1";
  args.port = 7471;
  args.capacity_bytes = capacity_bytes;
  args.weight = 100;
  return args;
}

idl::RegisterTargetArgs TestServer::NvmeArgs(const std::string& name, int64_t capacity_bytes) {
  idl::RegisterTargetArgs args = TargetArgs(name, capacity_bytes);
  args.host = "";
  args.port = 0;
  idl::NvmeNamespace nvme;
  nvme.uris = {"nvme+rdma://10.0.0.1/nqn." + name + "?nsid=1"};
  nvme.uuid = (name + std::string(16, 'u')).substr(0, 16);
  nvme.nguid = (name + std::string(16, 'g')).substr(0, 16);
  nvme.nsid = 1;
  args.__set_nvme(nvme);
  return args;
}

Result<idl::PoolStatus> TestServer::CreatePool(int copies, int64_t chunk_bytes, std::vector<std::string> targets) {
  idl::CreatePoolArgs args;
  args.copies = copies;
  args.chunk_bytes = chunk_bytes;
  args.targets = std::move(targets);
  return Run([&](StateMachine& m) { return m.CreatePool(args); });
}

idl::OpenSessionArgs TestServer::ClientArgs(const std::string& name) {
  idl::OpenSessionArgs args;
  args.protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  args.cluster = "weft";
  args.client = (name + std::string(16, '.')).substr(0, 16);
  args.host = "host-of-" + name;
  return args;
}

void TestServer::Form() {
  ASSERT_TRUE(Register(TargetArgs("t1", 64 << 20)).ok());
  ASSERT_TRUE(Register(TargetArgs("t2", 64 << 20)).ok());
  auto pool = CreatePool(2, 4 << 20);
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  for (std::string name : {"t1", "t2"}) {  // told that they have joined, and knowing it
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(Heartbeat(TargetArgs(name, 64 << 20)).ok());
  }
  auto session = OpenSession("c1");
  ASSERT_TRUE(session.ok()) << session.status().message();
  session_ = session->id;
}

idl::Request TestServer::MakeRequest(const idl::Operation& operation, int slot) {
  idl::Request request;
  request.slot = slot;
  request.seq = ++seq_[slot];
  request.now_ns = now().wall_ns;
  request.op = operation;
  return request;
}

idl::Reply TestServer::ExecuteRequest(const idl::Request& request) {
  return Run([&](StateMachine& m) {
    Status status = m.CheckSession(session_);
    EXPECT_TRUE(status.ok()) << status.message();
    return m.Execute(session_, request);
  });
}

idl::Reply TestServer::Execute(const idl::Operation& operation) { return ExecuteRequest(MakeRequest(operation)); }

namespace {

// What the checks gather from the store.
struct Gathered {
  RangeMap owned;  // every block once
  std::map<uint64_t, Inode> inodes;
  std::map<uint64_t, uint64_t> blocks;  // of extents, by inode
  std::map<uint64_t, uint64_t> names;   // of an inode
  std::map<uint64_t, uint64_t> subdirs;
  std::map<uint64_t, uint64_t> entries;
  std::set<std::pair<uint64_t, uint64_t>> cookies;
  std::set<uint64_t> orphans;
  std::set<uint64_t> sessions;
  std::set<uint64_t> owners;  // sessions that own orphans, grants, open chunks, slots
  std::map<uint64_t, Chunk> chunks;
  std::set<uint64_t> open;                          // chunks
  std::set<std::pair<uint64_t, uint64_t>> places;   // target, offset
  std::set<std::pair<uint64_t, uint64_t>> damaged;  // chunk, target
  uint64_t free = 0;
  uint64_t granted = 0;
  uint64_t used = 0;
};

void Own(Gathered* all, uint64_t first, uint64_t blocks, uint64_t* count) {
  ASSERT_FALSE(all->owned.Overlaps(first, blocks)) << "block " << first << " + " << blocks << " is in two places";
  all->owned.Add(first, blocks);
  *count += blocks;
}

void Gather(const std::string& key, const std::string& value, Gathered* all) {
  uint64_t a = 0;
  uint64_t b = 0;
  auto blocks_of = [&value] { return Reader(value).U64(); };
  switch (key[0]) {
    case 'I': {
      ASSERT_TRUE(key::Parse(key, &a));
      ASSERT_TRUE(Inode::Decode(value, &all->inodes[a]));
      break;
    }
    case 'D': {
      uint64_t parent = 0;
      ASSERT_TRUE(key::Parse(std::string_view(key).substr(0, 9), &parent));
      Dirent entry;
      ASSERT_TRUE(Dirent::Decode(value, &entry));
      ++all->names[entry.ino];
      ++all->entries[parent];
      if (entry.type == DT_DIR) ++all->subdirs[parent];
      all->cookies.insert({parent, entry.cookie});
      break;
    }
    case 'E': {
      ASSERT_TRUE(key::Parse(key, &a, &b));
      Extent extent;
      ASSERT_TRUE(Extent::Decode(b, value, &extent));
      all->blocks[a] += extent.blocks;
      Own(all, extent.pool_block, extent.blocks, &all->used);
      break;
    }
    case 'G':
      ASSERT_TRUE(key::Parse(key, &a, &b));
      all->owners.insert(a);
      Own(all, b, blocks_of(), &all->granted);
      break;
    case 'F':
      ASSERT_TRUE(key::Parse(key, &a));
      Own(all, a, blocks_of(), &all->free);
      break;
    case 'O':
      ASSERT_TRUE(key::Parse(key, &a, &b));
      all->orphans.insert(b);
      all->owners.insert(a);
      break;
    case 'L':
      ASSERT_TRUE(key::Parse(key, &a, &b));
      all->owners.insert(a);
      break;
    case 'N':
      ASSERT_TRUE(key::Parse(key, &a));
      all->sessions.insert(a);
      break;
    case 'W':
      ASSERT_TRUE(key::Parse(key, &a, &b));
      all->owners.insert(a);
      all->open.insert(b);
      break;
    case 'K':
      ASSERT_TRUE(key::Parse(key, &a));
      ASSERT_TRUE(Chunk::Decode(value, &all->chunks[a]));
      for (const Copy& copy : all->chunks[a].copies) {
        EXPECT_TRUE(all->places.insert({copy.target, copy.offset}).second) << "two copies at one place, chunk " << a;
      }
      break;
    case 'R': {
      uint32_t target = 0;
      ASSERT_TRUE(key::ParseReleasing(key, &target, &a));
      EXPECT_TRUE(all->places.insert({target, a}).second) << "a place being released is used";
      break;
    }
    case 'B':
      ASSERT_TRUE(key::Parse(key, &a, &b));
      all->damaged.insert({a, b});
      break;
    default:
      break;
  }
}

void CheckTree(const Gathered& all, const MemoryStore& store) {
  auto at = [](const std::map<uint64_t, uint64_t>& map, uint64_t key) {
    auto it = map.find(key);
    return it == map.end() ? 0 : it->second;
  };
  for (const auto& [ino, inode] : all.inodes) {
    EXPECT_EQ(inode.blocks, at(all.blocks, ino)) << "blocks of inode " << ino;
    uint64_t names = at(all.names, ino) + (ino == kRootIno ? 1 : 0);
    if (inode.IsDir()) {
      EXPECT_EQ(inode.nlink, names == 0 ? 0 : 2 + at(all.subdirs, ino)) << "nlink of directory " << ino;
      EXPECT_EQ(inode.entries, at(all.entries, ino)) << "entries of directory " << ino;
      EXPECT_LE(names, 1U);
    } else {
      EXPECT_EQ(inode.nlink, names) << "nlink of inode " << ino;
    }
    EXPECT_EQ(names == 0, all.orphans.contains(ino)) << "inode " << ino;
  }
  for (const auto& [ino, count] : all.names)
    EXPECT_TRUE(all.inodes.contains(ino)) << "inode " << ino << " is named only";
  for (uint64_t ino : all.orphans) EXPECT_TRUE(all.inodes.contains(ino)) << "orphan " << ino << " is gone";
  for (const auto& [ino, blocks] : all.blocks) EXPECT_TRUE(all.inodes.contains(ino)) << "extents of " << ino;
  uint64_t twins = 0;
  for (const auto& [key, value] : store.contents()) {
    if (key[0] != 'C') continue;
    uint64_t parent = 0;
    uint64_t cookie = 0;
    ASSERT_TRUE(key::Parse(key, &parent, &cookie));
    CookieRecord record;
    ASSERT_TRUE(CookieRecord::Decode(value, &record));
    auto named = store.contents().find(key::Dirent(parent, record.name));
    ASSERT_NE(named, store.contents().end());
    EXPECT_EQ(named->second, (Dirent{record.ino, cookie, record.type}.Encode()));
    EXPECT_TRUE(all.cookies.contains({parent, cookie}));
    ++twins;
    if (record.type == DT_DIR) {
      EXPECT_EQ(all.inodes.at(record.ino).parent, parent);
    }
  }
  EXPECT_EQ(twins, all.cookies.size());
}

void CheckChunks(const Gathered& all, const StateMachine& machine) {
  std::set<uint32_t> versions;
  for (const auto& [index, chunk] : all.chunks) {
    EXPECT_TRUE(versions.insert(chunk.version).second) << "version " << chunk.version << " twice";
    EXPECT_LE(chunk.version, machine.chunks().map_version());
    EXPECT_LE(chunk.Count(CopyState::kInSync), kChunkCopiesMax);
    std::set<uint32_t> targets;
    for (const Copy& copy : chunk.copies) {
      EXPECT_TRUE(targets.insert(copy.target).second) << "two copies of chunk " << index << " on one target";
      EXPECT_FALSE(copy.doubtful && copy.state == CopyState::kInSync) << "chunk " << index;
    }
  }
  for (uint64_t chunk : all.open) EXPECT_TRUE(all.chunks.contains(chunk)) << "open chunk " << chunk << " is gone";
  for (const auto& [index, target] : all.damaged) {
    auto chunk = all.chunks.find(index);
    ASSERT_NE(chunk, all.chunks.end());
    EXPECT_NE(chunk->second.On(static_cast<uint32_t>(target)), nullptr);
  }
  for (uint64_t session : all.owners) EXPECT_TRUE(all.sessions.contains(session)) << "session " << session;
}

// The mirrors of a machine that has worked and of one that has just read the store.
void CheckMirrors(const StateMachine& worked, const StateMachine& fresh) {
  const Chunks& a = worked.chunks();
  const Chunks& b = fresh.chunks();
  EXPECT_EQ(a.all(), b.all());
  EXPECT_EQ(a.releases(), b.releases());
  EXPECT_EQ(a.damage(), b.damage());
  EXPECT_EQ(a.bad_blocks(), b.bad_blocks());
  EXPECT_EQ(a.degraded(), b.degraded());
  EXPECT_EQ(a.lost(), b.lost());
  EXPECT_EQ(a.unsettled(), b.unsettled());
  auto changed = [](const Chunks& chunks) {
    std::vector<uint64_t> order;
    for (const auto& [index, chunk] : chunks.Changed(0, SIZE_MAX)) order.push_back(index);
    return order;
  };
  EXPECT_EQ(changed(a), changed(b));
  EXPECT_EQ(a.Changed(0, SIZE_MAX).size(), a.all().size());
  for (const idl::TargetInfo& target : worked.PoolStatus().targets) {
    auto id = static_cast<uint32_t>(target.id);
    EXPECT_EQ(a.on(id), b.on(id));
    EXPECT_EQ(a.used_places(id), b.used_places(id));
    EXPECT_EQ(a.unsynced(id), b.unsynced(id));
  }
  EXPECT_EQ(worked.open_chunks().all(), fresh.open_chunks().all());
  for (uint32_t copies = 1; copies <= kCopiesMax; ++copies) {
    if (a.formed()) {
      EXPECT_EQ(worked.space().free_blocks(copies), fresh.space().free_blocks(copies));
    }
  }
}

}  // namespace

void TestServer::FinishReleases() {
  RunOnChunks([](Chunks& chunks) {
    for (const auto& [place, record] : Chunks::Releases(chunks.releases())) {
      EXPECT_EQ(chunks.ReleaseDone(place.first, place.second), 0);
    }
    return 0;
  });
}

void TestServer::Check() {
  Gathered all;
  for (const auto& [key, value] : store_.contents()) {
    Gather(key, value, &all);
    if (testing::Test::HasFatalFailure()) return;
  }
  const Space& space = machine_->space();
  EXPECT_EQ(all.free + all.granted + all.used, all.chunks.size() * machine_->chunks().pool().chunk_blocks);
  EXPECT_EQ(all.free, space.free_in_chunks());
  EXPECT_EQ(all.granted, space.granted_blocks());
  EXPECT_EQ(all.used, space.used_blocks());
  EXPECT_EQ(static_cast<int64_t>(all.inodes.size()), machine_->PoolStatus().files);
  CheckTree(all, store_);
  CheckChunks(all, *machine_);
  MemoryStore copy = store_;
  auto fresh = StateMachine::Open(&copy, options_, now());
  ASSERT_TRUE(fresh.ok()) << fresh.status().message();
  CheckMirrors(*machine_, **fresh);
}

namespace op {

idl::Operation StatFs() {
  idl::Operation o;
  o.__set_statfs({});
  return o;
}
idl::Operation Lookup(int64_t parent, const std::string& name) {
  idl::LookupOp args;
  args.parent = parent;
  args.name = name;
  idl::Operation o;
  o.__set_lookup(args);
  return o;
}
idl::Operation GetAttr(int64_t ino) {
  idl::GetAttrOp args;
  args.ino = ino;
  idl::Operation o;
  o.__set_getattr(args);
  return o;
}
idl::Operation SetSize(int64_t ino, int64_t size) {
  idl::SetAttrOp args;
  args.ino = ino;
  args.valid = idl::g_meta_constants.SET_SIZE;
  args.size = size;
  idl::Operation o;
  o.__set_setattr(args);
  return o;
}
idl::Operation SetCopies(int64_t ino, int copies) {
  idl::SetAttrOp args;
  args.ino = ino;
  args.valid = idl::g_meta_constants.SET_COPIES;
  args.copies = copies;
  idl::Operation o;
  o.__set_setattr(args);
  return o;
}
idl::Operation Create(int64_t parent, const std::string& name, int mode, const std::string& target) {
  idl::CreateOp args;
  args.parent = parent;
  args.name = name;
  args.mode = mode;
  args.uid = 1000;
  args.gid = 100;
  args.target = target;
  idl::Operation o;
  o.__set_create(args);
  return o;
}
idl::Operation Remove(int64_t parent, const std::string& name, bool directory) {
  idl::RemoveOp args;
  args.parent = parent;
  args.name = name;
  args.directory = directory;
  idl::Operation o;
  o.__set_remove(args);
  return o;
}
idl::Operation Rename(int64_t old_parent, const std::string& old_name, int64_t new_parent, const std::string& new_name,
                      bool noreplace, bool exchange) {
  idl::RenameOp args;
  args.old_parent = old_parent;
  args.old_name = old_name;
  args.new_parent = new_parent;
  args.new_name = new_name;
  args.noreplace = noreplace;
  args.exchange = exchange;
  idl::Operation o;
  o.__set_rename(args);
  return o;
}
idl::Operation Link(int64_t ino, int64_t parent, const std::string& name) {
  idl::LinkOp args;
  args.ino = ino;
  args.parent = parent;
  args.name = name;
  idl::Operation o;
  o.__set_link(args);
  return o;
}
idl::Operation ReadLink(int64_t ino) {
  idl::ReadLinkOp args;
  args.ino = ino;
  idl::Operation o;
  o.__set_readlink(args);
  return o;
}
idl::Operation ReadDir(int64_t ino, int64_t cookie, int bytes_max) {
  idl::ReadDirOp args;
  args.ino = ino;
  args.cookie = cookie;
  args.bytes_max = bytes_max;
  idl::Operation o;
  o.__set_readdir(args);
  return o;
}
idl::Operation GetExtents(int64_t ino, int64_t file_block, int count_max) {
  idl::GetExtentsOp args;
  args.ino = ino;
  args.file_block = file_block;
  args.count_max = count_max;
  idl::Operation o;
  o.__set_get_extents(args);
  return o;
}
idl::Extent MakeExtent(int64_t file_block, int64_t pool_block, int blocks, bool unwritten) {
  idl::Extent extent;
  extent.file_block = file_block;
  extent.pool_block = pool_block;
  extent.blocks = blocks;
  extent.unwritten = unwritten;
  return extent;
}
idl::Operation Commit(int64_t ino, std::vector<idl::Extent> extents, int64_t size) {
  idl::FileCommit file;
  file.ino = ino;
  if (size >= 0) file.valid = idl::g_meta_constants.SET_SIZE;
  file.size = size;
  file.extents = std::move(extents);
  idl::CommitOp args;
  args.files = {file};
  idl::Operation o;
  o.__set_commit(args);
  return o;
}
idl::Operation Punch(int64_t ino, int64_t file_block, int64_t blocks) {
  idl::PunchOp args;
  args.ino = ino;
  args.file_block = file_block;
  args.blocks = blocks;
  idl::Operation o;
  o.__set_punch(args);
  return o;
}
idl::Operation Evict(std::vector<int64_t> inos) {
  idl::EvictOp args;
  args.inos = std::move(inos);
  idl::Operation o;
  o.__set_evict(args);
  return o;
}
idl::Operation Grant(int64_t blocks, int ranges_max, int copies) {
  idl::GrantOp args;
  args.blocks = blocks;
  args.ranges_max = ranges_max;
  args.copies = copies;
  idl::Operation o;
  o.__set_grant(args);
  return o;
}
idl::Operation Release(int64_t pool_block, int64_t blocks) {
  idl::Range range;
  range.pool_block = pool_block;
  range.blocks = blocks;
  idl::ReleaseOp args;
  args.ranges = {range};
  idl::Operation o;
  o.__set_release(args);
  return o;
}
idl::Operation GetChunks(int64_t first, int count) {
  idl::GetChunksOp args;
  args.first = first;
  args.count = count;
  idl::Operation o;
  o.__set_get_chunks(args);
  return o;
}
idl::Operation MarkStale(int64_t index, int version, int mask) {
  idl::MarkStaleOp args;
  args.index = index;
  args.version = version;
  args.copy_mask = mask;
  idl::Operation o;
  o.__set_mark_stale(args);
  return o;
}

idl::Operation OpenChunks(std::vector<int64_t> indexes) {
  idl::OpenChunksOp args;
  args.indexes = std::move(indexes);
  idl::Operation o;
  o.__set_open_chunks(args);
  return o;
}
idl::Operation CloseChunks(std::vector<int64_t> indexes) {
  idl::CloseChunksOp args;
  args.indexes = std::move(indexes);
  idl::Operation o;
  o.__set_close_chunks(args);
  return o;
}

}  // namespace op

}  // namespace weft
