// SPDX-License-Identifier: MIT
//
// RELEASE: a place holds no copy any more. Commands of older chunk versions are refused from now on, and what it
// holds is given back to the device.
#pragma once

#include "userland/target/place_job.h"

namespace weft::target {

class PlaceRelease final : public PlaceJob {
 public:
  PlaceRelease(JobHost* host, const idl::Job& job) : PlaceJob(host, job) {}

  void Start() override;
  void Step() override {}
  void CallOff() override;
  bool idle() const override { return !waiting_ && !discarding_; }

 private:
  rdma::BlockRange range() const { return {.offset = offset(), .length = bytes()}; }
  void Discard();

  bool waiting_ = false;  // for the lock
  bool discarding_ = false;
};

}  // namespace weft::target
