// SPDX-License-Identifier: MIT
//
// Tells the metadata server up to which version of the chunk map no request of an older one is under way here. An
// NVMe-oF target refuses nobody whose map is old, so the server has its copies used in another way only when that is
// said ("NVMe-oF targets" in ARCHITECTURE.md). Only needed while there are such targets. A thread of its own, as the
// kernel may have to wait for requests that take as long as a target is away. Any thread may call.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kmod/uapi/weft.h"
#include "userland/agent/meta_link.h"
#include "userland/base/status.h"

namespace weft::agent {

class Settler {
 public:
  // The kernel, as far as it is needed: Channel::SetChunks (any number) and Channel::Settle.
  struct Kernel {
    std::function<Status(const std::vector<weft_chunk>&)> set_chunks;
    std::function<Status()> settle;
  };

  Settler(Kernel kernel, const Address& server, std::shared_ptr<MetaServerHealth> health);
  ~Settler();
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;

  // Of the session from now on, which goes by no map yet. needed: there are targets that want it.
  void Begin(int64_t session, int64_t version, bool needed);
  void SetNeeded(bool needed);
  // The kernel was told of these maps, and with them of all changes up to `version`.
  void Told(const std::vector<weft_chunk>& maps, int64_t version);
  void End();   // of the session
  void Stop();  // of the thread

 private:
  void Main();
  Status SettleKernel(const std::vector<weft_chunk>& maps);
  Status Report(int64_t session, int64_t version);
  bool Stopping();

  const Kernel kernel_;
  MetaLink link_;     // of the thread
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  int64_t session_ = 0;  // 0: none
  bool needed_ = false;
  std::vector<weft_chunk> maps_;  // that were told and may not be settled
  int64_t told_ = 0;              // version
  int64_t reported_ = -1;         // version that the server has heard of; -1: none
  bool stopping_ = false;
  std::thread thread_;  // last: uses the others
};

}  // namespace weft::agent
