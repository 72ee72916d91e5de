// SPDX-License-Identifier: MIT
//
// Connects the paths of one NVMe-oF target: in rounds, each in a thread of its own.
//
// The kernel may take minutes for a path that does not answer, cannot be interrupted meanwhile, and connects one
// controller at a time on the whole host (nvmeof/fabrics_device.h). So nobody waits for a round. Who has no use for it
// any more lets go of it, and the thread, which holds all that it needs, ends by itself when the kernel lets it. What
// the kernel connects after that stays connected, until somebody wants that path or disconnects the subsystem: single
// paths cannot be disconnected, and by then the others may be in use again.
//
// One thread calls.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"

namespace weft::agent {

class PathConnector {
 public:
  using FabricMaker = std::function<std::unique_ptr<nvmeof::Fabric>()>;  // called in the rounds' threads

  // What the last round has come to.
  struct Outcome {
    bool ended = true;        // it is not under way
    size_t connected = 0;     // paths that stand
    Status error = Status();  // of the first path that does not
  };

  PathConnector(FabricMaker make_fabric, nvmeof::HostSettings host);
  ~PathConnector();  // lets go
  PathConnector(const PathConnector&) = delete;
  PathConnector& operator=(const PathConnector&) = delete;

  // Begins a round, which tries the paths one after the other, also those that stand. Not while one is under way; not
  // before `pause` after the last one, nor before as much time as that took: it kept all others from connecting.
  void Begin(const std::vector<nvmeof::Uri>& paths, std::chrono::milliseconds pause);
  Outcome outcome() const;
  // The round that is under way tries no further path. True: it has ended.
  bool LetGo(std::chrono::steady_clock::time_point deadline);

 private:
  struct Round;
  static void Run(const std::shared_ptr<Round>& round, const FabricMaker& make_fabric, const nvmeof::HostSettings& host,
                  const std::vector<nvmeof::Uri>& paths);

  const FabricMaker make_fabric_;
  const nvmeof::HostSettings host_;
  std::shared_ptr<Round> round_;  // the last; null: there was none
};

}  // namespace weft::agent
