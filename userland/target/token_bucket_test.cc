// SPDX-License-Identifier: MIT
#include "userland/target/token_bucket.h"

#include <gtest/gtest.h>

namespace weft::target {
namespace {

uint64_t TakenIn(TokenBucket* bucket, uint64_t from_ms, uint64_t ms, uint64_t bytes) {
  uint64_t taken = 0;
  for (uint64_t now = from_ms; now < from_ms + ms; now++) {
    while (taken < 1'000'000'000 && bucket->Take(bytes, now)) taken += bytes;
  }
  return taken;
}

TEST(TokenBucket, KeepsItsRate) {
  TokenBucket bucket;
  bucket.SetRate(1'000'000);
  EXPECT_NEAR(static_cast<double>(TakenIn(&bucket, 5000, 10'000, 4096)), 10e6, 0.15e6);
  EXPECT_NEAR(static_cast<double>(TakenIn(&bucket, 60'000, 1000, 4096)), 1e6, 0.15e6) << "an idle time is not saved up";
  EXPECT_NEAR(static_cast<double>(TakenIn(&bucket, 61'000, 10'000, 1 << 20)), 10e6, 1.2e6) << "in large pieces";
}

TEST(TokenBucket, SaysWhenItIsReady) {
  TokenBucket bucket;
  bucket.SetRate(1000);
  ASSERT_TRUE(bucket.Take(500, 10'000));
  EXPECT_FALSE(bucket.Take(1, 10'001));
  EXPECT_FALSE(bucket.Take(1, bucket.ready_ms() - 1));
  EXPECT_TRUE(bucket.Take(1, bucket.ready_ms()));
}

TEST(TokenBucket, WithoutARateThereIsNoLimitAndANewRateCountsAtOnce) {
  TokenBucket bucket;
  for (int i = 0; i < 100; i++) EXPECT_TRUE(bucket.Take(1 << 30, 1000));
  bucket.SetRate(1);
  EXPECT_TRUE(bucket.Take(1 << 20, 1000));
  EXPECT_FALSE(bucket.Take(1, 2000));
  bucket.SetRate(1 << 20);
  EXPECT_TRUE(bucket.Take(1, 2000)) << "what was taken slowly does not hold it up for days";
}

}  // namespace
}  // namespace weft::target
