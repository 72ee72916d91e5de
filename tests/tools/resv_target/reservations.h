// SPDX-License-Identifier: MIT
//
// The reservation of one namespace: who has registered, who holds it, and who may do what (Base Specification 2.0, 8.19
// and 7.2 to 7.5). In memory, so a target that is started anew has lost it. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <shared_mutex>
#include <vector>

#include "tests/tools/resv_target/wire.h"

namespace resv {

class Reservations {
 public:
  // Commands; the status of each.
  uint16_t Register(const HostId& host, uint32_t dword10, uint64_t present, uint64_t key);
  uint16_t Acquire(const HostId& host, uint32_t dword10, uint64_t key, uint64_t other);
  uint16_t Release(const HostId& host, uint32_t dword10, uint64_t key);
  // Extended data structures; `bytes` of it.
  uint16_t Report(uint32_t dword11, size_t bytes, std::vector<uint8_t>* out) const;

  // Runs `access` if the host may read, or write; what changes the reservation waits until it has ended. So when a
  // preemption is answered, nothing of who was thrown out is under way.
  uint16_t Access(const HostId& host, bool writes, const std::function<uint16_t()>& access);

 private:
  enum Type : uint8_t {
    kNone = 0,
    kWriteExclusive = 1,
    kExclusiveAccess = 2,
    kWriteExclusiveRegistrants = 3,
    kExclusiveAccessRegistrants = 4,
    kWriteExclusiveAll = 5,
    kExclusiveAccessAll = 6,
  };
  struct Registrant {
    HostId host;
    uint64_t key;
  };

  bool all_hold() const { return type_ == kWriteExclusiveAll || type_ == kExclusiveAccessAll; }
  Registrant* Find(const HostId& host);
  const Registrant* Find(const HostId& host) const { return const_cast<Reservations*>(this)->Find(host); }
  bool Holds(const HostId& host) const;
  bool MayAccess(const HostId& host, bool writes) const;
  void Remove(const HostId& host);
  uint16_t Take(const HostId& host, Type type);
  uint16_t Preempt(const HostId& host, Type type, uint64_t key);

  mutable std::shared_mutex mutex_;  // guards all below
  std::vector<Registrant> registrants_;
  Type type_ = kNone;
  HostId holder_{};  // unless all registrants hold it
  uint32_t generation_ = 0;
};

}  // namespace resv
