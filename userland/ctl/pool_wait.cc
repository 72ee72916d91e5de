// SPDX-License-Identifier: MIT
#include "userland/ctl/pool_wait.h"

#include <algorithm>
#include <cerrno>

#include <fmt/ranges.h>

#include "userland/ctl/task_view.h"
#include "userland/rpc/client.h"

namespace weft::ctl {
namespace {

constexpr int64_t kAskEveryMs = 200;
constexpr int64_t kJoinMs = 10'000;  // some heartbeats

bool MakesOrMovesCopies(const idl::TaskInfo& task) {
  using idl::TaskKind;
  return task.kind == TaskKind::RESYNC || task.kind == TaskKind::REBUILD || task.kind == TaskKind::DRAIN ||
         task.kind == TaskKind::REBALANCE;
}

}  // namespace

std::string Unrest(const idl::PoolStatus& pool, bool scrub) {
  std::vector<std::string> what;
  for (const idl::TaskInfo& task : pool.tasks) {
    if (MakesOrMovesCopies(task) || (scrub && task.kind == idl::TaskKind::SCRUB)) what.push_back(TaskLine(task));
  }
  // Lost chunks are degraded too, and stay so.
  int64_t degraded = pool.chunks_degraded - pool.chunks_lost;
  if (degraded > 0) what.push_back(fmt::format("{} of {} chunks are degraded", degraded, pool.chunks));
  return fmt::format("{}", fmt::join(what, "; "));
}

std::vector<std::string> NotJoined(const idl::PoolStatus& pool) {
  std::vector<std::string> names;
  for (const idl::TargetInfo& target : pool.targets) {
    if (target.id != 0 && target.up && !target.joined) names.push_back(target.name);
  }
  return names;
}

Result<idl::PoolStatus> AwaitPool(Admin* admin, const WaitClock& clock, int64_t timeout_ms,
                                  const std::function<bool(const idl::PoolStatus&)>& done) {
  int64_t began_ms = clock.now_ms();
  int64_t answered_ms = began_ms;
  for (;;) {
    Result<idl::PoolStatus> pool = admin->PoolStatus();
    int64_t now_ms = clock.now_ms();
    if (pool.ok()) {
      if (done(*pool)) return pool;
      answered_ms = now_ms;
    } else if (!IsConnectionError(pool.status()) || now_ms - answered_ms >= kNoAnswerMs) {
      return pool;
    }
    int64_t left_ms = timeout_ms < 0 ? kAskEveryMs : timeout_ms - (now_ms - began_ms);
    if (left_ms <= 0) return pool;
    clock.sleep(std::min(left_ms, kAskEveryMs));
  }
}

Result<idl::PoolStatus> AwaitJoined(Admin* admin, const WaitClock& clock) {
  Result<idl::PoolStatus> pool =
      AwaitPool(admin, clock, kJoinMs, [](const idl::PoolStatus& now) { return NotJoined(now).empty(); });
  if (!pool.ok()) return pool;
  std::vector<std::string> missing = NotJoined(*pool);
  if (missing.empty()) return pool;
  return Error(ETIMEDOUT,
               "the metadata server has taken {} into the pool, but after {} s {} not serve; look at the log of "
               "weft-target there",
               fmt::join(missing, ", "), kJoinMs / 1000, missing.size() == 1 ? "it does" : "they do");
}

}  // namespace weft::ctl
