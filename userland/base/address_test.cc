// SPDX-License-Identifier: MIT
#include "userland/base/address.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(AddressTest, Parses) {
  EXPECT_EQ(*ParseAddress("10.0.0.1:80", 0), (Address{"10.0.0.1", 80}));
  EXPECT_EQ(*ParseAddress("meta.example", 7470), (Address{"meta.example", 7470}));
  EXPECT_EQ(*ParseAddress("[fe80::1]:80", 0), (Address{"fe80::1", 80}));
  EXPECT_EQ(*ParseAddress("fe80::1", 7470), (Address{"fe80::1", 7470}));
  EXPECT_EQ(ParseAddress("[fe80::1]:80", 0)->ToString(), "[fe80::1]:80");
}

TEST(AddressTest, Refuses) {
  for (const char* bad : {"", ":80", "host:", "host:0", "host:65536", "host:8x", "[::1", "[::1]80", "[::1]:", "host"}) {
    EXPECT_EQ(ParseAddress(bad, 0).status().code(), EINVAL) << bad;
  }
}

}  // namespace
}  // namespace weft
