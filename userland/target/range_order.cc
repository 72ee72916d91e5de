// SPDX-License-Identifier: MIT
#include "userland/target/range_order.h"

#include <algorithm>

#include "userland/target/label.h"

namespace weft::target {

RangeOrder::RangeOrder(uint64_t capacity_bytes) : regions_(RegionsIn(capacity_bytes)) {}

bool RangeOrder::Add(uint32_t id, uint64_t offset, uint64_t length, bool writes) {
  if (id >= entries_.size()) entries_.resize(id + 1);
  Entry& entry = entries_[id];
  entry.offset = offset;
  entry.end = offset + length;
  entry.writes = writes;
  entry.blockers = 0;
  entry.dependents.clear();
  entry.asked = ++adds_;  // itself
  for (uint64_t region = offset / kRegionBytes; region <= (entry.end - 1) / kRegionBytes; region++) {
    for (uint32_t other_id : regions_[region]) {
      Entry& other = entries_[other_id];
      if (other.asked == adds_ || other.offset >= entry.end || other.end <= offset) continue;
      other.asked = adds_;  // it may be in more than one region
      if (!writes && !other.writes) continue;
      other.dependents.push_back(id);
      entry.blockers++;
    }
    regions_[region].push_back(id);
  }
  if (entry.blockers > 0) waiting_++;
  return entry.blockers == 0;
}

void RangeOrder::Remove(uint32_t id, std::vector<uint32_t>* ready) {
  Entry& entry = entries_[id];
  for (uint64_t region = entry.offset / kRegionBytes; region <= (entry.end - 1) / kRegionBytes; region++) {
    std::vector<uint32_t>& ids = regions_[region];
    *std::ranges::find(ids, id) = ids.back();
    ids.pop_back();
  }
  for (uint32_t dependent : entry.dependents) {
    if (--entries_[dependent].blockers > 0) continue;
    waiting_--;
    ready->push_back(dependent);
  }
  entry.dependents.clear();
}

}  // namespace weft::target
