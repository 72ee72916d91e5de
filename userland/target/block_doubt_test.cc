// SPDX-License-Identifier: MIT
#include "userland/target/block_doubt.h"

#include <gtest/gtest.h>

#include <vector>

namespace weft::target {
namespace {

TEST(BlockDoubtTest, EachBlockIsNamedUntilItIsSettled) {
  BlockDoubt doubt;
  std::vector<uint64_t> settled;
  auto note = [&](uint64_t region) { settled.push_back(region); };
  std::vector<uint32_t> sums(kSumsPerPage, 77);
  EXPECT_FALSE(doubt.Add(1, sums));
  for (size_t i = 0; i < 10; i++) sums[i] = kSumUnknown;
  sums[4] = kSumBad;
  EXPECT_TRUE(doubt.Add(2, sums));
  EXPECT_TRUE(doubt.Add(5, sums));
  EXPECT_TRUE(doubt.Has(2 * kRegionBytes + 3 * kBlockBytes));
  EXPECT_FALSE(doubt.Has(2 * kRegionBytes + 4 * kBlockBytes));
  EXPECT_FALSE(doubt.Has(3 * kRegionBytes));

  uint64_t offset = 0, length = 0;
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  for (int i = 0; i < 7; i++) {
    ASSERT_TRUE(doubt.Next(3 * kBlockBytes, &offset, &length));
    runs.emplace_back(offset / kBlockBytes, length / kBlockBytes);
  }
  uint64_t a = 2 * kSumsPerPage, b = 5 * kSumsPerPage;
  EXPECT_EQ(runs, (std::vector<std::pair<uint64_t, uint64_t>>{
                      {a, 3}, {a + 3, 1}, {a + 5, 3}, {a + 8, 2}, {b, 3}, {b + 3, 1}, {b + 5, 3}}));

  doubt.Settle(0, 2 * kRegionBytes + 4 * kBlockBytes, note);
  EXPECT_TRUE(settled.empty());
  doubt.Settle(2 * kRegionBytes + 5 * kBlockBytes, 3 * kRegionBytes, note);
  EXPECT_EQ(settled, (std::vector<uint64_t>{2}));
  EXPECT_EQ(doubt.regions(), 1U);
  ASSERT_TRUE(doubt.Next(1 << 20, &offset, &length));
  ASSERT_TRUE(doubt.Next(1 << 20, &offset, &length)) << "from the start again";
  EXPECT_EQ(offset, 5 * kRegionBytes + 5 * kBlockBytes);
  EXPECT_EQ(length, 5 * kBlockBytes);
  doubt.Settle(offset, length, note);
  EXPECT_EQ(settled, (std::vector<uint64_t>{2, 5}));
  EXPECT_FALSE(doubt.Next(1 << 20, &offset, &length));
  EXPECT_TRUE(doubt.empty());
}

}  // namespace
}  // namespace weft::target
