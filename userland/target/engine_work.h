// SPDX-License-Identifier: MIT
//
// What the engine thread does beside serving its BlockTarget. Called by that thread alone.
#pragma once

#include <cstddef>

namespace weft::target {

class EngineWork {
 public:
  virtual ~EngineWork() = default;
  virtual size_t Poll() = 0;  // how much there was to do
  // Before the thread sleeps. False: Poll again instead. Lowers *timeout_ms (-1: for ever) to when it has to be called.
  virtual bool Arm(int* timeout_ms) = 0;
};

}  // namespace weft::target
