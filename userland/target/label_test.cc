// SPDX-License-Identifier: MIT
#include "userland/target/label.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>

namespace weft::target {
namespace {

Label SomeLabel() {
  Label label{.generation = 7, .capacity_bytes = 1ULL << 40, .session = 99};
  label.target.fill(0xaa);
  label.cluster.fill(0xbb);
  return label;
}

TEST(Label, RoundTrip) {
  std::array<uint8_t, kLabelBytes> bytes;
  EncodeLabel(SomeLabel(), bytes);
  Result<Label> label = DecodeLabel(bytes);
  ASSERT_TRUE(label.ok()) << label.status().message();
  EXPECT_EQ(label->generation, 7U);
  EXPECT_EQ(label->capacity_bytes, 1ULL << 40);
  EXPECT_EQ(label->session, 99U);
  EXPECT_EQ(label->target, SomeLabel().target);
  EXPECT_EQ(label->cluster, SomeLabel().cluster);
}

TEST(Label, EveryFlippedByteIsNoticed) {
  std::array<uint8_t, kLabelBytes> bytes;
  EncodeLabel(SomeLabel(), bytes);
  for (size_t i = 0; i < kLabelBytes; i++) {
    bytes[i] ^= 0x10;
    EXPECT_FALSE(DecodeLabel(bytes).ok()) << i;
    bytes[i] ^= 0x10;
  }
  EXPECT_TRUE(DecodeLabel(bytes).ok());
}

TEST(Label, ZeroesAreNoLabel) {
  std::array<uint8_t, kLabelBytes> bytes{};
  EXPECT_EQ(DecodeLabel(bytes).status().code(), ENOENT);
}

}  // namespace
}  // namespace weft::target
