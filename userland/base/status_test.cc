// SPDX-License-Identifier: MIT
#include "userland/base/status.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(StatusTest, SuccessHasNoCode) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().code(), 0);
}

TEST(StatusTest, ErrnoAppendsTheReason) {
  Status s = Status::Errno(ENOENT, "/etc/weft/a.toml");
  EXPECT_EQ(s.code(), ENOENT);
  EXPECT_EQ(s.message(), "/etc/weft/a.toml: No such file or directory");
}

TEST(StatusTest, AnnotateKeepsTheCode) {
  Status s = Error(EINVAL, "copies {} is out of range 1..4", 9).Annotate("pool create");
  EXPECT_EQ(s.code(), EINVAL);
  EXPECT_EQ(s.message(), "pool create: copies 9 is out of range 1..4");
  EXPECT_TRUE(Status().Annotate("x").ok());
}

TEST(ResultTest, HoldsValueOrStatus) {
  Result<std::string> good(std::string("x"));
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, "x");
  Result<std::string> bad(Error(EIO, "no"));
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().code(), EIO);
}

}  // namespace
}  // namespace weft
