// SPDX-License-Identifier: MIT
//
// "HOST:PORT" and "[IPV6]:PORT" as people write them. Values; use from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userland/base/status.h"

namespace weft {

struct Address {
  std::string host;
  uint16_t port = 0;
  std::string ToString() const;  // brackets around an IPv6 address
  bool operator==(const Address&) const = default;
};

// EINVAL names the text and what is expected. default_port 0: a port must be given.
Result<Address> ParseAddress(std::string_view text, uint16_t default_port);

inline constexpr uint16_t kMetaPort = 7470;
inline constexpr uint16_t kTargetPort = 7471;

}  // namespace weft
