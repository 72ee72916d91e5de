// SPDX-License-Identifier: MIT
#include "userland/target/label.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>

#include "userland/target/crc32c.h"

namespace weft::target {
namespace {

Label SomeLabel() {
  Label label{.generation = 7, .capacity_bytes = 1ULL << 40, .session = 99, .chunk_bytes = 64 << 20};
  label.capacity_max_bytes = 2ULL << 40;
  label.data_offset = AreasFor(label.capacity_max_bytes).data;
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
  EXPECT_EQ(label->chunk_bytes, 64U << 20);
  EXPECT_EQ(label->capacity_max_bytes, 2ULL << 40);
  EXPECT_EQ(label->data_offset, SomeLabel().data_offset);
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

// Sealed by the same checksum, so that nothing but the format is wrong with it.
TEST(Label, OlderAndNewerFormatsAreTold) {
  for (uint32_t format : {1U, 3U}) {
    std::array<uint8_t, kLabelBytes> bytes;
    EncodeLabel(SomeLabel(), bytes);
    bytes[8] = static_cast<uint8_t>(format);
    uint32_t crc = Crc32c(bytes.data(), kLabelBytes - 4);
    for (int i = 0; i < 4; i++) bytes[kLabelBytes - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
    Status s = DecodeLabel(bytes).status();
    EXPECT_EQ(s.code(), EPROTONOSUPPORT);
    EXPECT_NE(s.message().find(format == 1 ? "older" : "newer"), std::string::npos) << s.message();
  }
}

TEST(Label, DataThatDoesNotBeginBehindTheAreasIsDamage) {
  std::array<uint8_t, kLabelBytes> bytes;
  Label label = SomeLabel();
  label.data_offset -= kDataAlign;
  EncodeLabel(label, bytes);
  EXPECT_EQ(DecodeLabel(bytes).status().code(), EBADMSG);
  label = SomeLabel();
  label.capacity_bytes = label.capacity_max_bytes + 1;
  EncodeLabel(label, bytes);
  EXPECT_EQ(DecodeLabel(bytes).status().code(), EBADMSG);
}

TEST(Label, APlainOneHasItsDataBehindTheLabels) {
  std::array<uint8_t, kLabelBytes> bytes;
  Label label = SomeLabel();
  label.layout = Layout::kPlain;
  label.data_offset = AreasFor(label.capacity_max_bytes, Layout::kPlain).data;
  EXPECT_EQ(label.data_offset, kAreasOffset);
  EncodeLabel(label, bytes);
  Result<Label> read = DecodeLabel(bytes);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->layout, Layout::kPlain);
  label.layout = static_cast<Layout>(2);
  EncodeLabel(label, bytes);
  EXPECT_EQ(DecodeLabel(bytes).status().code(), EPROTONOSUPPORT);
}

TEST(Label, AreasFollowEachOther) {
  for (uint64_t capacity : {1ULL << 20, (16ULL << 20) - 4096, 1ULL << 32, (3ULL << 40) + 12288}) {
    Areas areas = AreasFor(capacity);
    EXPECT_EQ(areas.places, kAreasOffset);
    EXPECT_GE(areas.places_bytes, (capacity / kPlaceBytesMin) * 4);
    EXPECT_EQ(areas.intents, areas.places + areas.places_bytes);
    EXPECT_GE(areas.intents_bytes * 8, RegionsIn(capacity));
    EXPECT_EQ(areas.checksums, areas.intents + areas.intents_bytes);
    EXPECT_GE(areas.checksums_bytes / 4 * kBlockBytes, capacity);
    EXPECT_GE(areas.data, areas.checksums + areas.checksums_bytes);
    EXPECT_EQ(areas.data % kDataAlign, 0U);
    EXPECT_LE(areas.data, capacity / 900 + (3 << 20)) << "about a thousandth";
  }
}

TEST(Crc32c, IsTheOneOfIscsi) {
  const char* text = "123456789";
  EXPECT_EQ(Crc32c(reinterpret_cast<const uint8_t*>(text), 9), 0xe3069283U);
}

TEST(LabelTest, OfTheCopiesTheNewestCountsAndAnUnreadableOneMayBeIt) {
  Label old{.generation = 4};
  Label newer{.generation = 5};
  const Result<Label> unreadable = Error(EIO, "read");
  const Result<Label> damaged = Error(EBADMSG, "checksum");
  const Result<Label> none = Error(ENOENT, "no label");
  auto pick = [](const Result<Label>& a, const Result<Label>& b) { return NewestLabel(std::vector{a, b}); };
  EXPECT_EQ(pick(old, newer)->generation, 5U);
  EXPECT_EQ(pick(newer, old)->generation, 5U);
  EXPECT_EQ(pick(unreadable, old)->generation, 4U);
  EXPECT_EQ(pick(old, damaged)->generation, 4U);
  EXPECT_EQ(pick(unreadable, none).status().code(), EIO) << "it must not be formatted";
  EXPECT_EQ(pick(damaged, unreadable).status().code(), EIO);
  EXPECT_EQ(pick(none, damaged).status().code(), EBADMSG);
  EXPECT_EQ(pick(none, none).status().code(), ENOENT);
}

}  // namespace
}  // namespace weft::target
