// SPDX-License-Identifier: MIT
#include "userland/target/checksummed_backend.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "userland/base/config.h"
#include "userland/base/log.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr unsigned kTurnsPerClockRead = 64;
constexpr size_t kToldMax = 1 << 20;
constexpr uint64_t kToldMs = 600'000;  // then all of it may be told again

// The medium's own fault at just this place; -EIO may be anything.
bool IsUnreadable(int32_t result) { return result == -ENODATA || result == -EILSEQ; }

bool Writes(BackendOp op) { return op != BackendOp::kRead && op != BackendOp::kChecksums; }

}  // namespace

Result<std::unique_ptr<ChecksummedBackend>> ChecksummedBackend::Open(rdma::BlockBackend* device,
                                                                     ChecksummedOptions options) {
  std::unique_ptr<ChecksummedBackend> backend(new ChecksummedBackend(device, std::move(options)));
  if (!backend->table_.ok()) {
    return Error(ENOMEM, "no memory for the checksums of {}", FormatBytes(backend->capacity_bytes()));
  }
  if (Status s = backend->Load(); !s.ok()) return s;
  return backend;
}

ChecksummedBackend::ChecksummedBackend(rdma::BlockBackend* device, ChecksummedOptions options)
    : device_(device),
      options_(std::move(options)),
      clock_(options_.clock ? options_.clock : &steady_clock_),
      table_(options_.capacity_bytes),
      order_(options_.capacity_bytes),
      area_next_(kAreaCookie) {
  std::vector<uint8_t> zeroes(kBlockBytes);
  zero_sum_ = SumOf(zeroes.data());
  settle_rate_.SetRate(options_.settle_bytes_per_s);
}

uint32_t ChecksummedBackend::Take(const BackendRequest& request) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(operations_.size()));
    operations_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  Operation& operation = operations_[index];
  operation.request = request;
  operation.own = operation.retried = operation.one_by_one = operation.unreadable = false;
  return index;
}

void ChecksummedBackend::Submit(const BackendRequest& request) {
  uint32_t index = Take(request);
  if (request.op == BackendOp::kFlush) {
    Issue(index);
  } else if (order_.Add(index, request.offset_bytes, request.length_bytes, Writes(request.op))) {
    Start(index);
  }
}

std::span<uint32_t> ChecksummedBackend::SumsOf(const BackendRequest& request) {
  return table_.Of(request.offset_bytes, request.length_bytes);
}

void ChecksummedBackend::Start(uint32_t index) {
  const BackendRequest& request = operations_[index].request;
  switch (request.op) {
    case BackendOp::kChecksums:
      GiveChecksums(request);
      Finish(index, 0);
      return;
    case BackendOp::kRead:
      if (std::ranges::count(SumsOf(request), kSumBad)) {
        TellBad(request);
        Finish(index, -EBADMSG);
      } else {
        Issue(index);
      }
      return;
    default:
      BeginWrite(index);
  }
}

void ChecksummedBackend::GiveChecksums(const BackendRequest& request) {
  std::span<uint32_t> sums = SumsOf(request);
  memcpy(request.data, sums.data(), sums.size_bytes());
  for (size_t i = 0; i < sums.size(); i++) {
    if (sums[i] == kSumBad) memset(request.data + i * sizeof(uint32_t), 0, sizeof(uint32_t));
  }
}

void ChecksummedBackend::BeginWrite(uint32_t index) {
  Operation& operation = operations_[index];
  const BackendRequest& request = operation.request;
  operation.sums.clear();
  if (request.op == BackendOp::kWrite) {
    for (uint32_t at = 0; at < request.length_bytes; at += kBlockBytes) {
      operation.sums.push_back(SumOf(request.data + at));
    }
  }
  operation.result = 0;
  operation.missing = 1;  // this function
  auto ready = [this, index](int32_t result) {
    Operation& waiting = operations_[index];
    if (result < 0) waiting.result = result;
    if (--waiting.missing > 0) return;
    if (waiting.result == 0) {
      Issue(index);
    } else {
      OnWritten(index, waiting.result);
    }
  };
  uint64_t last = (request.offset_bytes + request.length_bytes - 1) / kRegionBytes;
  for (uint64_t region = request.offset_bytes / kRegionBytes; region <= last; region++) {
    if (!intents_->Begin(region, ready)) operation.missing++;
  }
  ready(0);
}

