// SPDX-License-Identifier: MIT
//
// Files as the name space sees them: size, truncate, append, sparse tails.
#include <sys/resource.h>
#include <sys/uio.h>

#include <csignal>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class FileTest : public NamespaceTest {};

TEST_F(FileTest, TruncateZeroesTheTail) {
  for (off_t cut : {0L, 1L, 511L, 4095L, 4096L, 4097L, 70000L, 131072L}) {
    std::string name = "f" + std::to_string(cut);
    MakeFile(name, Repeat('d', 200000));
    ASSERT_OK(truncate(name.c_str(), cut));
    EXPECT_EQ(cut, Stat(name).st_size);
    ASSERT_OK(truncate(name.c_str(), 150000));
    std::string contents = ReadAll(name);
    ASSERT_EQ(150000u, contents.size());
    EXPECT_EQ(Repeat('d', cut), contents.substr(0, cut));
    EXPECT_EQ(Repeat('\0', 150000 - cut), contents.substr(cut)) << "cut at " << cut;
  }
}

TEST_F(FileTest, TruncateZeroesTheTailOnTheTargetToo) {
  MakeFile("f", Repeat('d', 20000));
  int fd = open("f", O_RDWR);
  ASSERT_GE(fd, 0);
  ASSERT_OK(fsync(fd));
  ASSERT_OK(ftruncate(fd, 5000));
  ASSERT_OK(fsync(fd));
  ASSERT_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  ASSERT_OK(ftruncate(fd, 20000));
  ASSERT_OK(fsync(fd));
  ASSERT_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  EXPECT_EQ(Repeat('d', 5000) + Repeat('\0', 15000), ReadAll("f"));
  close(fd);
}

TEST_F(FileTest, WriteBehindTheEnd) {
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(3, pwrite(fd, "abc", 3, 0));
  ASSERT_EQ(3, pwrite(fd, "xyz", 3, 1000000));
  EXPECT_EQ(1000003, Stat("f").st_size);
  EXPECT_EQ("abc" + Repeat('\0', 999997) + "xyz", ReadAll("f"));
  EXPECT_LT(Stat("f").st_blocks * 512, 1000000) << "the hole takes space";
  char buffer[16];
  EXPECT_EQ(3, pread(fd, buffer, 16, 1000000));
  EXPECT_EQ(0, pread(fd, buffer, 16, 1000003));
  EXPECT_EQ(0, pread(fd, buffer, 16, 5000000));
  close(fd);
}

TEST_F(FileTest, HugeSparse) {
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  const off_t far = (1LL << 40) + 12345;
  ASSERT_EQ(4, pwrite(fd, "tail", 4, far));
  EXPECT_EQ(far + 4, Stat("f").st_size);
  char buffer[8] = {};
  EXPECT_EQ(4, pread(fd, buffer, 8, far));
  EXPECT_STREQ("tail", buffer);
  EXPECT_EQ(8, pread(fd, buffer, 8, 1LL << 39));
  EXPECT_EQ(Repeat('\0', 8), std::string(buffer, 8));
  EXPECT_OK(fsync(fd));
  EXPECT_OK(ftruncate(fd, 0));
  EXPECT_EQ(0, Stat("f").st_blocks);
  close(fd);
}

