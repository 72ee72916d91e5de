// SPDX-License-Identifier: MIT
//
// A store as a server leaves it behind, damaged record by record: fsck must name each damage, and what it repairs
// must check clean and be opened by the server again.
#include "userland/meta/fsck.h"

#include <cerrno>
#include <dirent.h>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "userland/meta/codec.h"
#include "userland/meta/engine.h"
#include "userland/meta/fsck_online.h"
#include "userland/meta/fsck_run.h"
#include "userland/meta/test_server.h"

namespace weft {
namespace {

using testing::HasSubstr;
using testing::IsSupersetOf;

constexpr uint64_t kChunkBlocks = 1024;  // of TestServer::Form

class FsckTest : public testing::Test {
 protected:
  // /dir/sub/, /dir/file (8 blocks in two extents), /dir/hard = /file (4 blocks), /link, an orphan, free blocks left
  // of a grant, chunks that are open.
  void SetUp() override {
    server.Form();
    dir = Make(kRootIno, "dir", S_IFDIR | 0755);
    sub = Make(dir, "sub", S_IFDIR | 0755);
    file = Make(dir, "file", S_IFREG | 0644);
    second = Make(kRootIno, "file", S_IFREG | 0644);
    ASSERT_EQ(server.Execute(op::Link(second, dir, "hard")).error, 0);
    ASSERT_EQ(server.Execute(op::Create(kRootIno, "link", S_IFLNK | 0777, "dir/file")).error, 0);
    idl::Reply grant = server.Execute(op::Grant(64, 1));
    ASSERT_EQ(grant.error, 0);
    pool_block = grant.ranges.at(0).pool_block;
    Write(file, 0, 0, 4);
    Write(file, 100, 10, 4);
    Write(second, 0, 20, 4);
    orphan = Make(kRootIno, "orphan", S_IFREG | 0644);
    Write(orphan, 0, 30, 2);
    ASSERT_EQ(server.Execute(op::Remove(kRootIno, "orphan")).error, 0);
    server.Check();
    chunk = pool_block / kChunkBlocks;
  }

  uint64_t Make(uint64_t parent, const std::string& name, int mode) {
    idl::Reply reply = server.Execute(op::Create(static_cast<int64_t>(parent), name, mode));
    EXPECT_EQ(reply.error, 0);
    return static_cast<uint64_t>(reply.attr.ino);
  }
  void Write(uint64_t ino, int64_t file_block, int64_t offset, int blocks) {
    int64_t at = static_cast<int64_t>(pool_block) + offset;
    idl::Reply reply = server.Execute(op::Commit(ino, {op::MakeExtent(file_block, at, blocks)}));
    EXPECT_EQ(reply.error, 0);
  }

  template <typename Record>
  Record Read(const std::string& key) {
    std::string bytes;
    bool found = false;
    Record record;
    EXPECT_TRUE(server.store().Get(key, &bytes, &found).ok());
    EXPECT_TRUE(found);
    EXPECT_TRUE(Record::Decode(bytes, &record));
    return record;
  }
  // Changes a record behind the server's back.
  template <typename Record, typename F>
  void Change(const std::string& key, F&& change) {
    auto record = Read<Record>(key);
    change(record);
    server.store().Set(key, record.Encode());
  }
  void Erase(const std::string& key) {
    ASSERT_TRUE(server.store().contents().contains(key));
    server.store().Erase(key);
  }
  void EraseAll(const std::string& prefix) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : server.store().contents()) {
      if (key.starts_with(prefix)) keys.push_back(key);
    }
    ASSERT_FALSE(keys.empty());
    for (const std::string& key : keys) server.store().Erase(key);
  }

