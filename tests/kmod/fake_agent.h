// SPDX-License-Identifier: MIT
//
// An agent that serves a World, in a process of its own so that it can be killed.
#pragma once

#include <sys/types.h>

#include <string>

#include "tests/kmod/world.h"

namespace weft::kmod_test {

class AgentProcess {
 public:
  // Returns when it is ready; ok() is false if it could not attach.
  AgentProcess(World* world, const std::string& cluster);
  ~AgentProcess();  // ends it in an orderly way
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  bool ok() const { return ok_; }
  void Kill();  // -9

 private:
  World* const world_;
  pid_t pid_ = -1;
  bool ok_ = false;
};

}  // namespace weft::kmod_test
