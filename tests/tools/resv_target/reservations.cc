// SPDX-License-Identifier: MIT
#include "tests/tools/resv_target/reservations.h"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace resv {
namespace {

constexpr size_t kHeaderBytes = 64;
constexpr size_t kEntryBytes = 64;
constexpr uint16_t kDynamicController = 0xffff;

uint32_t ActionOf(uint32_t dword10) { return dword10 & 7; }
bool IgnoresKey(uint32_t dword10) { return (dword10 >> 3 & 1) != 0; }
uint8_t TypeOf(uint32_t dword10) { return static_cast<uint8_t>(dword10 >> 8); }

}  // namespace

Reservations::Registrant* Reservations::Find(const HostId& host) {
  auto found = std::ranges::find(registrants_, host, &Registrant::host);
  return found == registrants_.end() ? nullptr : &*found;
}

bool Reservations::Holds(const HostId& host) const {
  return type_ != kNone && (all_hold() ? Find(host) != nullptr : holder_ == host);
}

bool Reservations::MayAccess(const HostId& host, bool writes) const {
  switch (type_) {
    case kNone:
      return true;
    case kWriteExclusive:
      return !writes || Holds(host);
    case kExclusiveAccess:
      return Holds(host);
    case kWriteExclusiveRegistrants:
    case kWriteExclusiveAll:
      return !writes || Find(host) != nullptr;
    default:
      return Find(host) != nullptr;
  }
}

uint16_t Reservations::Access(const HostId& host, bool writes, const std::function<uint16_t()>& access) {
  std::shared_lock lock(mutex_);
  return MayAccess(host, writes) ? access() : uint16_t{kReservationConflict};
}

// With its last registrant, or with its holder, the reservation goes.
void Reservations::Remove(const HostId& host) {
  bool held = Holds(host);
  std::erase_if(registrants_, [&](const Registrant& registrant) { return registrant.host == host; });
  if (held && (!all_hold() || registrants_.empty())) type_ = kNone;
}

uint16_t Reservations::Register(const HostId& host, uint32_t dword10, uint64_t present, uint64_t key) {
  std::unique_lock lock(mutex_);
  Registrant* own = Find(host);
  bool proven = own != nullptr && (IgnoresKey(dword10) || own->key == present);
  switch (ActionOf(dword10)) {
    case 0:
      if (key == 0) return kInvalidField;
      if (own != nullptr) return own->key == key ? kSuccess : kReservationConflict;
      registrants_.push_back({host, key});
      break;
    case 1:
      if (!proven) return kReservationConflict;
      Remove(host);
      break;
    case 2:
      if (key == 0) return kInvalidField;
      if (!proven) return kReservationConflict;
      own->key = key;
      break;
    default:
      return kInvalidField;
  }
  ++generation_;
  return kSuccess;
}

uint16_t Reservations::Take(const HostId& host, Type type) {
  if (type_ != kNone) return Holds(host) && type_ == type ? kSuccess : kReservationConflict;
  type_ = type;
  holder_ = host;
  return kSuccess;
}

uint16_t Reservations::Preempt(const HostId& host, Type type, uint64_t key) {
  bool holder_goes = type_ != kNone && (all_hold() ? key == 0 : Find(holder_)->key == key);
  if (key == 0 && !holder_goes) return kInvalidField;
  std::vector<HostId> gone;
  for (const Registrant& other : registrants_) {
    bool own = other.host == host;
    if (holder_goes ? !own && (key == 0 || other.key == key) : other.key == key) gone.push_back(other.host);
  }
  if (gone.empty() && !holder_goes) return kReservationConflict;
  for (const HostId& other : gone) Remove(other);
  if (holder_goes) {
    type_ = type;
    holder_ = host;
  }
  ++generation_;
  return kSuccess;
}

uint16_t Reservations::Acquire(const HostId& host, uint32_t dword10, uint64_t key, uint64_t other) {
  std::unique_lock lock(mutex_);
  uint8_t type = TypeOf(dword10);
  if (IgnoresKey(dword10) || type < kWriteExclusive || type > kExclusiveAccessAll) return kInvalidField;
  const Registrant* own = Find(host);
  if (own == nullptr || own->key != key) return kReservationConflict;
  switch (ActionOf(dword10)) {
    case 0:
      return Take(host, static_cast<Type>(type));
    case 1:
    case 2:
      return Preempt(host, static_cast<Type>(type), other);
    default:
      return kInvalidField;
  }
}

uint16_t Reservations::Release(const HostId& host, uint32_t dword10, uint64_t key) {
  std::unique_lock lock(mutex_);
  if (IgnoresKey(dword10)) return kInvalidField;
  const Registrant* own = Find(host);
  if (own == nullptr || own->key != key) return kReservationConflict;
  switch (ActionOf(dword10)) {
    case 0:
      if (!Holds(host)) return kSuccess;
      if (type_ != TypeOf(dword10)) return kInvalidField;
      type_ = kNone;
      return kSuccess;
    case 1:
      registrants_.clear();
      type_ = kNone;
      ++generation_;
      return kSuccess;
    default:
      return kInvalidField;
  }
}

uint16_t Reservations::Report(uint32_t dword11, size_t bytes, std::vector<uint8_t>* out) const {
  std::shared_lock lock(mutex_);
  if ((dword11 & 1) == 0) return kHostIdFormat;
  std::vector<uint8_t> report(kHeaderBytes + registrants_.size() * kEntryBytes);
  auto count = static_cast<uint16_t>(registrants_.size());
  memcpy(&report[0], &generation_, sizeof generation_);
  report[4] = type_;
  memcpy(&report[5], &count, sizeof count);
  for (size_t i = 0; i < registrants_.size(); ++i) {
    uint8_t* entry = &report[kHeaderBytes + i * kEntryBytes];
    memcpy(entry, &kDynamicController, sizeof kDynamicController);
    entry[2] = Holds(registrants_[i].host);
    memcpy(entry + 8, &registrants_[i].key, sizeof registrants_[i].key);
    memcpy(entry + 16, registrants_[i].host.data(), registrants_[i].host.size());
  }
  report.resize(bytes);
  *out = std::move(report);
  return kSuccess;
}

}  // namespace resv
