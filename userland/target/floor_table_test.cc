// SPDX-License-Identifier: MIT
#include "userland/target/floor_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

namespace weft::target {
namespace {

constexpr uint64_t kOffset = 8192;
constexpr uint64_t kBytes = 16384;

TEST(FloorTable, IsThereAgainWhenItIsOpenedAnew) {
  std::string path = testing::TempDir() + "/floors-XXXXXX";
  int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, kOffset + kBytes), 0);
  {
    auto table = FloorTable::Open(fd, kOffset, kBytes);
    ASSERT_TRUE(table.ok()) << table.status().message();
    EXPECT_EQ((*table)->floor(0), 0U);
    ASSERT_TRUE((*table)->Raise(0, 7).ok());
    ASSERT_TRUE((*table)->Raise(1023, 0xfffffffeU).ok());
    ASSERT_TRUE((*table)->Raise(1024, 9).ok());
    ASSERT_TRUE((*table)->Raise(1024, 10).ok());
    ASSERT_TRUE((*table)->Raise(4095, 11).ok());
  }
  auto table = FloorTable::Open(fd, kOffset, kBytes);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ((*table)->floor(0), 7U);
  EXPECT_EQ((*table)->floor(1), 0U);
  EXPECT_EQ((*table)->floor(1023), 0xfffffffeU);
  EXPECT_EQ((*table)->floor(1024), 10U);
  EXPECT_EQ((*table)->floor(4095), 11U);
  close(fd);
  // Not durable: it does not count.
  fd = open(path.c_str(), O_RDONLY);
  auto read_only = FloorTable::Open(fd, kOffset, kBytes);
  ASSERT_TRUE(read_only.ok());
  EXPECT_EQ((*read_only)->Raise(0, 8).code(), EBADF);
  EXPECT_EQ((*read_only)->floor(0), 7U);
  close(fd);
  unlink(path.c_str());
}

TEST(FloorTable, AnAreaThatIsNotThereIsAnError) {
  std::string path = testing::TempDir() + "/floors-XXXXXX";
  int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  EXPECT_EQ(FloorTable::Open(fd, 0, kBytes).status().code(), EIO);
  close(fd);
  unlink(path.c_str());
}

}  // namespace
}  // namespace weft::target