TEST_F(FileTest, TooBig) {
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_ERRNO(EINVAL, ftruncate(fd, -1));
  EXPECT_ERRNO(EINVAL, pwrite(fd, "x", 1, -1));
  // The largest size is the file system's own affair, but it must be refused, not wrapped.
  EXPECT_EQ(-1, pwrite(fd, "xx", 2, INT64_MAX - 1));
  EXPECT_TRUE(errno == EFBIG || errno == EINVAL || errno == EOVERFLOW) << strerror(errno);
  EXPECT_EQ(0, Stat("f").st_size);
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit old {
  }, limit{};
  getrlimit(RLIMIT_FSIZE, &old);
  limit = {10000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  std::string big = Repeat('x', 20000);
  EXPECT_EQ(10000, write(fd, big.data(), big.size()));
  EXPECT_ERRNO(EFBIG, write(fd, big.data(), big.size()));
  EXPECT_ERRNO(EFBIG, ftruncate(fd, 20000));
  setrlimit(RLIMIT_FSIZE, &old);
  close(fd);
}

TEST_F(FileTest, Append) {
  int a = open("f", O_CREAT | O_WRONLY | O_APPEND, 0600);
  int b = open("f", O_WRONLY | O_APPEND);
  ASSERT_TRUE(a >= 0 && b >= 0);
  ASSERT_EQ(2, write(a, "a1", 2));
  ASSERT_EQ(2, write(b, "b1", 2));
  ASSERT_EQ(2, write(a, "a2", 2));
  lseek(b, 0, SEEK_SET);
  ASSERT_EQ(2, write(b, "b2", 2));
  EXPECT_EQ("a1b1a2b2", ReadAll("f"));
  ASSERT_OK(ftruncate(a, 2));
  ASSERT_EQ(2, write(b, "b3", 2));
  EXPECT_EQ("a1b3", ReadAll("f"));
  close(a);
  close(b);
}

TEST_F(FileTest, VectorsAndSmallPieces) {
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  std::string expected;
  for (int i = 0; i < 2000; i++) {
    std::string piece = std::to_string(i) + ",";
    struct iovec parts[3] = {{piece.data(), 1}, {piece.data() + 1, piece.size() - 1}, {nullptr, 0}};
    ASSERT_EQ(ssize_t(piece.size()), writev(fd, parts, 3));
    expected += piece;
  }
  EXPECT_EQ(expected, ReadAll("f"));
  close(fd);
}

TEST_F(FileTest, OpenFileModes) {
  MakeFile("f", "abc");
  int reader = open("f", O_RDONLY);
  int writer = open("f", O_WRONLY);
  char c;
  EXPECT_ERRNO(EBADF, write(reader, "x", 1));
  EXPECT_ERRNO(EBADF, read(writer, &c, 1));
  EXPECT_ERRNO(EINVAL, ftruncate(reader, 0));
  EXPECT_ERRNO(EISDIR, truncate(".", 0));
  int dir = open(".", O_RDONLY);
  EXPECT_ERRNO(EISDIR, read(dir, &c, 1));
  EXPECT_OK(fsync(dir));
  EXPECT_OK(syncfs(dir));
  close(dir);
  close(reader);
  close(writer);
}

TEST_F(FileTest, SynchronousWrites) {
  for (int flag : {O_SYNC, O_DSYNC}) {
    std::string name = "f" + std::to_string(flag);
    int fd = open(name.c_str(), O_CREAT | O_RDWR | flag, 0600);
    ASSERT_GE(fd, 0);
    for (int i = 0; i < 20; i++) ASSERT_EQ(1000, write(fd, Repeat('a' + i, 1000).data(), 1000));
    close(fd);
    std::string contents = ReadAll(name);
    ASSERT_EQ(20000u, contents.size());
    for (int i = 0; i < 20; i++) EXPECT_EQ(Repeat('a' + i, 1000), contents.substr(i * 1000, 1000));
  }
}

TEST_F(FileTest, BlocksAreCounted) {
  MakeFile("f", Repeat('b', 1 << 20));
  int fd = open("f", O_RDWR);
  ASSERT_OK(fsync(fd));
  EXPECT_GE(Stat("f").st_blocks * 512, 1 << 20);
  EXPECT_LE(Stat("f").st_blocks * 512, (1 << 20) + 65536);
  ASSERT_OK(ftruncate(fd, 1 << 19));
  ASSERT_OK(fsync(fd));
  EXPECT_LE(Stat("f").st_blocks * 512, (1 << 19) + 65536);
  close(fd);
}

TEST_F(FileTest, Locks) {
  MakeFile("f", "x");
  int fd = open("f", O_RDWR);
  ASSERT_GE(fd, 0);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 10;
  ASSERT_OK(fcntl(fd, F_SETLK, &lock));
  EXPECT_EQ(0, AsUser(0, 0, [] {
              int other = open("f", O_RDWR);
              struct flock want {};
              want.l_type = F_WRLCK;
              want.l_len = 1;
              if (fcntl(other, F_SETLK, &want) == 0 || (errno != EAGAIN && errno != EACCES)) return 1;
              want.l_start = 10;
              return fcntl(other, F_SETLK, &want) == 0 ? 0 : 2;
            }));
  close(fd);
}

}  // namespace
}  // namespace weft::test
