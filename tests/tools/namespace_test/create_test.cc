// SPDX-License-Identifier: MIT
//
// Making and removing names: create, mkdir, mknod, symlink, unlink, rmdir.
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class CreateTest : public NamespaceTest {};

TEST_F(CreateTest, OpenFlags) {
  EXPECT_ERRNO(ENOENT, open("f", O_RDWR));
  int fd = open("f", O_CREAT | O_EXCL | O_RDWR, 0640);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(mode_t(S_IFREG | 0640), Stat("f").st_mode);
  EXPECT_EQ(0, Stat("f").st_size);
  EXPECT_EQ(1u, Stat("f").st_nlink);
  EXPECT_EQ(5, write(fd, "hello", 5));
  close(fd);
  EXPECT_ERRNO(EEXIST, open("f", O_CREAT | O_EXCL | O_RDWR, 0640));
  fd = open("f", O_CREAT | O_RDWR, 0600);  // exists: opened as it is
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ("hello", ReadAll("f"));
  EXPECT_EQ(mode_t(S_IFREG | 0640), Stat("f").st_mode);
  fd = open("f", O_WRONLY | O_TRUNC);
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ(0, Stat("f").st_size);
  EXPECT_ERRNO(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
  EXPECT_ERRNO(ENOTDIR, open("f/x", O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ENOENT, open("nothing/x", O_CREAT | O_RDWR, 0600));
}

TEST_F(CreateTest, UmaskHolds) {
  umask(077);
  MakeFile("f");
  ASSERT_OK(mkdir("d", 0777));
  EXPECT_EQ(mode_t(S_IFREG | 0600), Stat("f").st_mode);
  EXPECT_EQ(mode_t(S_IFDIR | 0700), Stat("d").st_mode);
}

TEST_F(CreateTest, DirectoryLife) {
  ASSERT_OK(mkdir("d", 0755));
  EXPECT_EQ(mode_t(S_IFDIR | 0755), Stat("d").st_mode);
  EXPECT_ERRNO(EEXIST, mkdir("d", 0755));
  EXPECT_ERRNO(EISDIR, open("d", O_RDWR));
  EXPECT_ERRNO(EISDIR, unlink("d"));
  MakeFile("d/f");
  EXPECT_ERRNO(ENOTEMPTY, rmdir("d"));
  EXPECT_ERRNO(ENOTDIR, rmdir("d/f"));
  ASSERT_OK(unlink("d/f"));
  EXPECT_ERRNO(EINVAL, rmdir("d/."));
  ASSERT_OK(rmdir("d"));
  EXPECT_ERRNO(ENOENT, rmdir("d"));
  EXPECT_ERRNO(ENOENT, unlink("d"));
  MakeFile("d");  // the name is free again, for another type
  EXPECT_ERRNO(EEXIST, mkdir("d", 0755));
}

TEST_F(CreateTest, RemovedDirectoryIsDead) {
  ASSERT_OK(mkdir("d", 0755));
  int fd = open("d", O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  ASSERT_OK(rmdir("d"));
  EXPECT_ERRNO(ENOENT, openat(fd, "f", O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ENOENT, mkdirat(fd, "d", 0700));
  struct stat st {};
  EXPECT_OK(fstat(fd, &st));
  EXPECT_EQ(0u, st.st_nlink);
  EXPECT_OK(close(fd));
}

TEST_F(CreateTest, DirectoryLinkCounts) {
  EXPECT_EQ(2u, Stat(".").st_nlink);
  ASSERT_OK(mkdir("a", 0755));
  ASSERT_OK(mkdir("b", 0755));
  EXPECT_EQ(4u, Stat(".").st_nlink);
  EXPECT_EQ(2u, Stat("a").st_nlink);
  MakeFile("f");
  EXPECT_EQ(4u, Stat(".").st_nlink);
  ASSERT_OK(mkdir("a/c", 0755));
  EXPECT_EQ(3u, Stat("a").st_nlink);
  ASSERT_OK(rename("a/c", "b/c"));
  EXPECT_EQ(2u, Stat("a").st_nlink);
  EXPECT_EQ(3u, Stat("b").st_nlink);
  ASSERT_OK(rmdir("b/c"));
  ASSERT_OK(rmdir("b"));
  EXPECT_EQ(3u, Stat(".").st_nlink);
}

TEST_F(CreateTest, ParentTimesMove) {
  ASSERT_OK(mkdir("d", 0755));
  struct timespec past[2] = {{1000, 5}, {1000, 5}};
  const auto moved = [&] {
    struct stat st = Stat("d");
    bool result = st.st_mtim.tv_sec > 1000;
    EXPECT_GE(st.st_ctim.tv_sec, st.st_mtim.tv_sec);
    EXPECT_OK(utimensat(AT_FDCWD, "d", past, 0));
    EXPECT_EQ(1000, Stat("d").st_mtim.tv_sec);
    EXPECT_EQ(5, Stat("d").st_mtim.tv_nsec);
    return result;
  };
  moved();
  MakeFile("d/f");
  EXPECT_TRUE(moved()) << "create";
  ASSERT_OK(link("d/f", "d/g"));
  EXPECT_TRUE(moved()) << "link";
  ASSERT_OK(symlink("x", "d/s"));
  EXPECT_TRUE(moved()) << "symlink";
  ASSERT_OK(rename("d/f", "d/h"));
  EXPECT_TRUE(moved()) << "rename";
  ASSERT_OK(unlink("d/h"));
  EXPECT_TRUE(moved()) << "unlink";
  ASSERT_OK(mkdir("d/d", 0755));
  EXPECT_TRUE(moved()) << "mkdir";
  ASSERT_OK(rmdir("d/d"));
  EXPECT_TRUE(moved()) << "rmdir";
}

TEST_F(CreateTest, Nodes) {
  ASSERT_OK(mknod("fifo", S_IFIFO | 0600, 0));
  ASSERT_OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
  ASSERT_OK(mknod("block", S_IFBLK | 0600, makedev(259, 70000)));
  ASSERT_OK(mknod("regular", S_IFREG | 0600, 0));
  EXPECT_ERRNO(EEXIST, mknod("regular", S_IFREG | 0600, 0));
  EXPECT_TRUE(S_ISFIFO(LStat("fifo").st_mode));
  EXPECT_TRUE(S_ISCHR(LStat("null").st_mode));
  EXPECT_EQ(makedev(1, 3), LStat("null").st_rdev);
  EXPECT_TRUE(S_ISBLK(LStat("block").st_mode));
  EXPECT_EQ(makedev(259, 70000), LStat("block").st_rdev);
  EXPECT_TRUE(S_ISREG(LStat("regular").st_mode));

  int reader = open("fifo", O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  int writer = open("fifo", O_WRONLY | O_NONBLOCK);
  ASSERT_GE(writer, 0);
  EXPECT_EQ(3, write(writer, "abc", 3));
  char buffer[8];
  EXPECT_EQ(3, read(reader, buffer, sizeof buffer));
  close(reader);
  close(writer);

  int null = open("null", O_WRONLY);
  if (null >= 0) {  // not on a nodev mount
    EXPECT_EQ(3, write(null, "abc", 3));
    close(null);
  }

  int sock = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, "socket");
  ASSERT_OK(bind(sock, reinterpret_cast<struct sockaddr*>(&address), sizeof address));
  EXPECT_TRUE(S_ISSOCK(LStat("socket").st_mode));
  close(sock);
}

TEST_F(CreateTest, SymbolicLinks) {
  ASSERT_OK(mkdir("d", 0755));
  MakeFile("d/f", "through");
  ASSERT_OK(symlink("d/f", "s"));
  ASSERT_OK(symlink("d", "sd"));
  ASSERT_OK(symlink("nothing", "dangling"));
  EXPECT_ERRNO(EEXIST, symlink("x", "s"));
  EXPECT_ERRNO(ENOENT, symlink("", "empty"));
  char buffer[5000];
  EXPECT_EQ(3, readlink("s", buffer, sizeof buffer));
  EXPECT_EQ("d/f", std::string(buffer, 3));
  EXPECT_EQ(2, readlink("s", buffer, 2));
  EXPECT_ERRNO(EINVAL, readlink("d", buffer, sizeof buffer));
  EXPECT_EQ("through", ReadAll("s"));
  EXPECT_EQ("through", ReadAll("sd/f"));
  EXPECT_TRUE(S_ISLNK(LStat("s").st_mode));
  EXPECT_EQ(3, LStat("s").st_size);
  EXPECT_ERRNO(ENOENT, open("dangling", O_RDONLY));
  EXPECT_ERRNO(EEXIST, open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600));
  EXPECT_ERRNO(ELOOP, open("s", O_RDONLY | O_NOFOLLOW));
  EXPECT_ERRNO(ENOTDIR, rmdir("sd"));
  ASSERT_OK(unlink("sd"));
  EXPECT_TRUE(Exists("d/f"));

  std::string longest = Repeat('t', 4095);
  ASSERT_OK(symlink(longest.c_str(), "long"));
  EXPECT_EQ(4095, readlink("long", buffer, sizeof buffer));
  EXPECT_EQ(longest, std::string(buffer, 4095));
  EXPECT_ERRNO(ENAMETOOLONG, symlink(Repeat('t', 4096).c_str(), "longer"));
}

TEST_F(CreateTest, LinkLoops) {
  ASSERT_OK(symlink("b", "a"));
  ASSERT_OK(symlink("a", "b"));
  EXPECT_ERRNO(ELOOP, open("a", O_RDONLY));
  EXPECT_ERRNO(ELOOP, access("b/x", F_OK));
  ASSERT_OK(symlink("self", "self"));
  EXPECT_ERRNO(ELOOP, chmod("self", 0600));
}

TEST_F(CreateTest, NegativeEntriesDoNotStick) {
  for (int i = 0; i < 50; i++) {
    std::string name = "n" + std::to_string(i % 5);
    EXPECT_ERRNO(ENOENT, access(name.c_str(), F_OK));
    if (i % 2 == 0) {
      MakeFile(name);
      EXPECT_OK(access(name.c_str(), F_OK));
      ASSERT_OK(unlink(name.c_str()));
    } else {
      ASSERT_OK(mkdir(name.c_str(), 0700));
      EXPECT_OK(access(name.c_str(), F_OK));
      ASSERT_OK(rmdir(name.c_str()));
    }
  }
}

TEST_F(CreateTest, TemporaryFile) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  if (fd < 0) {
    EXPECT_EQ(EOPNOTSUPP, errno) << "a file system without O_TMPFILE says so with EOPNOTSUPP";
    GTEST_SKIP() << "no O_TMPFILE here";
  }
  EXPECT_EQ(3, write(fd, "abc", 3));
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  EXPECT_OK(linkat(AT_FDCWD, path.c_str(), AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  close(fd);
  EXPECT_EQ("abc", ReadAll("named"));
}

}  // namespace
}  // namespace weft::test
