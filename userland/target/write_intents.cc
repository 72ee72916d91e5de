// SPDX-License-Identifier: MIT
#include "userland/target/write_intents.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "userland/base/log.h"

namespace weft::target {
namespace {

constexpr uint64_t kBitsPerByte = 8;
constexpr uint64_t kBitsPerPage = kPageBytes * kBitsPerByte;
constexpr size_t kLookedAtMax = 1024;  // dirty regions in one turn

}  // namespace

WriteIntents::WriteIntents(AreaWriter* writer, std::span<const uint8_t> area, uint64_t regions, IntentLimits limits)
    : writer_(writer),
      limits_(limits),
      regions_(regions),
      bits_(static_cast<uint8_t*>(aligned_alloc(kPageBytes, area.size()))),
      pages_changed_(area.size() / kPageBytes) {
  memcpy(bits_.get(), area.data(), area.size());
  for (uint64_t region = 0; region < regions; region++) {
    if (!(bits_[region / kBitsPerByte] >> (region % kBitsPerByte) & 1)) continue;
    regions_[region].state = State::kDirty;
  }
}

WriteIntents::~WriteIntents() = default;

void WriteIntents::FreeBits::operator()(uint8_t* bits) const { free(bits); }

bool WriteIntents::IsDirty(uint64_t region) const { return regions_[region].state != State::kClean; }

void WriteIntents::Settled(uint64_t region) {
  assert(regions_[region].state == State::kDirty);
  dirty_.push_back(region);
  if (look_at_ms_ == UINT64_MAX) look_at_ms_ = now_ms_ + limits_.look_ms;
}

void WriteIntents::SetBit(uint64_t region, bool value) {
  auto mask = static_cast<uint8_t>(1U << (region % kBitsPerByte));
  uint8_t& byte = bits_[region / kBitsPerByte];
  byte = static_cast<uint8_t>(value ? byte | mask : byte & ~mask);
  pages_changed_[region / kBitsPerPage] = true;
}

bool WriteIntents::Begin(uint64_t region, AreaWriter::Done ready) {
  Region& r = regions_[region];
  r.writers++;
  switch (r.state) {
    case State::kDirty:
      return true;
    case State::kCleaning:  // its bit is still set
      r.state = State::kDirty;
      dirty_.push_back(region);
      return true;
    case State::kClean:
    case State::kClearing:
      r.state = State::kSetting;
      SetBit(region, true);
      setting_.push_back(region);
      break;
    case State::kSetting:
      break;
  }
  waiting_[region].push_back(std::move(ready));
  WriteBits();
  return false;
}

void WriteIntents::End(uint64_t region) {
  Region& r = regions_[region];
  assert(r.writers > 0);
  r.writers--;
  r.written_ms = static_cast<uint32_t>(now_ms_);
}

// One write of the bits at a time: what comes meanwhile goes with the next one.
void WriteIntents::WriteBits() {
  if (writing_) return;
  setting_now_ = std::exchange(setting_, {});
  clearing_now_ = std::exchange(clearing_, {});
  std::vector<uint64_t> pages;
  for (uint64_t page = 0; page < pages_changed_.size(); page++) {
    if (!pages_changed_[page]) continue;
    pages_changed_[page] = false;
    pages.push_back(page);
  }
  if (pages.empty()) return;
  writing_ = true;
  bits_result_ = 0;
  pages_out_ = pages.size();
  for (uint64_t page : pages) {
    writer_->WriteIntentPage(page, bits_.get() + page * kPageBytes, [this](int32_t result) { OnBits(result); });
  }
}

void WriteIntents::OnBits(int32_t result) {
  if (result < 0) bits_result_ = result;
  if (--pages_out_ > 0) return;
  writing_ = false;
  if (bits_result_ < 0) {
    failed_ = true;
    if (bits_result_ != bits_error_) {
      LogError("{}", Status::Errno(-bits_result_, "write the intents: writes fail until it works").message());
    }
  }
  bits_error_ = bits_result_;
  // Whether the bit is cleared or not: the page of checksums is right.
  for (uint64_t region : clearing_now_) {
    if (regions_[region].state == State::kClearing) regions_[region].state = State::kClean;
  }
  clearing_now_.clear();
  std::vector<AreaWriter::Done> ready;
  for (uint64_t region : setting_now_) {
    regions_[region].state = bits_result_ < 0 ? State::kClean : State::kDirty;
    if (bits_result_ == 0) dirty_.push_back(region);
    auto waiting = waiting_.find(region);
    std::ranges::move(waiting->second, std::back_inserter(ready));
    waiting_.erase(waiting);
  }
  setting_now_.clear();
  if (!dirty_.empty() && look_at_ms_ == UINT64_MAX) look_at_ms_ = now_ms_ + limits_.look_ms;
  for (AreaWriter::Done& done : ready) done(bits_result_);
  WriteBits();
}

void WriteIntents::Tick(uint64_t now_ms) {
  now_ms_ = now_ms;
  if (now_ms < look_at_ms_ && !all_) return;
  if (batch_.empty()) StartBatch();
  look_at_ms_ = dirty_.empty() && batch_.empty() ? UINT64_MAX : now_ms + limits_.look_ms;
}

bool WriteIntents::MayBeCleaned(const Region& region) const {
  uint32_t idle_ms = static_cast<uint32_t>(now_ms_) - region.written_ms;
  return region.writers == 0 && (all_ || pressed() || idle_ms >= limits_.idle_ms);
}

void WriteIntents::StartBatch() {
  size_t count = std::min(dirty_.size(), kLookedAtMax);
  size_t batch_max = pressed() ? limits_.pressed_max : limits_.batch_max;
  for (size_t i = 0; i < count && batch_.size() < batch_max; i++) {
    uint64_t region = dirty_.front();
    bool now = MayBeCleaned(regions_[region]);
    dirty_.pop_front();
    if (!now) {
      dirty_.push_back(region);
      continue;
    }
    regions_[region].state = State::kCleaning;
    batch_.push_back(region);
  }
  batch_result_ = 0;
  sums_out_ = batch_.size();
  for (size_t i = 0; i < batch_.size(); i++) {
    writer_->WriteSums(batch_[i], false, [this](int32_t result) { OnPage(result); });
  }
}

void WriteIntents::OnPage(int32_t result) {
  if (result < 0) batch_result_ = result;
  if (--sums_out_ > 0) return;
  if (batch_result_ < 0) {
    GiveUpBatch(batch_result_);
    return;
  }
  // Of the pages and of the blocks that they are about.
  writer_->Flush([this](int32_t flushed) { OnFlushed(flushed); });
}

void WriteIntents::OnFlushed(int32_t result) {
  if (result < 0) {
    GiveUpBatch(result);
    return;
  }
  for (uint64_t region : std::exchange(batch_, {})) {
    if (regions_[region].state != State::kCleaning) continue;  // written to meanwhile
    regions_[region].state = State::kClearing;
    SetBit(region, false);
    clearing_.push_back(region);
  }
  sums_error_ = 0;
  WriteBits();
  if (pressed()) StartBatch();  // those that write are faster than one batch for each look
}

void WriteIntents::GiveUpBatch(int32_t result) {
  failed_ = true;
  look_at_ms_ = now_ms_ + limits_.retry_ms;
  if (std::exchange(sums_error_, result) != result) {
    LogWarning("{}", Status::Errno(-result, fmt::format("write the checksums of {} regions", batch_.size())).message());
  }
  for (uint64_t region : std::exchange(batch_, {})) {
    if (regions_[region].state != State::kCleaning) continue;
    regions_[region].state = State::kDirty;
    dirty_.push_back(region);
  }
}

}  // namespace weft::target
