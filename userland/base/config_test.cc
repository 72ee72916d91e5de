// SPDX-License-Identifier: MIT
#include "userland/base/config.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(ConfigTest, ReadsWhatIsThereAndKeepsDefaults) {
  auto c =
      Config::Parse("name = 'a'\n[listen]\nport = 7471\nsize = '64 MiB'\nflag = true\nlist = ['x', 'y']\n", "f.toml");
  ASSERT_TRUE(c.ok()) << c.status().message();
  std::string name, other = "kept";
  int64_t port = 0;
  uint64_t size = 0;
  bool flag = false;
  std::vector<std::string> list;
  c->Read("name", &name);
  c->Read("other", &other);
  c->Read("listen.port", &port, 1, 65535);
  c->ReadBytes("listen.size", &size, 0, 1 << 30);
  c->Read("listen.flag", &flag);
  c->Read("listen.list", &list);
  ASSERT_TRUE(c->Finish().ok());
  EXPECT_EQ(name, "a");
  EXPECT_EQ(other, "kept");
  EXPECT_EQ(port, 7471);
  EXPECT_EQ(size, 64u << 20);
  EXPECT_TRUE(flag);
  EXPECT_EQ(list.size(), 2u);
}

TEST(ConfigTest, ErrorsNameFileLineAndKey) {
  auto c = Config::Parse("a = 1\nport = 70000\n", "f.toml");
  int64_t v = 5;
  c->Read("a", &v, 0, 9);
  c->Read("port", &v, 1, 65535);
  EXPECT_EQ(v, 1);
  EXPECT_EQ(c->Finish().message(), "f.toml:2: 'port' must be a whole number from 1 to 65535");
}

TEST(ConfigTest, UnknownKeysAreRefused) {
  auto c = Config::Parse("[listen]\nprot = 1\n", "f.toml");
  EXPECT_EQ(c->Finish().message(), "f.toml:2: 'listen.prot' is not a setting of this program");
}

TEST(ConfigTest, BrokenTomlAndMissingFile) {
  EXPECT_EQ(Config::Parse("a = \n", "f.toml").status().code(), EINVAL);
  EXPECT_EQ(Config::Load("/nonexistent/f.toml").status().code(), ENOENT);
}

TEST(BytesTest, ParsesAndRefuses) {
  EXPECT_EQ(*ParseBytes("4096"), 4096u);
  EXPECT_EQ(*ParseBytes("64 MiB"), 64u << 20);
  EXPECT_EQ(*ParseBytes("2G"), 2ull << 30);
  for (const char* bad : {"", "MiB", "12 XB", "1.5G", "-1", "20000000T", "99999999999999999999"}) {
    EXPECT_EQ(ParseBytes(bad).status().code(), EINVAL) << bad;
  }
  EXPECT_EQ(FormatBytes(64u << 20), "64.0 MiB");
}

}  // namespace
}  // namespace weft
