// SPDX-License-Identifier: MIT
#include <cerrno>
#include <set>
#include <sys/stat.h>

#include "userland/meta/test_server.h"

namespace weft {
namespace {

constexpr int64_t kRoot = static_cast<int64_t>(kRootIno);

class NamespaceTest : public ::testing::Test {
 protected:
  NamespaceTest() : NamespaceTest(MetaOptions{}) {}
  explicit NamespaceTest(const MetaOptions& options) : server_(options) { server_.Form(); }
  void TearDown() override { server_.Check(); }

  idl::Reply Do(const idl::Operation& operation) { return server_.Execute(operation); }
  int Error(const idl::Operation& operation) { return Do(operation).error; }
  int64_t Make(int64_t parent, const std::string& name, int mode, const std::string& target = "") {
    idl::Reply reply = Do(op::Create(parent, name, mode, target));
    EXPECT_EQ(reply.error, 0) << name;
    return reply.attr.ino;
  }
  int64_t MakeDir(int64_t parent, const std::string& name) { return Make(parent, name, S_IFDIR | 0755); }
  int64_t MakeFile(int64_t parent, const std::string& name) { return Make(parent, name, S_IFREG | 0644); }
  idl::Attr Attr(int64_t ino) { return Do(op::GetAttr(ino)).attr; }
  int64_t Ino(int64_t parent, const std::string& name) {
    idl::Reply reply = Do(op::Lookup(parent, name));
    return reply.error == 0 ? reply.attr.ino : -reply.error;
  }

