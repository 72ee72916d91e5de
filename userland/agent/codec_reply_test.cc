// SPDX-License-Identifier: MIT
//
// Answers: every operation is encoded, and nothing that a server could send passes unchecked.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "userland/agent/codec.h"

namespace weft::agent {
namespace {

idl::Attr GoodAttr() {
  idl::Attr attr;
  attr.ino = 42;
  attr.size = 4097;
  attr.blocks = 2;
  attr.atime_ns = -1;
  attr.mtime_ns = 2;
  attr.ctime_ns = 3;
  attr.btime_ns = 4;
  attr.mode = S_IFREG | 0640;
  attr.nlink = 1;
  attr.uid = static_cast<int32_t>(0xfffffffe);
  attr.gid = 6;
  attr.rdev = 7;
  attr.copies = 2;
  return attr;
}

class EncodeTest : public ::testing::Test {
 protected:
  std::string Encode(uint32_t op) {
    call_.op = op;
    std::vector<std::byte> out(WEFT_META_REP_BYTES);
    Result<size_t> bytes = EncodeReply(call_, reply_, out);
    if (!bytes.ok()) {
      EXPECT_EQ(bytes.status().code(), EIO);
      error_ = bytes.status().message();
      return {};
    }
    error_.clear();
    return {reinterpret_cast<const char*>(out.data()), *bytes};
  }
  template <typename T>
  static T At(const std::string& bytes, size_t offset = 0) {
    T value = {};
    EXPECT_LE(offset + sizeof value, bytes.size());
    if (offset + sizeof value <= bytes.size()) memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }

