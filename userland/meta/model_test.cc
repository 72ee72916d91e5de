// SPDX-License-Identifier: MIT
//
// Random operations against the state machine and against a simple model of a file system in memory, with
// crashes before and after commits. After a crash the client sends again what was not answered. Every reply
// must be what the model says, the invariants of the store must hold after each batch, and from time to time
// the whole tree is compared. A failure prints its seed; WEFT_SEED=N runs that one again,
// WEFT_STEPS=N makes the run longer.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <sys/stat.h>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kRoot = static_cast<int64_t>(kRootIno);
constexpr int64_t kPoolBlocks = 1536;  // three targets of 4 chunks of 1 MiB, two copies; more with one

struct ModelInode {
  int mode = 0;
  int64_t size = 0;
  int names = 0;  // of files; directories are counted by parent
  int64_t parent = 0;
  std::string target;
  std::map<std::string, int64_t> entries;
  std::map<int64_t, std::pair<int64_t, bool>> blocks;  // file block -> pool block, unwritten
  bool IsDir() const { return S_ISDIR(mode); }
};

class Model {
 public:
  Model() {
    inodes_[kRoot].mode = S_IFDIR | 0755;
    inodes_[kRoot].parent = kRoot;
    inodes_[kRoot].names = 1;
  }

  const std::map<int64_t, ModelInode>& inodes() const { return inodes_; }
  const std::set<int64_t>& granted() const { return granted_; }

  // Checks the reply to an operation and carries it out here.
  void Apply(const idl::Operation& o, const idl::Reply& reply) {
    int expected = o.__isset.create    ? Create(o.create, reply)
                   : o.__isset.remove  ? Remove(o.remove, reply)
                   : o.__isset.rename  ? Rename(o.rename, reply)
                   : o.__isset.link    ? Link(o.link)
                   : o.__isset.lookup  ? Lookup(o.lookup, reply)
                   : o.__isset.setattr ? SetSize(o.setattr)
                   : o.__isset.commit  ? Commit(o.commit)
                   : o.__isset.punch   ? Punch(o.punch)
                   : o.__isset.evict   ? Evict(o.evict)
                   : o.__isset.grant   ? Grant(reply)
                                       : Release(o.release);
    ASSERT_EQ(reply.error, expected);
  }

  void EndSession() {
    granted_.clear();
    std::erase_if(inodes_, [](const auto& entry) { return entry.second.names == 0; });
  }

  // Compares everything with what the server tells.
  void Compare(const std::function<idl::Reply(const idl::Operation&)>& ask) const {
    for (const auto& [ino, inode] : inodes_) {
      idl::Attr attr = ask(op::GetAttr(ino)).attr;
      ASSERT_EQ(attr.mode, inode.mode) << ino;
      if (S_ISREG(inode.mode)) {
        ASSERT_EQ(attr.size, inode.size) << ino;
        ASSERT_EQ(attr.blocks, static_cast<int64_t>(inode.blocks.size())) << ino;
        CompareExtents(ask(op::GetExtents(ino, 0, 1000)), inode);
      }
      if (inode.IsDir()) CompareEntries(ask, ino, inode);
      if (S_ISLNK(inode.mode)) {
        ASSERT_EQ(ask(op::ReadLink(ino)).target, inode.target);
      }
    }
  }

 private:
  static void CompareExtents(const idl::Reply& reply, const ModelInode& inode) {
    ASSERT_TRUE(reply.eof);
    std::map<int64_t, std::pair<int64_t, bool>> blocks;
    for (const idl::Extent& e : reply.extents) {
      for (int i = 0; i < e.blocks; ++i) blocks[e.file_block + i] = {e.pool_block + i, e.unwritten};
    }
    ASSERT_EQ(blocks, inode.blocks);
  }

  static void CompareEntries(const std::function<idl::Reply(const idl::Operation&)>& ask, int64_t ino,
                             const ModelInode& inode) {
    std::map<std::string, int64_t> entries;
    int64_t cookie = 0;
    for (bool eof = false; !eof;) {
      idl::Reply reply = ask(op::ReadDir(ino, cookie, 200));
      ASSERT_EQ(reply.error, 0);
      for (const idl::Dirent& entry : reply.entries) {
        entries[entry.name] = entry.ino;
        cookie = entry.cookie;
      }
      eof = reply.eof;
    }
    ASSERT_EQ(entries, inode.entries) << ino;
  }

