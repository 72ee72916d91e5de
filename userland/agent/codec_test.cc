// SPDX-License-Identifier: MIT
//
// Requests: every operation is decoded, and everything that could be wrong with it is refused.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "userland/agent/codec.h"

namespace weft::agent {
namespace {

// A message under construction: the header, then whatever is appended.
class Message {
 public:
  Message(uint32_t op, uint64_t ino) {
    header_.op = op;
    header_.ino = ino;
    header_.now_ns = 1234;
  }
  template <typename T>
  Message& Add(const T& value) {
    body_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Message& Text(std::string_view text) {
    body_.append(text);
    return *this;
  }
  weft_meta_req* header() { return &header_; }

  Status Decode(MetaCall* call, int length_error = 0) const {
    weft_meta_req header = header_;
    header.length = static_cast<uint32_t>(sizeof header + body_.size()) + length_error;
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += body_;
    return DecodeRequest(std::as_bytes(std::span(bytes)), call);
  }
  int Code() const {
    MetaCall call;
    return Decode(&call).code();
  }

 private:
  weft_meta_req header_ = {};
  std::string body_;
};

MetaCall Good(const Message& message) {
  MetaCall call;
  Status s = message.Decode(&call);
  EXPECT_TRUE(s.ok()) << s.message();
  EXPECT_EQ(call.request.now_ns, 1234);
  return call;
}

std::string Refused(const Message& message) {
  MetaCall call;
  Status s = message.Decode(&call);
  EXPECT_EQ(s.code(), EINVAL);
  return s.message();
}

TEST(DecodeTest, OperationsWithoutArguments) {
  EXPECT_EQ(Good(Message(WEFT_META_MOUNT, 0)).op, uint32_t{WEFT_META_MOUNT});
  EXPECT_EQ(Good(Message(WEFT_META_UNMOUNT, 0)).op, uint32_t{WEFT_META_UNMOUNT});
  EXPECT_TRUE(Good(Message(WEFT_META_STATFS, 0)).request.op.__isset.statfs);
  EXPECT_EQ(Good(Message(WEFT_META_GETATTR, 7)).request.op.getattr.ino, 7);
  EXPECT_EQ(Good(Message(WEFT_META_READLINK, 8)).request.op.readlink.ino, 8);
  EXPECT_EQ(Refused(Message(WEFT_META_GETATTR, 7).Text("x")), "GETATTR: 1 bytes follow the request");
}

TEST(DecodeTest, Lookup) {
  weft_lookup_req args = {.name_bytes = 3, .reserved = 0};
  MetaCall call = Good(Message(WEFT_META_LOOKUP, 5).Add(args).Text("abc"));
  EXPECT_EQ(call.request.op.lookup.parent, 5);
  EXPECT_EQ(call.request.op.lookup.name, "abc");
  EXPECT_TRUE(call.request.op.__isset.lookup);
  args.reserved = 1;
  EXPECT_EQ(Refused(Message(WEFT_META_LOOKUP, 5).Add(args).Text("abc")), "LOOKUP: reserved is 1, not 0");
}

TEST(DecodeTest, NamesAreNames) {
  auto lookup = [](std::string_view name, uint32_t bytes) {
    weft_lookup_req args = {.name_bytes = bytes, .reserved = 0};
    return Refused(Message(WEFT_META_LOOKUP, 5).Add(args).Text(name));
  };
  EXPECT_EQ(lookup("", 0), "LOOKUP: name has 0 bytes, not 1 to 255");
  EXPECT_EQ(lookup("abc", 4), "LOOKUP: name is cut short");
  EXPECT_EQ(lookup("abc", 2), "LOOKUP: 1 bytes follow the request");
  EXPECT_EQ(lookup("a/b", 3), "LOOKUP: name \"a/b\" is no name");
  lookup("..", 2);
  lookup(".", 1);
  lookup(std::string("a\0b", 3), 3);
  lookup(std::string(256, 'x'), 256);
  lookup("abc", 0xffffffff);
}

TEST(DecodeTest, HeaderIsChecked) {
  MetaCall call;
  EXPECT_EQ(Message(WEFT_META_GETATTR, 1).Decode(&call, 4).code(), EINVAL);
  Message unknown(99, 1);
  EXPECT_EQ(Refused(unknown), "metadata operation 99 is unknown");
  Message reserved(WEFT_META_GETATTR, 1);
  reserved.header()->reserved = 1;
  Refused(reserved);
  EXPECT_EQ(Refused(Message(WEFT_META_GETATTR, UINT64_MAX)), "GETATTR: ino 18446744073709551615 is out of range");
  EXPECT_EQ(DecodeRequest({}, &call).code(), EINVAL);
}

TEST(DecodeTest, SetAttr) {
  weft_setattr_req args = {};
  args.valid = WEFT_SET_SIZE | WEFT_SET_MODE;
  args.mode = 0644;
  args.uid = 0xfffffffe;
  args.size = 4096;
  args.mtime_ns = -5;
  MetaCall call = Good(Message(WEFT_META_SETATTR, 9).Add(args));
  const idl::SetAttrOp& op = call.request.op.setattr;
  EXPECT_EQ(op.ino, 9);
  EXPECT_EQ(op.valid, idl::SetAttrOp().valid | WEFT_SET_SIZE | WEFT_SET_MODE);
  EXPECT_EQ(op.mode, 0644);
  EXPECT_EQ(static_cast<uint32_t>(op.uid), 0xfffffffe);
  EXPECT_EQ(op.size, 4096);
  EXPECT_EQ(op.mtime_ns, -5);
  args.size = 1ull << 63;
  Refused(Message(WEFT_META_SETATTR, 9).Add(args));
  args.size = 0;
  args.valid = 0x100;
  EXPECT_EQ(Refused(Message(WEFT_META_SETATTR, 9).Add(args)), "SETATTR: valid 0x100 has unknown bits");
}

TEST(DecodeTest, Create) {
  weft_create_req args = {};
  args.mode = S_IFREG | 0600;
  args.rdev = 3;
  args.name_bytes = 1;
  MetaCall call = Good(Message(WEFT_META_CREATE, 1).Add(args).Text("f"));
  EXPECT_EQ(call.request.op.create.name, "f");
  EXPECT_EQ(call.request.op.create.mode, S_IFREG | 0600);
  EXPECT_EQ(call.request.op.create.rdev, 3);
  args.target_bytes = 2;
  Refused(Message(WEFT_META_CREATE, 1).Add(args).Text("fab"));  // a file has no target
  args.mode = S_IFLNK | 0777;
  EXPECT_EQ(Good(Message(WEFT_META_CREATE, 1).Add(args).Text("f/b")).request.op.create.target, "/b");
  args.target_bytes = 0;
  Refused(Message(WEFT_META_CREATE, 1).Add(args).Text("f"));  // a link needs one
  args.target_bytes = 1;
  Refused(Message(WEFT_META_CREATE, 1).Add(args).Text(std::string("f\0", 2)));
}

TEST(DecodeTest, RemoveRenameLink) {
  weft_remove_req remove = {.flags = WEFT_REMOVE_DIR, .name_bytes = 1};
  MetaCall call = Good(Message(WEFT_META_REMOVE, 1).Add(remove).Text("d"));
  EXPECT_TRUE(call.request.op.remove.directory);
  remove.flags = 2;
  Refused(Message(WEFT_META_REMOVE, 1).Add(remove).Text("d"));

  weft_rename_req rename = {};
  rename.new_parent = 2;
  rename.flags = WEFT_RENAME_EXCHANGE;
  rename.old_bytes = 2;
  rename.new_bytes = 3;
  call = Good(Message(WEFT_META_RENAME, 1).Add(rename).Text("ababc"));
  EXPECT_EQ(call.request.op.rename.old_name, "ab");
  EXPECT_EQ(call.request.op.rename.new_name, "abc");
  EXPECT_EQ(call.request.op.rename.new_parent, 2);
  EXPECT_TRUE(call.request.op.rename.exchange);
  EXPECT_FALSE(call.request.op.rename.noreplace);
  rename.flags |= WEFT_RENAME_NOREPLACE;
  Refused(Message(WEFT_META_RENAME, 1).Add(rename).Text("ababc"));

  weft_link_req link = {.parent = 3, .name_bytes = 1, .reserved = 0};
  call = Good(Message(WEFT_META_LINK, 7).Add(link).Text("x"));
  EXPECT_EQ(call.request.op.link.ino, 7);
  EXPECT_EQ(call.request.op.link.parent, 3);
}

TEST(DecodeTest, LimitsOfAnswersAreClipped) {
  weft_readdir_req readdir = {.cookie = 4, .bytes_max = UINT32_MAX, .reserved = 0};
  MetaCall call = Good(Message(WEFT_META_READDIR, 7).Add(readdir));
  EXPECT_EQ(call.request.op.readdir.cookie, 4);
  EXPECT_EQ(call.request.op.readdir.bytes_max, WEFT_META_REP_BYTES - 8);

  weft_get_extents_req extents = {.file_block = 3, .count_max = UINT32_MAX, .reserved = 0};
  call = Good(Message(WEFT_META_GET_EXTENTS, 7).Add(extents));
  EXPECT_EQ(call.request.op.get_extents.file_block, 3);
  EXPECT_EQ(call.request.op.get_extents.count_max, 1365);
  extents.count_max = 0;
  Refused(Message(WEFT_META_GET_EXTENTS, 7).Add(extents));

  weft_grant_req grant = {.blocks = 10, .ranges_max = UINT32_MAX, .copies = 2};
  EXPECT_EQ(Good(Message(WEFT_META_GRANT, 0).Add(grant)).request.op.grant.ranges_max, 2047);
  grant.blocks = 0;
  Refused(Message(WEFT_META_GRANT, 0).Add(grant));

  weft_get_chunks_req chunks = {.first = 8, .count = 256, .reserved = 0};
  EXPECT_EQ(Good(Message(WEFT_META_GET_CHUNKS, 0).Add(chunks)).request.op.get_chunks.count, 256);
  chunks.count = 257;
  EXPECT_EQ(Refused(Message(WEFT_META_GET_CHUNKS, 0).Add(chunks)), "GET_CHUNKS: count 257 is not 1 to 256");
}

TEST(DecodeTest, Commit) {
  weft_commit_req head = {.count = 2, .reserved = 0};
  weft_commit first = {};
  first.ino = 11;
  first.size = 5000;
  first.valid = WEFT_SET_SIZE | WEFT_SET_MTIME;
  first.extents = 1;
  weft_extent extent = {.file_block = 0, .pool_block = 99, .blocks = 2, .flags = WEFT_EXTENT_UNWRITTEN};
  weft_commit second = {};
  second.ino = 12;
  auto message = [&] { return Message(WEFT_META_COMMIT, 0).Add(head).Add(first).Add(extent).Add(second); };
  MetaCall call = Good(message());
  const auto& files = call.request.op.commit.files;
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].ino, 11);
  EXPECT_EQ(files[0].size, 5000);
  ASSERT_EQ(files[0].extents.size(), 1u);
  EXPECT_EQ(files[0].extents[0].pool_block, 99);
  EXPECT_TRUE(files[0].extents[0].unwritten);
  EXPECT_EQ(files[1].ino, 12);
  first.extents = UINT32_MAX;
  EXPECT_EQ(Refused(message()), "COMMIT: extents 4294967295 does not fit the message");
  first.extents = 1;
  extent.blocks = 0;
  Refused(message());
  extent.blocks = 1;
  head.count = 3;
  Refused(message());
  head.count = 2;
  second.valid = WEFT_SET_MODE;
  Refused(message());
}

TEST(DecodeTest, PunchEvictReleaseMarkStale) {
  weft_punch_req punch = {.file_block = 1, .blocks = 2};
  EXPECT_EQ(Good(Message(WEFT_META_PUNCH, 7).Add(punch)).request.op.punch.blocks, 2);
  punch.blocks = 0;
  Refused(Message(WEFT_META_PUNCH, 7).Add(punch));

  weft_evict_req evict = {};
  evict.count = 2;
  MetaCall call = Good(Message(WEFT_META_EVICT, 0).Add(evict).Add(__u64{5}).Add(__u64{6}));
  EXPECT_EQ(call.request.op.evict.inos, (std::vector<int64_t>{5, 6}));
  Refused(Message(WEFT_META_EVICT, 0).Add(evict).Add(__u64{5}));

  weft_ranges release = {};
  release.count = 1;
  weft_range range = {.pool_block = 4, .blocks = 8};
  call = Good(Message(WEFT_META_RELEASE, 0).Add(release).Add(range));
  ASSERT_EQ(call.request.op.release.ranges.size(), 1u);
  EXPECT_EQ(call.request.op.release.ranges[0].blocks, 8);
  range.blocks = 0;
  Refused(Message(WEFT_META_RELEASE, 0).Add(release).Add(range));

  weft_mark_stale_req stale = {.index = 3, .version = 2, .copy_mask = 1};
  call = Good(Message(WEFT_META_MARK_STALE, 0).Add(stale));
  EXPECT_EQ(call.request.op.mark_stale.index, 3);
  EXPECT_EQ(call.request.op.mark_stale.version, 2);
  stale.copy_mask = 32;
  Refused(Message(WEFT_META_MARK_STALE, 0).Add(stale));
}

TEST(DecodeTest, NoLengthOverruns) {
  // Every operation, cut at every length, and filled with ones: an error or a success, never anything else.
  std::vector<std::byte> bytes(200, std::byte{0xff});
  for (uint32_t op = 0; op < 24; ++op) {
    for (uint32_t length = 0; length <= bytes.size(); ++length) {
      for (int fill : {0, 1, 0xff}) {
        memset(bytes.data(), fill, bytes.size());
        weft_meta_req header = {.op = op, .length = length, .ino = 1, .now_ns = 0, .reserved = 0};
        memcpy(bytes.data(), &header, sizeof header);
        std::vector<std::byte> exact(bytes.begin(), bytes.begin() + length);  // so that a sanitizer sees the end
        MetaCall call;
        Status s = DecodeRequest(exact, &call);
        EXPECT_TRUE(s.ok() || s.code() == EINVAL);
      }
    }
  }
}

}  // namespace
}  // namespace weft::agent
