// SPDX-License-Identifier: MIT
//
// Which regions of a target have checksums on the device that may be older than their blocks. Before the first
// write to a clean region its bit in the intent area is durable; when nobody has written to it for a while, its page
// of checksums is written, the device flushed, and the bit taken back. After a crash the checksums of all other
// regions are right. Engine thread.
//
//   clean -> setting (its bit is being written, writes wait) -> dirty -> cleaning (page, flush) -> clearing -> clean
//              ^________________________________________________|___ a write came ___|______________|
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "userland/target/checksum_table.h"

namespace weft::target {

// What the intents need of the device, asynchronously.
class AreaWriter {
 public:
  using Done = std::function<void(int32_t result)>;
  virtual ~AreaWriter() = default;
  virtual void WriteIntentPage(uint64_t page, const uint8_t* data, Done done) = 0;  // durable when done
  virtual void WriteSums(uint64_t region, bool durable, Done done) = 0;             // its page of the table
  virtual void Flush(Done done) = 0;
};

struct IntentLimits {
  uint64_t idle_ms = 2000;   // without a write: it is cleaned
  uint64_t look_ms = 250;    // how often
  uint64_t retry_ms = 5000;  // after an error of the device
  size_t dirty_max = 4096;   // regions; with more of them those that are written are cleaned, too
  size_t batch_max = 64;     // regions that share a flush
  size_t pressed_max = 512;  // the same while more than dirty_max are dirty
};

class WriteIntents {
 public:
  // area: what the device holds, the size of the area. Regions whose bits are set there keep them until Settled.
  WriteIntents(AreaWriter* writer, std::span<const uint8_t> area, uint64_t regions, IntentLimits limits = {});
  ~WriteIntents();

  bool IsDirty(uint64_t region) const;
  // Once for each region that was dirty at the start: its checksums are not in doubt any more.
  void Settled(uint64_t region);

  // A write of the region begins. True: at once. Otherwise `ready` is called, with 0 or -errno.
  bool Begin(uint64_t region, AreaWriter::Done ready);
  void End(uint64_t region);  // one for each Begin

  void Tick(uint64_t now_ms);                           // after time has passed
  uint64_t deadline_ms() const { return look_at_ms_; }  // when Tick has something to do; UINT64_MAX: never
  void CleanAll() {                                     // from now on, without waiting for regions to be idle
    all_ = true;
    failed_ = false;
  }
  bool clean() const { return dirty_.empty() && batch_.empty() && !writing_; }  // but for those that are not settled
  bool failed() const { return failed_; }                                       // since CleanAll

 private:
  enum class State : uint8_t { kClean, kSetting, kDirty, kCleaning, kClearing };
  struct Region {
    State state = State::kClean;
    uint16_t writers = 0;
    uint32_t written_ms = 0;  // the low half
  };
  struct FreeBits {
    void operator()(uint8_t* bits) const;
  };

  void SetBit(uint64_t region, bool value);
  void WriteBits();
  void OnBits(int32_t result);
  void StartBatch();
  bool MayBeCleaned(const Region& region) const;
  void OnPage(int32_t result);
  void OnFlushed(int32_t result);
  void GiveUpBatch(int32_t result);
  bool pressed() const { return dirty_.size() > limits_.dirty_max; }

  AreaWriter* const writer_;
  const IntentLimits limits_;
  std::vector<Region> regions_;
  std::unique_ptr<uint8_t[], FreeBits> bits_;                            // as on the device
  std::vector<bool> pages_changed_;                                      // of bits_, since they were written
  std::unordered_map<uint64_t, std::vector<AreaWriter::Done>> waiting_;  // by region: kSetting

  bool writing_ = false;  // pages of bits_
  size_t pages_out_ = 0;  // of those
  int32_t bits_result_ = 0;
  std::vector<uint64_t> setting_;  // regions to become dirty, by the next write of bits_
  std::vector<uint64_t> setting_now_;
  std::vector<uint64_t> clearing_;  // to become clean
  std::vector<uint64_t> clearing_now_;

  std::deque<uint64_t> dirty_;   // regions that are kDirty and settled, the longest first
  std::vector<uint64_t> batch_;  // being cleaned, up to the flush
  size_t sums_out_ = 0;
  int32_t batch_result_ = 0;
  uint64_t now_ms_ = 0;
  uint64_t look_at_ms_ = UINT64_MAX;
  bool all_ = false;
  bool failed_ = false;
  int32_t bits_error_ = 0;  // that has been logged and has not gone away
  int32_t sums_error_ = 0;
};

}  // namespace weft::target
