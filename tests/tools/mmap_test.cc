// SPDX-License-Identifier: MIT
//
// Mappings of files: shared between processes, private, with read(2), write(2) and O_DIRECT beside them.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <functional>
#include <string>

#include "tests/tools/gtest_main.h"

namespace {

constexpr size_t kPageBytes = 4096;
constexpr char kName[] = "mapped";

class MmapTest : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = open(kName, O_CREAT | O_TRUNC | O_RDWR, 0644);
    ASSERT_GE(fd_, 0) << strerror(errno);
  }
  void TearDown() override {
    close(fd_);
    unlink(kName);
  }
  uint8_t* Map(size_t length, int protection = PROT_READ | PROT_WRITE, int flags = MAP_SHARED) {
    void* address = mmap(nullptr, length, protection, flags, fd_, 0);
    EXPECT_NE(MAP_FAILED, address) << strerror(errno);
    return static_cast<uint8_t*>(address);
  }
  int fd_ = -1;
};

sigjmp_buf bus_jump;
void OnBus(int) { siglongjmp(bus_jump, 1); }

// Whether the access raises SIGBUS.
bool Faults(const std::function<void()>& access) {
  signal(SIGBUS, OnBus);
  bool faulted = true;
  if (sigsetjmp(bus_jump, 1) == 0) {
    access();
    faulted = false;
  }
  signal(SIGBUS, SIG_DFL);
  return faulted;
}

TEST_F(MmapTest, TwoProcessesShareAndCountTogether) {
  constexpr int kRounds = 2000;
  ASSERT_OK(ftruncate(fd_, 2 * kPageBytes));
  auto* counter = reinterpret_cast<std::atomic<uint32_t>*>(Map(2 * kPageBytes));
  pid_t child = fork();
  if (child == 0) {
    int own = open(kName, O_RDWR);  // a mapping of its own, not the inherited one
    void* address = mmap(nullptr, 2 * kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
    if (address == MAP_FAILED) _exit(1);
    auto* mine = static_cast<std::atomic<uint32_t>*>(address);
    for (int i = 0; i < kRounds; i++) mine[kPageBytes / 4].fetch_add(1);
    mine[0].store(1);
    _exit(0);
  }
  for (int i = 0; i < kRounds; i++) counter[kPageBytes / 4].fetch_add(1);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(0, status);
  EXPECT_EQ(1u, counter[0].load());
  EXPECT_EQ(2u * kRounds, counter[kPageBytes / 4].load());
  uint32_t read_back = 0;
  ASSERT_EQ(4, pread(fd_, &read_back, 4, kPageBytes));
  EXPECT_EQ(2u * kRounds, read_back);
}

TEST_F(MmapTest, AgreesWithReadAndWrite) {
  ASSERT_OK(ftruncate(fd_, 64 * kPageBytes));
  uint8_t* map = Map(64 * kPageBytes);
  for (int i = 0; i < 64; i++) {
    uint8_t byte = i + 1, seen = 0;
    ASSERT_EQ(1, pwrite(fd_, &byte, 1, i * kPageBytes + 5));
    EXPECT_EQ(byte, map[i * kPageBytes + 5]);
    map[i * kPageBytes + 6] = byte + 100;
    ASSERT_EQ(1, pread(fd_, &seen, 1, i * kPageBytes + 6));
    EXPECT_EQ(uint8_t(byte + 100), seen);
  }
}

TEST_F(MmapTest, AgreesWithDirectIo) {
  constexpr size_t kBytes = 32 * kPageBytes;
  ASSERT_OK(ftruncate(fd_, kBytes));
  int direct = open(kName, O_RDWR | O_DIRECT);
  if (direct < 0) GTEST_SKIP() << "no O_DIRECT here";
  auto* buffer = static_cast<uint8_t*>(aligned_alloc(kPageBytes, kBytes));
  uint8_t* map = Map(kBytes);
  memset(map, 'm', kBytes);
  ASSERT_EQ(ssize_t(kBytes), pread(direct, buffer, kBytes, 0));
  for (size_t i = 0; i < kBytes; i++) ASSERT_EQ('m', buffer[i]) << i;
  memset(buffer, 'd', kBytes);
  ASSERT_EQ(ssize_t(kBytes), pwrite(direct, buffer, kBytes, 0));
  for (size_t i = 0; i < kBytes; i++) ASSERT_EQ('d', map[i]) << i;
  // A buffer that is itself a mapping of a file.
  ASSERT_OK(ftruncate(fd_, 2 * kBytes));
  uint8_t* both = Map(2 * kBytes);
  memset(both, 'x', kBytes);
  ASSERT_EQ(ssize_t(kBytes), pwrite(direct, both, kBytes, kBytes));
  EXPECT_EQ('x', both[kBytes]);
  EXPECT_EQ('x', both[2 * kBytes - 1]);
  free(buffer);
  close(direct);
}

TEST_F(MmapTest, PrivateChangesStayPrivate) {
  ASSERT_EQ(6, write(fd_, "public", 6));
  uint8_t* map = Map(kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  map[0] = 'X';
  char back[7] = {};
  ASSERT_EQ(6, pread(fd_, back, 6, 0));
  EXPECT_STREQ("public", back);
}

TEST_F(MmapTest, BehindTheEndIsSigbusAndTheTailIsZero) {
  ASSERT_EQ(3, write(fd_, "abc", 3));
  uint8_t* map = Map(4 * kPageBytes);
  EXPECT_EQ(0, map[3]);
  EXPECT_EQ(0, map[kPageBytes - 1]);
  EXPECT_TRUE(Faults([&] { (void)*const_cast<volatile uint8_t*>(map + kPageBytes); }));
  ASSERT_OK(ftruncate(fd_, 2 * kPageBytes));
  EXPECT_FALSE(Faults([&] { *const_cast<volatile uint8_t*>(map + kPageBytes) = 7; }));
  ASSERT_OK(ftruncate(fd_, kPageBytes));
  EXPECT_TRUE(Faults([&] { *const_cast<volatile uint8_t*>(map + kPageBytes) = 8; }));
  ASSERT_OK(ftruncate(fd_, 2 * kPageBytes));
  EXPECT_EQ(0, map[kPageBytes]) << "what truncate cut off must not come back";
}

TEST_F(MmapTest, PunchedHoleReadsAsZeroes) {
  ASSERT_OK(ftruncate(fd_, 16 * kPageBytes));
  uint8_t* map = Map(16 * kPageBytes);
  memset(map, 'p', 16 * kPageBytes);
  if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * kPageBytes, 4 * kPageBytes) != 0) {
    GTEST_SKIP() << "no punch hole here";
  }
  EXPECT_EQ('p', map[4 * kPageBytes - 1]);
  for (size_t i = 4 * kPageBytes; i < 8 * kPageBytes; i++) ASSERT_EQ(0, map[i]) << i;
  EXPECT_EQ('p', map[8 * kPageBytes]);
  map[5 * kPageBytes] = 'q';
  ASSERT_OK(fsync(fd_));
  EXPECT_EQ('q', map[5 * kPageBytes]);
}

