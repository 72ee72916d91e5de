// SPDX-License-Identifier: MIT
//
// StateMachine: sessions that have ended while their host may still send to NVMe-oF targets.
//
// A weft-target refuses the requests of a session that has a successor. An NVMe-oF target does so only where a
// reservation keeps out who has not registered. Elsewhere the session is `ended` for its client, which is answered
// ESTALE, but keeps its grants and open chunks, and nobody else is let in, before
//
//   command   the operator's command has taken its host out of the subsystems; it may mount again after the command has
//             let it in. Where it fails, it is tried again, and meanwhile
//   lease     its lease has run out, after which it sends nothing, and then the time that it named when it opened the
//             session, after which nothing that it had sent can take effect.
#include <algorithm>
#include <cerrno>

#include "userland/base/log.h"
#include "userland/meta/state_machine.h"

namespace weft {

std::string StateMachine::FenceOf(const TargetState& target) const {
  if (!target.record.nvme) return "";
  if (target.reserved) return "reservation";
  return options_.fence_command ? "command" : "lease";
}

bool StateMachine::MustFence() const {
  return std::ranges::any_of(targets_.all(), [](const auto& entry) {
    const TargetState& target = entry.second;
    return target.id != 0 && target.record.nvme && !target.reserved;
  });
}

int64_t StateMachine::deadline_ms() const {
  int64_t deadline = std::min(targets_.deadline_ms(), upkeep_.deadline_ms());
  for (const auto& [id, session] : sessions_.all()) {
    if (session.record.ended) deadline = std::min(deadline, session.gone_at_ms);
  }
  return deadline;
}

void StateMachine::LoadFencing() {
  // Nobody knows how long they had been silent.
  for (const auto& [id, loaded] : sessions_.all()) {
    ClientSession* session = sessions_.Find(id);
    if (!session->record.ended) continue;
    session->why = "it had ended before the server was started";
    session->gone_at_ms = now_.mono_ms + session->record.silence_ms();
    session->fence_wanted = options_.fence_command && !session->record.hostnqn.empty();
  }
}

void StateMachine::Retire(uint64_t id, std::string_view why) {
  ClientSession* session = sessions_.Find(id);
  if (!MustFence()) return EndSession(id, false, why);
  if (session->record.ended) return;
  session->record.ended = true;
  sessions_.PutRecord(id);
  session->why = why;
  session->gone_at_ms = session->renewed_ms + session->record.silence_ms();
  session->fence_wanted = options_.fence_command && !session->record.hostnqn.empty();
  // Before the command runs: it may get half-way.
  if (session->fence_wanted) tx_.Put(key::KeptOut(session->record.hostnqn), "");
  LogWarning("session {} of host '{}' has ended: {}; NVMe-oF targets may get requests of it for {} ms more", id,
             session->record.host, why, std::max<int64_t>(session->gone_at_ms - now_.mono_ms, 0));
  ++ended_sessions_;
  EndRetired();
}

void StateMachine::EndRetired() {
  std::vector<uint64_t> gone;
  for (const auto& [id, session] : sessions_.all()) {
    if (session.record.ended && now_.mono_ms >= session.gone_at_ms) gone.push_back(id);
  }
  for (uint64_t id : gone) EndSession(id, false, sessions_.Find(id)->why);
}

Status StateMachine::Retiring(uint64_t id) const {
  const ClientSession& session = sessions_.all().at(id);
  bool soon = session.fence_wanted && session.fence_error.empty();
  std::string error = session.fence_error.empty() ? "" : fmt::format(" (fence command: {})", session.fence_error);
  return Error(soon ? EAGAIN : EBUSY,
               "session {} of host '{}' has ended, but NVMe-oF targets may get requests of it for {} ms more{}; mount "
               "again then, or run `weftctl session evict --host-is-off {}` if that host has no power",
               id, session.record.host, std::max<int64_t>(session.gone_at_ms - now_.mono_ms, 0), error, id);
}

Status StateMachine::LetIn(const std::string& hostnqn) {
  if (hostnqn.empty() || !tx_.Get(key::KeptOut(hostnqn))) return {};
  if (!options_.fence_command) {
    LogWarning(
        "host {} had been kept away from NVMe-oF targets by a fence command; there is none now to let it in again",
        hostnqn);
    tx_.Delete(key::KeptOut(hostnqn));
    return {};
  }
  auto [entry, added] = letting_in_.emplace(hostnqn, "");
  if (added) ++fence_changes_;
  return Error(entry->second.empty() ? EAGAIN : EBUSY,
               "host {} had been kept away from NVMe-oF targets and has to be let in again by the fence command{}{}",
               hostnqn, entry->second.empty() ? "; mount again in a moment" : ", which fails: ", entry->second);
}

std::vector<FenceOrder> StateMachine::FenceOrders() const {
  std::vector<FenceOrder> orders;
  for (const auto& [id, session] : sessions_.all()) {
    if (session.fence_wanted) orders.push_back({.fence = true, .hostnqn = session.record.hostnqn, .targets = {}});
  }
  for (const auto& [hostnqn, error] : letting_in_)
    orders.push_back({.fence = false, .hostnqn = hostnqn, .targets = {}});
  for (FenceOrder& order : orders) {
    for (const auto& [uuid, target] : targets_.all()) {
      if (target.id != 0 && target.record.nvme && !(order.fence && target.reserved))
        order.targets.push_back({target.record.name, target.record.nvme->uris});
    }
  }
  return orders;
}

void StateMachine::FenceDone(const FenceOrder& order, const Status& status) {
  ++fence_changes_;
  if (!order.fence) {
    auto host = letting_in_.find(order.hostnqn);
    if (host == letting_in_.end()) return;
    host->second = status.message();
    if (!status.ok()) return;
    letting_in_.erase(host);
    tx_.Delete(key::KeptOut(order.hostnqn));
    return;
  }
  std::vector<uint64_t> gone;
  for (const auto& [id, other] : sessions_.all()) {
    ClientSession* session = sessions_.Find(id);
    if (!session->fence_wanted || session->record.hostnqn != order.hostnqn) continue;
    session->fence_error = status.message();
    if (status.ok()) gone.push_back(id);
  }
  for (uint64_t id : gone) EndSession(id, false, sessions_.Find(id)->why);
}

}  // namespace weft
