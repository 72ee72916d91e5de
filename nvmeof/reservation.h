// SPDX-License-Identifier: MIT
//
// Keeps the clients of ended sessions away from a namespace by NVMe reservations (NVMe base specification 2.0, "8.19
// Reservations"). All clients of a cluster share one reservation of type "Exclusive Access - All Registrants": who has
// registered a key may read and write, nobody else. The key says whose it is,
//
//   bits 63..32  folded from the cluster's UUID, never 0: keys of others are told apart
//   bits 31..0   the session: rises, is never used again
//
// so a client that takes over throws out all registrants of sessions before it (preempt and abort: what they had sent
// has ended when that returns). The storage node then answers them with a reservation conflict, EBADE here.
//
// Registrations are of hosts, not of connections: all paths of a host share its own. So they do not tell what a host
// sent before it was started anew from what it sends now.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::nvmeof {

using HostId = Uuid;

enum class ReservationType : uint8_t {  // as in the specification
  kNone = 0,
  kWriteExclusive = 1,
  kExclusiveAccess = 2,
  kWriteExclusiveRegistrants = 3,
  kExclusiveAccessRegistrants = 4,
  kWriteExclusiveAll = 5,
  kExclusiveAccessAll = 6,
};

struct Registrant {
  HostId host{};
  uint64_t key = 0;
  bool operator==(const Registrant&) const = default;
};

struct ReservationReport {
  ReservationType type = ReservationType::kNone;
  std::vector<Registrant> registrants;
  uint64_t KeyOf(const HostId& host) const;  // 0: it has not registered
};

// The commands of one host on one namespace, as a seam: real_reservation.cc, fake_reservation.h. Functions block as
// long as a command takes. Errors: EBADE (conflict: a key is not, or not any more, what it was said to be), EHOSTDOWN
// (no path), EIO. One thread at a time.
class ReservationPort {
 public:
  virtual ~ReservationPort() = default;
  virtual HostId host() const = 0;       // this one
  virtual Result<bool> Supported() = 0;  // the type that is used here
  virtual Result<ReservationReport> Report() = 0;
  virtual Status Register(uint64_t key) = 0;    // EBADE: this host has another one
  virtual Status Replace(uint64_t key) = 0;     // whichever it has; EBADE: it has none
  virtual Status Unregister(uint64_t key) = 0;  // with the last one the reservation ends
  virtual Status Reserve(uint64_t key) = 0;     // EBADE: somebody has, or `key` is not this host's
  // Ends all registrations with `other`, and the commands of their hosts.
  virtual Status PreemptAndAbort(uint64_t key, uint64_t other) = 0;
};

// EINVAL, ENODEV, EPERM: its device, or the host id under which it is connected, cannot be had.
Result<std::unique_ptr<ReservationPort>> OpenReservation(const Namespace& ns);

struct ReservationClaim {
  Uuid cluster{};
  uint64_t session = 0;
  uint64_t fence_below = 0;  // sessions below have ended
};

// EOVERFLOW: 32 bits do not hold the session.
Result<uint64_t> ReservationKey(const Uuid& cluster, uint64_t session);
bool IsOfCluster(uint64_t key, const Uuid& cluster);
uint32_t SessionOf(uint64_t key);

// One session's part in the reservation of one namespace. One thread at a time.
class Reservation {
 public:
  // What Hold has changed.
  struct Changes {
    bool registered = false;
    bool reserved = false;
    std::vector<uint32_t> thrown_out;  // sessions
    bool none() const { return !registered && !reserved && thrown_out.empty(); }
  };

  // name: of the namespace, for people. session_lives: asks who decides that; ESTALE: it has ended.
  Reservation(std::unique_ptr<ReservationPort> port, std::string name, const ReservationClaim& claim,
              std::function<Status()> session_lives);

  Result<bool> Supported() { return port_->Supported(); }

  // Makes it so, whatever there is: the session is registered, no session below `fence_below` is, and the namespace is
  // reserved. To be called again now and then: an older session may have registered late, and a storage node may have
  // lost everything with its power.
  //
  // A session that is not registered may have been thrown out. It registers when it lives, and looks once more after
  // that: had it ended in between, whoever came after it may have read the report already. So if this succeeds, who
  // takes over later finds the registration.
  //
  // EBUSY: it is reserved otherwise, or registered by others than this cluster. ESTALE: the session has ended, or this
  // host has a later one. EAGAIN: somebody changes it all the time. Or what session_lives and the port say.
  Result<Changes> Hold();

  // Unregisters; if nothing else is registered, nothing is reserved after it. Ok: it was thrown out, too.
  Status Release();

 private:
  Result<Changes> Step(bool* done);
  Status Register(uint64_t present);
  Status CheckForeign(const ReservationReport& report) const;

  const std::unique_ptr<ReservationPort> port_;
  const std::string name_;
  const ReservationClaim claim_;
  const std::function<Status()> session_lives_;
};

// Whether nobody but this host's session in the same cluster may use it: before it becomes a target. EBUSY says who,
// and the remedy. Ok as well where there are no reservations.
Status CheckUnreserved(ReservationPort* port, const std::string& name, const Uuid& cluster);

}  // namespace weft::nvmeof