  MetaCall call_;
  idl::Reply reply_;
  std::string error_;
};

TEST_F(EncodeTest, Attributes) {
  for (uint32_t op : {WEFT_META_LOOKUP, WEFT_META_GETATTR, WEFT_META_SETATTR, WEFT_META_CREATE, WEFT_META_REMOVE,
                      WEFT_META_LINK, WEFT_META_PUNCH, WEFT_META_RENAME}) {
    reply_.__set_attr(GoodAttr());
    std::string bytes = Encode(op);
    ASSERT_EQ(bytes.size(), sizeof(weft_attr)) << error_;
    auto attr = At<weft_attr>(bytes);
    EXPECT_EQ(attr.ino, 42u);
    EXPECT_EQ(attr.size, 4097u);
    EXPECT_EQ(attr.blocks, 2u);
    EXPECT_EQ(attr.atime_ns, -1);
    EXPECT_EQ(attr.mtime_ns, 2);
    EXPECT_EQ(attr.ctime_ns, 3);
    EXPECT_EQ(attr.btime_ns, 4);
    EXPECT_EQ(attr.mode, S_IFREG | 0640u);
    EXPECT_EQ(attr.nlink, 1u);
    EXPECT_EQ(attr.uid, 0xfffffffe);
    EXPECT_EQ(attr.gid, 6u);
    EXPECT_EQ(attr.rdev, 7u);
    EXPECT_EQ(attr.copies, 2u);
  }
}

TEST_F(EncodeTest, BadAttributesNameTheField) {
  auto error = [&](auto change) {
    idl::Attr attr = GoodAttr();
    change(&attr);
    reply_.__set_attr(attr);
    EXPECT_TRUE(Encode(WEFT_META_GETATTR).empty());
    return error_;
  };
  EXPECT_EQ(error([](idl::Attr* a) { a->ino = 0; }), "GETATTR: attr.ino is 0");
  EXPECT_EQ(error([](idl::Attr* a) { a->size = -1; }), "GETATTR: attr.size is -1");
  EXPECT_EQ(error([](idl::Attr* a) { a->blocks = -1; }), "GETATTR: attr.blocks is -1");
  EXPECT_EQ(error([](idl::Attr* a) { a->nlink = -1; }), "GETATTR: attr.nlink is -1");
  EXPECT_EQ(error([](idl::Attr* a) { a->mode = 0644; }), "GETATTR: attr.mode 0644 has no file type");
  reply_ = {};
  Encode(WEFT_META_GETATTR);
  EXPECT_EQ(error_, "GETATTR: attr is missing");
}

TEST_F(EncodeTest, RenameThatReplacesNothing) {
  EXPECT_EQ(At<weft_attr>(Encode(WEFT_META_RENAME)).ino, 0u);
  reply_.__set_attr({});
  EXPECT_EQ(At<weft_attr>(Encode(WEFT_META_RENAME)).ino, 0u);
}

TEST_F(EncodeTest, OperationsThatAnswerNothing) {
  for (uint32_t op : {WEFT_META_COMMIT, WEFT_META_EVICT, WEFT_META_RELEASE}) {
    EXPECT_EQ(Encode(op).size(), 0u);
    EXPECT_EQ(error_, "");
  }
}

TEST_F(EncodeTest, StatFs) {
  idl::StatFs statfs;
  statfs.blocks = 1;
  statfs.free_blocks = 2;
  statfs.granted_blocks = 3;
  statfs.files = 4;
  reply_.__set_statfs(statfs);
  auto to = At<weft_statfs_rep>(Encode(WEFT_META_STATFS));
  EXPECT_EQ(to.blocks, 1u);
  EXPECT_EQ(to.free_blocks, 2u);
  EXPECT_EQ(to.granted_blocks, 3u);
  EXPECT_EQ(to.files, 4u);
  reply_.statfs.free_blocks = -1;
  Encode(WEFT_META_STATFS);
  EXPECT_EQ(error_, "STATFS: statfs.free_blocks is -1");
}

TEST_F(EncodeTest, ReadLink) {
  reply_.__set_target("../x");
  EXPECT_EQ(Encode(WEFT_META_READLINK), "../x");
  reply_.__set_target(std::string(WEFT_SYMLINK_MAX + 1, 'x'));
  Encode(WEFT_META_READLINK);
  EXPECT_EQ(error_, "READLINK: target of 4096 bytes is no path");
  reply_.__set_target("");
  EXPECT_TRUE(Encode(WEFT_META_READLINK).empty());
  EXPECT_NE(error_, "");
}

idl::Dirent Entry(int64_t cookie, const std::string& name) {
  idl::Dirent entry;
  entry.ino = cookie + 100;
  entry.cookie = cookie;
  entry.type = 8;
  entry.name = name;
  return entry;
}

TEST_F(EncodeTest, ReadDir) {
  call_.request.op.readdir.cookie = 4;
  reply_.__set_eof(true);
  reply_.__set_entries({Entry(5, "abc"), Entry(6, "12345678")});
  std::string bytes = Encode(WEFT_META_READDIR);
  auto head = At<weft_readdir_rep>(bytes);
  EXPECT_EQ(head.count, 2u);
  EXPECT_EQ(head.eof, 1u);
  auto first = At<weft_dirent>(bytes, 8);
  EXPECT_EQ(first.ino, 105u);
  EXPECT_EQ(first.cookie, 5u);
  EXPECT_EQ(first.name_bytes, 3u);
  EXPECT_EQ(first.type, 8u);
  EXPECT_EQ(bytes.substr(8 + sizeof(weft_dirent), 3), "abc");
  auto second = At<weft_dirent>(bytes, 8 + sizeof(weft_dirent) + 8);
  EXPECT_EQ(second.cookie, 6u);
  EXPECT_EQ(bytes.size(), 8 + 2 * (sizeof(weft_dirent) + 8));

  for (const auto& bad : {std::vector{Entry(4, "old")}, std::vector{Entry(6, "a"), Entry(6, "b")},
                          std::vector{Entry(5, "")}, std::vector{Entry(5, "a/b")}, std::vector{Entry(-105, "a")}}) {
    reply_.__set_entries(bad);
    EXPECT_TRUE(Encode(WEFT_META_READDIR).empty());
    EXPECT_NE(error_, "");
  }
  reply_.__set_entries({});
  EXPECT_EQ(Encode(WEFT_META_READDIR).size(), sizeof(weft_readdir_rep));
  reply_.__set_eof(false);  // would make the kernel ask for ever
  EXPECT_TRUE(Encode(WEFT_META_READDIR).empty());
}

TEST_F(EncodeTest, AnswerThatDoesNotFit) {
  reply_.__set_eof(true);
  reply_.__isset.entries = true;
  for (int i = 1; i < 1000; ++i) reply_.entries.push_back(Entry(i, std::string(200, 'x')));
  EXPECT_TRUE(Encode(WEFT_META_READDIR).empty());
  EXPECT_EQ(error_, "READDIR: answer does not fit 32768 bytes");
}

idl::Extent MakeExtent(int64_t file_block, int64_t pool_block, int32_t blocks) {
  idl::Extent extent;
  extent.file_block = file_block;
  extent.pool_block = pool_block;
  extent.blocks = blocks;
  extent.unwritten = file_block == 8;
  return extent;
}

TEST_F(EncodeTest, GetExtents) {
  call_.request.op.get_extents.file_block = 1;
  call_.request.op.get_extents.count_max = 2;
  reply_.__set_eof(false);
  reply_.__set_extents({MakeExtent(0, 100, 4), MakeExtent(8, 200, 1)});
  std::string bytes = Encode(WEFT_META_GET_EXTENTS);
  auto head = At<weft_get_extents_rep>(bytes);
  EXPECT_EQ(head.count, 2u);
  EXPECT_EQ(head.eof, 0u);
  EXPECT_EQ(At<weft_extent>(bytes, 8).pool_block, 100u);
  EXPECT_EQ(At<weft_extent>(bytes, 8).flags, 0u);
  EXPECT_EQ(At<weft_extent>(bytes, 32).file_block, 8u);
  EXPECT_EQ(At<weft_extent>(bytes, 32).flags, uint32_t{WEFT_EXTENT_UNWRITTEN});
  for (const auto& bad : {std::vector{MakeExtent(0, 100, 4), MakeExtent(3, 200, 1)}, std::vector{MakeExtent(4, -1, 1)},
                          std::vector{MakeExtent(4, 1, 0)}, std::vector{MakeExtent(0, 1, 1)},
                          std::vector{MakeExtent(INT64_MAX, 1, 1)}, std::vector{MakeExtent(-1, 1, 3)},
                          std::vector{MakeExtent(4, 1, 1), MakeExtent(5, 2, 1), MakeExtent(6, 3, 1)}}) {
    reply_.__set_extents(bad);
    EXPECT_TRUE(Encode(WEFT_META_GET_EXTENTS).empty());
    EXPECT_NE(error_, "");
  }
}

TEST_F(EncodeTest, Grant) {
  call_.request.op.grant.ranges_max = 1;
  idl::Range range;
  range.pool_block = 16;
  range.blocks = 256;
  reply_.__set_ranges({range});
  std::string bytes = Encode(WEFT_META_GRANT);
  EXPECT_EQ(At<weft_ranges>(bytes).count, 1u);
  EXPECT_EQ(At<weft_range>(bytes, 8).pool_block, 16u);
  EXPECT_EQ(At<weft_range>(bytes, 8).blocks, 256u);
  reply_.__set_ranges({range, range});
  EXPECT_TRUE(Encode(WEFT_META_GRANT).empty());
  EXPECT_EQ(error_, "GRANT: 2 ranges where 1 to 1 were asked for");
  reply_.__set_ranges({});
  EXPECT_TRUE(Encode(WEFT_META_GRANT).empty());
}

idl::Chunk MakeChunk(int64_t index, int copies = 2) {
  idl::Chunk chunk;
  chunk.index = index;
  chunk.version = 3;
  for (int i = 0; i < copies; ++i) {
    idl::Copy copy;
    copy.target = i + 1;
    copy.state = i == 0 ? idl::CopyState::IN_SYNC : idl::CopyState::STALE;
    copy.offset = 4096 * i;
    chunk.copies.push_back(copy);
  }
  return chunk;
}

TEST_F(EncodeTest, GetChunks) {
  call_.request.op.get_chunks.first = 10;
  call_.request.op.get_chunks.count = 4;
  reply_.__set_chunks({MakeChunk(10), MakeChunk(13)});
  std::string bytes = Encode(WEFT_META_GET_CHUNKS);
  EXPECT_EQ(At<weft_get_chunks_rep>(bytes).count, 2u);
  auto chunk = At<weft_chunk>(bytes, 8);
  EXPECT_EQ(chunk.index, 10u);
  EXPECT_EQ(chunk.version, 3u);
  EXPECT_EQ(chunk.count, 2u);
  EXPECT_EQ(chunk.copies[0].state, uint32_t{WEFT_COPY_IN_SYNC});
  EXPECT_EQ(chunk.copies[1].state, uint32_t{WEFT_COPY_STALE});
  EXPECT_EQ(chunk.copies[1].target, 2u);
  EXPECT_EQ(chunk.copies[1].offset, 4096u);
  EXPECT_EQ(chunk.copies[2].target, 0u);
  EXPECT_EQ(At<weft_chunk>(bytes, 8 + sizeof chunk).index, 13u);

  reply_.__set_chunks({MakeChunk(10, 0)});
  EXPECT_EQ(At<weft_chunk>(Encode(WEFT_META_GET_CHUNKS), 8).count, 0u) << "all of its copies were lost";

  idl::Chunk bad_state = MakeChunk(10);
  bad_state.copies[0].state = static_cast<idl::CopyState::type>(9);
  idl::Chunk bad_offset = MakeChunk(10);
  bad_offset.copies[1].offset = 100;
  for (const auto& bad :
       {std::vector{MakeChunk(9)}, std::vector{MakeChunk(14)}, std::vector{MakeChunk(11), MakeChunk(11)},
        std::vector{MakeChunk(10, 6)}, std::vector{bad_state}, std::vector{bad_offset}}) {
    reply_.__set_chunks(bad);
    EXPECT_TRUE(Encode(WEFT_META_GET_CHUNKS).empty());
    EXPECT_NE(error_, "");
  }
}

TEST_F(EncodeTest, MarkStale) {
  call_.request.op.mark_stale.index = 6;
  reply_.__set_chunks({MakeChunk(6)});
  EXPECT_EQ(At<weft_chunk>(Encode(WEFT_META_MARK_STALE)).index, 6u);
  reply_.__set_chunks({MakeChunk(7)});
  EXPECT_TRUE(Encode(WEFT_META_MARK_STALE).empty());
}

TEST_F(EncodeTest, Mount) {
  idl::Session session;
  session.id = 9;
  session.root_ino = 1;
  session.pool_blocks = 1 << 20;
  session.chunk_blocks = 1 << 14;
  session.copies = 2;
  session.cluster_uuid = std::string(16, 'u');
  session.root = GoodAttr();
  session.root.ino = 1;
  session.root.mode = S_IFDIR | 0755;
  std::vector<std::byte> out(WEFT_META_REP_BYTES);
  Result<size_t> bytes = EncodeMount(session, out);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  auto to = At<weft_mount_rep>({reinterpret_cast<const char*>(out.data()), *bytes});
  EXPECT_EQ(to.session, 9u);
  EXPECT_EQ(to.root_ino, 1u);
  EXPECT_EQ(to.pool_blocks, 1u << 20);
  EXPECT_EQ(to.block_bytes, WEFT_BLOCK_BYTES);
  EXPECT_EQ(to.chunk_blocks, 1u << 14);
  EXPECT_EQ(to.copies, 2u);
  EXPECT_EQ(to.cluster_uuid[15], 'u');
  EXPECT_EQ(to.root.mode, S_IFDIR | 0755u);

  auto error = [&](auto change) {
    idl::Session bad = session;
    change(&bad);
    Result<size_t> refused = EncodeMount(bad, out);
    EXPECT_EQ(refused.status().code(), EIO);
    return refused.status().message();
  };
  EXPECT_EQ(error([](idl::Session* s) { s->chunk_blocks = 3; }), "MOUNT: session.chunk_blocks 3 is no power of 2");
  EXPECT_EQ(error([](idl::Session* s) { s->copies = 5; }), "MOUNT: session.copies is 5");
  EXPECT_EQ(error([](idl::Session* s) { s->cluster_uuid = "x"; }), "MOUNT: session.cluster_uuid has 1 bytes");
  EXPECT_EQ(error([](idl::Session* s) { s->root.ino = 2; }), "MOUNT: session.root is not the root directory");
}

}  // namespace
}  // namespace weft::agent
