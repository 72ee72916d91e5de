// SPDX-License-Identifier: MIT
//
// The settings of the pool as people write them: KEY=VALUE. Pure functions.
#pragma once

#include <span>
#include <string>

#include "thrift-gen/admin_types.h"
#include "userland/base/status.h"

namespace weft::ctl {

// copies=N, resync-rate=SIZE, scrub-rate=SIZE, scrub-interval=DURATION. EINVAL names the word.
Result<idl::PoolSettings> ParsePoolSettings(std::span<const std::string> words);

// "90", "90s", "15min", "12h", "7d" -> seconds. EINVAL names the text.
Result<int64_t> ParseDuration(std::string_view text);

}  // namespace weft::ctl
