// SPDX-License-Identifier: MIT
#include "userland/target/backing.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

namespace weft::target {
namespace {

constexpr uint64_t kSize = 32 << 20;

class BackingTest : public ::testing::Test {
 protected:
  BackingTest() {
    std::string pattern = testing::TempDir() + "/backing-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    path_ = folder_ / "t";
  }
  ~BackingTest() override { std::filesystem::remove_all(folder_); }

  Result<std::unique_ptr<Backing>> Open(uint64_t create_bytes = 0, bool force = false) {
    return Backing::Open({.path = path_, .create_bytes = create_bytes, .force = force});
  }
  void Poke(uint64_t offset, std::string_view bytes) {
    int fd = open(path_.c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)), static_cast<ssize_t>(bytes.size()));
    close(fd);
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(BackingTest, CreatedThenFoundAgain) {
  Uuid uuid;
  Uuid cluster;
  cluster.fill(0x42);
  {
    auto backing = Open(kSize);
    ASSERT_TRUE(backing.ok()) << backing.status().message();
    EXPECT_EQ((*backing)->capacity_bytes(), kSize - (*backing)->areas().data);
    EXPECT_EQ((*backing)->areas().data % kDataAlign, 0U);
    EXPECT_EQ((*backing)->chunk_bytes(), 0U);
    EXPECT_EQ((*backing)->highest(), 0U);
    EXPECT_TRUE(IsNil((*backing)->cluster()));
    uuid = (*backing)->uuid();
    ASSERT_TRUE((*backing)->SetCluster(cluster).ok());
    ASSERT_TRUE((*backing)->SetChunkBytes(8 << 20).ok());
    Status moved = (*backing)->SetChunkBytes(4 << 20);
    EXPECT_EQ(moved.code(), EINVAL) << "that would move every place";
    EXPECT_NE(moved.message().find("dd if=/dev/zero"), std::string::npos) << "--force alone does nothing to a label";
    ASSERT_TRUE((*backing)->Raise(17).ok());
    ASSERT_TRUE((*backing)->Raise(18).ok());
  }
  auto backing = Open(kSize);
  ASSERT_TRUE(backing.ok()) << backing.status().message();
  EXPECT_EQ((*backing)->uuid(), uuid);
  EXPECT_EQ((*backing)->cluster(), cluster);
  EXPECT_EQ((*backing)->highest(), 18U);
  EXPECT_EQ((*backing)->chunk_bytes(), 8U << 20);
}

TEST_F(BackingTest, ANewTargetsAreasAreZero) {
  std::string old(3 << 20, 'x');
  Poke(0, old);
  std::filesystem::resize_file(path_, kSize);
  auto backing = Open(0, true);
  ASSERT_TRUE(backing.ok()) << backing.status().message();
  uint64_t data = (*backing)->areas().data;
  std::vector<char> bytes(data);
  int fd = open(path_.c_str(), O_RDONLY);
  ASSERT_EQ(pread(fd, bytes.data(), data, 0), static_cast<ssize_t>(data));
  close(fd);
  EXPECT_TRUE(std::all_of(bytes.begin() + kAreasOffset, bytes.end(), [](char b) { return b == 0; }));
}

TEST_F(BackingTest, OneDamagedLabelIsSurvived) {
  for (int damaged = 0; damaged < kLabelCopies; damaged++) {
    std::filesystem::remove(path_);
    {
      auto backing = Open(kSize);
      ASSERT_TRUE(backing.ok());
      ASSERT_TRUE((*backing)->Raise(5).ok());
      ASSERT_TRUE((*backing)->Raise(6).ok());
    }
    Poke(static_cast<uint64_t>(damaged) * kLabelBytes + 100, "power failed here");
    auto backing = Open();
    ASSERT_TRUE(backing.ok()) << backing.status().message();
    EXPECT_GE((*backing)->highest(), 5U) << "the label before the last one at the oldest";
  }
}

TEST_F(BackingTest, BothLabelsDamagedIsAnError) {
  { ASSERT_TRUE(Open(kSize).ok()); }
  Poke(100, "x");
  Poke(kLabelBytes + 100, "x");
  auto backing = Open();
  EXPECT_EQ(backing.status().code(), EBADMSG);
  EXPECT_NE(backing.status().message().find("--force"), std::string::npos);
  EXPECT_TRUE(Open(0, true).ok());
}

TEST_F(BackingTest, ATargetIsMadeAnewAsTheMessageSays) {
  Uuid uuid;
  {
    auto backing = Open(kSize);
    ASSERT_TRUE(backing.ok());
    uuid = (*backing)->uuid();
  }
  ASSERT_EQ((*Open(0, true))->uuid(), uuid);
  Poke(0, std::string(1 << 20, '\0'));
  auto anew = Open(0, true);
  ASSERT_TRUE(anew.ok()) << anew.status().message();
  EXPECT_NE((*anew)->uuid(), uuid);
}

TEST_F(BackingTest, SecondProcessIsKeptOut) {
  auto backing = Open(kSize);
  ASSERT_TRUE(backing.ok());
  auto second = Open();
  EXPECT_EQ(second.status().code(), EBUSY);
  EXPECT_NE(second.status().message().find("another weft-target"), std::string::npos);
}

TEST_F(BackingTest, ForeignDataIsNotOverwritten) {
  std::filesystem::remove(path_);
  Poke(0x438, "\x53\xef");
  std::filesystem::resize_file(path_, kSize);
  auto backing = Open();
  EXPECT_EQ(backing.status().code(), EEXIST);
  EXPECT_NE(backing.status().message().find("ext4"), std::string::npos) << backing.status().message();
  EXPECT_TRUE(Open(0, true).ok());
}

TEST_F(BackingTest, DataAtTheEndIsNotOverwritten) {
  Poke(kSize - 1, "x");
  EXPECT_EQ(Open().status().code(), EEXIST);
}

TEST_F(BackingTest, WrongSizesAreNamed) {
  EXPECT_EQ(Open().status().code(), ENOENT);
  EXPECT_EQ(Open(4096).status().code(), EINVAL);
  ASSERT_TRUE(Open(kSize).ok());
  auto other = Open(2 * kSize);
  EXPECT_EQ(other.status().code(), EINVAL);
  EXPECT_NE(other.status().message().find("--size"), std::string::npos);
  std::filesystem::resize_file(path_, kSize / 2);
  auto shrunk = Open();
  EXPECT_EQ(shrunk.status().code(), EINVAL);
  EXPECT_NE(shrunk.status().message().find("shrunk"), std::string::npos);
  std::filesystem::resize_file(path_, 2 * kSize);
  auto grown = Open();
  ASSERT_TRUE(grown.ok());
  EXPECT_EQ((*grown)->capacity_bytes(), 2 * kSize - (*grown)->areas().data);
  grown = Error(ENOENT, "closed");
  std::filesystem::resize_file(path_, 4 * kSize);
  grown = Open();
  ASSERT_TRUE(grown.ok()) << grown.status().message();
  EXPECT_EQ((*grown)->capacity_bytes(), 2 * kSize) << "what the areas were laid out for";
}

TEST_F(BackingTest, APlainOneIsAnotherKindOfTarget) {
  ASSERT_TRUE(Open(kSize).ok());
  BackingOptions plain{.path = path_, .force = true, .create = true, .layout = Layout::kPlain, .command = "x add"};
  Status other = Backing::Open(plain).status();
  EXPECT_EQ(other.code(), EINVAL);
  EXPECT_NE(other.message().find("weft-target"), std::string::npos) << other.message();
  EXPECT_NE(other.message().find("use x add with --force"), std::string::npos) << other.message();

  Poke(0, std::string(1 << 20, '\0'));
  plain.create = false;
  EXPECT_EQ(Backing::Open(plain).status().code(), ENOENT) << "to be found, not made";
  plain.create = true;
  {
    auto made = Backing::Open(plain);
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_EQ((*made)->capacity_bytes(), kSize - kAreasOffset);
  }
  plain.create = false;
  plain.force = false;
  EXPECT_TRUE(Backing::Open(plain).ok());
  EXPECT_EQ(Open().status().code(), EINVAL);
}

TEST_F(BackingTest, FolderIsNoBacking) {
  path_ = folder_;
  EXPECT_EQ(Open().status().code(), EINVAL);
}

}  // namespace
}  // namespace weft::target
