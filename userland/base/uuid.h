// SPDX-License-Identifier: MIT
//
// 16-byte identifiers (RFC 4122, version 4): clusters, targets, clients. Values; use from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "userland/base/status.h"

namespace weft {

using Uuid = std::array<uint8_t, 16>;

Uuid RandomUuid();
inline bool IsNil(const Uuid& uuid) { return uuid == Uuid{}; }
std::string ToString(const Uuid& uuid);              // 8-4-4-4-12
Result<Uuid> ParseUuid(std::string_view text);       // EINVAL
std::string ToBytes(const Uuid& uuid);               // as Thrift's binary
Result<Uuid> UuidFromBytes(std::string_view bytes);  // EINVAL unless 16 bytes

}  // namespace weft