TEST_F(MmapTest, StoresMoveTheTimes) {
  ASSERT_OK(ftruncate(fd_, kPageBytes));
  struct timespec past[2] = {{1000, 0}, {1000, 0}};
  ASSERT_OK(futimens(fd_, past));
  uint8_t* map = Map(kPageBytes);
  map[0] = 1;
  ASSERT_OK(msync(map, kPageBytes, MS_SYNC));
  struct stat st {};
  ASSERT_OK(fstat(fd_, &st));
  EXPECT_GT(st.st_mtim.tv_sec, 1000);
}

TEST_F(MmapTest, SurvivesCloseAndUnlink) {
  ASSERT_OK(ftruncate(fd_, 8 * kPageBytes));
  uint8_t* map = Map(8 * kPageBytes);
  memset(map, 'u', 8 * kPageBytes);
  ASSERT_OK(unlink(kName));
  close(fd_);
  EXPECT_OK(msync(map, 8 * kPageBytes, MS_SYNC));
  EXPECT_OK(madvise(map, 8 * kPageBytes, MADV_DONTNEED));
  for (size_t i = 0; i < 8 * kPageBytes; i++) ASSERT_EQ('u', map[i]);
  EXPECT_OK(munmap(map, 8 * kPageBytes));
  fd_ = open(kName, O_CREAT | O_RDWR, 0644);
}

TEST_F(MmapTest, ReadIntoAMappingOfTheSameFile) {
  ASSERT_OK(ftruncate(fd_, 4 * kPageBytes));
  uint8_t* map = Map(4 * kPageBytes);
  memset(map, 's', kPageBytes);
  ASSERT_EQ(ssize_t(kPageBytes), pread(fd_, map + 2 * kPageBytes, kPageBytes, 0));
  EXPECT_EQ('s', map[2 * kPageBytes]);
  ASSERT_EQ(ssize_t(kPageBytes), pwrite(fd_, map, kPageBytes, 3 * kPageBytes));
  EXPECT_EQ('s', map[4 * kPageBytes - 1]);
}

}  // namespace

WEFT_TEST_MAIN
