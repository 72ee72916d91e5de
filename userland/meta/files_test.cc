// SPDX-License-Identifier: MIT
#include <cerrno>
#include <sys/stat.h>

#include "thrift-gen/meta_constants.h"
#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kRoot = static_cast<int64_t>(kRootIno);

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    server_.Form();
    file_ = Do(op::Create(kRoot, "f", S_IFREG | 0644)).attr.ino;
    idl::Reply reply = Do(op::Grant(256, 1));
    EXPECT_EQ(reply.error, 0);
    EXPECT_EQ(reply.ranges.size(), 1U);
    grant_ = reply.ranges.at(0).pool_block;
    EXPECT_EQ(reply.ranges.at(0).blocks, 256);
  }
  void TearDown() override { server_.Check(); }

  idl::Reply Do(const idl::Operation& operation) { return server_.Execute(operation); }
  int Error(const idl::Operation& operation) { return Do(operation).error; }
  idl::Attr Attr() { return Do(op::GetAttr(file_)).attr; }
  std::vector<idl::Extent> Extents() { return Do(op::GetExtents(file_, 0, 1000)).extents; }
  // Maps file blocks to the same blocks of the grant.
  int Map(int64_t first, int blocks, bool unwritten = false) {
    return Error(op::Commit(file_, {op::MakeExtent(first, grant_ + first, blocks, unwritten)}));
  }
  idl::Extent At(int64_t first, int blocks, bool unwritten = false) {
    return op::MakeExtent(first, grant_ + first, blocks, unwritten);
  }
  idl::StatFs StatFs() { return Do(op::StatFs()).statfs; }

  TestServer server_;
  int64_t file_ = 0;
  int64_t grant_ = 0;
};

TEST_F(FilesTest, CommitMapsGrantedBlocks) {
  idl::StatFs before = StatFs();
  idl::Operation commit = op::Commit(file_, {At(0, 10)}, 39'000);
  idl::FileCommit& file = commit.commit.files[0];
  file.valid |= idl::g_meta_constants.SET_MTIME | idl::g_meta_constants.SET_CTIME | idl::g_meta_constants.SET_ATIME;
  file.mtime_ns = 11;
  file.ctime_ns = 12;
  file.atime_ns = 13;
  EXPECT_EQ(Error(commit), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 10)}));
  EXPECT_EQ(Attr().size, 39'000);
  EXPECT_EQ(Attr().blocks, 10);
  EXPECT_EQ(Attr().mtime_ns, 11);
  EXPECT_EQ(Attr().ctime_ns, 12);
  EXPECT_EQ(Attr().atime_ns, 13);
  EXPECT_EQ(StatFs().granted_blocks, before.granted_blocks - 10);
  EXPECT_EQ(StatFs().free_blocks, before.free_blocks);
}

TEST_F(FilesTest, NeighboursJoinFromBothSides) {
  EXPECT_EQ(Map(0, 4), 0);
  EXPECT_EQ(Map(8, 4), 0);
  EXPECT_EQ(Extents().size(), 2U);
  EXPECT_EQ(Map(4, 4), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 12)}));
  EXPECT_EQ(Map(12, 4, true), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 12), At(12, 4, true)}));
  // Next to each other in the file, not in the pool.
  EXPECT_EQ(Error(op::Commit(file_, {op::MakeExtent(16, grant_ + 100, 2)})), 0);
  EXPECT_EQ(Extents().size(), 3U);
}

TEST_F(FilesTest, UnwrittenBecomesWrittenInParts) {
  EXPECT_EQ(Map(0, 12, true), 0);
  EXPECT_EQ(Map(4, 4), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 4, true), At(4, 4), At(8, 4, true)}));
  EXPECT_EQ(Map(8, 4), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 4, true), At(4, 8)}));
  EXPECT_EQ(Map(0, 4), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 12)}));
  EXPECT_EQ(Map(0, 12), 0) << "the same again is no error";
  EXPECT_EQ(Map(2, 3, true), 0) << "zeroed again";
  EXPECT_EQ(Extents(), (std::vector{At(0, 2), At(2, 3, true), At(5, 7)}));
  EXPECT_EQ(Attr().blocks, 12);
}