  idl::FsckReport Check(bool repair = false) {
    Result<idl::FsckReport> report = FsckOffline(&server.store(), repair);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : idl::FsckReport();
  }
  static std::vector<std::string> Kinds(const idl::FsckReport& report) {
    std::vector<std::string> kinds;
    for (const idl::FsckProblem& problem : report.problems) kinds.push_back(problem.kind);
    return kinds;
  }
  static std::string Messages(const idl::FsckReport& report) {
    std::string text;
    for (const idl::FsckProblem& p : report.problems) text += p.kind + ": " + p.message + "\n";
    return text;
  }
  // The damage is found, not changed by looking, repaired, and the server lives on.
  void ExpectRepair(const std::vector<std::string>& kinds, const std::string& message) {
    auto before = server.store().contents();
    idl::FsckReport found = Check();
    EXPECT_THAT(Kinds(found), testing::UnorderedElementsAreArray(kinds)) << Messages(found);
    EXPECT_THAT(Messages(found), HasSubstr(message));
    for (const idl::FsckProblem& p : found.problems) EXPECT_TRUE(p.repairable) << p.message;
    EXPECT_EQ(server.store().contents(), before);
    idl::FsckReport repaired = Check(true);
    EXPECT_THAT(Kinds(repaired), IsSupersetOf(kinds));
    for (const idl::FsckProblem& p : repaired.problems) EXPECT_TRUE(p.repaired) << p.message;
    EXPECT_EQ(Messages(Check()), "");
    server.Open();
    server.Check();
  }
  void ExpectNoRepair(const std::vector<std::string>& kinds, const std::string& message) {
    auto before = server.store().contents();
    idl::FsckReport found = Check(true);
    EXPECT_THAT(Kinds(found), testing::UnorderedElementsAreArray(kinds)) << Messages(found);
    EXPECT_THAT(Messages(found), HasSubstr(message));
    for (const idl::FsckProblem& p : found.problems) EXPECT_FALSE(p.repairable || p.repaired) << p.message;
    EXPECT_EQ(server.store().contents(), before);
  }
  bool Exists(uint64_t parent, const std::string& name) {
    return server.Execute(op::Lookup(static_cast<int64_t>(parent), name)).error == 0;
  }

  TestServer server;
  uint64_t dir = 0, sub = 0, file = 0, second = 0, orphan = 0;
  uint64_t pool_block = 0;
  uint64_t chunk = 0;
};

TEST_F(FsckTest, AHealthyStoreIsClean) {
  idl::FsckReport report = Check();
  EXPECT_EQ(Messages(report), "");
  EXPECT_EQ(report.problems_total, 0);
  EXPECT_EQ(report.inodes, 7);
  EXPECT_EQ(report.extents, 4);
  EXPECT_GT(report.chunks, 0);
  EXPECT_EQ(Messages(Check(true)), "");
}

TEST_F(FsckTest, NewStoresAreClean) {
  MemoryStore empty;
  EXPECT_EQ(FsckOffline(&empty, false).status().code(), EUCLEAN) << "this is no store at all";
  TestServer fresh;
  EXPECT_EQ(Messages(*FsckOffline(&fresh.store(), true)), "");
  ASSERT_TRUE(fresh.Register(TestServer::TargetArgs("t1", 64 << 20)).ok());
  ASSERT_TRUE(fresh.CreatePool(1, 4 << 20).ok());
  EXPECT_EQ(Messages(*FsckOffline(&fresh.store(), true)), "");
}

TEST_F(FsckTest, StoresOfOthersAreRefused) {
  server.store().Set(key::Superblock(), "something else");
  EXPECT_EQ(FsckOffline(&server.store(), true).status().code(), EUCLEAN);
  Superblock superblock;
  superblock.format = kStoreFormat + 1;
  server.store().Set(key::Superblock(), superblock.Encode());
  EXPECT_EQ(FsckOffline(&server.store(), true).status().code(), EINVAL);
}

TEST_F(FsckTest, AStoreThatCannotBeReadIsAnError) {
  server.store().set_fault(MemoryStore::Fault::kFailReads);
  EXPECT_EQ(FsckOffline(&server.store(), true).status().code(), EIO);
}

// ---- names --------------------------------------------------------------------------------------

TEST_F(FsckTest, DanglingEntry) {
  Erase(key::Inode(sub));
  ExpectRepair({"dirent-dangling", "counters"}, "/dir: entry 'sub' of directory");
  EXPECT_FALSE(Exists(dir, "sub"));
}

