// SPDX-License-Identifier: MIT
//
// A network of RDMA hosts inside one process, for unit tests: implements verbs.h without a NIC. One
// thread drives everything; work is carried out while it is posted, unless a fault holds it back.
// It is strict: local and remote keys, bounds and inline sizes are checked as a NIC would.
//
//   FakeFabric fabric;
//   auto a = fabric.AddHost("10.0.0.1"), b = fabric.AddHost("10.0.0.2");   // Verbs of either host
//   fabric.BreakAfter(10);                                                 // the 11th work request
//
// The fabric outlives the hosts, they outlive what was created from them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "rdma/verbs.h"

namespace weft::rdma {

class FakeHost;
class FakeConnection;

class FakeFabric {
 public:
  FakeFabric();
  ~FakeFabric();
  FakeFabric(const FakeFabric&) = delete;
  FakeFabric& operator=(const FakeFabric&) = delete;

  std::unique_ptr<Verbs> AddHost(const std::string& address);

  // Faults. Work requests are counted over the whole fabric.
  void BreakAfter(uint64_t works) { break_at_ = works_ + works + 1; }  // both sides are disconnected
  void FailAfter(uint64_t works, WorkStatus status);                   // error completion, then as above
  void Hold();                                                         // work is posted but not carried out ...
  void Release();                                                      // ... until here
  void SetCut(const std::string& address, bool cut);       // partition: nothing to or from it, no events either
  void BreakAll(WorkStatus first = WorkStatus::kFlushed);  // every connection; first: of the oldest work that waits
  void LoseWay(const std::string& address);                // that host's neighbour entries fail: its connections do

  uint64_t works() const { return works_; }  // carried out so far
  size_t connections() const;                // established
  size_t registrations() const { return registrations_; }

 private:
  friend class FakeHost;
  friend class FakeConnection;
  friend class FakeCmChannel;
  friend class FakeDevice;
  friend class FakeMemory;
  friend class FakeReceiveQueue;

  bool Passes(const FakeHost* a, const FakeHost* b) const;
  void Pump();  // carries out what waits

  std::map<std::string, FakeHost*> hosts_;
  std::set<FakeConnection*> all_;  // alive
  std::set<std::string> cut_;
  uint64_t works_ = 0;
  uint64_t break_at_ = 0;
  uint64_t fail_at_ = 0;
  WorkStatus fail_status_ = WorkStatus::kOther;
  bool held_ = false;
  uint32_t next_number_ = 1;
  uint32_t next_key_ = 1;
  size_t registrations_ = 0;
};

}  // namespace weft::rdma
