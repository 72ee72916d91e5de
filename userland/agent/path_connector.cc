// SPDX-License-Identifier: MIT
#include "userland/agent/path_connector.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace weft::agent {

using SteadyClock = std::chrono::steady_clock;

struct PathConnector::Round {
  const SteadyClock::time_point began = SteadyClock::now();
  std::mutex mutex;  // guards all below
  std::condition_variable changed;
  Outcome outcome{.ended = false};
  bool let_go = false;
  SteadyClock::time_point ended_at;
};

PathConnector::PathConnector(FabricMaker make_fabric, nvmeof::HostSettings host)
    : make_fabric_(std::move(make_fabric)), host_(std::move(host)) {}

PathConnector::~PathConnector() { LetGo(SteadyClock::time_point()); }

// Says nothing in the log: who let go of it may have ended that, too.
void PathConnector::Run(const std::shared_ptr<Round>& round, const FabricMaker& make_fabric,
                        const nvmeof::HostSettings& host, const std::vector<nvmeof::Uri>& paths) {
  std::unique_ptr<nvmeof::Fabric> fabric = make_fabric();
  for (const nvmeof::Uri& path : paths) {
    {
      std::lock_guard lock(round->mutex);
      if (round->let_go) break;
    }
    Status s = fabric->Connect(path.endpoint, path.nqn, host);
    std::lock_guard lock(round->mutex);
    round->outcome.connected += s.ok();
    if (!s.ok() && round->outcome.error.ok()) round->outcome.error = s;
  }
  fabric = nullptr;
  std::lock_guard lock(round->mutex);
  round->outcome.ended = true;
  round->ended_at = SteadyClock::now();
  round->changed.notify_all();
}

void PathConnector::Begin(const std::vector<nvmeof::Uri>& paths, std::chrono::milliseconds pause) {
  if (round_) {
    std::lock_guard lock(round_->mutex);
    if (!round_->outcome.ended) return;
    auto wait = std::max<SteadyClock::duration>(pause, round_->ended_at - round_->began);
    if (SteadyClock::now() - round_->ended_at < wait) return;
  }
  round_ = std::make_shared<Round>();
  std::thread thread([round = round_, make_fabric = make_fabric_, host = host_, paths] {
    pthread_setname_np(pthread_self(), "weftd/connect");
    Run(round, make_fabric, host, paths);
  });
  thread.detach();
}

PathConnector::Outcome PathConnector::outcome() const {
  if (!round_) return {};
  std::lock_guard lock(round_->mutex);
  return round_->outcome;
}

bool PathConnector::LetGo(SteadyClock::time_point deadline) {
  if (!round_) return true;
  std::unique_lock lock(round_->mutex);
  round_->let_go = true;
  return round_->changed.wait_until(lock, deadline, [this] { return round_->outcome.ended; });
}

}  // namespace weft::agent
