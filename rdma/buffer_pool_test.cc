// SPDX-License-Identifier: MIT
#include "rdma/buffer_pool.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>

namespace weft::rdma {
namespace {

TEST(BufferPool, RefusesOddSizes) {
  EXPECT_EQ(BufferPool::Create(4096).status().code(), EINVAL);
  EXPECT_EQ(BufferPool::Create(0).status().code(), EINVAL);
}

TEST(BufferPool, SplitsAndMerges) {
  auto pool = *BufferPool::Create(2 << 20);
  uint8_t* a = pool->Take(1 << 20);
  uint8_t* b = pool->Take(1);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(pool->Take(1 << 20), nullptr);
  EXPECT_EQ(pool->free_bytes(), (1U << 20) - 4096);
  pool->Give(b, 1);
  EXPECT_EQ(pool->Take(1 << 20), b);
  EXPECT_EQ(pool->free_bytes(), 0U);
}

TEST(BufferPool, RandomUseNeverOverlaps) {
  auto pool = *BufferPool::Create(8 << 20);
  std::mt19937 random(7);
  std::map<uint8_t*, uint32_t> taken;
  for (int i = 0; i < 20000; i++) {
    if (random() % 2) {
      uint32_t bytes = 1 + random() % (random() % 4 ? 65536 : BufferPool::kLargest);
      uint8_t* buffer = pool->Take(bytes);
      if (!buffer) continue;
      ASSERT_EQ((buffer - pool->memory()) % BufferPool::kSmallest, 0);
      auto next = taken.lower_bound(buffer);
      ASSERT_TRUE(next == taken.end() || buffer + bytes <= next->first);
      ASSERT_TRUE(next == taken.begin() || std::prev(next)->first + std::prev(next)->second <= buffer);
      taken[buffer] = bytes;
    } else if (!taken.empty()) {
      auto victim = std::next(taken.begin(), static_cast<ptrdiff_t>(random() % taken.size()));
      pool->Give(victim->first, victim->second);
      taken.erase(victim);
    }
  }
  for (auto& [buffer, bytes] : taken) pool->Give(buffer, bytes);
  EXPECT_EQ(pool->free_bytes(), pool->bytes());
  for (int i = 0; i < 8; i++) EXPECT_NE(pool->Take(BufferPool::kLargest), nullptr) << "all merged again";
}

}  // namespace
}  // namespace weft::rdma