  ModelInode* Find(int64_t ino) {
    auto it = inodes_.find(ino);
    return it == inodes_.end() ? nullptr : &it->second;
  }
  // A directory that may be written; 0 or an errno.
  int Dir(int64_t ino, bool writable, ModelInode** dir) {
    *dir = Find(ino);
    if (*dir == nullptr) return ENOENT;
    if (!(*dir)->IsDir()) return ENOTDIR;
    return writable && (*dir)->names == 0 ? ENOENT : 0;
  }
  bool IsBelow(int64_t dir, int64_t ancestor) {
    for (; dir != ancestor; dir = inodes_.at(dir).parent) {
      if (dir == kRoot) return false;
    }
    return true;
  }
  void DropName(int64_t ino) { --inodes_.at(ino).names; }

  int Create(const idl::CreateOp& o, const idl::Reply& reply) {
    ModelInode* dir;
    if (int error = Dir(o.parent, true, &dir); error != 0) return error;
    if (dir->entries.contains(o.name)) return EEXIST;
    int64_t ino = reply.attr.ino;
    EXPECT_FALSE(inodes_.contains(ino));
    dir->entries[o.name] = ino;
    ModelInode& inode = inodes_[ino];
    inode.mode = o.mode;
    inode.names = 1;
    inode.parent = o.parent;
    inode.target = o.target;
    return 0;
  }

  int Lookup(const idl::LookupOp& o, const idl::Reply& reply) {
    ModelInode* dir;
    if (int error = Dir(o.parent, false, &dir); error != 0) return error;
    auto it = dir->entries.find(o.name);
    if (it == dir->entries.end()) return ENOENT;
    EXPECT_EQ(reply.attr.ino, it->second);
    return 0;
  }

  int Remove(const idl::RemoveOp& o, const idl::Reply& reply) {
    ModelInode* dir;
    if (int error = Dir(o.parent, false, &dir); error != 0) return error;
    auto it = dir->entries.find(o.name);
    if (it == dir->entries.end()) return ENOENT;
    ModelInode& inode = inodes_.at(it->second);
    if (o.directory != inode.IsDir()) return o.directory ? ENOTDIR : EISDIR;
    if (!inode.entries.empty()) return ENOTEMPTY;
    EXPECT_EQ(reply.attr.ino, it->second);
    EXPECT_EQ(reply.attr.nlink, inode.names - 1);
    DropName(it->second);
    dir->entries.erase(it);
    return 0;
  }

  int Rename(const idl::RenameOp& o, const idl::Reply& reply) {
    ModelInode* from;
    ModelInode* to;
    if (o.noreplace && o.exchange) return EINVAL;
    if (int error = Dir(o.old_parent, true, &from); error != 0) return error;
    if (int error = Dir(o.new_parent, true, &to); error != 0) return error;
    auto a = from->entries.find(o.old_name);
    auto b = to->entries.find(o.new_name);
    if (a == from->entries.end()) return ENOENT;
    bool replaces = b != to->entries.end();
    if (replaces && o.noreplace) return EEXIST;
    if (!replaces && o.exchange) return ENOENT;
    int64_t ino = a->second;
    if (replaces && b->second == ino) return 0;
    ModelInode& inode = inodes_.at(ino);
    if (inode.IsDir() && IsBelow(o.new_parent, ino)) return EINVAL;
    if (o.exchange) {
      ModelInode& other = inodes_.at(b->second);
      if (other.IsDir() && IsBelow(o.old_parent, b->second)) return EINVAL;
      std::swap(a->second, b->second);
      inode.parent = o.new_parent;
      other.parent = o.old_parent;
      return 0;
    }
    if (replaces) {
      ModelInode& other = inodes_.at(b->second);
      if (inode.IsDir() != other.IsDir()) return inode.IsDir() ? ENOTDIR : EISDIR;
      if (!other.entries.empty()) return ENOTEMPTY;
      EXPECT_EQ(reply.attr.ino, b->second);
      DropName(b->second);
    } else {
      EXPECT_EQ(reply.attr.ino, 0);
    }
    from->entries.erase(a);
    to->entries[o.new_name] = ino;
    inode.parent = o.new_parent;
    return 0;
  }

