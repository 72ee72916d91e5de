// SPDX-License-Identifier: MIT
//
// The cluster key: 32 secret bytes that targets and agents of one cluster share, kept as 64 hex digits
// in a file that only its owner may read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userland/base/status.h"

namespace weft {

inline constexpr size_t kClusterKeyBytes = 32;

// ENOENT, EACCES when group or others may read it, EINVAL when it is not 64 hex digits.
Result<std::vector<uint8_t>> LoadClusterKey(const std::string& path);
// A new random key, mode 0600. EEXIST: never overwrites.
Status GenerateClusterKey(const std::string& path);
// First 16 hex digits of the key's SHA-256: enough to compare two hosts, useless to an attacker.
std::string KeyFingerprint(const std::vector<uint8_t>& key);

}  // namespace weft
