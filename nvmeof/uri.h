// SPDX-License-Identifier: MIT
//
// How a namespace on a storage node is named: one path to a subsystem, and which of its namespaces.
//
//   uri := ("nvme+rdma" | "nvme+tcp") "://" HOST [":" PORT] "/" NQN ["?nsid=" N]
//
// HOST: an IPv4 address, an IPv6 address in brackets, or a name. PORT: 4420 when it is not said. NQN: of the
// subsystem, 223 bytes at most, "nqn." first. Without nsid the subsystem must have one namespace.
//
// Values; use from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "userland/base/status.h"

namespace weft::nvmeof {

enum class Transport : uint8_t { kRdma, kTcp };
std::string_view ToString(Transport transport);  // "rdma", "tcp": as the kernel says it

inline constexpr uint16_t kPortDefault = 4420;
inline constexpr uint16_t kDiscoveryPortTcp = 8009;
inline constexpr size_t kNqnBytesMax = 223;

// Where a controller listens.
struct Endpoint {
  Transport transport = Transport::kRdma;
  std::string host;
  uint16_t port = kPortDefault;
  std::string ToString() const;  // "rdma 10.0.0.1:4420"
  bool operator==(const Endpoint&) const = default;
};

struct Uri {
  Endpoint endpoint;
  std::string nqn;
  uint32_t nsid = 0;  // 0: the only one
  std::string ToString() const;
  bool operator==(const Uri&) const = default;
};

// EINVAL unless it is a name that the kernel and its targets can take.
Status CheckNqn(std::string_view nqn);

// EINVAL: names what is wrong, the value and the form that it must have.
Result<Uri> ParseUri(std::string_view text);
bool LooksLikeUri(std::string_view text);  // it begins with "nvme+"

}  // namespace weft::nvmeof
