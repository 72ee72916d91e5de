// SPDX-License-Identifier: MIT
//
// Holes and preallocated space: SEEK_HOLE, SEEK_DATA, FIEMAP and the modes of fallocate(2).
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "tests/tools/gtest_main.h"

namespace {

constexpr off_t kBlock = 4096;
constexpr char kName[] = "sparse";

class SparseTest : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = open(kName, O_CREAT | O_TRUNC | O_RDWR, 0644);
    ASSERT_GE(fd_, 0) << strerror(errno);
  }
  void TearDown() override {
    close(fd_);
    unlink(kName);
  }
  void Put(off_t block, off_t count, char byte) {
    std::string bytes(count * kBlock, byte);
    ASSERT_EQ(ssize_t(bytes.size()), pwrite(fd_, bytes.data(), bytes.size(), block * kBlock)) << strerror(errno);
  }
  std::string Get(off_t offset, size_t length) {
    std::string bytes(length, '?');
    EXPECT_EQ(ssize_t(length), pread(fd_, bytes.data(), length, offset));
    return bytes;
  }
  off_t Size() {
    struct stat st {};
    EXPECT_OK(fstat(fd_, &st));
    return st.st_size;
  }
  off_t Blocks() {  // allocated, of 4096 bytes
    struct stat st {};
    EXPECT_OK(fsync(fd_));
    EXPECT_OK(fstat(fd_, &st));
    return st.st_blocks / 8;
  }
  // A file system may count blocks of its own extent tree too.
  void ExpectBlocks(off_t want) {
    off_t blocks = Blocks();
    EXPECT_LE(want, blocks);
    EXPECT_GE(want + want / 100 + 1, blocks);
  }
  std::vector<struct fiemap_extent> Extents() {
    std::vector<uint64_t> memory((sizeof(struct fiemap) + 200 * sizeof(struct fiemap_extent)) / 8 + 1);
    auto* map = reinterpret_cast<struct fiemap*>(memory.data());
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = 200;
    EXPECT_OK(ioctl(fd_, FS_IOC_FIEMAP, map));
    return {map->fm_extents, map->fm_extents + map->fm_mapped_extents};
  }
  // What FIEMAP calls written, block by block.
  std::string Picture(off_t blocks) {
    std::string picture(blocks, '.');
    for (const auto& extent : Extents()) {
      for (off_t b = extent.fe_logical / kBlock; b < off_t((extent.fe_logical + extent.fe_length) / kBlock); b++) {
        if (b < blocks) picture[b] = extent.fe_flags & FIEMAP_EXTENT_UNWRITTEN ? 'u' : 'W';
      }
    }
    return picture;
  }
  int fd_ = -1;
};

TEST_F(SparseTest, SeekFindsHolesAndData) {
  Put(2, 2, 'a');
  Put(8, 1, 'b');
  ASSERT_OK(ftruncate(fd_, 12 * kBlock));
  ASSERT_OK(fsync(fd_));
  EXPECT_EQ(2 * kBlock, lseek(fd_, 0, SEEK_DATA));
  EXPECT_EQ(2 * kBlock + 5, lseek(fd_, 2 * kBlock + 5, SEEK_DATA));
  EXPECT_EQ(4 * kBlock, lseek(fd_, 2 * kBlock, SEEK_HOLE));
  EXPECT_EQ(0, lseek(fd_, 0, SEEK_HOLE));
  EXPECT_EQ(8 * kBlock, lseek(fd_, 4 * kBlock, SEEK_DATA));
  EXPECT_EQ(9 * kBlock, lseek(fd_, 8 * kBlock, SEEK_HOLE));
  EXPECT_EQ(-1, lseek(fd_, 9 * kBlock, SEEK_DATA));
  EXPECT_EQ(ENXIO, errno);
  EXPECT_EQ(-1, lseek(fd_, 12 * kBlock, SEEK_HOLE));
  EXPECT_EQ(ENXIO, errno);
}

