// SPDX-License-Identifier: MIT
//
// What a name may be.
#include <limits.h>
#include <sys/statvfs.h>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class NameTest : public NamespaceTest {};

TEST_F(NameTest, Longest) {
  std::string name = Repeat('n', 255);
  MakeFile(name, "x");
  EXPECT_EQ("x", ReadAll(name));
  EXPECT_EQ(std::set<std::string>{name}, List("."));
  std::string other = Repeat('o', 255);
  ASSERT_OK(rename(name.c_str(), other.c_str()));
  ASSERT_OK(link(other.c_str(), name.c_str()));
  EXPECT_EQ((std::set<std::string>{name, other}), List("."));

  std::string over = Repeat('n', 256);
  EXPECT_ERRNO(ENAMETOOLONG, open(over.c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ENAMETOOLONG, mkdir(over.c_str(), 0700));
  EXPECT_ERRNO(ENAMETOOLONG, rename(name.c_str(), over.c_str()));
  EXPECT_ERRNO(ENAMETOOLONG, link(name.c_str(), over.c_str()));
  EXPECT_ERRNO(ENAMETOOLONG, symlink("x", over.c_str()));
  EXPECT_ERRNO(ENAMETOOLONG, access(over.c_str(), F_OK));
  EXPECT_ERRNO(ENAMETOOLONG, unlink(over.c_str()));
}

TEST_F(NameTest, EveryByteButSlashAndZero) {
  std::set<std::string> made;
  for (int byte = 1; byte < 256; byte++) {
    if (byte == '/') continue;
    std::string name = "b";
    name += char(byte);
    MakeFile(name, name);
    made.insert(name);
  }
  for (const char* name : {"...", "..x", " ", "\n", "\xff\xfe\xff", "\xc3\x28", "\xe2\x82\xac", "-rf", "*", "%s%n"}) {
    MakeFile(name, name);
    made.insert(name);
  }
  EXPECT_EQ(made, List("."));
  for (const std::string& name : made) EXPECT_EQ(name, ReadAll(name));
}

TEST_F(NameTest, CaseAndPrefixMatter) {
  MakeFile("name");
  MakeFile("Name");
  MakeFile("nam");
  MakeFile("name2");
  EXPECT_EQ(4u, List(".").size());
  ASSERT_OK(unlink("nam"));
  EXPECT_TRUE(Exists("name"));
  EXPECT_TRUE(Exists("Name"));
  EXPECT_TRUE(Exists("name2"));
}

TEST_F(NameTest, EveryLength) {
  for (size_t length = 1; length <= 255; length++) MakeFile(Repeat('l', length), std::to_string(length));
  EXPECT_EQ(255u, List(".").size());
  for (size_t length = 1; length <= 255; length++) EXPECT_EQ(std::to_string(length), ReadAll(Repeat('l', length)));
}

TEST_F(NameTest, DotsAndEmpty) {
  EXPECT_ERRNO(ENOENT, open("", O_RDONLY));
  EXPECT_ERRNO(EEXIST, mkdir(".", 0700));
  EXPECT_ERRNO(EEXIST, mkdir("..", 0700));
  ASSERT_OK(mkdir("d", 0755));
  EXPECT_EQ(Stat(".").st_ino, Stat("d/..").st_ino);
  EXPECT_EQ(Stat("d").st_ino, Stat("d/.").st_ino);
  EXPECT_EQ(Stat("d").st_ino, Stat("d/../d/./").st_ino);
}

TEST_F(NameTest, DeepTree) {
  constexpr int kDepth = 200;
  for (int i = 0; i < kDepth; i++) {
    ASSERT_OK(mkdir("deeper", 0755));
    ASSERT_OK(chdir("deeper"));
  }
  MakeFile("bottom", "here");
  for (int i = 0; i < kDepth; i++) ASSERT_OK(chdir(".."));
  std::string path;
  for (int i = 0; i < kDepth; i++) path += "deeper/";
  EXPECT_EQ("here", ReadAll(path + "bottom"));
}

TEST_F(NameTest, Statfs) {
  struct statvfs fs {};
  ASSERT_OK(statvfs(".", &fs));
  EXPECT_GT(fs.f_blocks, 0u);
  EXPECT_LE(fs.f_bfree, fs.f_blocks);
  EXPECT_LE(fs.f_bavail, fs.f_bfree);
  EXPECT_EQ(255u, fs.f_namemax);
  EXPECT_EQ(0u, fs.f_bsize & (fs.f_bsize - 1));
}

}  // namespace
}  // namespace weft::test
