// SPDX-License-Identifier: MIT
//
// rename(2) in all its cases.
#include <linux/fs.h>
#include <stdio.h>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class RenameTest : public NamespaceTest {};

int Rename2(const char* from, const char* to, unsigned flags) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags); }

TEST_F(RenameTest, Plain) {
  MakeFile("a", "contents");
  ino_t ino = Stat("a").st_ino;
  ASSERT_OK(rename("a", "b"));
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(ino, Stat("b").st_ino);
  EXPECT_EQ("contents", ReadAll("b"));
  ASSERT_OK(mkdir("d", 0755));
  ASSERT_OK(rename("b", "d/b"));
  EXPECT_EQ("contents", ReadAll("d/b"));
  EXPECT_EQ(std::set<std::string>{"d"}, List("."));
  EXPECT_EQ(std::set<std::string>{"b"}, List("d"));
  EXPECT_ERRNO(ENOENT, rename("nothing", "x"));
  EXPECT_ERRNO(ENOENT, rename("d/b", "nothing/x"));
  EXPECT_ERRNO(ENOTDIR, rename("d", "d/b/x"));
}

TEST_F(RenameTest, OverFile) {
  MakeFile("a", "new");
  MakeFile("b", "old");
  ASSERT_OK(link("b", "b2"));
  ASSERT_OK(rename("a", "b"));
  EXPECT_EQ("new", ReadAll("b"));
  EXPECT_EQ(1u, Stat("b").st_nlink);
  EXPECT_EQ("old", ReadAll("b2"));
  EXPECT_EQ(1u, Stat("b2").st_nlink);
  EXPECT_EQ((std::set<std::string>{"b", "b2"}), List("."));
}

TEST_F(RenameTest, OntoItself) {
  MakeFile("a", "x");
  ASSERT_OK(rename("a", "a"));
  ASSERT_OK(link("a", "b"));
  ASSERT_OK(rename("a", "b"));  // two names of one file: nothing happens
  EXPECT_TRUE(Exists("a"));
  EXPECT_TRUE(Exists("b"));
  EXPECT_EQ(2u, Stat("a").st_nlink);
}

TEST_F(RenameTest, Types) {
  ASSERT_OK(mkdir("d", 0755));
  ASSERT_OK(mkdir("e", 0755));
  MakeFile("f");
  EXPECT_ERRNO(EISDIR, rename("f", "d"));
  EXPECT_ERRNO(ENOTDIR, rename("d", "f"));
  MakeFile("e/x");
  EXPECT_ERRNO(ENOTEMPTY, rename("d", "e"));
  ASSERT_OK(unlink("e/x"));
  ino_t ino = Stat("d").st_ino;
  ASSERT_OK(rename("d", "e"));
  EXPECT_EQ(ino, Stat("e").st_ino);
  EXPECT_EQ(3u, Stat(".").st_nlink);
  ASSERT_OK(symlink("nowhere", "s"));
  ASSERT_OK(rename("s", "f"));
  EXPECT_TRUE(S_ISLNK(LStat("f").st_mode));
}

TEST_F(RenameTest, IntoOwnChild) {
  ASSERT_OK(mkdir("a", 0755));
  ASSERT_OK(mkdir("a/b", 0755));
  ASSERT_OK(mkdir("a/b/c", 0755));
  EXPECT_ERRNO(EINVAL, rename("a", "a/x"));
  EXPECT_ERRNO(EINVAL, rename("a", "a/b/c/x"));
  EXPECT_ERRNO(EINVAL, rename("a", "a/b"));
  EXPECT_ERRNO(ENOTEMPTY, rename("a/b/c", "a"));
  EXPECT_EQ(std::set<std::string>{"a"}, List("."));
  EXPECT_EQ(std::set<std::string>{"b"}, List("a"));
}

TEST_F(RenameTest, DirectoryMovesParent) {
  ASSERT_OK(mkdir("a", 0755));
  ASSERT_OK(mkdir("b", 0755));
  ASSERT_OK(mkdir("a/d", 0755));
  MakeFile("a/d/f", "deep");
  ASSERT_OK(rename("a/d", "b/e"));
  EXPECT_EQ("deep", ReadAll("b/e/f"));
  EXPECT_EQ(Stat("b").st_ino, Stat("b/e/..").st_ino);
  EXPECT_EQ(2u, Stat("a").st_nlink);
  EXPECT_EQ(3u, Stat("b").st_nlink);
  ASSERT_OK(rmdir("a"));
}

