// SPDX-License-Identifier: MIT
//
// Runs the operator's command that keeps the hosts of ended sessions away from NVMe-oF targets and lets them in again:
//
//   COMMAND fence|allow HOSTNQN TARGET URI...     once for each target, with the URIs of its paths
//
// `fence` ends with status 0 when the host cannot reach the target's namespace any more: what it had sent and was not
// executed will not be. A thread of its own asks the engine for what is to be done; what fails is tried again.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "userland/base/status.h"
#include "userland/meta/engine.h"

namespace weft {

class Fencer {
 public:
  using Runner = std::function<Status(const std::vector<std::string>& command)>;
  static Status RunIt(const std::vector<std::string>& command);

  // command: the program's file. engine: its StopEvents, which ends the thread, comes before the end of this object.
  Fencer(Engine* engine, std::string command, Runner run = RunIt,
         std::chrono::milliseconds retry = std::chrono::seconds(5));
  ~Fencer();
  Fencer(const Fencer&) = delete;
  Fencer& operator=(const Fencer&) = delete;

 private:
  void Main();
  Status Carry(const FenceOrder& order) const;

  Engine* const engine_;
  const std::string command_;
  const Runner run_;
  const std::chrono::milliseconds retry_;
  std::thread thread_;
};

}  // namespace weft