TEST_F(FsckTest, InodeOfAFileIsLost) {
  Erase(key::Inode(file));
  ExpectRepair({"dirent-dangling", "extent-of-no-file", "extent-of-no-file", "counters"}, "entry 'file'");
  EXPECT_FALSE(Exists(dir, "file"));
}

TEST_F(FsckTest, InodeOfADirectoryIsLost) {
  Erase(key::Inode(dir));
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report), IsSupersetOf({"dirent-dangling", "dirent-without-directory", "inode-unreferenced"}));
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
  idl::Reply found = server.Execute(op::Lookup(kRootIno, "lost+found"));
  ASSERT_EQ(found.error, 0);
  EXPECT_TRUE(Exists(found.attr.ino, fmt::format("#{}", file)));
  EXPECT_TRUE(Exists(found.attr.ino, fmt::format("#{}", sub)));
  EXPECT_TRUE(Exists(kRootIno, "file")) << "the name outside of the directory is untouched";
}

TEST_F(FsckTest, EntryThatIsNotListed) {
  Erase(key::Cookie(dir, Read<Dirent>(key::Dirent(dir, "file")).cookie));
  ExpectRepair({"dirent-cookie"}, "/dir/file: entry 'file' of directory");
}

TEST_F(FsckTest, EntryThatIsListedUnderAnotherName) {
  uint64_t cookie = Read<Dirent>(key::Dirent(dir, "file")).cookie;
  Change<CookieRecord>(key::Cookie(dir, cookie), [](CookieRecord& record) { record.name = "else"; });
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report), IsSupersetOf({"dirent-cookie", "cookie-without-dirent"}));
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
  EXPECT_TRUE(Exists(dir, "file"));
}

TEST_F(FsckTest, EntryThatIsOnlyListed) {
  Erase(key::Dirent(dir, "sub"));
  ExpectRepair({"cookie-without-dirent"}, "lists 'sub'");
  EXPECT_TRUE(Exists(dir, "sub"));
}

TEST_F(FsckTest, ListingOfWhatDoesNotExist) {
  server.store().Set(key::Cookie(dir, 900), CookieRecord{4711, DT_REG, "ghost"}.Encode());
  ExpectRepair({"cookie-without-dirent", "next-cookie"}, "lists 'ghost'");
  EXPECT_FALSE(Exists(dir, "ghost"));
}

TEST_F(FsckTest, EntryIsLostAltogether) {
  Dirent dirent = Read<Dirent>(key::Dirent(dir, "sub"));
  Erase(key::Dirent(dir, "sub"));
  Erase(key::Cookie(dir, dirent.cookie));
  ExpectRepair({"inode-unreferenced", "link-count", "directory-entries"}, "has no name");
  idl::Reply found = server.Execute(op::Lookup(kRootIno, "lost+found"));
  ASSERT_EQ(found.error, 0);
  EXPECT_TRUE(Exists(found.attr.ino, fmt::format("#{}", sub)));
}

TEST_F(FsckTest, WrongTypeOfAnEntry) {
  Change<Dirent>(key::Dirent(dir, "file"), [](Dirent& dirent) { dirent.type = DT_FIFO; });
  ExpectRepair({"dirent-cookie"}, "'file'");
}

TEST_F(FsckTest, WrongTypeInBothOrders) {
  Dirent dirent = Read<Dirent>(key::Dirent(dir, "file"));
  Change<Dirent>(key::Dirent(dir, "file"), [](Dirent& d) { d.type = DT_FIFO; });
  Change<CookieRecord>(key::Cookie(dir, dirent.cookie), [](CookieRecord& c) { c.type = DT_FIFO; });
  ExpectRepair({"dirent-type"}, "has type");
}

TEST_F(FsckTest, LinkCounts) {
  Change<Inode>(key::Inode(second), [](Inode& inode) { inode.nlink = 7; });
  Change<Inode>(key::Inode(dir), [](Inode& inode) { inode.nlink = 2; });
  Change<Inode>(key::Inode(kRootIno), [](Inode& inode) { inode.entries += 3; });
  Change<Inode>(key::Inode(sub), [](Inode& inode) { inode.entries = UINT64_MAX; });
  ExpectRepair({"link-count", "link-count", "directory-entries", "directory-entries"},
               "has link count 7, it should be 2");
}

