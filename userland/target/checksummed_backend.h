// SPDX-License-Identifier: MIT
//
// A block backend that keeps a checksum of every block of 4 KiB in front of one that does not: computed from what
// is written, verified on what is read (EBADMSG), given out by kChecksums. Where the blocks and the checksums are on
// the device: label.h; what of them is right after a crash: write_intents.h.
//
// Requests for the same bytes are carried out in the order in which they came (range_order.h), so a checksum always
// belongs to the contents that it is compared with.
//
// A block whose checksum is not known was never written, or has been discarded: its contents are nobody's, and reading
// them does not change that. But for those in doubt after an unclean stop (block_doubt.h): they get the checksum of the
// first contents that are read, by whoever does it or, in the background, by this; until then the region keeps its
// intent. A block that the device cannot read is as bad as one that does not match.
//
// Engine thread, but for what says "any thread".
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <cstdlib>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "rdma/block_backend.h"
#include "rdma/clock.h"
#include "userland/target/block_doubt.h"
#include "userland/target/checksum_table.h"
#include "userland/target/label.h"
#include "userland/target/latency_meter.h"
#include "userland/target/range_order.h"
#include "userland/target/token_bucket.h"
#include "userland/target/write_intents.h"

namespace weft::target {

struct ChecksummedOptions {
  Areas areas;
  uint64_t capacity_bytes = 0;  // of the data area
  IntentLimits limits = {};
  uint64_t settle_bytes_per_s = 32 << 20;  // read in the background while there is doubt
  const rdma::Clock* clock = nullptr;      // nullptr: CLOCK_MONOTONIC; outlives the backend
};

class ChecksummedBackend final : public rdma::BlockBackend, private AreaWriter {
 public:
  // device: all of it, from byte 0; outlives this. Reads the checksums, which takes its time: a thousandth of the
  // capacity. EIO, ENOMEM.
  static Result<std::unique_ptr<ChecksummedBackend>> Open(rdma::BlockBackend* device, ChecksummedOptions options);

  // Writes what is only in memory: afterwards no checksum is in doubt but those that were before. Waits; nothing may be
  // under way. EIO.
  Status Close();

  uint64_t capacity_bytes() const override { return options_.capacity_bytes; }
  Status AddBuffer(void* address, size_t bytes) override { return device_->AddBuffer(address, bytes); }
  void Submit(const rdma::BackendRequest& request) override;
  void Kick() override { device_->Kick(); }
  size_t Poll(std::span<rdma::BackendDone> out) override;
  void Watch(int fd, bool* ready) override { device_->Watch(fd, ready); }
  bool Arm() override { return done_.empty() && startable_.empty() && device_->Arm(); }
  void Wait(int timeout_ms) override;

  // Called from Poll or Submit with the offsets of bad blocks that were to be read; once for each until it is written,
  // for ten minutes (a report may get lost), or until TellAgain.
  void OnDamage(std::function<void(std::span<const uint64_t> offsets)> callback) { on_damage_ = std::move(callback); }
  void TellAgain(uint64_t offset, uint64_t length);
  // Average time of the device's reads and writes since the last call; 0: there were none. Any thread, one caller.
  uint32_t TakeLatencyUs() { return latency_.TakeUs(); }
  // Regions whose checksums were in doubt when this was opened.
  uint64_t in_doubt() const { return in_doubt_; }
  size_t regions_in_doubt() const { return doubt_.regions(); }  // still

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr uint64_t kAreaCookie = 1ULL << 62;  // of requests for the areas; others are indices of operations
  struct Operation {                                   // a request under way
    rdma::BackendRequest request;
    std::vector<uint32_t> sums;  // kWrite: of its blocks
    uint32_t missing = 0;        // intents or pages of checksums that are being written for it
    int32_t result = 0;
    bool own = false;         // a read that settles doubt
    bool retried = false;     // kRead: did not match, is read once more
    bool one_by_one = false;  // kRead: the device could not read all of it; its block `block` is being read
    bool unreadable = false;  // one of them
    uint32_t block = 0;
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
  void ReadOneByOne(uint32_t index);
  void OnBlockRead(uint32_t index, int32_t result);
  void Verify(uint32_t index);
  void EndBadRead(uint32_t index);
  void OnWritten(uint32_t index, int32_t result);
  void KeepBad(const rdma::BackendRequest& request);
  void TellBad(const rdma::BackendRequest& request);
  uint32_t Take(const rdma::BackendRequest& request);  // a free operation for it
  void SettleMore();
  void OnSettleRead(const rdma::BackendRequest& request, int32_t result);
  void Settled(const rdma::BackendRequest& request);
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

  BlockDoubt doubt_;
  TokenBucket settle_rate_;
  struct FreeDeleter {
    void operator()(uint8_t* memory) const { free(memory); }
  };
  std::unique_ptr<uint8_t[], FreeDeleter> settle_buffer_;  // null: there was no doubt
  bool settling_ = false;                                  // a read into it is under way
  bool closing_ = false;
  uint64_t now_ms_ = 0;      // as it was looked at last
  std::set<uint64_t> told_;  // blocks that OnDamage has named
  uint64_t told_since_ms_ = 0;
  std::function<void(std::span<const uint64_t>)> on_damage_;
  LatencyMeter latency_;
  std::array<rdma::BackendDone, 64> answers_;  // of Poll; kept, as looking costs less than making it
};

}  // namespace weft::target