void ChecksummedBackend::Issue(uint32_t index) {
  Operation& operation = operations_[index];
  if (operation.request.op == BackendOp::kPoison) {
    SetSums(index);
    return;
  }
  BackendRequest request = operation.request;
  request.cookie = index;
  if (request.op != BackendOp::kFlush) request.offset_bytes += options_.areas.data;
  if (operation.one_by_one) {
    request.offset_bytes += operation.block * kBlockBytes;
    request.length_bytes = kBlockBytes;
    request.data += operation.block * kBlockBytes;
  }
  // A bad block stays so until what makes it good is durable: what is there now is nobody's data.
  if (Writes(request.op) && request.op != BackendOp::kFlush && request.op != BackendOp::kDiscard &&
      std::ranges::count(SumsOf(operation.request), kSumBad)) {
    request.durable = true;
  }
  operation.started = Clock::now();
  device_->Submit(request);
}

void ChecksummedBackend::OnDevice(uint32_t index, int32_t result) {
  const Operation& operation = operations_[index];
  switch (operation.request.op) {
    case BackendOp::kFlush:
      done_.push_back({operation.request.cookie, result});
      free_.push_back(index);
      return;
    case BackendOp::kRead:
    case BackendOp::kWrite:
      latency_.AddSince(operation.started);
      break;
    default:
      break;
  }
  if (operation.request.op == BackendOp::kRead) {
    OnRead(index, result);
  } else {
    OnWritten(index, result);
  }
}

void ChecksummedBackend::OnRead(uint32_t index, int32_t result) {
  if (operations_[index].one_by_one) {
    OnBlockRead(index, result);
  } else if (result >= 0) {
    Verify(index);
  } else if (IsUnreadable(result)) {
    ReadOneByOne(index);
  } else {
    Finish(index, result);
  }
}

void ChecksummedBackend::ReadOneByOne(uint32_t index) {
  operations_[index].one_by_one = true;
  operations_[index].block = 0;
  Issue(index);
}

void ChecksummedBackend::OnBlockRead(uint32_t index, int32_t result) {
  Operation& operation = operations_[index];
  BackendRequest block = operation.request;
  block.offset_bytes += operation.block * kBlockBytes;
  block.length_bytes = kBlockBytes;
  if (IsUnreadable(result)) {
    operation.unreadable = true;
    SumsOf(block)[0] = kSumBad;
    Settled(block);
  }
  bool stop = result < 0 && !IsUnreadable(result);
  if (!stop && (operation.block + 1) * kBlockBytes < operation.request.length_bytes) {
    operation.block++;
    Issue(index);
    return;
  }
  operation.one_by_one = false;
  if (operation.unreadable) {
    EndBadRead(index);
  } else if (stop) {
    Finish(index, result);
  } else {
    Verify(index);  // it worked this time
  }
}

// What was read, against the checksums.
void ChecksummedBackend::Verify(uint32_t index) {
  Operation& operation = operations_[index];
  const BackendRequest& request = operation.request;
  std::span<uint32_t> sums = SumsOf(request);
  std::vector<uint32_t> found(sums.size());
  std::vector<uint32_t*> wrong;
  for (size_t i = 0; i < sums.size(); i++) {
    found[i] = SumOf(request.data + i * kBlockBytes);
    if (sums[i] != kSumUnknown && sums[i] != found[i]) wrong.push_back(&sums[i]);
  }
  if (!wrong.empty() && !std::exchange(operation.retried, true)) {
    Issue(index);  // it may have been the way and not the medium
    return;
  }
  if (!doubt_.empty()) {
    for (size_t i = 0; i < sums.size(); i++) {
      if (doubt_.Has(request.offset_bytes + i * kBlockBytes)) sums[i] = found[i];
    }
    Settled(request);
  }
  if (wrong.empty()) {
    Finish(index, 0);
    return;
  }
  for (uint32_t* sum : wrong) *sum = kSumBad;
  EndBadRead(index);
}

void ChecksummedBackend::EndBadRead(uint32_t index) {
  BackendRequest request = operations_[index].request;
  KeepBad(request);
  TellBad(request);
  Finish(index, -EBADMSG);
}

// That a block is bad must not be forgotten by a crash after which its checksum is in doubt.
void ChecksummedBackend::KeepBad(const BackendRequest& request) {
  uint64_t last = (request.offset_bytes + request.length_bytes - 1) / kRegionBytes;
  for (uint64_t region = request.offset_bytes / kRegionBytes; region <= last; region++) {
    WriteSums(region, true, [region](int32_t result) {
      if (result == 0) return;
      LogError("{}", Status::Errno(-result, fmt::format("note bad blocks of region {}", region)).message());
    });
  }
}

void ChecksummedBackend::TellBad(const BackendRequest& request) {
  std::vector<uint64_t> offsets;
  std::span<uint32_t> sums = SumsOf(request);
  for (size_t i = 0; i < sums.size(); i++) {
    uint64_t offset = request.offset_bytes + i * kBlockBytes;
    if (sums[i] == kSumBad && told_.size() < kToldMax && told_.insert(offset).second) offsets.push_back(offset);
  }
  if (!offsets.empty() && on_damage_) on_damage_(offsets);
}