  int Link(const idl::LinkOp& o) {
    ModelInode* inode = Find(o.ino);
    if (inode == nullptr || inode->names == 0) return ENOENT;
    if (inode->IsDir()) return EPERM;
    ModelInode* dir;
    if (int error = Dir(o.parent, true, &dir); error != 0) return error;
    if (dir->entries.contains(o.name)) return EEXIST;
    dir->entries[o.name] = o.ino;
    ++inode->names;
    return 0;
  }

  int SetSize(const idl::SetAttrOp& o) {
    ModelInode* inode = Find(o.ino);
    if (inode == nullptr) return ENOENT;
    if (inode->IsDir()) return EISDIR;
    if (!S_ISREG(inode->mode)) return EINVAL;
    inode->size = o.size;
    inode->blocks.erase(inode->blocks.lower_bound((o.size + 4095) / 4096), inode->blocks.end());
    return 0;
  }

  int Commit(const idl::CommitOp& o) {
    std::map<int64_t, ModelInode> inodes = inodes_;
    std::set<int64_t> granted = granted_;
    for (const idl::FileCommit& file : o.files) {
      auto it = inodes.find(file.ino);
      if (it == inodes.end()) continue;
      ModelInode& inode = it->second;
      if (!S_ISREG(inode.mode)) return EINVAL;
      for (const idl::Extent& e : file.extents) {
        for (int i = 0; i < e.blocks; ++i) {
          auto mapped = inode.blocks.find(e.file_block + i);
          if (granted.erase(e.pool_block + i) == 0 &&
              (mapped == inode.blocks.end() || mapped->second.first != e.pool_block + i)) {
            return EINVAL;
          }
          inode.blocks[e.file_block + i] = {e.pool_block + i, e.unwritten};
        }
      }
      if (file.valid != 0) inode.size = file.size;
    }
    inodes_ = std::move(inodes);
    granted_ = std::move(granted);
    return 0;
  }

  int Punch(const idl::PunchOp& o) {
    ModelInode* inode = Find(o.ino);
    if (inode == nullptr) return ENOENT;
    if (!S_ISREG(inode->mode)) return EINVAL;
    inode->blocks.erase(inode->blocks.lower_bound(o.file_block), inode->blocks.lower_bound(o.file_block + o.blocks));
    return 0;
  }

  int Evict(const idl::EvictOp& o) {
    for (int64_t ino : o.inos) {
      ModelInode* inode = Find(ino);
      if (inode != nullptr && inode->names > 0) return EINVAL;
    }
    for (int64_t ino : o.inos) inodes_.erase(ino);
    return 0;
  }

  int Grant(const idl::Reply& reply) {
    if (reply.error == ENOSPC) return ENOSPC;  // Simulation has looked whether it is true
    for (const idl::Range& range : reply.ranges) {
      for (int64_t i = 0; i < range.blocks; ++i) EXPECT_TRUE(granted_.insert(range.pool_block + i).second);
    }
    return 0;
  }

  int Release(const idl::ReleaseOp& o) {
    for (const idl::Range& range : o.ranges) {
      for (int64_t i = 0; i < range.blocks; ++i) {
        if (!granted_.contains(range.pool_block + i)) return EINVAL;
      }
    }
    for (const idl::Range& range : o.ranges) {
      for (int64_t i = 0; i < range.blocks; ++i) granted_.erase(range.pool_block + i);
    }
    return 0;
  }