TEST_F(FsckTest, NextCookieIsUsed) {
  Change<Inode>(key::Inode(dir), [](Inode& inode) { inode.next_cookie = kFirstCookie; });
  ExpectRepair({"next-cookie"}, "/dir: directory");
}

TEST_F(FsckTest, ParentOfADirectory) {
  Change<Inode>(key::Inode(sub), [](Inode& inode) { inode.parent = kRootIno; });
  ExpectRepair({"directory-parent"}, "/dir/sub: directory");
}

TEST_F(FsckTest, DirectoryWithTwoNames) {
  Dirent dirent{sub, 900, DT_DIR};
  server.store().Set(key::Dirent(kRootIno, "again"), dirent.Encode());
  server.store().Set(key::Cookie(kRootIno, 900), CookieRecord{sub, DT_DIR, "again"}.Encode());
  Change<Inode>(key::Inode(kRootIno), [](Inode& inode) {
    ++inode.entries;
    ++inode.nlink;
    inode.next_cookie = 901;
  });
  ExpectRepair({"directory-linked-twice"}, "entry 'again' of directory 1 is a second name");
  EXPECT_TRUE(Exists(dir, "sub"));
  EXPECT_FALSE(Exists(kRootIno, "again"));
}

TEST_F(FsckTest, DirectoriesThatLieBelowEachOther) {
  // dir moves below sub, which lies below dir.
  Dirent dirent = Read<Dirent>(key::Dirent(kRootIno, "dir"));
  Erase(key::Dirent(kRootIno, "dir"));
  Erase(key::Cookie(kRootIno, dirent.cookie));
  Change<Inode>(key::Inode(kRootIno), [](Inode& inode) {
    --inode.entries;
    --inode.nlink;
  });
  server.store().Set(key::Dirent(sub, "dir"), Dirent{dir, 3, DT_DIR}.Encode());
  server.store().Set(key::Cookie(sub, 3), CookieRecord{dir, DT_DIR, "dir"}.Encode());
  Change<Inode>(key::Inode(sub), [](Inode& inode) {
    ++inode.entries;
    ++inode.nlink;
    inode.next_cookie = 4;
  });
  Change<Inode>(key::Inode(dir), [&](Inode& inode) { inode.parent = sub; });
  ExpectRepair({"directory-cycle"}, "lies below itself");
  EXPECT_TRUE(Exists(kRootIno, "lost+found"));
}

TEST_F(FsckTest, TheRootIsLost) {
  Erase(key::Inode(kRootIno));
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report), testing::Contains("root-missing"));
  server.Open();
  server.Check();
  EXPECT_EQ(Messages(Check()), "");
}

TEST_F(FsckTest, MalformedNames) {
  std::string cookie = key::Cookie(dir, Read<Dirent>(key::Dirent(dir, "file")).cookie);
  server.store().Set(cookie, "x");
  server.store().Set(key::Dirent(dir, "hard"), "x");
  EXPECT_THAT(Kinds(Check()), IsSupersetOf({"malformed-record", "malformed-record"}));
  Check(true);
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
  EXPECT_TRUE(Exists(dir, "file"));
  EXPECT_TRUE(Exists(dir, "hard"));
}

TEST_F(FsckTest, MalformedInode) {
  server.store().Set(key::Inode(file), "x");
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Messages(report), HasSubstr("malformed-record: /dir/file: record 49"));
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
}

TEST_F(FsckTest, RecordsOfNobody) {
  server.store().Set("?what", "x");
  ExpectNoRepair({"unknown-record"}, "3f77686174");
}

// ---- space --------------------------------------------------------------------------------------

TEST_F(FsckTest, BlocksThatBelongToNobody) {
  EraseAll("F");
  idl::FsckReport report = Check();
  EXPECT_THAT(Kinds(report), testing::Each("blocks-leaked"));
  ExpectRepair(Kinds(report), "of the pool belong to nobody");
}

