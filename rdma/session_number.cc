// SPDX-License-Identifier: MIT
#include "rdma/session_number.h"

#include <mutex>
#include <set>
#include <utility>

namespace weft::rdma {
namespace {

// Of the process, as the numbers are: an initiator may be created on any thread.
struct Taken {
  std::mutex mutex;
  std::set<std::pair<uint64_t, uint32_t>> numbers;  // under mutex
};

Taken& GetTaken() {
  static auto* taken = new Taken();
  return *taken;
}

}  // namespace

SessionNumber::SessionNumber(uint64_t session) : session_(session) {
  Taken& taken = GetTaken();
  std::lock_guard lock(taken.mutex);
  while (!taken.numbers.emplace(session, value_).second) value_++;
}

SessionNumber::~SessionNumber() {
  Taken& taken = GetTaken();
  std::lock_guard lock(taken.mutex);
  taken.numbers.erase({session_, value_});
}

}  // namespace weft::rdma
