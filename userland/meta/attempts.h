// SPDX-License-Identifier: MIT
//
// Numbers that tell a job from an earlier one of the same kind, chunk and version: what ended and is wanted again
// gets another. A server that was started again begins elsewhere, so that what is still under way, or remembered by
// a target, from before is not taken for what is wanted now. State machine thread.
#pragma once

#include <cstdint>

namespace weft {

class Attempts {
 public:
  // starts: how often this store has been opened.
  void Load(uint64_t starts) { first_ = last_ = static_cast<uint32_t>(starts << 16); }
  // Of jobs that have not failed since the server was started.
  int32_t first() const { return static_cast<int32_t>(first_ & INT32_MAX); }
  int32_t Next() { return static_cast<int32_t>(++last_ & INT32_MAX); }

 private:
  uint32_t first_ = 0;
  uint32_t last_ = 0;
};

}  // namespace weft