TEST_F(SparseTest, SeekAtTheEndOfFile) {
  ASSERT_EQ(10, pwrite(fd_, "0123456789", 10, 0));
  EXPECT_EQ(0, lseek(fd_, 0, SEEK_DATA));
  EXPECT_EQ(10, lseek(fd_, 0, SEEK_HOLE));
  EXPECT_EQ(9, lseek(fd_, 9, SEEK_DATA));
  EXPECT_EQ(-1, lseek(fd_, 10, SEEK_DATA));
  EXPECT_EQ(ENXIO, errno);
}

TEST_F(SparseTest, SeekSeesUnwrittenPagesThatAreDirty) {
  ASSERT_OK(fallocate(fd_, 0, 0, 16 * kBlock));
  Put(6, 1, 'd');  // not yet on the target
  EXPECT_EQ(6 * kBlock, lseek(fd_, 0, SEEK_DATA));
  EXPECT_EQ(7 * kBlock, lseek(fd_, 6 * kBlock, SEEK_HOLE));
  ASSERT_OK(fsync(fd_));
  EXPECT_EQ(6 * kBlock, lseek(fd_, 0, SEEK_DATA));
}

TEST_F(SparseTest, FiemapShowsWhatIsThere) {
  Put(1, 2, 'a');
  Put(5, 1, 'b');
  ASSERT_OK(ftruncate(fd_, 10 * kBlock));
  EXPECT_EQ(".WW..W....", Picture(10));
  auto extents = Extents();
  ASSERT_FALSE(extents.empty());
  EXPECT_TRUE(extents.back().fe_flags & FIEMAP_EXTENT_LAST);
  ExpectBlocks(3);
}

TEST_F(SparseTest, PreallocateThenWrite) {
  ASSERT_OK(fallocate(fd_, 0, 0, 8 * kBlock));
  EXPECT_EQ(8 * kBlock, Size());
  ExpectBlocks(8);
  EXPECT_EQ("uuuuuuuu", Picture(8));
  EXPECT_EQ(std::string(8 * kBlock, '\0'), Get(0, 8 * kBlock));
  Put(2, 3, 'w');
  EXPECT_EQ("uuWWWuuu", Picture(8));
  ExpectBlocks(8);
  EXPECT_EQ(std::string(kBlock, '\0') + std::string(10, 'w'), Get(kBlock, kBlock + 10));
  ASSERT_EQ(3, pwrite(fd_, "abc", 3, 6 * kBlock + 100));
  ASSERT_OK(fsync(fd_));
  ASSERT_OK(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED));
  EXPECT_EQ(std::string(100, '\0') + "abc" + std::string(kBlock - 103, '\0'), Get(6 * kBlock, kBlock));
}

TEST_F(SparseTest, PreallocateKeepsSizeAndContents) {
  Put(0, 2, 'k');
  ASSERT_OK(fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, 10 * kBlock));
  EXPECT_EQ(2 * kBlock, Size());
  ExpectBlocks(10);
  EXPECT_EQ(std::string(2 * kBlock, 'k'), Get(0, 2 * kBlock));
  ASSERT_OK(ftruncate(fd_, 2 * kBlock));  // gives what is behind the end back
  EXPECT_LE(Blocks(), 10);
  ASSERT_OK(ftruncate(fd_, 5 * kBlock));
  EXPECT_EQ(std::string(3 * kBlock, '\0'), Get(2 * kBlock, 3 * kBlock));
}

TEST_F(SparseTest, PunchHole) {
  Put(0, 10, 'p');
  ASSERT_OK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * kBlock, 4 * kBlock));
  EXPECT_EQ("WWW....WWW", Picture(10));
  ExpectBlocks(6);
  EXPECT_EQ(10 * kBlock, Size());
  EXPECT_EQ(std::string(1, 'p') + std::string(4 * kBlock, '\0') + "p", Get(3 * kBlock - 1, 4 * kBlock + 2));
  // Edges inside blocks are zeroed, not freed.
  ASSERT_OK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 200));
  EXPECT_EQ(std::string(100, 'p') + std::string(200, '\0') + std::string(100, 'p'), Get(0, 400));
  ASSERT_OK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kBlock - 10, kBlock + 20));
  EXPECT_EQ(std::string(10, '\0'), Get(kBlock - 10, 10));
  EXPECT_EQ(std::string(10, '\0') + "p", Get(2 * kBlock, 11));
  EXPECT_EQ("W.W....WWW", Picture(10));
  // Without KEEP_SIZE the kernel refuses; behind the end nothing happens.
  EXPECT_EQ(-1, fallocate(fd_, FALLOC_FL_PUNCH_HOLE, 0, kBlock));
  ASSERT_OK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * kBlock, kBlock));
  EXPECT_EQ(10 * kBlock, Size());
}

