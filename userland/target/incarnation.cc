// SPDX-License-Identifier: MIT
#include "userland/target/incarnation.h"

#include <cerrno>
#include <fstream>

#include "userland/base/uuid.h"

namespace weft::target {
namespace {

constexpr const char* kBootIdPath = "/proc/sys/kernel/random/boot_id";

}  // namespace

Result<uint64_t> IncarnationFromBootId(std::string_view text) {
  Result<Uuid> uuid = ParseUuid(text);
  if (!uuid.ok()) return uuid.status();
  uint64_t incarnation = 0;
  for (size_t i = 0; i < sizeof incarnation; i++) incarnation = incarnation << 8 | (*uuid)[i];
  return incarnation ? incarnation : 1;
}

Result<uint64_t> ReadIncarnation() {
  std::ifstream file(kBootIdPath);
  std::string text;
  if (!std::getline(file, text)) return Error(EIO, "cannot read {}: is /proc mounted?", kBootIdPath);
  Result<uint64_t> incarnation = IncarnationFromBootId(text);
  if (!incarnation.ok()) return incarnation.status().Annotate(kBootIdPath);
  return incarnation;
}

}  // namespace weft::target