void ChecksummedBackend::TellAgain(uint64_t offset, uint64_t length) {
  told_.erase(told_.lower_bound(offset), told_.lower_bound(offset + length));
}

void ChecksummedBackend::OnWritten(uint32_t index, int32_t result) {
  operations_[index].result = result;
  SetSums(index);
}

void ChecksummedBackend::SetSums(uint32_t index) {
  Operation& operation = operations_[index];
  const BackendRequest& request = operation.request;
  std::span<uint32_t> sums = SumsOf(request);
  std::vector<uint64_t> pages;
  operation.missing = 1;  // this function
  for (size_t i = 0; i < sums.size(); i++) {
    uint32_t sum = kSumUnknown;  // of a write that failed, too: it may have changed the block or not
    if (operation.result < 0) {
      if (sums[i] == kSumBad) continue;
    } else if (request.op == BackendOp::kWrite) {
      sum = operation.sums[i];
    } else if (request.op == BackendOp::kWriteZeroes) {
      sum = zero_sum_;
    } else if (request.op == BackendOp::kPoison) {
      sum = kSumBad;
    }
    uint64_t region = (request.offset_bytes + i * kBlockBytes) / kRegionBytes;
    if ((sum == kSumBad || sums[i] == kSumBad) && (pages.empty() || pages.back() != region)) pages.push_back(region);
    sums[i] = sum;
  }
  TellAgain(request.offset_bytes, request.length_bytes);
  Settled(request);  // it is known what is there, or that nobody needs it
  auto written = [this, index](int32_t result) {
    Operation& waiting = operations_[index];
    if (result < 0) waiting.result = result;
    if (--waiting.missing > 0) return;
    uint64_t end = waiting.request.offset_bytes + waiting.request.length_bytes;
    for (uint64_t at = waiting.request.offset_bytes / kRegionBytes; at <= (end - 1) / kRegionBytes; at++) {
      intents_->End(at);
    }
    Finish(index, waiting.result);
  };
  operation.missing += static_cast<uint32_t>(pages.size());
  for (uint64_t region : pages) WriteSums(region, true, written);
  written(0);
}

void ChecksummedBackend::Finish(uint32_t index, int32_t result) {
  Operation& operation = operations_[index];
  if (operation.own) {
    OnSettleRead(operation.request, result);
  } else {
    done_.push_back({operation.request.cookie, result});
  }
  order_.Remove(index, &startable_);
  free_.push_back(index);
}

// In a loop of its own, as what ends at once may make the next one ready.
void ChecksummedBackend::RunStartable() {
  while (!startable_.empty()) {
    for (uint32_t index : std::exchange(startable_, {})) Start(index);
  }
}

size_t ChecksummedBackend::Poll(std::span<BackendDone> out) {
  if (std::exchange(slept_, false) || ++turns_ % kTurnsPerClockRead == 0) {
    now_ms_ = clock_->NowMs();
    intents_->Tick(now_ms_);
    if (now_ms_ - told_since_ms_ >= kToldMs) {
      told_.clear();
      told_since_ms_ = now_ms_;
    }
    SettleMore();
  }
  size_t count = device_->Poll(answers_);
  for (size_t i = 0; i < count; i++) {
    if ((answers_[i].cookie & kAreaCookie) == 0) {
      OnDevice(static_cast<uint32_t>(answers_[i].cookie), answers_[i].result);
    } else if (auto area = area_done_.extract(answers_[i].cookie)) {
      area.mapped()(answers_[i].result);
    }
  }
  RunStartable();
  if (count > 0) device_->Kick();  // what followed from that
  size_t given = std::min(out.size(), done_.size());
  for (size_t i = 0; i < given; i++) {
    out[i] = done_.front();
    done_.pop_front();
  }
  return given;
}

void ChecksummedBackend::Wait(int timeout_ms) {
  slept_ = true;
  uint64_t deadline_ms = intents_->deadline_ms();
  if (!doubt_.empty() && !settling_) deadline_ms = std::min(deadline_ms, settle_rate_.ready_ms());
  if (deadline_ms != UINT64_MAX) {
    uint64_t now_ms = clock_->NowMs();
    auto left_ms = static_cast<int>(deadline_ms > now_ms ? std::min<uint64_t>(deadline_ms - now_ms, 1000) : 0);
    timeout_ms = timeout_ms < 0 ? left_ms : std::min(timeout_ms, left_ms);
  }
  device_->Wait(timeout_ms);
}

}  // namespace weft::target
