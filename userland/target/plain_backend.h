// SPDX-License-Identifier: MIT
//
// A block backend that keeps no checksums, in front of a device that others write to as well: an NVMe-oF namespace,
// whose clients reach it without this process.
//
//   kChecksums  are computed from what is there now
//   kPoison     EOPNOTSUPP: nobody would ask this process before reading the block
//   kDiscard    as kWriteZeroes: what no copy uses reads as zeroes, so copies that were never written are equal
//   kWrite      durable where the device has a volatile cache, as nothing tells whether it lost that cache since
//
// Nothing reaches the device while `may_send` says no: who may not write there any more must not.
// What the device answers goes through a translation, since a path to a namespace and the namespace fail differently.
// Engine thread, but for what says "any thread".
#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <vector>

#include "rdma/block_backend.h"
#include "userland/target/latency_meter.h"

namespace weft::target {

struct PlainOptions {
  uint64_t data_offset = 0;
  uint64_t capacity_bytes = 0;                       // of the data area
  bool write_cache = false;                          // the device's
  std::function<int32_t(int32_t result)> translate;  // of results < 0; empty: as they are
  std::function<bool()> may_send{};                  // else -EHOSTDOWN; empty: always
};

class PlainBackend final : public rdma::BlockBackend {
 public:
  // device: all of it, from byte 0; outlives this.
  PlainBackend(rdma::BlockBackend* device, PlainOptions options);
  ~PlainBackend() override;

  uint64_t capacity_bytes() const override { return options_.capacity_bytes; }
  Status AddBuffer(void* address, size_t bytes) override { return device_->AddBuffer(address, bytes); }
  void Submit(const rdma::BackendRequest& request) override;
  void Kick() override { device_->Kick(); }
  size_t Poll(std::span<rdma::BackendDone> out) override;
  void Watch(int fd, bool* ready) override { device_->Watch(fd, ready); }
  bool Arm() override { return done_.empty() && device_->Arm(); }
  void Wait(int timeout_ms) override { device_->Wait(timeout_ms); }
  bool settled() const { return done_.empty(); }  // all that has ended was polled

  // Average time of the device's reads and writes since the last call; 0: there were none. Any thread, one caller.
  uint32_t TakeLatencyUs() { return latency_.TakeUs(); }

 private:
  struct Operation {  // a request under way
    rdma::BackendRequest request;
    uint32_t summed_bytes = 0;  // kChecksums: of the range
    LatencyMeter::Clock::time_point started;
  };

  void Issue(uint32_t index);
  void ReadToSum(uint32_t index);
  void StartSumming();
  void OnDevice(uint32_t index, int32_t result);
  void OnSummed(uint32_t index);
  void Finish(uint32_t index, int32_t result);

  rdma::BlockBackend* const device_;
  const PlainOptions options_;
  std::vector<Operation> operations_;
  std::vector<uint32_t> free_;
  uint8_t* scratch_ = nullptr;   // what is read to be summed
  std::deque<uint32_t> to_sum_;  // kChecksums in their order; the first one has scratch_
  std::vector<rdma::BackendDone> done_;
  LatencyMeter latency_;
  std::array<rdma::BackendDone, 64> answers_;  // of Poll; kept, as looking costs less than making it
};

}  // namespace weft::target
