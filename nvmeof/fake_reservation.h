// SPDX-License-Identifier: MIT
//
// A namespace with reservations without a storage node, for tests: each host has its port to it, and a test may do
// something in front of any command. Follows the specification in what reservation.h uses. Any thread.
//
//   FakeReservations ns;
//   Reservation reservation(ns.PortOf(host), "namespace 1", claim, [] { return Status::Ok(); });
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "nvmeof/reservation.h"

namespace weft::nvmeof {

class FakeReservations {
 public:
  std::unique_ptr<ReservationPort> PortOf(const HostId& host);

  void SetSupported(bool supported);
  // Runs in front of every command, with its name: "report", "register", "replace", "unregister", "reserve", "preempt".
  // What it does to this object is done before the command, which fails if it returns an error.
  void OnCommand(std::function<Status(const HostId& host, const std::string& command)> hook);

  void Put(const Registrant& registrant);  // instead of what that host has
  void Reserve(ReservationType type);
  void LosePower();  // of a storage node that does not keep them

  ReservationReport report() const;
  bool MayWrite(const HostId& host) const;
  std::vector<std::string> TakeCommands();  // that succeeded, but for reports: "preempt 0x..."

 private:
  class Port;
  Status Begin(const HostId& host, const std::string& command) const;
  void Remove(const HostId& host);

  mutable std::mutex mutex_;  // guards all below
  bool supported_ = true;
  std::function<Status(const HostId&, const std::string&)> hook_;
  ReservationReport state_;
  std::vector<std::string> commands_;
};

}  // namespace weft::nvmeof
