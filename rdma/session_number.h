// SPDX-License-Identifier: MIT
//
// Numbers that tell the initiators of one session in this process apart (block_wire.h). The lowest free
// one is given out, so that an agent that starts again as its predecessor did gets the same numbers, and
// its connections replace those of the predecessor. Use from any thread.
#pragma once

#include <cstdint>

namespace weft::rdma {

class SessionNumber {
 public:
  explicit SessionNumber(uint64_t session);
  ~SessionNumber();
  SessionNumber(const SessionNumber&) = delete;
  SessionNumber& operator=(const SessionNumber&) = delete;
  uint32_t value() const { return value_; }

 private:
  uint64_t session_;
  uint32_t value_ = 0;
};

}  // namespace weft::rdma
