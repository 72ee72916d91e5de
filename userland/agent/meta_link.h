// SPDX-License-Identifier: MIT
//
// A connection to the metadata server that does not give up: a call is repeated, with back-off, until the
// server has answered it. Every call of MetaService may be repeated: execute by its sequence numbers, the
// others by their nature. One thread calls; Interrupt and Resume may come from any other.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "thrift-gen/MetaService.h"
#include "userland/base/status.h"
#include "userland/rpc/client.h"

namespace weft::agent {

// What all links of an agent know of their server, so that its loss is logged once. Any thread.
class MetaServerHealth {
 public:
  void Failed(const Status& why);
  void Answered(const Address& server);

 private:
  std::atomic<bool> reachable_ = true;
};

class MetaLink {
 public:
  using Service = idl::MetaServiceClient;
  static constexpr int kBackOffMinMs = 10;
  static constexpr int kBackOffMaxMs = 1000;

  MetaLink(const Address& server, std::shared_ptr<MetaServerHealth> health)
      : client_(server, kMetaService), health_(std::move(health)) {}

  const Address& server() const { return client_.server(); }

  // As RpcClient::Call, but never with a connection error. ECANCELED: Interrupt.
  template <typename F>
  auto Call(F&& call, int reply_ms = 0) {
    for (int wait_ms = kBackOffMinMs;; wait_ms = std::min(2 * wait_ms, kBackOffMaxMs)) {
      auto result = client_.Call(call, reply_ms);
      Status status = StatusOf(result);
      if (!IsConnectionError(status)) {
        if (status.code() != ECANCELED) health_->Answered(server());
        return result;
      }
      health_->Failed(status);
      WaitUnlessInterrupted(wait_ms);
    }
  }

  void Interrupt();
  void Resume();

 private:
  static Status StatusOf(const Status& status) { return status; }
  template <typename T>
  static Status StatusOf(const Result<T>& result) {
    return result.status();
  }
  void WaitUnlessInterrupted(int wait_ms);

  RpcClient<Service> client_;
  const std::shared_ptr<MetaServerHealth> health_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool interrupted_ = false;  // guarded by mutex_
};

}  // namespace weft::agent
