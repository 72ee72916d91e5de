// SPDX-License-Identifier: MIT
//
// SCRUB: all of a place is read, which verifies it (what does not match is reported as damage by the backend). When
// the job names peers, its checksums are then compared with theirs, and after a second those that differ once more:
// a client's write is not everywhere at the same moment. What differs twice, with the same values, is a mismatch.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "userland/target/place_job.h"

namespace weft::target {

class PlaceScrub final : public PlaceJob {
 public:
  PlaceScrub(JobHost* host, const idl::Job& job) : PlaceJob(host, job) {}
  ~PlaceScrub() override;

  void Start() override;
  void Step() override;
  bool idle() const override { return under_way_ == 0; }

 private:
  enum class Phase : uint8_t { kVerify, kCompare, kPause, kCompareAgain };
  using Pair = std::pair<uint32_t, uint32_t>;  // checksum here, there

  void Verify();
  void Pause();
  void Compare();
  void OnOwnSums(int32_t result);
  void OnPeerSums(int32_t result);
  void Look();
  uint64_t part_bytes() const;
  void Report();

  Phase phase_ = Phase::kVerify;
  size_t under_way_ = 0;         // requests, here or at a peer
  uint64_t next_ = 0;            // inside the place: what is read next, or the part that is compared
  size_t peer_ = 0;              // that is compared with
  uint8_t* own_sums_ = nullptr;  // of the part
  uint8_t* peer_sums_ = nullptr;
  uint64_t pause_until_ms_ = 0;
  std::map<std::pair<size_t, uint64_t>, Pair> suspects_;  // by peer and block of the place; of a peer a limited number
  std::vector<size_t> suspected_;                         // so many, by peer
  std::map<std::pair<size_t, uint64_t>, Pair> mismatches_;
};

}  // namespace weft::target
