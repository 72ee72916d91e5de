// SPDX-License-Identifier: MIT
//
// COPY: fills a place from copies of the same chunk on other targets while clients write to it; see "Resync" in
// ARCHITECTURE.md. A few regions of 1 MiB are under way at a time, each of them:
//
//   locked (writes of clients wait) -> fetched from a peer -> written, but for blocks that clients have written
//   -> unlocked
//
// At the end the device is flushed.
#pragma once

#include <list>
#include <memory>

#include "userland/target/peer_fetch.h"
#include "userland/target/place_job.h"

namespace weft::target {

class PlaceCopy final : public PlaceJob {
 public:
  PlaceCopy(JobHost* host, const idl::Job& job) : PlaceJob(host, job) {}
  ~PlaceCopy() override;

  void Start() override;
  void Step() override;
  void CallOff() override;
  bool idle() const override { return regions_.empty() && !flushing_; }

 private:
  struct Region {
    rdma::BlockRange range;  // of the data area
    uint8_t* buffer = nullptr;
    bool locked = false;
    std::unique_ptr<PeerFetch> fetch;
    uint32_t writes = 0;  // under way
  };
  using Handle = std::list<Region>::iterator;

  bool StartRegion();  // false: not now
  bool AllWritten(const rdma::BlockRange& range) const;
  void OnLocked(Handle region);
  void OnFetched(Handle region, const PeerFetch::Outcome& outcome);
  void Store(Handle region, const std::vector<uint32_t>& bad);
  void StoreRun(Handle region, uint32_t first, uint32_t count, bool bad);
  void OnStored(Handle region, int32_t result);
  void EndRegion(Handle region);

  std::list<Region> regions_;
  uint64_t next_ = 0;  // inside the place: what no region was begun for
  size_t peer_ = 0;    // that answered last
  bool tracked_ = false;
  bool flushing_ = false;
  bool flushed_ = false;
};

}  // namespace weft::target
