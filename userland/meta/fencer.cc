// SPDX-License-Identifier: MIT
#include "userland/meta/fencer.h"

#include <pthread.h>

#include <cerrno>
#include <utility>

#include "userland/base/log.h"
#include "userland/base/run_command.h"

namespace weft {
namespace {

constexpr std::chrono::seconds kCommandTimeout{30};
constexpr int kLookMs = 60'000;  // when nothing happens

}  // namespace

Status Fencer::RunIt(const std::vector<std::string>& command) { return RunCommand(command, kCommandTimeout); }

Fencer::Fencer(Engine* engine, std::string command, Runner run, std::chrono::milliseconds retry)
    : engine_(engine), command_(std::move(command)), run_(std::move(run)), retry_(retry) {
  thread_ = std::thread([this] { Main(); });
  pthread_setname_np(thread_.native_handle(), "meta/fencer");
}

Fencer::~Fencer() { thread_.join(); }

// At all targets, also when it fails at one. The first failure; ESHUTDOWN: the server stops, and some were left out.
Status Fencer::Carry(const FenceOrder& order) const {
  Status first;
  for (const FenceOrder::Target& target : order.targets) {
    if (engine_->events_stopped()) return Error(ESHUTDOWN, "metadata server is shutting down");
    std::vector<std::string> command{command_, order.fence ? "fence" : "allow", order.hostnqn, target.name};
    command.insert(command.end(), target.uris.begin(), target.uris.end());
    Status status = run_(command);
    if (status.ok()) {
      LogInfo("host {} is {} target '{}'", order.hostnqn, order.fence ? "kept away from" : "let in at", target.name);
      continue;
    }
    status = status.Annotate(fmt::format("target '{}'", target.name));
    LogError("{} of host {}: {}", order.fence ? "fencing" : "letting in", order.hostnqn, status.message());
    if (first.ok()) first = status;
  }
  return first;
}

void Fencer::Main() {
  for (;;) {
    int64_t seen = engine_->events_version();  // what happens from here on is not slept over
    auto orders = engine_->Run([](StateMachine& m) { return Result<std::vector<FenceOrder>>(m.FenceOrders()); });
    if (!orders.ok()) return;  // the server stops
    bool failed = false;
    for (const FenceOrder& order : *orders) {
      Status status = Carry(order);
      if (!status.ok() && engine_->events_stopped()) return;
      failed |= !status.ok();
      Status told = engine_->Run([&](StateMachine& m) {
        m.FenceDone(order, status);
        return Status::Ok();
      });
      if (!told.ok()) return;
    }
    if (failed) {
      if (engine_->AwaitStop(retry_)) return;
    } else if (orders->empty() && !engine_->AwaitEvents(seen, kLookMs)) {
      return;
    }
  }
}

}  // namespace weft
