// SPDX-License-Identifier: MIT
//
// Targets in memory, for unit tests of the agent: the BlockInitiators that they make finish a command at
// the next Poll, or when the test lets them. Any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "rdma/block_initiator.h"

namespace weft::agent {

class FakeTargets {
 public:
  // One for each queue thread and session.
  std::unique_ptr<rdma::BlockInitiator> MakeInitiator(std::span<std::byte> pool, uint64_t session);

  // While held, commands stay in flight.
  void Hold(bool hold);
  bool WaitInFlight(size_t count);
  // Result of all further commands, 0: success.
  void Fail(int error);
  // State that targets report when they are set; Ok: connected.
  void SetPathState(const Status& state);
  // Which targets have when they are set; they answer a FLUSH for another one with -ESTALE.
  void SetIncarnation(uint64_t incarnation);

  std::vector<uint64_t> sessions() const;
  std::set<uint32_t> targets() const;

 private:
  friend class FakeInitiator;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::map<std::pair<uint32_t, uint64_t>, std::vector<std::byte>> blocks_;  // by target and offset
  std::set<uint32_t> targets_;
  std::vector<uint64_t> sessions_;
  std::vector<int> event_fds_;
  Status path_state_;
  uint64_t incarnation_ = 1;
  bool hold_ = false;
  int error_ = 0;
  size_t in_flight_ = 0;
};

}  // namespace weft::agent
