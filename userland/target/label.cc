// SPDX-License-Identifier: MIT
#include "userland/target/label.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/target/crc32c.h"

namespace weft::target {
namespace {

constexpr uint64_t kMagic = 0x4c42414c54464557;  // "WEFTLABL"
constexpr size_t kCrcAt = kLabelBytes - sizeof(uint32_t);

constexpr size_t kFormatAt = 8;
constexpr size_t kLayoutAt = 12;
constexpr size_t kGenerationAt = 16;
constexpr size_t kTargetAt = 24;
constexpr size_t kClusterAt = 40;
constexpr size_t kCapacityAt = 56;
constexpr size_t kSessionAt = 64;
constexpr size_t kChunkAt = 72;
constexpr size_t kCapacityMaxAt = 80;
constexpr size_t kDataAt = 88;
constexpr size_t kEndAt = 96;

template <typename T>
void Put(uint8_t* at, T value) {
  for (size_t i = 0; i < sizeof(T); i++) at[i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T Get(const uint8_t* at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); i++) value |= static_cast<T>(at[i]) << (8 * i);
  return value;
}

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

uint64_t RegionsIn(uint64_t capacity_bytes) { return (capacity_bytes + kRegionBytes - 1) / kRegionBytes; }

Areas AreasFor(uint64_t capacity_max_bytes, Layout layout) {
  if (layout == Layout::kPlain)
    return {.places = kAreasOffset, .intents = kAreasOffset, .checksums = kAreasOffset, .data = kAreasOffset};
  constexpr uint64_t kBits = 8;
  uint64_t regions = RegionsIn(capacity_max_bytes);
  uint64_t floors = (capacity_max_bytes + kPlaceBytesMin - 1) / kPlaceBytesMin;
  Areas areas;
  areas.places = kAreasOffset;
  areas.places_bytes = RoundUp(floors * sizeof(uint32_t), kPageBytes);
  areas.intents = areas.places + areas.places_bytes;
  areas.intents_bytes = RoundUp((regions + kBits - 1) / kBits, kPageBytes);
  areas.checksums = areas.intents + areas.intents_bytes;
  areas.checksums_bytes = regions * kPageBytes;
  areas.data = RoundUp(areas.checksums + areas.checksums_bytes, kDataAlign);
  return areas;
}

void EncodeLabel(const Label& label, std::span<uint8_t, kLabelBytes> out) {
  uint8_t* at = out.data();
  std::ranges::fill(out, uint8_t{0});
  Put(at, kMagic);
  Put(at + kFormatAt, kLabelFormat);
  Put(at + kLayoutAt, static_cast<uint32_t>(label.layout));
  Put(at + kGenerationAt, label.generation);
  std::ranges::copy(label.target, at + kTargetAt);
  std::ranges::copy(label.cluster, at + kClusterAt);
  Put(at + kCapacityAt, label.capacity_bytes);
  Put(at + kSessionAt, label.session);
  Put(at + kChunkAt, label.chunk_bytes);
  Put(at + kCapacityMaxAt, label.capacity_max_bytes);
  Put(at + kDataAt, label.data_offset);
  Put(at + kCrcAt, Crc32c(at, kCrcAt));
}

Result<Label> DecodeLabel(std::span<const uint8_t, kLabelBytes> in) {
  const uint8_t* at = in.data();
  if (Get<uint64_t>(at) != kMagic) return Error(ENOENT, "no label of a weft target");
  if (Get<uint32_t>(at + kCrcAt) != Crc32c(at, kCrcAt)) return Error(EBADMSG, "label with a wrong checksum");
  if (uint32_t format = Get<uint32_t>(at + kFormatAt); format != kLabelFormat) {
    return Error(EPROTONOSUPPORT, "label of format {}, this version knows {} alone: {}", format, kLabelFormat,
                 format < kLabelFormat ? "an older weft-target made it" : "a newer weft-target made it");
  }
  auto layout = Get<uint32_t>(at + kLayoutAt);
  if (layout > static_cast<uint32_t>(Layout::kPlain)) {
    return Error(EPROTONOSUPPORT, "label of layout {}, which this version does not know: a newer weft made it", layout);
  }
  if (!std::all_of(at + kEndAt, at + kCrcAt, [](uint8_t b) { return b == 0; })) {
    return Error(EPROTONOSUPPORT, "label with reserved bytes that are not zero");
  }
  Label label{.generation = Get<uint64_t>(at + kGenerationAt),
              .capacity_bytes = Get<uint64_t>(at + kCapacityAt),
              .session = Get<uint64_t>(at + kSessionAt),
              .chunk_bytes = Get<uint64_t>(at + kChunkAt),
              .capacity_max_bytes = Get<uint64_t>(at + kCapacityMaxAt),
              .data_offset = Get<uint64_t>(at + kDataAt),
              .layout = static_cast<Layout>(layout)};
  if (label.data_offset != AreasFor(label.capacity_max_bytes, label.layout).data ||
      label.capacity_bytes > label.capacity_max_bytes) {
    return Error(EBADMSG, "label whose data begins at {}, which areas for {} of {} bytes do not end at",
                 label.data_offset, label.capacity_bytes, label.capacity_max_bytes);
  }
  std::copy_n(at + kTargetAt, label.target.size(), label.target.begin());
  std::copy_n(at + kClusterAt, label.cluster.size(), label.cluster.begin());
  return label;
}

Result<Label> NewestLabel(std::span<const Result<Label>> copies) {
  const Result<Label>* best = nullptr;
  auto rank = [](const Result<Label>& copy) {
    if (copy.ok()) return 3;
    return copy.status().code() == EIO ? 2 : copy.status().code() == ENOENT ? 0 : 1;
  };
  for (const Result<Label>& copy : copies) {
    bool newer = best && best->ok() && copy.ok() && copy->generation > (*best)->generation;
    if (!best || rank(copy) > rank(*best) || newer) best = &copy;
  }
  return best ? *best : Error(ENOENT, "no label");
}

}  // namespace weft::target
