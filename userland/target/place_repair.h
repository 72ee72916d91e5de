// SPDX-License-Identifier: MIT
//
// REPAIR: blocks of a place that failed their checksum are fetched from other copies. One block at a time:
//
//   locked -> read here: good by now, as a client has written it: left alone
//                        bad still: fetched from a peer and written -> unlocked
//
// So nothing that a client wrote is overwritten: it is good, or waits for the lock. A block that no peer has stays
// bad, also over a crash.
#pragma once

#include <memory>

#include "userland/target/peer_fetch.h"
#include "userland/target/place_job.h"

namespace weft::target {

class PlaceRepair final : public PlaceJob {
 public:
  PlaceRepair(JobHost* host, const idl::Job& job) : PlaceJob(host, job) {}
  ~PlaceRepair() override;

  void Start() override;
  void Step() override;
  void CallOff() override;
  bool idle() const override { return !busy_; }

 private:
  rdma::BlockRange range() const;  // of the block that is worked at
  void OnLocked();
  void OnRead(int32_t result);
  void OnFetched(const PeerFetch::Outcome& outcome);
  void Write(bool bad);
  void EndBlock();

  size_t next_ = 0;  // of job_.blocks
  uint8_t* buffer_ = nullptr;
  std::unique_ptr<PeerFetch> fetch_;
  bool busy_ = false;  // a block, or the flush
  bool locked_ = false;
  bool flushed_ = false;
};

}  // namespace weft::target