TEST_F(FsckTest, LeakedBlocksJoinTheirFreeNeighbours) {
  // An extent with free blocks behind it.
  Change<Inode>(key::Inode(file), [](Inode& inode) { inode.blocks = 4; });
  Erase(key::Extent(file, 103));
  ExpectRepair({"blocks-leaked"}, fmt::format("blocks {} to {} of the pool", pool_block + 10, pool_block + 13));
  EXPECT_EQ(server.Execute(op::Grant(64, 1)).error, 0);
  server.Check();
}

TEST_F(FsckTest, BlockCount) {
  Change<Inode>(key::Inode(file), [](Inode& inode) { inode.blocks = 3; });
  ExpectRepair({"block-count"}, "/dir/file: inode");
}

TEST_F(FsckTest, FreeBlocksOfAFile) {
  server.store().Set(key::Free(pool_block), Writer().U64(2).Take());
  ExpectRepair({"free-conflict"}, "also belong to a file");
}

TEST_F(FsckTest, FreeBlocksOfNoChunk) {
  server.store().Set(key::Free(5000 * kChunkBlocks), Writer().U64(2).Take());
  ExpectRepair({"free-outside"}, "chunks that do not exist");
}

TEST_F(FsckTest, BlocksOfTwoFiles) {
  Change<Inode>(key::Inode(second), [](Inode& inode) { inode.blocks += 2; });
  server.store().Set(key::Extent(second, 101), Extent{100, 2, pool_block + 1, false}.Encode());
  idl::FsckReport report = Check();
  ExpectNoRepair({"blocks-shared", "blocks-shared"}, "/dir/file: blocks");
  EXPECT_EQ(report.problems[0].path, "/dir/file");
  EXPECT_EQ(report.problems[1].path, "/file") << "one of its names";
}

TEST_F(FsckTest, ExtentsOverEachOther) {
  Change<Inode>(key::Inode(file), [](Inode& inode) { inode.blocks += 60 - 34; });
  Erase(key::Grant(server.session(), pool_block + 32));
  server.store().Set(key::Extent(file, 102), Extent{77, 26, pool_block + 34, false}.Encode());
  idl::FsckReport report = Check();
  EXPECT_THAT(Kinds(report), testing::Contains("extent-overlap"));
  EXPECT_THAT(Messages(report), HasSubstr("two extents for file blocks 100 to 102"));
}

TEST_F(FsckTest, ExtentOfNoChunk) {
  Change<Inode>(key::Inode(file), [](Inode& inode) { inode.blocks += 5; });
  server.store().Set(key::Extent(file, 504), Extent{500, 5, 7000 * kChunkBlocks, false}.Encode());
  ExpectRepair({"extent-outside"}, "/dir/file: file blocks 500 to 504");
}

TEST_F(FsckTest, GrantOfAFilesBlocks) {
  server.store().Set(key::Grant(server.session(), pool_block), Writer().U64(1).Take());
  ExpectNoRepair({"grant-conflict"}, "weftctl session evict");
}

TEST_F(FsckTest, MalformedSpace) {
  server.store().Set(key::Extent(file, 3), "x");
  std::string free;
  for (const auto& [key, value] : server.store().contents()) {
    if (key[0] == 'F') free = key;
  }
  server.store().Set(free, "x");
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report), IsSupersetOf({"malformed-record", "malformed-record", "blocks-leaked"}));
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
}

// ---- clients ------------------------------------------------------------------------------------

TEST_F(FsckTest, TheSessionIsLost) {
  Erase(key::Session(server.session()));
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report),
              IsSupersetOf({"slot-stale", "orphan-stale", "grant-stale", "open-stale", "blocks-leaked"}));
  for (const idl::FsckProblem& p : report.problems) EXPECT_TRUE(p.repaired) << p.message;
  EXPECT_EQ(Messages(Check()), "");
  EXPECT_FALSE(server.store().contents().contains(key::Inode(orphan)));
  Chunk now = Read<Chunk>(key::Chunk(chunk));
  EXPECT_EQ(now.Count(CopyState::kInSync), 1U) << "the copies may differ";
  EXPECT_EQ(now.Count(CopyState::kStale), 1U);
  server.Open();
  server.Check();
}

TEST_F(FsckTest, OrphanMarks) {
  server.store().Set(key::Orphan(server.session(), file), "");
  server.store().Set(key::Orphan(server.session(), 4711), "");
  ExpectRepair({"orphan-mark", "orphan-mark"}, "which has a name");
}