TEST_F(RenameTest, NoReplace) {
  MakeFile("a", "a");
  MakeFile("b", "b");
  EXPECT_ERRNO(EEXIST, Rename2("a", "b", RENAME_NOREPLACE));
  EXPECT_EQ("b", ReadAll("b"));
  EXPECT_EQ("a", ReadAll("a"));
  EXPECT_OK(Rename2("a", "c", RENAME_NOREPLACE));
  EXPECT_EQ("a", ReadAll("c"));
  EXPECT_ERRNO(EINVAL, Rename2("c", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
}

TEST_F(RenameTest, ExchangeFiles) {
  MakeFile("a", "A");
  ASSERT_OK(mkdir("d", 0755));
  MakeFile("d/b", "B");
  ino_t a = Stat("a").st_ino, b = Stat("d/b").st_ino;
  EXPECT_ERRNO(ENOENT, Rename2("a", "nothing", RENAME_EXCHANGE));
  ASSERT_OK(Rename2("a", "d/b", RENAME_EXCHANGE));
  EXPECT_EQ(b, Stat("a").st_ino);
  EXPECT_EQ(a, Stat("d/b").st_ino);
  EXPECT_EQ("B", ReadAll("a"));
  EXPECT_EQ("A", ReadAll("d/b"));
  EXPECT_EQ(1u, Stat("a").st_nlink);
}

TEST_F(RenameTest, ExchangeFileAndDirectory) {
  ASSERT_OK(mkdir("p", 0755));
  ASSERT_OK(mkdir("q", 0755));
  ASSERT_OK(mkdir("p/d", 0755));
  MakeFile("p/d/in");
  MakeFile("q/f", "file");
  ASSERT_OK(Rename2("p/d", "q/f", RENAME_EXCHANGE));
  EXPECT_EQ("file", ReadAll("p/d"));
  EXPECT_TRUE(Exists("q/f/in"));
  EXPECT_EQ(2u, Stat("p").st_nlink);
  EXPECT_EQ(3u, Stat("q").st_nlink);
  EXPECT_EQ(Stat("q").st_ino, Stat("q/f/..").st_ino);
}

TEST_F(RenameTest, ExchangeDirectories) {
  ASSERT_OK(mkdir("p", 0755));
  ASSERT_OK(mkdir("p/a", 0755));
  ASSERT_OK(mkdir("b", 0755));
  MakeFile("p/a/in_a");
  MakeFile("b/in_b");
  ASSERT_OK(Rename2("p/a", "b", RENAME_EXCHANGE));
  EXPECT_TRUE(Exists("p/a/in_b"));
  EXPECT_TRUE(Exists("b/in_a"));
  EXPECT_EQ(Stat("p").st_ino, Stat("p/a/..").st_ino);
  EXPECT_EQ(3u, Stat("p").st_nlink);
  ASSERT_OK(mkdir("b/child", 0755));
  EXPECT_ERRNO(EINVAL, Rename2("b", "b/child", RENAME_EXCHANGE));
}

TEST_F(RenameTest, WhileOpenAndDirty) {
  int fd = open("a", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  std::string half = Repeat('1', 100000);
  ASSERT_EQ(100000, write(fd, half.data(), half.size()));
  ASSERT_OK(rename("a", "b"));
  ASSERT_EQ(100000, write(fd, half.data(), half.size()));
  ASSERT_OK(close(fd));
  EXPECT_EQ(Repeat('1', 200000), ReadAll("b"));
}

TEST_F(RenameTest, TimesMove) {
  ASSERT_OK(mkdir("p", 0755));
  ASSERT_OK(mkdir("q", 0755));
  MakeFile("p/f");
  struct timespec past[2] = {{1000, 0}, {1000, 0}};
  ASSERT_OK(utimensat(AT_FDCWD, "p", past, 0));
  ASSERT_OK(utimensat(AT_FDCWD, "q", past, 0));
  ASSERT_OK(utimensat(AT_FDCWD, "p/f", past, 0));
  ASSERT_OK(rename("p/f", "q/f"));
  EXPECT_GT(Stat("p").st_mtim.tv_sec, 1000);
  EXPECT_GT(Stat("q").st_mtim.tv_sec, 1000);
  EXPECT_EQ(1000, Stat("q/f").st_mtim.tv_sec);
}

TEST_F(RenameTest, ChainOfMany) {
  MakeFile("n0", "same");
  for (int i = 0; i < 60; i++) {
    ASSERT_OK(rename(("n" + std::to_string(i)).c_str(), ("n" + std::to_string(i + 1)).c_str()));
  }
  EXPECT_EQ(std::set<std::string>{"n60"}, List("."));
  EXPECT_EQ("same", ReadAll("n60"));
}

}  // namespace
}  // namespace weft::test
