// SPDX-License-Identifier: MIT
#include "userland/target/range_order.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "userland/target/label.h"

namespace weft::target {
namespace {

constexpr uint64_t kCapacity = 4 * kRegionBytes;

TEST(RangeOrder, WritesOfTheSameBytesTakeTurns) {
  RangeOrder order(kCapacity);
  std::vector<uint32_t> ready;
  EXPECT_TRUE(order.Add(0, 4096, 8192, true));
  EXPECT_TRUE(order.Add(1, 12288, 4096, true)) << "behind it";
  EXPECT_TRUE(order.Add(2, 0, 4096, false)) << "before it";
  EXPECT_FALSE(order.Add(3, 8192, 4096, false));
  EXPECT_FALSE(order.Add(4, 8192, 4096, false));
  EXPECT_FALSE(order.Add(5, 0, 4 * 4096, true));
  EXPECT_EQ(order.waiting(), 3U);
  order.Remove(0, &ready);
  EXPECT_EQ(ready, (std::vector<uint32_t>{3, 4})) << "reads go together";
  ready.clear();
  order.Remove(3, &ready);
  order.Remove(1, &ready);
  order.Remove(2, &ready);
  EXPECT_TRUE(ready.empty());
  order.Remove(4, &ready);
  EXPECT_EQ(ready, (std::vector<uint32_t>{5}));
  EXPECT_EQ(order.waiting(), 0U);
}

TEST(RangeOrder, ARangeOverRegionsBlocksOnce) {
  RangeOrder order(kCapacity);
  std::vector<uint32_t> ready;
  EXPECT_TRUE(order.Add(7, 0, kCapacity, true));
  EXPECT_FALSE(order.Add(8, kRegionBytes - 4096, 2 * kRegionBytes, true));
  order.Remove(7, &ready);
  EXPECT_EQ(ready, (std::vector<uint32_t>{8}));
}

TEST(RangeOrder, NothingMeetsAndNobodyWaitsForEver) {
  struct Request {
    uint64_t offset, end;
    bool writes;
  };
  for (uint32_t seed = 1; seed <= 50; seed++) {
    std::mt19937 random(seed);
    RangeOrder order(kCapacity);
    std::vector<Request> requests;
    std::set<uint32_t> running;
    std::vector<uint32_t> ready;
    auto start = [&](uint32_t id) {
      for (uint32_t other : running) {
        bool meet = requests[id].offset < requests[other].end && requests[other].offset < requests[id].end;
        EXPECT_FALSE(meet && (requests[id].writes || requests[other].writes)) << seed;
      }
      running.insert(id);
    };
    size_t ended = 0;
    while (ended < 200) {
      if (requests.size() < 200 && random() % 2) {
        uint64_t offset = random() % (kCapacity / 4096 - 600) * 4096;
        requests.push_back({offset, offset + (1 + random() % 600) * 4096, random() % 2 == 0});
        auto id = static_cast<uint32_t>(requests.size() - 1);
        if (order.Add(id, offset, requests[id].end - offset, requests[id].writes)) start(id);
      } else if (!running.empty()) {
        auto at = std::next(running.begin(), static_cast<ptrdiff_t>(random() % running.size()));
        uint32_t id = *at;
        running.erase(at);
        ready.clear();
        order.Remove(id, &ready);
        for (uint32_t next : ready) start(next);
        ended++;
      } else {
        ASSERT_LT(requests.size(), 200U) << "somebody waits for ever";
      }
    }
    EXPECT_EQ(order.waiting(), 0U);
  }
}

}  // namespace
}  // namespace weft::target