TEST_F(FsckTest, OrphanWithoutAMark) {
  Erase(key::Orphan(server.session(), orphan));
  ExpectRepair({"inode-unreferenced"}, "has no name");
}

TEST_F(FsckTest, OpenChunkThatDoesNotExist) {
  server.store().Set(key::OpenChunk(server.session(), 4711), "");
  ExpectRepair({"open-stale"}, "has chunk 4711 open, which does not exist");
}

TEST_F(FsckTest, CountersThatAreBehind) {
  Change<Counters>(key::Counters(), [](Counters& counters) {
    counters.next_ino = 2;
    counters.next_session = 1;
    counters.inodes = 50;
    counters.map_version = 0;
    counters.next_target = 1;
  });
  ExpectRepair({"counters", "counters", "counters", "counters", "counters"}, "the next inode would be 2");
}

TEST_F(FsckTest, CountersAreLost) {
  Erase(key::Counters());
  ExpectRepair({"counters"}, "missing or malformed");
  EXPECT_NE(Make(kRootIno, "new", S_IFREG | 0644), file);
}

// ---- chunks -------------------------------------------------------------------------------------

TEST_F(FsckTest, CopyOnATargetThatThePoolDoesNotHave) {
  Change<Chunk>(key::Chunk(chunk), [](Chunk& c) { c.copies[1].target = 99; });
  ExpectRepair({"copy-misplaced"}, "on target 99, which the pool does not have");
  EXPECT_EQ(Read<Chunk>(key::Chunk(chunk)).On(99), nullptr);
}

TEST_F(FsckTest, CopyBehindTheEndOfATarget) {
  Change<Chunk>(key::Chunk(chunk), [](Chunk& c) { c.copies[0].offset = 64 << 20; });
  ExpectRepair({"copy-misplaced"}, "where there is no place for a chunk");
}

TEST_F(FsckTest, TwoCopiesOnOneTarget) {
  Change<Chunk>(key::Chunk(chunk), [](Chunk& c) {
    c.copies[1].target = c.copies[0].target;
    c.copies[1].offset = 60 << 20;
  });
  ExpectNoRepair({"copy-misplaced", "copy-misplaced"}, "is not the only one on target t");
}

TEST_F(FsckTest, TwoChunksAtOnePlace) {
  ASSERT_EQ(server.Execute(op::Grant(2048, 8)).error, 0);
  Chunk other = Read<Chunk>(key::Chunk(chunk + 1));
  Change<Chunk>(key::Chunk(chunk), [&](Chunk& c) { c.copies[0] = other.copies[0]; });
  idl::FsckReport found = Check();
  EXPECT_THAT(Kinds(found), testing::ElementsAre("copy-misplaced", "copy-misplaced")) << Messages(found);
  Check(true);
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
}

TEST_F(FsckTest, TwoChunksWithOneVersion) {
  ASSERT_EQ(server.Execute(op::Grant(2048, 8)).error, 0);
  Chunk other = Read<Chunk>(key::Chunk(chunk + 1));
  Change<Chunk>(key::Chunk(chunk), [&](Chunk& c) { c.version = other.version; });
  ExpectRepair({"chunk-version"}, "have the same version");
}

TEST_F(FsckTest, AChunkWithoutACopyInSyncNamesItsFiles) {
  Change<Chunk>(key::Chunk(chunk), [](Chunk& c) {
    for (Copy& copy : c.copies) copy.state = CopyState::kStale;
  });
  idl::FsckReport report = Check();
  ExpectNoRepair({"chunk-lost", "data-lost", "data-lost", "data-lost"}, "/dir/file: inode");
  std::set<std::string> paths;
  for (const idl::FsckProblem& p : report.problems) paths.insert(p.path);
  EXPECT_EQ(paths, (std::set<std::string>{"", "/dir/file", "/file"})) << "the orphan has no path";
}

TEST_F(FsckTest, ALostChunkIsNamedOnceAFile) {
  Erase(key::Chunk(chunk));
  idl::FsckReport report = Check();
  EXPECT_THAT(Kinds(report), IsSupersetOf({"extent-outside", "grant-outside", "free-outside"}));
  Check(true);
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
}