  std::map<int64_t, ModelInode> inodes_;
  std::set<int64_t> granted_;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed), server_(WithoutUpkeep()) { Form(); }

  void Run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      SCOPED_TRACE(fmt::format("step {}", step));
      Batch();
      server_.Check();
      if (step % 25 == 0) {
        model_.Compare([this](const idl::Operation& o) { return server_.Execute(o); });
      }
      if (Chance(10)) server_.FinishReleases();
      if (Chance(100)) Restart();
      if (Chance(150)) NewClient();
    }
  }

 private:
  // A small pool, so that it is full now and then.
  void Form() {
    for (std::string name : {"t1", "t2", "t3"}) {
      ASSERT_TRUE(server_.Register(TestServer::TargetArgs(name, 4 << 20)).ok());
    }
    ASSERT_TRUE(server_.CreatePool(2, 1 << 20).ok());
    for (std::string name : {"t1", "t2", "t3"}) {  // told that they have joined, and knowing it
      for (int i = 0; i < 2; ++i) ASSERT_TRUE(server_.Heartbeat(TestServer::TargetArgs(name, 4 << 20)).ok());
    }
    Open();
  }
  void Open() {
    auto session = server_.OpenSession(fmt::format("client{}", ++clients_));
    ASSERT_TRUE(session.ok()) << session.status().message();
    server_.set_session(session->id);
  }
  void NewClient() {
    server_.Advance(31'000);
    Open();
    model_.EndSession();
  }
  void Restart() { server_.Open(); }

  int64_t Pick(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  bool Chance(int one_in) { return Pick(one_in) == 0; }

  int64_t AnyIno() {
    const auto& inodes = model_.inodes();
    if (Chance(20)) return 1'000'000 + Pick(3);
    auto it = inodes.begin();
    std::advance(it, Pick(static_cast<int64_t>(inodes.size())));
    return it->first;
  }
  int64_t AnyDir() {
    for (int tries = 0; tries < 5; ++tries) {
      int64_t ino = AnyIno();
      auto it = model_.inodes().find(ino);
      if (it != model_.inodes().end() && it->second.IsDir()) return ino;
    }
    return kRoot;
  }
  int64_t AnyFile() {
    for (int tries = 0; tries < 10; ++tries) {
      int64_t ino = AnyIno();
      auto it = model_.inodes().find(ino);
      if (it != model_.inodes().end() && S_ISREG(it->second.mode)) return ino;
    }
    return AnyIno();
  }
  std::string AnyName() { return std::string(1, static_cast<char>('a' + Pick(8))); }

  idl::Operation AnyCreate() {
    switch (Pick(4)) {
      case 0:
        return op::Create(AnyDir(), AnyName(), S_IFDIR | 0755);
      case 1:
        return op::Create(AnyIno(), AnyName(), S_IFLNK | 0777, "to/" + AnyName());
      default:
        return op::Create(AnyDir(), AnyName(), S_IFREG | 0644);
    }
  }

  // Extents from what is granted, from what the file has, and now and then from elsewhere.
  idl::Operation AnyCommit() {
    int64_t ino = AnyFile();
    idl::Operation o = op::Commit(ino, {}, Chance(2) ? Pick(200'000) : -1);
    const std::set<int64_t>& granted = model_.granted();
    auto inode = model_.inodes().find(ino);
    for (int64_t n = Pick(4); n >= 0; --n) {
      int64_t file_block = Pick(40);
      int64_t pool_block = Pick(kPoolBlocks);
      if (!granted.empty() && !Chance(4)) {
        auto it = granted.lower_bound(pool_block);
        pool_block = it == granted.end() ? *granted.begin() : *it;
      } else if (inode != model_.inodes().end() && !inode->second.blocks.empty() && !Chance(3)) {
        auto it = inode->second.blocks.lower_bound(file_block);
        if (it == inode->second.blocks.end()) it = inode->second.blocks.begin();
        file_block = it->first;
        pool_block = it->second.first;
      }
      int blocks = static_cast<int>(1 + Pick(12));
      if (pool_block + blocks > kPoolBlocks) blocks = 1;
      o.commit.files[0].extents.push_back(op::MakeExtent(file_block, pool_block, blocks, Chance(2)));
    }
    return o;
  }

  idl::Operation AnyOperation() {
    switch (Pick(16)) {
      case 0:
      case 1:
      case 2:
        return AnyCreate();
      case 3:
        return op::Remove(AnyDir(), AnyName(), Chance(2));
      case 4:
        return op::Remove(AnyDir(), AnyName());
      case 5:
      case 6:
        return op::Rename(AnyDir(), AnyName(), AnyDir(), AnyName(), Chance(6), Chance(4));
      case 7:
        return op::Link(AnyIno(), AnyDir(), AnyName());
      case 8:
        return op::Lookup(AnyIno(), AnyName());
      case 9:
        return op::SetSize(AnyFile(), Pick(200'000));
      case 10:
        return op::Punch(AnyFile(), Pick(40), 1 + Pick(20));
      case 11:
        return op::Evict({AnyIno(), AnyIno()});
      case 12:
        return op::Grant(1 + Pick(300), static_cast<int>(1 + Pick(6)), static_cast<int>(Pick(4)));
      case 13: {
        const std::set<int64_t>& granted = model_.granted();
        return op::Release(granted.empty() || Chance(5) ? Pick(kPoolBlocks) : *granted.begin(), 1 + Pick(20));
      }
      default:
        return AnyCommit();
    }
  }

  // Of the class asked for, and ENOSPC only when nothing is free.
  void CheckGrant(const idl::GrantOp& grant, const idl::Reply& reply) {
    auto copies = static_cast<uint32_t>(grant.copies == 0 ? 2 : grant.copies);
    if (reply.error == ENOSPC) {
      EXPECT_EQ(server_.machine().space().free_blocks(copies), 0U);
    }
    for (const idl::Range& range : reply.ranges) {
      EXPECT_EQ(server_.machine().chunks().Find(static_cast<uint64_t>(range.pool_block) / 256)->copies_wanted, copies);
    }
  }

  // Sends a batch until it is answered, through crashes.
  void Batch() {
    std::vector<idl::Request> requests;
    for (int64_t n = Pick(8); n >= 0; --n) requests.push_back(server_.MakeRequest(AnyOperation(), static_cast<int>(n)));
    server_.Advance(Pick(50));
    std::vector<idl::Reply> replies;
    bool was_done = false;  // by an attempt whose answer was lost
    for (bool answered = false; !answered;) {
      if (Chance(8)) {
        bool done = Chance(2);
        was_done = was_done || done;
        server_.store().set_fault(done ? MemoryStore::Fault::kLoseAnswer : MemoryStore::Fault::kLoseCommit);
      }
      replies.clear();
      server_.machine().Begin(server_.now());
      ASSERT_TRUE(server_.machine().CheckSession(server_.session()).ok());
      for (const idl::Request& request : requests) {
        replies.push_back(server_.machine().Execute(server_.session(), request));
        if (request.op.__isset.grant && !was_done) CheckGrant(request.op.grant, replies.back());
      }
      answered = server_.machine().Commit().ok();
      server_.store().set_fault(MemoryStore::Fault::kNone);
      if (!answered) Restart();
    }
    // What changes something was answered from its slot when the batch came again; a look-up has no slot and
    // found what the whole batch had left.
    Apply(requests, replies, [&](const idl::Operation& o) { return !was_done || !o.__isset.lookup; });
    Apply(requests, replies, [&](const idl::Operation& o) { return was_done && o.__isset.lookup; });
  }

  void Apply(const std::vector<idl::Request>& requests, const std::vector<idl::Reply>& replies,
             const std::function<bool(const idl::Operation&)>& chosen) {
    for (size_t i = 0; i < requests.size() && !testing::Test::HasFailure(); ++i) {
      if (!chosen(requests[i].op)) continue;
      std::ostringstream text;
      text << requests[i].op << " -> " << replies[i];
      SCOPED_TRACE(text.str());
      model_.Apply(requests[i].op, replies[i]);
    }
  }

  std::mt19937_64 random_;
  TestServer server_;
  Model model_;
  int clients_ = 0;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = getenv(name);
  return value == nullptr ? otherwise : strtoull(value, nullptr, 10);
}

TEST(ModelTest, RandomOperationsWithCrashes) {
  uint64_t first = FromEnvironment("WEFT_SEED", std::random_device()());
  uint64_t seeds = getenv("WEFT_SEED") != nullptr ? 1 : 4;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE(fmt::format("again with WEFT_SEED={}", seed));
    Simulation(seed).Run(static_cast<int>(FromEnvironment("WEFT_STEPS", 400)));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace weft
