// SPDX-License-Identifier: MIT
//
// Attributes: mode, owner, times, and who may do what.
#include <time.h>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

constexpr uid_t kUser = 12345;
constexpr gid_t kGroup = 23456;

class AttrTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_OK(chmod(".", 0777));
  }
};

bool Later(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

TEST_F(AttrTest, Modes) {
  MakeFile("f");
  ASSERT_OK(mkdir("d", 0755));
  for (mode_t mode : {0u, 0777u, 0400u, 04755u, 02711u, 01777u, 07777u}) {
    EXPECT_OK(chmod("f", mode));
    EXPECT_EQ(mode, Stat("f").st_mode & 07777);
    EXPECT_OK(chmod("d", mode));
    EXPECT_EQ(mode, Stat("d").st_mode & 07777);
  }
}

TEST_F(AttrTest, Owners) {
  MakeFile("f");
  EXPECT_OK(chown("f", kUser, kGroup));
  EXPECT_EQ(kUser, Stat("f").st_uid);
  EXPECT_EQ(kGroup, Stat("f").st_gid);
  EXPECT_OK(chown("f", -1, 7));
  EXPECT_EQ(kUser, Stat("f").st_uid);
  EXPECT_EQ(7u, Stat("f").st_gid);
  EXPECT_OK(chown("f", 4000000000u, 4000000001u));
  EXPECT_EQ(4000000000u, Stat("f").st_uid);
  EXPECT_EQ(4000000001u, Stat("f").st_gid);
  ASSERT_OK(symlink("f", "s"));
  EXPECT_OK(lchown("s", 5, 6));
  EXPECT_EQ(5u, LStat("s").st_uid);
  EXPECT_EQ(4000000000u, Stat("f").st_uid);
}

TEST_F(AttrTest, NewFilesBelongToTheirMaker) {
  EXPECT_EQ(0, AsUser(kUser, kGroup, [] {
              int fd = open("f", O_CREAT | O_RDWR, 0600);
              return fd >= 0 && mkdir("d", 0700) == 0 && symlink("x", "s") == 0 ? 0 : 1;
            }));
  for (const char* name : {"f", "d", "s"}) {
    EXPECT_EQ(kUser, LStat(name).st_uid) << name;
    EXPECT_EQ(kGroup, LStat(name).st_gid) << name;
  }
}

TEST_F(AttrTest, SetgidDirectoryIsInherited) {
  ASSERT_OK(mkdir("d", 0777));
  ASSERT_OK(chown("d", 0, 777));
  ASSERT_OK(chmod("d", 02777));
  EXPECT_EQ(0, AsUser(kUser, kGroup,
                      [] { return open("d/f", O_CREAT | O_RDWR, 0600) >= 0 && mkdir("d/d", 0755) == 0 ? 0 : 1; }));
  EXPECT_EQ(777u, Stat("d/f").st_gid);
  EXPECT_EQ(777u, Stat("d/d").st_gid);
  EXPECT_EQ(mode_t(02755), Stat("d/d").st_mode & 07777);
}

TEST_F(AttrTest, SetIdBitsAreDropped) {
  MakeFile("f", "program");
  ASSERT_OK(chown("f", kUser, kGroup));
  ASSERT_OK(chmod("f", 06777));
  EXPECT_EQ(0, AsUser(kUser + 1, kGroup + 1, [] {
              int fd = open("f", O_WRONLY);
              return fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1;
            }));
  EXPECT_EQ(mode_t(0777), Stat("f").st_mode & 07777) << "after a stranger's write";
  ASSERT_OK(chmod("f", 06755));
  ASSERT_OK(chown("f", kUser + 2, kGroup + 2));
  EXPECT_EQ(mode_t(0755), Stat("f").st_mode & 07777) << "after chown";
}

TEST_F(AttrTest, PermissionsAreChecked) {
  MakeFile("secret", "x");
  ASSERT_OK(chmod("secret", 0600));
  ASSERT_OK(mkdir("locked", 0700));
  MakeFile("locked/f");
  ASSERT_OK(mkdir("readonly", 0755));
  MakeFile("readonly/f");
  EXPECT_EQ(0, AsUser(kUser, kGroup, [] {
              if (open("secret", O_RDONLY) >= 0 || errno != EACCES) return 1;
              if (access("locked/f", F_OK) == 0 || errno != EACCES) return 2;
              if (open("readonly/new", O_CREAT | O_RDWR, 0600) >= 0 || errno != EACCES) return 3;
              if (unlink("readonly/f") == 0 || errno != EACCES) return 4;
              if (chmod("secret", 0777) == 0 || errno != EPERM) return 5;
              if (chown("secret", kUser, kGroup) == 0 || errno != EPERM) return 6;
              if (truncate("secret", 0) == 0 || errno != EACCES) return 7;
              if (utimensat(AT_FDCWD, "secret", nullptr, 0) == 0 || errno != EACCES) return 8;
              return 0;
            }));
}

TEST_F(AttrTest, StickyDirectory) {
  ASSERT_OK(mkdir("tmp", 0777));
  ASSERT_OK(chmod("tmp", 01777));
  EXPECT_EQ(0, AsUser(kUser, kGroup, [] { return open("tmp/mine", O_CREAT | O_RDWR, 0666) >= 0 ? 0 : 1; }));
  EXPECT_EQ(0, AsUser(kUser + 1, kGroup, [] {
              if (unlink("tmp/mine") == 0 || errno != EPERM) return 1;
              if (rename("tmp/mine", "tmp/yours") == 0 || errno != EPERM) return 2;
              return 0;
            }));
  EXPECT_EQ(0, AsUser(kUser, kGroup, [] { return unlink("tmp/mine"); }));
}

TEST_F(AttrTest, Times) {
  MakeFile("f");
  const struct timespec cases[][2] = {{{1, 1}, {2, 2}},
                                      {{1700000000, 999999999}, {1600000000, 123456789}},
                                      {{0, 0}, {0, 0}},
                                      {{-86400, 500}, {-1, 999999999}},
                                      {{5000000000, 1}, {6000000000, 2}}};
  for (const auto& times : cases) {
    EXPECT_OK(utimensat(AT_FDCWD, "f", times, 0));
    struct stat st = Stat("f");
    EXPECT_EQ(times[0].tv_sec, st.st_atim.tv_sec);
    EXPECT_EQ(times[0].tv_nsec, st.st_atim.tv_nsec);
    EXPECT_EQ(times[1].tv_sec, st.st_mtim.tv_sec);
    EXPECT_EQ(times[1].tv_nsec, st.st_mtim.tv_nsec);
  }
  struct timespec omit[2] = {{0, UTIME_OMIT}, {77, 0}};
  struct timespec before = Stat("f").st_atim;
  EXPECT_OK(utimensat(AT_FDCWD, "f", omit, 0));
  EXPECT_EQ(before.tv_sec, Stat("f").st_atim.tv_sec);
  EXPECT_EQ(77, Stat("f").st_mtim.tv_sec);
  struct timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  time_t start = time(nullptr);
  EXPECT_OK(utimensat(AT_FDCWD, "f", now, 0));
  EXPECT_GE(Stat("f").st_mtim.tv_sec, start - 1);
  ASSERT_OK(symlink("f", "s"));
  struct timespec link_times[2] = {{11, 0}, {12, 0}};
  EXPECT_OK(utimensat(AT_FDCWD, "s", link_times, AT_SYMLINK_NOFOLLOW));
  EXPECT_EQ(12, LStat("s").st_mtim.tv_sec);
}

TEST_F(AttrTest, TimesFollowContents) {
  MakeFile("f", "x");
  struct stat a = Stat("f");
  usleep(20000);
  int fd = open("f", O_WRONLY | O_APPEND);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(1, write(fd, "y", 1));
  struct stat b = Stat("f");
  EXPECT_TRUE(Later(b.st_mtim, a.st_mtim));
  EXPECT_TRUE(Later(b.st_ctim, a.st_ctim));
  usleep(20000);
  ASSERT_OK(fchmod(fd, 0600));
  struct stat c = Stat("f");
  EXPECT_FALSE(Later(c.st_mtim, b.st_mtim));
  EXPECT_TRUE(Later(c.st_ctim, b.st_ctim));
  usleep(20000);
  ASSERT_OK(ftruncate(fd, 100));
  struct stat d = Stat("f");
  EXPECT_TRUE(Later(d.st_mtim, c.st_mtim));
  usleep(20000);
  ASSERT_OK(fsync(fd));
  ASSERT_OK(close(fd));
  EXPECT_FALSE(Later(Stat("f").st_mtim, d.st_mtim));
}

TEST_F(AttrTest, BirthTime) {
  MakeFile("f");
  struct statx stx {};
  ASSERT_OK(statx(AT_FDCWD, "f", 0, STATX_BTIME, &stx));
  if (!(stx.stx_mask & STATX_BTIME)) GTEST_SKIP() << "no birth time here";
  EXPECT_NEAR(double(time(nullptr)), double(stx.stx_btime.tv_sec), 60);
  auto birth = stx.stx_btime;
  struct timespec past[2] = {{1000, 0}, {1000, 0}};
  ASSERT_OK(utimensat(AT_FDCWD, "f", past, 0));
  ASSERT_OK(statx(AT_FDCWD, "f", 0, STATX_BTIME, &stx));
  EXPECT_EQ(birth.tv_sec, stx.stx_btime.tv_sec);
  EXPECT_EQ(birth.tv_nsec, stx.stx_btime.tv_nsec);
}

}  // namespace
}  // namespace weft::test
