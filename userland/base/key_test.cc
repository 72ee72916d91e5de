// SPDX-License-Identifier: MIT
#include "userland/base/key.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace weft {
namespace {

class KeyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-key-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/key";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& text, mode_t mode) {
    std::ofstream(path_) << text;
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
  }
  std::string dir_, path_;
};

TEST_F(KeyTest, GeneratedKeysLoadAndDiffer) {
  ASSERT_TRUE(GenerateClusterKey(path_).ok());
  EXPECT_EQ(GenerateClusterKey(path_).code(), EEXIST);
  auto key = LoadClusterKey(path_);
  ASSERT_TRUE(key.ok()) << key.status().message();
  EXPECT_EQ(key->size(), kClusterKeyBytes);
  ASSERT_TRUE(GenerateClusterKey(path_ + "2").ok());
  auto other = LoadClusterKey(path_ + "2");
  EXPECT_NE(*key, *other);
  EXPECT_NE(KeyFingerprint(*key), KeyFingerprint(*other));
}

TEST_F(KeyTest, RefusesWhatIsNotAKey) {
  EXPECT_EQ(LoadClusterKey(path_).status().code(), ENOENT);
  Write("zz\n", 0600);
  EXPECT_EQ(LoadClusterKey(path_).status().code(), EINVAL);
  Write(std::string(62, 'a') + "\n", 0600);
  EXPECT_EQ(LoadClusterKey(path_).status().code(), EINVAL);
  Write(std::string(64, 'a') + "\n", 0644);
  EXPECT_EQ(LoadClusterKey(path_).status().code(), EACCES);
}

}  // namespace
}  // namespace weft