  TestServer server_;
};

TEST_F(NamespaceTest, CreateSetsAttributes) {
  server_.Advance(5);
  idl::Reply reply = Do(op::Create(kRoot, "f", S_IFREG | 04755));
  ASSERT_EQ(reply.error, 0);
  EXPECT_GT(reply.attr.ino, kRoot);
  EXPECT_EQ(reply.attr.mode, S_IFREG | 04755);
  EXPECT_EQ(reply.attr.nlink, 1);
  EXPECT_EQ(reply.attr.uid, 1000);
  EXPECT_EQ(reply.attr.gid, 100);
  EXPECT_EQ(reply.attr.btime_ns, server_.now().wall_ns);
  EXPECT_EQ(Attr(kRoot).mtime_ns, server_.now().wall_ns);
  EXPECT_EQ(Attr(reply.attr.ino), reply.attr);
  EXPECT_EQ(Ino(kRoot, "f"), reply.attr.ino);
}

TEST_F(NamespaceTest, CreateMakesEveryType) {
  int64_t link = Make(kRoot, "l", S_IFLNK | 0777, "to/where");
  EXPECT_EQ(Attr(link).size, 8);
  EXPECT_EQ(Do(op::ReadLink(link)).target, "to/where");
  idl::Operation node = op::Create(kRoot, "n", S_IFCHR | 0600);
  node.create.rdev = 259;
  EXPECT_EQ(Do(node).attr.rdev, 259);
  Make(kRoot, "p", S_IFIFO | 0600);
  Make(kRoot, "s", S_IFSOCK | 0600);
  int64_t dir = MakeDir(kRoot, "d");
  EXPECT_EQ(Attr(dir).nlink, 2);
  EXPECT_EQ(Attr(kRoot).nlink, 3);
}

TEST_F(NamespaceTest, CopiesAreInherited) {
  EXPECT_EQ(Attr(kRoot).copies, 2) << "the pool's";
  int64_t dir = MakeDir(kRoot, "d");
  int64_t before = MakeFile(dir, "before");
  ASSERT_EQ(Error(op::SetCopies(dir, 1)), 0);
  EXPECT_EQ(Attr(dir).copies, 1);
  EXPECT_EQ(Attr(before).copies, 2);
  int64_t file = MakeFile(MakeDir(dir, "e"), "f");
  EXPECT_EQ(Attr(file).copies, 1);
  ASSERT_EQ(Error(op::SetCopies(file, 2)), 0);
  server_.Open();
  EXPECT_EQ(Attr(file).copies, 2);
  EXPECT_EQ(Attr(MakeFile(dir, "g")).copies, 1);
  ASSERT_EQ(Error(op::Rename(dir, "g", kRoot, "g")), 0);
  EXPECT_EQ(Attr(Ino(kRoot, "g")).copies, 1) << "a rename moves a name only";
}

TEST_F(NamespaceTest, ThePoolsDefaultIsThatOfTheRoot) {
  int64_t dir = MakeDir(kRoot, "d");
  auto set = [&](int copies) {
    idl::PoolSettings settings;
    settings.__set_copies(copies);
    return server_.Run([&](StateMachine& m) { return m.SetPool(settings); }).status().code();
  };
  EXPECT_EQ(set(3), EINVAL) << "there are two targets";
  ASSERT_EQ(set(1), 0);
  EXPECT_EQ(Attr(kRoot).copies, 1);
  EXPECT_EQ(Attr(MakeFile(kRoot, "f")).copies, 1);
  EXPECT_EQ(Attr(dir).copies, 2) << "what there was stays";
  ASSERT_EQ(Error(op::SetCopies(kRoot, 2)), 0);
  ASSERT_EQ(set(2), 0);
  ASSERT_EQ(Error(op::SetCopies(kRoot, 1)), 0);
  ASSERT_EQ(set(1), 0);
  ASSERT_EQ(Error(op::SetCopies(kRoot, 2)), 0);
  ASSERT_EQ(set(2), 0);
  EXPECT_EQ(Attr(MakeFile(kRoot, "g")).copies, 2) << "it had a number of its own";
}

TEST_F(NamespaceTest, SetCopiesErrors) {
  int64_t file = MakeFile(kRoot, "f");
  EXPECT_EQ(Error(op::SetCopies(file, 0)), EINVAL);
  EXPECT_EQ(Error(op::SetCopies(file, 5)), EINVAL);
  EXPECT_EQ(Error(op::SetCopies(file, -1)), EINVAL);
  EXPECT_EQ(Error(op::SetCopies(file, 3)), ENOSPC) << "there are two targets";
  EXPECT_EQ(Error(op::SetCopies(999, 2)), ENOENT);
  EXPECT_EQ(Error(op::SetCopies(Make(kRoot, "l", S_IFLNK | 0777, "x"), 2)), EINVAL);
  EXPECT_EQ(Error(op::SetCopies(Make(kRoot, "p", S_IFIFO | 0600), 2)), EINVAL);
  EXPECT_EQ(Attr(file).copies, 2);
}

TEST_F(NamespaceTest, CreateErrors) {
  int64_t file = MakeFile(kRoot, "f");
  EXPECT_EQ(Error(op::Create(kRoot, "f", S_IFREG | 0644)), EEXIST);
  EXPECT_EQ(Error(op::Create(file, "x", S_IFREG | 0644)), ENOTDIR);
  EXPECT_EQ(Error(op::Create(999, "x", S_IFREG | 0644)), ENOENT);
  EXPECT_EQ(Error(op::Create(kRoot, std::string(256, 'x'), S_IFREG | 0644)), ENAMETOOLONG);
  EXPECT_EQ(Error(op::Create(kRoot, std::string(255, 'x'), S_IFREG | 0644)), 0);
  for (std::string name : {"", ".", "..", "a/b"}) EXPECT_EQ(Error(op::Create(kRoot, name, S_IFREG)), EINVAL) << name;
  EXPECT_EQ(Error(op::Create(kRoot, std::string("a\0b", 3), S_IFREG)), EINVAL);
  EXPECT_EQ(Error(op::Create(kRoot, "m", 0644)), EINVAL);
  EXPECT_EQ(Error(op::Create(kRoot, "l", S_IFLNK | 0777, "")), EINVAL);
  EXPECT_EQ(Error(op::Create(kRoot, "l", S_IFLNK | 0777, std::string(4096, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(Error(op::Create(kRoot, "l", S_IFLNK | 0777, std::string(4095, 'x'))), 0);
}

TEST_F(NamespaceTest, LookupErrors) {
  int64_t file = MakeFile(kRoot, "f");
  EXPECT_EQ(Error(op::Lookup(kRoot, "g")), ENOENT);
  EXPECT_EQ(Error(op::Lookup(file, "g")), ENOTDIR);
  EXPECT_EQ(Error(op::Lookup(999, "g")), ENOENT);
  EXPECT_EQ(Error(op::Lookup(kRoot, std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(Error(op::GetAttr(999)), ENOENT);
  EXPECT_EQ(Error(op::ReadLink(file)), EINVAL);
  EXPECT_EQ(Error(op::ReadLink(999)), ENOENT);
}

TEST_F(NamespaceTest, UnlinkLeavesAnOrphanUntilEvict) {
  int64_t file = MakeFile(kRoot, "f");
  EXPECT_EQ(Error(op::Evict({file})), EINVAL);
  idl::Reply reply = Do(op::Remove(kRoot, "f"));
  ASSERT_EQ(reply.error, 0);
  EXPECT_EQ(reply.attr.ino, file);
  EXPECT_EQ(reply.attr.nlink, 0);
  EXPECT_EQ(Ino(kRoot, "f"), -ENOENT);
  EXPECT_EQ(Attr(file).nlink, 0);
  EXPECT_EQ(Error(op::Link(file, kRoot, "again")), ENOENT);
  EXPECT_EQ(Error(op::Evict({file, 999})), 0);
  EXPECT_EQ(Error(op::GetAttr(file)), ENOENT);
  EXPECT_EQ(Error(op::Evict({file})), 0);
}

TEST_F(NamespaceTest, RemoveErrors) {
  int64_t dir = MakeDir(kRoot, "d");
  int64_t file = MakeFile(dir, "f");
  EXPECT_EQ(Error(op::Remove(kRoot, "d")), EISDIR);
  EXPECT_EQ(Error(op::Remove(kRoot, "d", true)), ENOTEMPTY);
  EXPECT_EQ(Error(op::Remove(dir, "f", true)), ENOTDIR);
  EXPECT_EQ(Error(op::Remove(dir, "g")), ENOENT);
  EXPECT_EQ(Error(op::Remove(file, "g")), ENOTDIR);
  EXPECT_EQ(Error(op::Remove(dir, "f")), 0);
  EXPECT_EQ(Error(op::Remove(kRoot, "d", true)), 0);
  EXPECT_EQ(Attr(dir).nlink, 0);
  EXPECT_EQ(Attr(kRoot).nlink, 2);
  EXPECT_EQ(Error(op::Create(dir, "x", S_IFREG)), ENOENT) << "a removed directory takes no entries";
  EXPECT_EQ(Error(op::Rename(kRoot, "d", dir, "x")), ENOENT);
}

TEST_F(NamespaceTest, LinkCountsNames) {
  int64_t file = MakeFile(kRoot, "f");
  int64_t dir = MakeDir(kRoot, "d");
  EXPECT_EQ(Do(op::Link(file, dir, "g")).attr.nlink, 2);
  EXPECT_EQ(Error(op::Link(file, dir, "g")), EEXIST);
  EXPECT_EQ(Error(op::Link(dir, kRoot, "e")), EPERM);
  EXPECT_EQ(Error(op::Link(999, kRoot, "e")), ENOENT);
  EXPECT_EQ(Error(op::Link(file, file, "e")), ENOTDIR);
  EXPECT_EQ(Do(op::Remove(kRoot, "f")).attr.nlink, 1);
  EXPECT_EQ(Error(op::Evict({file})), EINVAL) << "it has a name";
  EXPECT_EQ(Do(op::Remove(dir, "g")).attr.nlink, 0);
}

TEST_F(NamespaceTest, RenameMovesAndReplaces) {
  int64_t a = MakeDir(kRoot, "a");
  int64_t b = MakeDir(kRoot, "b");
  int64_t f = MakeFile(a, "f");
  int64_t g = MakeFile(b, "g");
  EXPECT_EQ(Do(op::Rename(a, "f", a, "f2")).attr.ino, 0);
  EXPECT_EQ(Ino(a, "f2"), f);
  idl::Reply reply = Do(op::Rename(a, "f2", b, "g"));
  EXPECT_EQ(reply.attr.ino, g);
  EXPECT_EQ(reply.attr.nlink, 0);
  EXPECT_EQ(Ino(b, "g"), f);
  EXPECT_EQ(Error(op::Rename(a, "f2", b, "h")), ENOENT);
  EXPECT_EQ(Error(op::Rename(b, "g", kRoot, "a", true)), EEXIST);
  EXPECT_EQ(Error(op::Rename(b, "g", kRoot, "a")), EISDIR);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", b, "g")), ENOTDIR);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", kRoot, "b")), ENOTEMPTY);
  EXPECT_EQ(Error(op::Rename(kRoot, "b", kRoot, "a")), 0) << "an empty directory may be replaced";
  EXPECT_EQ(Ino(kRoot, "a"), b);
  EXPECT_EQ(Attr(kRoot).nlink, 3);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", kRoot, std::string(256, 'x'))), ENAMETOOLONG);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", kRoot, "")), EINVAL);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", f, "x")), ENOTDIR);
}

TEST_F(NamespaceTest, RenameOfTheSameInodeDoesNothing) {
  int64_t f = MakeFile(kRoot, "f");
  ASSERT_EQ(Error(op::Link(f, kRoot, "g")), 0);
  EXPECT_EQ(Do(op::Rename(kRoot, "f", kRoot, "g")).attr.ino, 0);
  EXPECT_EQ(Do(op::Rename(kRoot, "f", kRoot, "f")).attr.ino, 0);
  EXPECT_EQ(Attr(f).nlink, 2);
  EXPECT_EQ(Ino(kRoot, "f"), f);
}

TEST_F(NamespaceTest, RenameKeepsParentsAndRefusesCycles) {
  int64_t a = MakeDir(kRoot, "a");
  int64_t b = MakeDir(a, "b");
  int64_t c = MakeDir(b, "c");
  EXPECT_EQ(Error(op::Rename(kRoot, "a", c, "x")), EINVAL);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", a, "x")), EINVAL);
  EXPECT_EQ(Error(op::Rename(b, "c", kRoot, "a")), ENOTEMPTY);
  EXPECT_EQ(Error(op::Rename(a, "b", kRoot, "b")), 0);
  EXPECT_EQ(Attr(a).nlink, 2);
  EXPECT_EQ(Attr(kRoot).nlink, 4);
  EXPECT_EQ(Error(op::Rename(kRoot, "a", c, "x")), 0) << "b is no longer below a";
  EXPECT_EQ(Error(op::Rename(kRoot, "b", a, "x")), EINVAL);
}

TEST_F(NamespaceTest, ExchangeSwapsInodes) {
  int64_t a = MakeDir(kRoot, "a");
  int64_t d = MakeDir(a, "d");
  int64_t f = MakeFile(kRoot, "f");
  EXPECT_EQ(Error(op::Rename(kRoot, "f", a, "d", true, true)), EINVAL);
  EXPECT_EQ(Error(op::Rename(kRoot, "f", a, "none", false, true)), ENOENT);
  EXPECT_EQ(Do(op::Rename(kRoot, "f", a, "d", false, true)).attr.ino, 0);
  EXPECT_EQ(Ino(kRoot, "f"), d);
  EXPECT_EQ(Ino(a, "d"), f);
  EXPECT_EQ(Attr(a).nlink, 2);
  EXPECT_EQ(Attr(kRoot).nlink, 4);
  int64_t e = MakeDir(a, "e");
  EXPECT_EQ(Error(op::Rename(kRoot, "a", a, "e", false, true)), EINVAL);
  EXPECT_EQ(Error(op::Rename(a, "e", kRoot, "a", false, true)), EINVAL);
  EXPECT_EQ(Error(op::Rename(a, "e", kRoot, "f", false, true)), 0);
  EXPECT_EQ(Ino(kRoot, "f"), e);
  EXPECT_EQ(Ino(a, "e"), d);
}

TEST_F(NamespaceTest, ReadDirPagesInCookieOrder) {
  int64_t dir = MakeDir(kRoot, "d");
  std::set<std::string> names;
  for (int i = 0; i < 500; ++i) {
    std::string name = "\xff\x01" + std::to_string(i * 7919 % 1000) + std::string(i % 40, 'x');
    names.insert(name);
    MakeFile(dir, name);
  }
  std::set<std::string> seen;
  int64_t cookie = 0;
  bool eof = false;
  while (!eof) {
    idl::Reply reply = Do(op::ReadDir(dir, cookie, 1000));
    ASSERT_EQ(reply.error, 0);
    size_t bytes = 8;
    for (const idl::Dirent& entry : reply.entries) {
      EXPECT_GT(entry.cookie, cookie);
      cookie = entry.cookie;
      EXPECT_TRUE(seen.insert(entry.name).second);
      EXPECT_EQ(entry.type, 8) << "DT_REG";
      EXPECT_EQ(Ino(dir, entry.name), entry.ino);
      bytes += 24 + (entry.name.size() + 7) / 8 * 8;
    }
    EXPECT_LE(bytes, 1000U);
    eof = reply.eof;
  }
  EXPECT_EQ(seen, names);
  EXPECT_EQ(Error(op::ReadDir(dir, 0, 32)), EINVAL);
  EXPECT_EQ(Error(op::ReadDir(dir, -1, 1000)), EINVAL);
  EXPECT_EQ(Error(op::ReadDir(Ino(dir, *names.begin()), 0, 1000)), ENOTDIR);
  EXPECT_EQ(Error(op::ReadDir(999, 0, 1000)), ENOENT);
}

TEST_F(NamespaceTest, ReadDirSurvivesChangesBetweenPages) {
  int64_t dir = MakeDir(kRoot, "d");
  for (int i = 0; i < 100; ++i) MakeFile(dir, fmt::format("f{:03}", i));
  std::set<std::string> seen;
  int64_t cookie = 0;
  bool eof = false;
  int page = 0;
  while (!eof) {
    idl::Reply reply = Do(op::ReadDir(dir, cookie, 400));
    ASSERT_EQ(reply.error, 0);
    for (const idl::Dirent& entry : reply.entries) {
      cookie = entry.cookie;
      EXPECT_TRUE(seen.insert(entry.name).second) << entry.name;
      if (entry.name[0] == 'f') {
        EXPECT_EQ(Error(op::Remove(dir, entry.name)), 0);
      }
    }
    if (++page < 5) MakeFile(dir, fmt::format("new{}", page));
    eof = reply.eof;
  }
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(seen.contains(fmt::format("f{:03}", i)));
}

TEST_F(NamespaceTest, RenamedEntryStaysReadable) {
  int64_t dir = MakeDir(kRoot, "d");
  for (std::string name : {"a", "b", "c"}) MakeFile(dir, name);
  ASSERT_EQ(Error(op::Rename(dir, "a", dir, "b")), 0);
  idl::Reply reply = Do(op::ReadDir(dir, 0, 1000));
  ASSERT_EQ(reply.entries.size(), 2U);
  EXPECT_EQ(reply.entries[0].name, "c");
  EXPECT_EQ(reply.entries[1].name, "b");
}

class LinkLimitTest : public NamespaceTest {
 protected:
  static MetaOptions Low() {
    MetaOptions options;
    options.names.link_max = 4;
    return options;
  }
  LinkLimitTest() : NamespaceTest(Low()) {}
};

TEST_F(LinkLimitTest, TooManyLinks) {
  int64_t f = MakeFile(kRoot, "f");
  for (std::string name : {"f2", "f3", "f4"}) EXPECT_EQ(Error(op::Link(f, kRoot, name)), 0);
  EXPECT_EQ(Error(op::Link(f, kRoot, "f5")), EMLINK);
  int64_t a = MakeDir(kRoot, "a");
  int64_t b = MakeDir(kRoot, "b");
  EXPECT_EQ(Error(op::Create(kRoot, "c", S_IFDIR | 0755)), EMLINK);
  int64_t c = MakeDir(a, "c");
  EXPECT_EQ(Error(op::Rename(a, "c", kRoot, "c")), EMLINK);
  EXPECT_EQ(Ino(a, "c"), c) << "a failed rename changes nothing";
  EXPECT_EQ(Error(op::Rename(a, "c", kRoot, "f", false, true)), EMLINK);
  EXPECT_EQ(Error(op::Rename(a, "c", kRoot, "b")), 0) << "one goes, one comes";
  EXPECT_EQ(Attr(b).nlink, 0);
}

}  // namespace
}  // namespace weft