TEST_F(FsckTest, BlocksThatAreBadInEveryCopy) {
  Chunk c = Read<Chunk>(key::Chunk(chunk));
  DamageRecord damage;
  damage.blocks = {static_cast<uint32_t>(pool_block % kChunkBlocks + 21)};
  server.store().Set(key::Damage(chunk, c.copies[0].target), damage.Encode());
  EXPECT_EQ(Messages(Check()), "") << "another copy has it: it will be repaired";
  server.store().Set(key::Damage(chunk, c.copies[1].target), damage.Encode());
  ExpectNoRepair({"data-lost"}, "has lost 4.0 KiB, the first of it at byte 4096");
  EXPECT_EQ(Check().problems[0].path, "/file");
}

TEST_F(FsckTest, NotesAboutCopiesThatDoNotExist) {
  DamageRecord damage;
  damage.blocks = {1};
  server.store().Set(key::Damage(chunk, 99), damage.Encode());
  server.store().Set(key::Damage(4711, 1), damage.Encode());
  Copy copy = Read<Chunk>(key::Chunk(chunk)).copies[0];
  server.store().Set(key::Releasing(copy.target, copy.offset), ReleaseRecord{1, chunk}.Encode());
  server.store().Set(key::Releasing(99, 0), ReleaseRecord{1, chunk}.Encode());
  ExpectRepair({"damage-stale", "damage-stale", "release-stale", "release-stale"}, "a chunk has a copy there");
}

TEST_F(FsckTest, WhatCannotBeRebuiltIsNotThrownAway) {
  server.store().Set(key::Chunk(chunk), "x");
  idl::FsckReport report = Check(true);
  EXPECT_THAT(Kinds(report), IsSupersetOf({"malformed-record", "data-lost"}));
  EXPECT_EQ(server.store().contents().at(key::Chunk(chunk)), "x");
}

// Every record once: whatever is missing or malformed, fsck ends, and what it calls repaired is clean.
TEST_F(FsckTest, AnyRecordMayBeMissingOrMalformed) {
  auto healthy = server.store().contents();
  for (const auto& [key, value] : healthy) {
    if (key == key::Superblock()) continue;
    for (const char* instead : {"", "x", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}) {
      MemoryStore damaged;
      for (const auto& [k, v] : healthy) damaged.Set(k, v);
      if (*instead == '\0') {
        damaged.Erase(key);
      } else {
        damaged.Set(key, instead);
      }
      Result<idl::FsckReport> report = FsckOffline(&damaged, true);
      ASSERT_TRUE(report.ok()) << report.status().message();
      // A slot, an open chunk or a scrub that was never there looks the same.
      bool may_be_missing = key[0] == 'L' || key[0] == 'W' || key[0] == 'V';
      if (*instead != '\0' || !may_be_missing) {
        EXPECT_GT(report->problems_total, 0) << key[0] << instead;
      }
      bool all = std::ranges::all_of(report->problems, [](const idl::FsckProblem& p) { return p.repaired; });
      if (!all) continue;
      EXPECT_EQ(Messages(*FsckOffline(&damaged, false)), "") << "after damage of table " << key[0];
      auto machine = StateMachine::Open(&damaged, {}, server.now());
      EXPECT_TRUE(machine.ok()) << machine.status().message() << " after damage of table " << key[0];
    }
  }
}

// ---- in a running server ------------------------------------------------------------------------

class FsckOnlineTest : public FsckTest {
 protected:
  void Start() {
    auto machine = StateMachine::Open(&server.store(), {}, server.now());
    ASSERT_TRUE(machine.ok()) << machine.status().message();
    engine = std::make_unique<Engine>(
        *std::move(machine), [this] { return server.now(); }, [](const Status& s) { ADD_FAILURE() << s.message(); });
  }
  idl::FsckReport Run(bool repair) {
    Result<idl::FsckReport> report = FsckOnline(engine.get()).Run(repair);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : idl::FsckReport();
  }
  std::unique_ptr<Engine> engine;
};

