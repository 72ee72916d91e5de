// SPDX-License-Identifier: MIT
#include "nvmeof/reservation.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace weft::nvmeof {
namespace {

constexpr int kTriesMax = 16;           // somebody else was faster
constexpr size_t kThrownOutMax = 4096;  // in one go

constexpr unsigned kSessionBits = 32;

uint32_t Fold(const Uuid& cluster) {
  std::array<uint8_t, sizeof(uint32_t)> folded{};
  for (size_t i = 0; i < cluster.size(); ++i) folded[i % folded.size()] ^= cluster[i];
  uint32_t value = 0;
  for (uint8_t byte : folded) value = value << 8 | byte;
  return value != 0 ? value : 1;
}

std::string_view NameOf(ReservationType type) {
  switch (type) {
    case ReservationType::kNone:
      return "not reserved";
    case ReservationType::kWriteExclusive:
      return "write exclusive";
    case ReservationType::kExclusiveAccess:
      return "exclusive access";
    case ReservationType::kWriteExclusiveRegistrants:
      return "write exclusive, registrants only";
    case ReservationType::kExclusiveAccessRegistrants:
      return "exclusive access, registrants only";
    case ReservationType::kWriteExclusiveAll:
      return "write exclusive, all registrants";
    case ReservationType::kExclusiveAccessAll:
      return "exclusive access, all registrants";
  }
  return "of an unknown type";
}

// For one who is sure that nobody needs it.
constexpr std::string_view kRemedy =
    "`nvme resv-report --eds DEVICE` lists them; if they are left over, `nvme resv-register DEVICE --nrkey=1` and "
    "`nvme resv-release DEVICE --crkey=1 --rrela=1` remove them all";

Status InUse(const std::string& name, const ReservationReport& report, const Registrant& other) {
  return Error(EBUSY, "{} is used by others: key {:#x} of host {} is registered there ({}); {}", name, other.key,
               weft::ToString(other.host), NameOf(report.type), kRemedy);
}

Status ReservedOtherwise(const std::string& name, const ReservationReport& report) {
  return Error(EBUSY, "{} is reserved by others: {}; {}", name, NameOf(report.type), kRemedy);
}

}  // namespace

uint64_t ReservationReport::KeyOf(const HostId& host) const {
  auto found = std::ranges::find(registrants, host, &Registrant::host);
  return found == registrants.end() ? 0 : found->key;
}

Result<uint64_t> ReservationKey(const Uuid& cluster, uint64_t session) {
  if (session > UINT32_MAX) return Error(EOVERFLOW, "session {} does not fit into a reservation key", session);
  return uint64_t{Fold(cluster)} << kSessionBits | session;
}

bool IsOfCluster(uint64_t key, const Uuid& cluster) { return key >> kSessionBits == Fold(cluster); }

uint32_t SessionOf(uint64_t key) { return static_cast<uint32_t>(key); }

Reservation::Reservation(std::unique_ptr<ReservationPort> port, std::string name, const ReservationClaim& claim,
                         std::function<Status()> session_lives)
    : port_(std::move(port)), name_(std::move(name)), claim_(claim), session_lives_(std::move(session_lives)) {}

// Under this type every registrant holds the reservation: one that is not of this cluster would be let in.
Status Reservation::CheckForeign(const ReservationReport& report) const {
  for (const Registrant& other : report.registrants) {
    if (!IsOfCluster(other.key, claim_.cluster)) return InUse(name_, report, other);
  }
  if (report.type != ReservationType::kNone && report.type != ReservationType::kExclusiveAccessAll)
    return ReservedOtherwise(name_, report);
  return {};
}

Status Reservation::Register(uint64_t present) {
  auto key = ReservationKey(claim_.cluster, claim_.session);
  if (!key.ok()) return key.status();
  if (Status s = session_lives_(); !s.ok()) return s;
  if (Status s = present != 0 ? port_->Replace(*key) : port_->Register(*key); !s.ok()) return s;
  Status lives = session_lives_();
  if (lives.ok()) return {};
  if (Status s = port_->Unregister(*key); !s.ok() && s.code() != EBADE)
    return lives.Annotate(fmt::format("{} keeps the key of session {} ({})", name_, claim_.session, s.message()));
  return lives;
}

// Changes one thing at most, by a report that is new.
Result<Reservation::Changes> Reservation::Step(bool* done) {
  Changes changes;
  auto key = ReservationKey(claim_.cluster, claim_.session);
  if (!key.ok()) return key.status();
  auto report = port_->Report();
  if (!report.ok()) return report.status();
  if (Status s = CheckForeign(*report); !s.ok()) return s;

  if (uint64_t present = report->KeyOf(port_->host()); present != *key) {
    if (present != 0 && SessionOf(present) > claim_.session)
      return Error(ESTALE, "{}: this host has registered session {}, later than {}", name_, SessionOf(present),
                   claim_.session);
    if (Status s = Register(present); !s.ok()) return s;
    changes.registered = true;
    return changes;
  }
  auto ended = std::ranges::find_if(report->registrants, [&](const Registrant& other) {
    return other.key != *key && SessionOf(other.key) < claim_.fence_below;
  });
  if (ended != report->registrants.end()) {
    if (Status s = port_->PreemptAndAbort(*key, ended->key); !s.ok()) return s;
    changes.thrown_out.push_back(SessionOf(ended->key));
    return changes;
  }
  if (report->type == ReservationType::kNone) {
    if (Status s = port_->Reserve(*key); !s.ok()) return s;
    changes.reserved = true;
    return changes;
  }
  *done = true;
  return changes;
}

Result<Reservation::Changes> Reservation::Hold() {
  Changes all;
  for (int tries = 0; tries < kTriesMax && all.thrown_out.size() < kThrownOutMax;) {
    bool done = false;
    auto changes = Step(&done);
    if (done) return all;
    if (!changes.ok() && changes.status().code() != EBADE) return changes;
    if (!changes.ok() || changes->thrown_out.empty()) ++tries;
    if (!changes.ok()) continue;
    all.registered |= changes->registered;
    all.reserved |= changes->reserved;
    std::ranges::copy(changes->thrown_out, std::back_inserter(all.thrown_out));
  }
  return Error(EAGAIN, "{}: its registrants change all the time", name_);
}

Status Reservation::Release() {
  auto key = ReservationKey(claim_.cluster, claim_.session);
  if (!key.ok()) return key.status();
  Status s = port_->Unregister(*key);
  return s.code() == EBADE ? Status::Ok() : s;
}

Status CheckUnreserved(ReservationPort* port, const std::string& name, const Uuid& cluster) {
  auto supported = port->Supported();
  if (!supported.ok()) return supported.status();
  if (!*supported) return {};
  auto report = port->Report();
  if (!report.ok()) return report.status();
  for (const Registrant& other : report->registrants) {
    if (!IsOfCluster(other.key, cluster)) return InUse(name, *report, other);
  }
  if (report->type == ReservationType::kNone || report->KeyOf(port->host()) != 0) return {};
  if (report->registrants.empty()) return ReservedOtherwise(name, *report);
  return Error(EBUSY,
               "{} is reserved by this cluster, for session {}: do this on the host that has it (`weftctl session "
               "list`); {}",
               name, SessionOf(report->registrants.front().key), kRemedy);
}

}  // namespace weft::nvmeof