TEST_F(FilesTest, CommitMayBePartlyNew) {
  EXPECT_EQ(Map(0, 4, true), 0);
  EXPECT_EQ(Map(6, 2, true), 0);
  EXPECT_EQ(Map(0, 10), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 10)}));
  EXPECT_EQ(Attr().blocks, 10);
}

TEST_F(FilesTest, CommitReplacesWhatWasMapped) {
  EXPECT_EQ(Map(0, 8), 0);
  idl::StatFs before = StatFs();
  EXPECT_EQ(Error(op::Commit(file_, {op::MakeExtent(2, grant_ + 100, 3)})), 0);
  EXPECT_EQ(Extents(), (std::vector{At(0, 2), op::MakeExtent(2, grant_ + 100, 3), At(5, 3)}));
  EXPECT_EQ(Attr().blocks, 8);
  EXPECT_EQ(StatFs().free_blocks, before.free_blocks + 3);
}

TEST_F(FilesTest, CommitIsRefusedAsAWhole) {
  EXPECT_EQ(Map(0, 4), 0);
  idl::StatFs before = StatFs();
  // Not granted; granted to nobody; beyond the pool; mapped elsewhere in the file; wrong numbers.
  const idl::Extent bad[] = {op::MakeExtent(20, grant_ + 256, 1), op::MakeExtent(20, grant_ + 250, 10),
                             op::MakeExtent(20, 1 << 30, 1),      op::MakeExtent(20, grant_ + 1, 1),
                             op::MakeExtent(1, grant_ + 2, 1),    op::MakeExtent(20, grant_ + 20, 0),
                             op::MakeExtent(20, grant_ + 20, -1), op::MakeExtent(-1, grant_ + 20, 1),
                             op::MakeExtent(20, -5, 1),           op::MakeExtent((1LL << 51) - 1, grant_ + 20, 2)};
  for (const idl::Extent& extent : bad) {
    EXPECT_EQ(Error(op::Commit(file_, {At(30, 5), extent}, 1 << 20)), EINVAL);
    EXPECT_EQ(Extents(), (std::vector{At(0, 4)}));
    EXPECT_EQ(StatFs(), before);
    EXPECT_EQ(Attr().size, 0);
    server_.Check();
  }
  EXPECT_EQ(Error(op::Commit(file_, {At(30, 5), At(32, 1)})), 0) << "twice the same blocks at the same place is fine";
  EXPECT_EQ(Error(op::Commit(kRoot, {At(40, 1)})), EINVAL);
  EXPECT_EQ(Error(op::Commit(kRoot, {}, 10)), EINVAL);
  idl::Operation mode = op::Commit(file_, {});
  mode.commit.files[0].valid = idl::g_meta_constants.SET_MODE;
  EXPECT_EQ(Error(mode), EINVAL);
}

TEST_F(FilesTest, CommitSkipsInodesThatAreGone) {
  idl::StatFs before = StatFs();
  EXPECT_EQ(Error(op::Commit(999, {At(0, 4)}, 100)), 0);
  EXPECT_EQ(StatFs(), before);
}