TEST_F(FsckOnlineTest, NamesAndLeaksAreRepairedWhileTheServerRuns) {
  Dirent dirent = Read<Dirent>(key::Dirent(dir, "sub"));
  Erase(key::Dirent(dir, "sub"));
  Erase(key::Cookie(dir, dirent.cookie));
  Change<Inode>(key::Inode(second), [](Inode& inode) { inode.nlink = 7; });
  Erase(key::Extent(file, 103));
  Start();
  EXPECT_THAT(Kinds(Run(false)), IsSupersetOf({"inode-unreferenced", "link-count", "block-count", "blocks-leaked"}));
  idl::FsckReport repaired = Run(true);
  for (const idl::FsckProblem& p : repaired.problems) EXPECT_TRUE(p.repaired) << p.message;
  EXPECT_EQ(Messages(Run(false)), "");
  // The server's mirrors know of it: what it does next is right.
  EXPECT_EQ(engine->Run([&](StateMachine& m) { return m.EvictSession(server.session(), false); }).code(), 0);
  EXPECT_EQ(Messages(Run(false)), "");
  engine->Stop();
  EXPECT_EQ(Messages(Check()), "");
  server.Open();
  server.Check();
}

TEST_F(FsckOnlineTest, WhatTheServerMirrorsIsLeftToAnOfflineRun) {
  server.store().Set(key::OpenChunk(4711, chunk), "");
  Start();
  idl::FsckReport report = Run(true);
  ASSERT_THAT(Kinds(report), testing::ElementsAre("open-stale"));
  EXPECT_FALSE(report.problems[0].repaired);
  EXPECT_TRUE(report.problems[0].repairable);
  EXPECT_THAT(report.problems[0].message, HasSubstr("stop weft-meta and run `weftctl fsck --offline --repair"));
}

TEST_F(FsckOnlineTest, ARepairThatComesTooLateChangesNothing) {
  Change<Inode>(key::Inode(second), [](Inode& inode) { inode.nlink = 7; });
  Result<FsckResult> found = FsckCheck(&server.store());
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->findings.size(), 1U);
  Start();
  // The client gives the file another name meanwhile.
  idl::Request request = server.MakeRequest(op::Link(second, kRootIno, "third"));
  idl::Reply linked =
      *engine->Run([&](StateMachine& m) { return Result<idl::Reply>(m.Execute(server.session(), request)); });
  ASSERT_EQ(linked.error, 0);
  FsckFinding* finding = &found->findings[0];
  EXPECT_TRUE(engine
                  ->Run([&](StateMachine& m) {
                    m.RepairFindings({&finding, 1});
                    return Status::Ok();
                  })
                  .ok());
  EXPECT_FALSE(finding->problem.repaired);
  EXPECT_EQ(Read<Inode>(key::Inode(second)).nlink, 8U);
  Run(true);
  EXPECT_EQ(Read<Inode>(key::Inode(second)).nlink, 3U);
}

TEST_F(FsckOnlineTest, ASnapshotDoesNotMove) {
  Start();
  auto snapshot = engine->Run([](StateMachine& m) { return m.Snapshot(); });
  ASSERT_TRUE(snapshot.ok());
  ASSERT_TRUE(engine->Run([&](StateMachine& m) { return m.EvictSession(server.session(), false); }).ok());
  std::string value;
  bool found = false;
  EXPECT_TRUE((*snapshot)->Get(key::Session(server.session()), &value, &found).ok());
  EXPECT_TRUE(found);
  EXPECT_FALSE(server.store().contents().contains(key::Session(server.session())));
}

TEST_F(FsckTest, ReportsAreBounded) {
  for (uint64_t i = 0; i < kFsckFindingsMax + 500; ++i) {
    server.store().Set(key::Orphan(server.session(), 100'000 + i), "");
  }
  idl::FsckReport report = Check();
  EXPECT_EQ(report.problems.size(), kFsckFindingsMax);
  EXPECT_EQ(report.problems_total, static_cast<int64_t>(kFsckFindingsMax) + 500);
  Check(true);
  EXPECT_EQ(Messages(Check()), "") << "what did not fit is repaired too";
}

}  // namespace
}  // namespace weft
