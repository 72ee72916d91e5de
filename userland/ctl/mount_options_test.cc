// SPDX-License-Identifier: MIT
#include "userland/ctl/mount_options.h"

#include <sys/mount.h>

#include <cerrno>

#include <gtest/gtest.h>

namespace weft {
namespace {

using Words = std::vector<std::string>;

std::string Refused(const Words& words) {
  auto options = ParseMountArguments(words);
  EXPECT_EQ(options.status().code(), EINVAL);
  return options.status().message();
}

TEST(MountOptionsTest, AgentKernelAndCommonOptionsAreToldApart) {
  auto o = ParseMountArguments({"weft", "/mnt", "-o", "meta=10.0.0.1:7470,key=/k,soft,grace=5,ro,noatime,_netdev"});
  ASSERT_TRUE(o.ok()) << o.status().message();
  EXPECT_EQ(o->cluster, "weft");
  EXPECT_EQ(o->directory, "/mnt");
  EXPECT_EQ(o->meta, "10.0.0.1:7470");
  EXPECT_EQ(o->key, "/k");
  ASSERT_EQ(o->filesystem.size(), 2u);
  EXPECT_EQ(o->filesystem[0].first, "soft");
  EXPECT_EQ(o->filesystem[1], (std::pair<std::string, std::string>("grace", "5")));
  EXPECT_EQ(o->flags, MS_RDONLY | MS_NOATIME);
}

TEST(MountOptionsTest, AsMount8CallsIt) {
  auto o = ParseMountArguments({"weft", "/mnt", "-sfnv", "-orw,x-systemd.automount,nosuid", "-t", "weft"});
  ASSERT_TRUE(o.ok()) << o.status().message();
  EXPECT_TRUE(o->fake);
  EXPECT_TRUE(o->verbose);
  EXPECT_EQ(o->flags, unsigned{MS_NOSUID});
  EXPECT_TRUE(ParseMountArguments({"-o", "remount,hard", "weft", "/mnt"})->remount);
}

TEST(MountOptionsTest, TheLastOneWins) {
  auto o = ParseMountArguments({"weft", "/mnt", "-o", "ro,noatime,rw,relatime"});
  ASSERT_TRUE(o.ok());
  EXPECT_EQ(o->flags, unsigned{MS_RELATIME});
}

TEST(MountOptionsTest, ErrorsNameTheOption) {
  EXPECT_EQ(Refused({"weft", "/mnt", "-o", "ro,colour"}), "option \"colour\" is unknown; see mount.weft --help");
  EXPECT_EQ(Refused({"weft", "/mnt", "-o", "soft=1"}), "option \"soft=1\" is unknown; see mount.weft --help");
  EXPECT_EQ(Refused({"weft", "/mnt", "-o", "meta"}), "option meta needs a value: meta=...");
  EXPECT_EQ(Refused({"weft", "/mnt", "-o", "meta="}), "option meta needs a value: meta=...");
  EXPECT_EQ(Refused({"weft", "/mnt", "-o", "grace=1m"}),
            "option grace=1m: a number of seconds from 1 to 86400 is wanted");
  Refused({"weft", "/mnt", "-o", "grace"});
  Refused({"weft", "/mnt", "-o", "grace=0"});
  EXPECT_EQ(Refused({"weft", "/mnt", "-o"}), "-o needs a value");
  EXPECT_EQ(Refused({"weft", "/mnt", "-x"}), "-x is unknown; see mount.weft --help");
  EXPECT_EQ(Refused({"weft", "/mnt", "-t", "ext4"}), "-t ext4: this mounts weft only");
  EXPECT_TRUE(Refused({"weft"}).starts_with("usage:"));
}

}  // namespace
}  // namespace weft
