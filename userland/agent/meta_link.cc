// SPDX-License-Identifier: MIT
#include "userland/agent/meta_link.h"

#include <chrono>

#include "userland/base/log.h"

namespace weft::agent {

void MetaServerHealth::Failed(const Status& why) {
  if (reachable_.exchange(false)) LogWarning("{}; requests wait, trying until it answers", why.message());
}

void MetaServerHealth::Answered(const Address& server) {
  if (!reachable_.load(std::memory_order_relaxed) && !reachable_.exchange(true)) {
    LogInfo("metadata server {} answers again", server.ToString());
  }
}

void MetaLink::Interrupt() {
  client_.Interrupt();
  std::lock_guard lock(mutex_);
  interrupted_ = true;
  wake_.notify_all();
}

void MetaLink::Resume() {
  std::lock_guard lock(mutex_);
  interrupted_ = false;
  client_.Resume();
}

void MetaLink::WaitUnlessInterrupted(int wait_ms) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] { return interrupted_; });
}

}  // namespace weft::agent
