// SPDX-License-Identifier: MIT
//
// Waiting until the pool has done what it was told. The metadata server is asked again and again: it has no
// call that waits. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "thrift-gen/admin_types.h"
#include "userland/ctl/admin.h"
#include "userland/ctl/wait_clock.h"

namespace weft::ctl {

// What of the pool is not at rest, for people; empty: no copy is being made or moved, and none is missing but of
// what is lost. Copies for which there are too few targets count. A scrub counts when it is asked for.
std::string Unrest(const idl::PoolStatus& pool, bool scrub = false);

// Members of the pool that do not know it yet, by name.
std::vector<std::string> NotJoined(const idl::PoolStatus& pool);

// Asks until `done`; returns the last answer. timeout_ms < 0: for ever. After the timeout the answer is not done.
// The metadata server may be restarted meanwhile: that it cannot be reached is an error after kNoAnswerMs only.
inline constexpr int64_t kNoAnswerMs = 30'000;
Result<idl::PoolStatus> AwaitPool(Admin* admin, const WaitClock& clock, int64_t timeout_ms,
                                  const std::function<bool(const idl::PoolStatus&)>& done);

// Targets that were told to become members serve when this returns. ETIMEDOUT names those that do not.
Result<idl::PoolStatus> AwaitJoined(Admin* admin, const WaitClock& clock);

}  // namespace weft::ctl