TEST_F(FilesTest, TruncateFreesBehindThePartialBlock) {
  EXPECT_EQ(Map(0, 10), 0);
  EXPECT_EQ(Error(op::Commit(file_, {}, 40'960)), 0);
  idl::StatFs before = StatFs();
  server_.Advance(7);
  idl::Reply reply = Do(op::SetSize(file_, 4097));
  EXPECT_EQ(reply.error, 0);
  EXPECT_EQ(reply.attr.size, 4097);
  EXPECT_EQ(reply.attr.blocks, 2);
  EXPECT_EQ(reply.attr.mtime_ns, server_.now().wall_ns);
  EXPECT_EQ(Extents(), (std::vector{At(0, 2)}));
  EXPECT_EQ(StatFs().free_blocks, before.free_blocks + 8);
  EXPECT_EQ(Do(op::SetSize(file_, 1 << 20)).attr.blocks, 2);
  EXPECT_EQ(Do(op::SetSize(file_, 0)).attr.blocks, 0);
  EXPECT_TRUE(Extents().empty());
}

TEST_F(FilesTest, SetAttr) {
  idl::SetAttrOp args;
  args.ino = file_;
  const auto& c = idl::g_meta_constants;
  args.valid = c.SET_MODE | c.SET_UID | c.SET_GID | c.SET_ATIME | c.SET_MTIME | c.SET_CTIME;
  args.mode = S_IFDIR | 06711;
  args.uid = -2;  // 32 bits without a sign
  args.gid = 7;
  args.atime_ns = -1;
  args.mtime_ns = 2;
  args.ctime_ns = 3;
  idl::Operation o;
  o.__set_setattr(args);
  idl::Attr attr = Do(o).attr;
  EXPECT_EQ(attr.mode, S_IFREG | 06711) << "the type stays";
  EXPECT_EQ(attr.uid, -2);
  EXPECT_EQ(attr.gid, 7);
  EXPECT_EQ(attr.atime_ns, -1);
  EXPECT_EQ(attr.mtime_ns, 2);
  EXPECT_EQ(attr.ctime_ns, 3);
  server_.Open();
  EXPECT_EQ(Attr(), attr);
  o.setattr.valid = 0x80;
  EXPECT_EQ(Error(o), EINVAL);
  EXPECT_EQ(Error(op::SetSize(kRoot, 0)), EISDIR);
  EXPECT_EQ(Error(op::SetSize(999, 0)), ENOENT);
  EXPECT_EQ(Error(op::SetSize(file_, -1)), EINVAL);
  int64_t fifo = Do(op::Create(kRoot, "p", S_IFIFO | 0600)).attr.ino;
  EXPECT_EQ(Error(op::SetSize(fifo, 0)), EINVAL);
}

TEST_F(FilesTest, PunchUnmapsTheMiddle) {
  EXPECT_EQ(Map(0, 10), 0);
  idl::Reply reply = Do(op::Punch(file_, 3, 4));
  EXPECT_EQ(reply.error, 0);
  EXPECT_EQ(reply.attr.blocks, 6);
  EXPECT_EQ(Extents(), (std::vector{At(0, 3), At(7, 3)}));
  EXPECT_EQ(Do(op::Punch(file_, 2, 6)).attr.blocks, 4);
  EXPECT_EQ(Do(op::Punch(file_, 100, INT64_MAX)).attr.blocks, 4);
  EXPECT_EQ(Error(op::Punch(file_, 0, 0)), EINVAL);
  EXPECT_EQ(Error(op::Punch(file_, -1, 1)), EINVAL);
  EXPECT_EQ(Error(op::Punch(kRoot, 0, 1)), EINVAL);
  EXPECT_EQ(Error(op::Punch(999, 0, 1)), ENOENT);
}

TEST_F(FilesTest, GetExtentsPages) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Map(2 * i, 1), 0);
  idl::Reply reply = Do(op::GetExtents(file_, 7, 5));
  ASSERT_EQ(reply.extents.size(), 5U);
  EXPECT_EQ(reply.extents[0], At(8, 1));
  EXPECT_FALSE(reply.eof);
  reply = Do(op::GetExtents(file_, 38, 5));
  ASSERT_EQ(reply.extents.size(), 1U);
  EXPECT_TRUE(reply.eof);
  EXPECT_EQ(Map(100, 20), 0);
  EXPECT_EQ(Do(op::GetExtents(file_, 110, 5)).extents, (std::vector{At(100, 20)})) << "one that began before";
  EXPECT_EQ(Error(op::GetExtents(file_, 0, 0)), EINVAL);
  EXPECT_EQ(Error(op::GetExtents(file_, -1, 1)), EINVAL);
  EXPECT_EQ(Error(op::GetExtents(kRoot, 0, 1)), EINVAL);
}

TEST_F(FilesTest, EvictFreesTheBlocksOfAnOrphan) {
  EXPECT_EQ(Map(0, 100), 0);
  idl::StatFs before = StatFs();
  EXPECT_EQ(Error(op::Remove(kRoot, "f")), 0);
  EXPECT_EQ(Map(100, 10), 0) << "an open file without a name can be written";
  EXPECT_EQ(Attr().blocks, 110);
  EXPECT_EQ(Error(op::Evict({file_})), 0);
  EXPECT_EQ(StatFs().free_blocks, before.free_blocks + 110);
  EXPECT_EQ(StatFs().files, before.files - 1);
}

}  // namespace
}  // namespace weft
