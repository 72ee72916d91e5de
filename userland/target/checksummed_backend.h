// SPDX-License-Identifier: MIT
//
// A block backend that keeps a checksum of every block of 4 KiB in front of one that does not: computed from what
// is written, verified on what is read (EBADMSG), given out by kChecksums. Where the blocks and the checksums are on
// the device: label.h; what of them is right after a crash: write_intents.h.
//
// Requests for the same bytes are carried out in the order in which they came (range_order.h), so a checksum always
// belongs to the contents that it is compared with. A block whose checksum is not known gets that of the first
// contents that are read.
//
// Engine thread, but for the two with "any thread".
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "rdma/block_backend.h"
#include "rdma/clock.h"
#include "userland/target/checksum_table.h"
#include "userland/target/label.h"
#include "userland/target/range_order.h"
#include "userland/target/write_intents.h"

namespace weft::target {

struct ChecksummedOptions {
  Areas areas;
  uint64_t capacity_bytes = 0;  // of the data area
  IntentLimits limits = {};
  const rdma::Clock* clock = nullptr;  // nullptr: CLOCK_MONOTONIC; outlives the backend
};

class ChecksummedBackend final : public rdma::BlockBackend, private AreaWriter {
 public:
  // device: all of it, from byte 0; outlives this. Reads the checksums, which takes its time: a thousandth of the
  // capacity. EIO, ENOMEM.
  static Result<std::unique_ptr<ChecksummedBackend>> Open(rdma::BlockBackend* device, ChecksummedOptions options);

  // Writes what is only in memory: afterwards no checksum is in doubt. Waits; nothing may be under way. EIO.
  Status Close();

  uint64_t capacity_bytes() const override { return options_.capacity_bytes; }
  Status AddBuffer(void* address, size_t bytes) override { return device_->AddBuffer(address, bytes); }
  void Submit(const rdma::BackendRequest& request) override;
  void Kick() override { device_->Kick(); }
  size_t Poll(std::span<rdma::BackendDone> out) override;
  void Watch(int fd, bool* ready) override { device_->Watch(fd, ready); }
  bool Arm() override { return done_.empty() && startable_.empty() && device_->Arm(); }
  void Wait(int timeout_ms) override;

  // Called from Poll or Submit with the offsets of bad blocks that were to be read; once for each until it is written.
  void OnDamage(std::function<void(std::span<const uint64_t> offsets)> callback) { on_damage_ = std::move(callback); }
  // Average time of the device's reads and writes since the last call; 0: there were none. Any thread, one caller.
  uint32_t TakeLatencyUs();
  // Regions whose checksums were in doubt when this was opened.
  uint64_t in_doubt() const { return in_doubt_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr uint64_t kAreaCookie = 1ULL << 62;  // of requests for the areas; others are indices of operations
  struct Operation {                                   // a request under way
    rdma::BackendRequest request;
    std::vector<uint32_t> sums;  // kWrite: of its blocks
    uint32_t missing = 0;        // intents or pages of checksums that are being written for it
    int32_t result = 0;
    bool retried = false;  // kRead: did not match, is read once more
    Clock::time_point started;
  };

  ChecksummedBackend(rdma::BlockBackend* device, ChecksummedOptions options);
  Status Load();
  int32_t ReadNow(uint64_t offset, uint8_t* data, uint32_t bytes);

  void Start(uint32_t index);
  void BeginWrite(uint32_t index);
  void Issue(uint32_t index);
  void OnDevice(uint32_t index, int32_t result);
  void OnRead(uint32_t index, int32_t result);
  void OnWritten(uint32_t index, int32_t result);
  void KeepBad(const rdma::BackendRequest& request);
  void TellBad(const rdma::BackendRequest& request);
  void KeepAdopted(uint64_t now_ms);
  void GiveChecksums(const rdma::BackendRequest& request);
  // Sets the range's checksums; those of its pages that say "bad" on the device are written before it ends.
  void SetSums(uint32_t index);
  void Finish(uint32_t index, int32_t result);
  void RunStartable();
  std::span<uint32_t> SumsOf(const rdma::BackendRequest& request);

  void WriteIntentPage(uint64_t page, const uint8_t* data, Done done) override;
  void WriteSums(uint64_t region, bool durable, Done done) override;
  void Flush(Done done) override;
  void SubmitArea(const rdma::BackendRequest& request, Done done);
  void WritePage(uint64_t region);
  void OnPage(uint64_t region, int32_t result);

  rdma::BlockBackend* const device_;
  const ChecksummedOptions options_;
  const rdma::SteadyClock steady_clock_;
  const rdma::Clock* clock_;
  unsigned turns_ = 0;
  bool slept_ = true;

  ChecksumTable table_;
  RangeOrder order_;
  std::unique_ptr<WriteIntents> intents_;
  uint64_t in_doubt_ = 0;

  std::vector<Operation> operations_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> startable_;  // of operations_: may go now
  std::deque<rdma::BackendDone> done_;
  uint32_t zero_sum_;

  struct PageWrite {  // at most one at a time of a page, so that the last one counts
    std::vector<Done> now;
    std::vector<Done> next;
    bool next_durable = false;
  };
  std::unordered_map<uint64_t, PageWrite> page_writes_;  // by region
  std::unordered_map<uint64_t, Done> area_done_;         // by cookie
  uint64_t area_next_;

  // Regions with checksums that were taken from what was read, and that their pages on the device may lack.
  std::set<uint64_t> adopted_;
  uint64_t adopted_at_ms_ = 0;  // when to look at them again
  uint64_t adopted_cursor_ = 0;
  std::unordered_set<uint64_t> told_;  // blocks that OnDamage has named
  std::function<void(std::span<const uint64_t>)> on_damage_;
  std::atomic<uint64_t> latency_ns_ = 0;
  std::atomic<uint64_t> latency_count_ = 0;
};

}  // namespace weft::target
