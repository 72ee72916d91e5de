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

// What of the pool is not at rest, for people; empty: no copy is being made or moved, and none is missing
// that could be made. Scrubbing and what is lost do not count.
std::string Unrest(const idl::PoolStatus& pool);

// Members of the pool that do not know it yet, by name.
std::vector<std::string> NotJoined(const idl::PoolStatus& pool);

// Asks until `done`; returns the last answer. timeout_ms < 0: for ever. After the timeout the answer is not done.
Result<idl::PoolStatus> AwaitPool(Admin* admin, const WaitClock& clock, int64_t timeout_ms,
                                  const std::function<bool(const idl::PoolStatus&)>& done);

// Targets that were told to become members serve when this returns. ETIMEDOUT names those that do not.
Result<idl::PoolStatus> AwaitJoined(Admin* admin, const WaitClock& clock);

}  // namespace weft::ctl