TEST_F(SparseTest, PunchedSpaceCanBeWrittenAgain) {
  Put(0, 64, '1');
  ASSERT_OK(fsync(fd_));
  for (char round = '2'; round <= '6'; round++) {
    ASSERT_OK(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16 * kBlock, 32 * kBlock));
    EXPECT_EQ(std::string(kBlock, '\0'), Get(20 * kBlock, kBlock));
    Put(16, 32, round);
    ASSERT_OK(fsync(fd_));
    ASSERT_OK(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED));
    EXPECT_EQ(std::string(32 * kBlock, round), Get(16 * kBlock, 32 * kBlock));
    EXPECT_EQ(std::string(16 * kBlock, '1'), Get(48 * kBlock, 16 * kBlock));
  }
}

TEST_F(SparseTest, ZeroRange) {
  Put(0, 8, 'z');
  ASSERT_OK(fallocate(fd_, FALLOC_FL_ZERO_RANGE, kBlock + 50, 3 * kBlock));
  EXPECT_EQ(std::string(50, 'z'), Get(kBlock, 50));
  EXPECT_EQ(std::string(3 * kBlock, '\0') + "z", Get(kBlock + 50, 3 * kBlock + 1));
  ExpectBlocks(8);
  ASSERT_OK(fallocate(fd_, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 7 * kBlock, 4 * kBlock));
  EXPECT_EQ(8 * kBlock, Size());
  EXPECT_EQ(std::string(kBlock, '\0'), Get(7 * kBlock, kBlock));
  ASSERT_OK(fallocate(fd_, FALLOC_FL_ZERO_RANGE, 7 * kBlock, 4 * kBlock));
  EXPECT_EQ(11 * kBlock, Size());
  EXPECT_EQ(std::string(4 * kBlock, '\0'), Get(7 * kBlock, 4 * kBlock));
}

TEST_F(SparseTest, UnknownModesAreRefused) {
  Put(0, 8, 'x');
  for (int mode : {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE}) {
    errno = 0;
    bool refused = fallocate(fd_, mode, 2 * kBlock, 2 * kBlock) != 0;
    EXPECT_EQ(refused ? EOPNOTSUPP : 0, errno);
  }
  EXPECT_EQ(-1, fallocate(fd_, 0x8000, 0, kBlock));
  EXPECT_EQ(-1, fallocate(fd_, 0, -1, kBlock));
  EXPECT_EQ(-1, fallocate(fd_, 0, 0, 0));
}

TEST_F(SparseTest, ManySmallExtents) {
  constexpr off_t kPieces = 1000;
  for (off_t i = 0; i < kPieces; i++) {
    off_t block = (i * 617) % kPieces * 2;
    ASSERT_EQ(ssize_t(sizeof block), pwrite(fd_, &block, sizeof block, block * kBlock));
  }
  ExpectBlocks(kPieces);
  ASSERT_OK(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED));
  off_t at = 0;
  for (off_t i = 0; i < kPieces; i++) {
    off_t data = lseek(fd_, at, SEEK_DATA);
    ASSERT_EQ(i * 2 * kBlock, data);
    off_t seen = -1;
    ASSERT_EQ(ssize_t(sizeof seen), pread(fd_, &seen, sizeof seen, data));
    EXPECT_EQ(i * 2, seen);
    at = lseek(fd_, data, SEEK_HOLE);
  }
  ASSERT_OK(ftruncate(fd_, 0));
  EXPECT_EQ(0, Blocks());
}

}  // namespace

WEFT_TEST_MAIN
