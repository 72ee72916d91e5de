// SPDX-License-Identifier: MIT
#include "userland/target/job_reports.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "userland/base/log.h"

namespace weft::target {

void JobReports::AddResult(idl::JobResult result) {
  std::lock_guard lock(mutex_);
  batch_.results.push_back(std::move(result));
  changed_.notify_all();
}

void JobReports::AddDamage(std::span<const uint64_t> offsets) {
  std::lock_guard lock(mutex_);
  if (batch_.damage.size() + offsets.size() > kDamageMax) {
    if (!std::exchange(full_, true)) LogWarning("more than {} damaged blocks wait to be reported", kDamageMax);
    return;
  }
  batch_.damage.insert(offsets.begin(), offsets.end());
  changed_.notify_all();
}

JobReports::Batch JobReports::Take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stop_ || !batch_.empty(); });
  if (stop_) return {};
  full_ = false;
  return std::exchange(batch_, {});
}

void JobReports::GiveBack(Batch batch) {
  std::lock_guard lock(mutex_);
  // In the order in which they came.
  std::ranges::move(batch_.results, std::back_inserter(batch.results));
  batch_.results = std::move(batch.results);
  batch_.damage.merge(batch.damage);
  changed_.notify_all();
}

void JobReports::Stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

}  // namespace weft::target
