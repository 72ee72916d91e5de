// SPDX-License-Identifier: MIT
#include "userland/base/uuid.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(UuidTest, RoundTrips) {
  Uuid uuid = RandomUuid();
  EXPECT_FALSE(IsNil(uuid));
  EXPECT_NE(uuid, RandomUuid());
  EXPECT_EQ(*ParseUuid(ToString(uuid)), uuid);
  EXPECT_EQ(*UuidFromBytes(ToBytes(uuid)), uuid);
}

TEST(UuidTest, Refuses) {
  EXPECT_EQ(ParseUuid("not-a-uuid").status().code(), EINVAL);
  EXPECT_EQ(ParseUuid("").status().code(), EINVAL);
  EXPECT_EQ(UuidFromBytes("short").status().code(), EINVAL);
}

}  // namespace
}  // namespace weft
