// SPDX-License-Identifier: MIT
#include "userland/target/incarnation.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace weft::target {
namespace {

TEST(Incarnation, IsTheFirstHalfOfTheBootId) {
  auto one = IncarnationFromBootId("01234567-89ab-cdef-0000-000000000001");
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(*one, 0x0123456789abcdefU);
  auto nil = IncarnationFromBootId("00000000-0000-0000-0000-000000000001");
  ASSERT_TRUE(nil.ok());
  EXPECT_EQ(*nil, 1U) << "0 is none";
  EXPECT_EQ(IncarnationFromBootId("what").status().code(), EINVAL);
}

TEST(Incarnation, OfThisHostStaysTheSame) {
  auto one = ReadIncarnation();
  auto two = ReadIncarnation();
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(*one, *two);
}

}  // namespace
}  // namespace weft::target
