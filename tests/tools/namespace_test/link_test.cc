// SPDX-License-Identifier: MIT
//
// Hard links, and files that live on without a name.
#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class LinkTest : public NamespaceTest {};

TEST_F(LinkTest, Counts) {
  MakeFile("a", "shared");
  ASSERT_OK(link("a", "b"));
  ASSERT_OK(mkdir("d", 0755));
  ASSERT_OK(link("b", "d/c"));
  EXPECT_EQ(3u, Stat("a").st_nlink);
  EXPECT_EQ(Stat("a").st_ino, Stat("d/c").st_ino);
  EXPECT_EQ("shared", ReadAll("d/c"));
  EXPECT_ERRNO(EEXIST, link("a", "b"));
  EXPECT_ERRNO(EEXIST, link("a", "d"));
  EXPECT_ERRNO(ENOENT, link("nothing", "x"));
  EXPECT_ERRNO(EPERM, link("d", "x"));
  ASSERT_OK(unlink("a"));
  EXPECT_EQ(2u, Stat("b").st_nlink);
  ASSERT_OK(unlink("b"));
  EXPECT_EQ(1u, Stat("d/c").st_nlink);
  EXPECT_EQ("shared", ReadAll("d/c"));
}

TEST_F(LinkTest, ManyLinks) {
  MakeFile("f");
  for (int i = 0; i < 100; i++) ASSERT_OK(link("f", ("l" + std::to_string(i)).c_str()));
  EXPECT_EQ(101u, Stat("f").st_nlink);
  for (int i = 0; i < 100; i++) ASSERT_OK(unlink(("l" + std::to_string(i)).c_str()));
  EXPECT_EQ(1u, Stat("f").st_nlink);
}

TEST_F(LinkTest, LinkMovesChangeTime) {
  MakeFile("f");
  struct stat before = Stat("f");
  usleep(20000);
  ASSERT_OK(link("f", "g"));
  struct stat after = Stat("f");
  EXPECT_TRUE(after.st_ctim.tv_sec > before.st_ctim.tv_sec ||
              (after.st_ctim.tv_sec == before.st_ctim.tv_sec && after.st_ctim.tv_nsec > before.st_ctim.tv_nsec));
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST_F(LinkTest, LinkToSymlinkAndNode) {
  ASSERT_OK(symlink("nowhere", "s"));
  ASSERT_OK(link("s", "s2"));
  EXPECT_EQ(2u, LStat("s2").st_nlink);
  EXPECT_TRUE(S_ISLNK(LStat("s2").st_mode));
  ASSERT_OK(mknod("p", S_IFIFO | 0600, 0));
  ASSERT_OK(link("p", "p2"));
  EXPECT_EQ(2u, LStat("p").st_nlink);
}

TEST_F(LinkTest, OpenUnlinked) {
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(5, write(fd, "first", 5));
  ASSERT_OK(unlink("f"));
  EXPECT_FALSE(Exists("f"));
  struct stat st {};
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(0u, st.st_nlink);
  EXPECT_EQ(5, st.st_size);
  MakeFile("f", "another");  // the name is free; the old file is not this one

  std::string block = Repeat('u', 300000);
  EXPECT_EQ(ssize_t(block.size()), pwrite(fd, block.data(), block.size(), 4096 * 5 + 17));
  EXPECT_OK(fsync(fd));
  EXPECT_OK(ftruncate(fd, 200000));
  EXPECT_OK(fchmod(fd, 0640));
  std::string back(200000, 'x');
  EXPECT_EQ(200000, pread(fd, back.data(), back.size(), 0));
  EXPECT_EQ("first", back.substr(0, 5));
  EXPECT_EQ(Repeat('\0', 100), back.substr(5, 100));
  EXPECT_EQ(Repeat('u', 1000), back.substr(4096 * 5 + 17, 1000));
  EXPECT_ERRNO(ENOENT, linkat(fd, "", AT_FDCWD, "revived", AT_EMPTY_PATH));
  EXPECT_OK(close(fd));
  EXPECT_EQ("another", ReadAll("f"));
}

TEST_F(LinkTest, ReplacedByRenameWhileOpen) {
  MakeFile("old", "old contents");
  int fd = open("old", O_RDWR);
  ASSERT_GE(fd, 0);
  MakeFile("new", "new contents");
  ASSERT_OK(rename("new", "old"));
  char buffer[64];
  EXPECT_EQ(12, pread(fd, buffer, sizeof buffer, 0));
  EXPECT_EQ("old contents", std::string(buffer, 12));
  EXPECT_EQ(4, pwrite(fd, "grow", 4, 12));
  EXPECT_OK(fsync(fd));
  EXPECT_EQ("new contents", ReadAll("old"));
  EXPECT_OK(close(fd));
}

TEST_F(LinkTest, ManyOpenUnlinked) {
  int fds[64];
  for (int i = 0; i < 64; i++) {
    fds[i] = open("f", O_CREAT | O_EXCL | O_RDWR, 0600);
    ASSERT_GE(fds[i], 0);
    ASSERT_EQ(ssize_t(sizeof i), write(fds[i], &i, sizeof i));
    ASSERT_OK(unlink("f"));
  }
  for (int i = 0; i < 64; i++) {
    int value = -1;
    EXPECT_EQ(ssize_t(sizeof value), pread(fds[i], &value, sizeof value, 0));
    EXPECT_EQ(i, value);
    close(fds[i]);
  }
}

}  // namespace
}  // namespace weft::test
