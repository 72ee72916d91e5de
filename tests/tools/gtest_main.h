// SPDX-License-Identifier: MIT
//
// main() of a GoogleTest program that works in the directory which is its argument.
#pragma once

#include <errno.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WEFT_TEST_MAIN                                           \
  int main(int argc, char** argv) {                              \
    testing::InitGoogleTest(&argc, argv);                        \
    if (argc != 2) {                                             \
      fprintf(stderr, "usage: %s [--gtest_...] DIR\n", argv[0]); \
      return 2;                                                  \
    }                                                            \
    if (chdir(argv[1]) != 0) {                                   \
      fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));     \
      return 2;                                                  \
    }                                                            \
    return RUN_ALL_TESTS();                                      \
  }

#define EXPECT_OK(call) EXPECT_EQ(0, (call)) << #call << ": " << strerror(errno)
#define ASSERT_OK(call) ASSERT_EQ(0, (call)) << #call << ": " << strerror(errno)
