// SPDX-License-Identifier: MIT
#include "userland/target/checksummed_backend.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "userland/base/config.h"
#include "userland/base/log.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint64_t kAreaCookie = 1ULL << 62;  // of requests for the areas; others are indices of operations
constexpr uint64_t kLoadBytes = 1 << 20;
constexpr unsigned kTurnsPerClockRead = 64;
constexpr size_t kPollBatch = 64;
constexpr size_t kToldMax = 1 << 20;

bool Writes(BackendOp op) { return op != BackendOp::kRead && op != BackendOp::kChecksums; }

struct FreeDeleter {
  void operator()(uint8_t* memory) const { free(memory); }
};

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
}

// ---- opening and closing

int32_t ChecksummedBackend::ReadNow(uint64_t offset, uint8_t* data, uint32_t bytes) {
  device_->Submit({.op = BackendOp::kRead, .offset_bytes = offset, .length_bytes = bytes, .data = data});
  for (;;) {
    device_->Kick();
    std::array<BackendDone, 1> done;
    if (device_->Poll(done)) return done[0].result;
    if (device_->Arm()) device_->Wait(-1);
  }
}

Status ChecksummedBackend::Load() {
  std::unique_ptr<uint8_t[], FreeDeleter> buffer(static_cast<uint8_t*>(aligned_alloc(kPageBytes, kLoadBytes)));
  if (!buffer) return Error(ENOMEM, "no memory to read the checksums");
  auto read = [&](const char* what, uint64_t start, uint64_t bytes, auto&& take) {
    for (uint64_t at = 0; at < bytes; at += kLoadBytes) {
      auto count = static_cast<uint32_t>(std::min(kLoadBytes, bytes - at));
      int32_t result = ReadNow(start + at, buffer.get(), count);
      if (result < 0) return Status::Errno(-result, fmt::format("read the {} at {}", what, start + at));
      take(at, count);
    }
    return Status::Ok();
  };
  const Areas& areas = options_.areas;
  std::vector<uint8_t> intents(areas.intents_bytes);
  Status s = read("intents", areas.intents, areas.intents_bytes,
                  [&](uint64_t at, uint32_t count) { memcpy(&intents[at], buffer.get(), count); });
  if (!s.ok()) return s;
  intents_ = std::make_unique<WriteIntents>(static_cast<AreaWriter*>(this), intents, table_.regions(), options_.limits);
  for (uint64_t region = 0; region < table_.regions(); region++) in_doubt_ += intents_->IsDirty(region);
  if (in_doubt_ > 0) {
    LogInfo("this target was not stopped cleanly: checksums of {} of its {} regions are taken anew", in_doubt_,
            table_.regions());
  }
  return read("checksums", areas.checksums, table_.regions() * kPageBytes, [&](uint64_t at, uint32_t count) {
    for (uint64_t page = 0; page < count / kPageBytes; page++) {
      uint64_t region = at / kPageBytes + page;
      table_.Load(region, buffer.get() + page * kPageBytes, intents_->IsDirty(region));
    }
  });
}

Status ChecksummedBackend::Close() {
  intents_->CleanAll();
  while (!intents_->clean() || !adopted_.empty() || !area_done_.empty()) {
    intents_->Tick(clock_->NowMs());
    KeepAdopted(adopted_at_ms_);
    std::array<BackendDone, kPollBatch> ignored;
    Kick();
    Poll(ignored);
    if (intents_->failed()) {
      return Error(EIO, "the checksums are not all written: some are taken anew at the next start");
    }
    if (!area_done_.empty() && Arm()) device_->Wait(-1);
  }
  return Status::Ok();
}

// ---- requests

void ChecksummedBackend::Submit(const BackendRequest& request) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(operations_.size()));
    operations_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  operations_[index].request = request;
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
      operations_[index].retried = false;
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
    case BackendOp::kWrite: {
      auto time = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - operation.started);
      latency_ns_.fetch_add(static_cast<uint64_t>(time.count()), std::memory_order_relaxed);
      latency_count_.fetch_add(1, std::memory_order_relaxed);
      break;
    }
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
  const BackendRequest& request = operations_[index].request;
  if (result < 0) {
    Finish(index, result);
    return;
  }
  std::span<uint32_t> sums = SumsOf(request);
  std::vector<uint32_t*> wrong;
  for (size_t i = 0; i < sums.size(); i++) {
    uint32_t found = SumOf(request.data + i * kBlockBytes);
    if (sums[i] == kSumUnknown) {
      sums[i] = found;
      adopted_.insert((request.offset_bytes + i * kBlockBytes) / kRegionBytes);
    }
    if (sums[i] != found) wrong.push_back(&sums[i]);
  }
  if (wrong.empty()) {
    Finish(index, 0);
  } else if (!std::exchange(operations_[index].retried, true)) {
    Issue(index);  // it may have been the way and not the medium
  } else {
    for (uint32_t* sum : wrong) *sum = kSumBad;
    KeepBad(request);
    TellBad(request);
    Finish(index, -EBADMSG);
  }
}

// Those of clean regions, whose blocks are durable; dirty ones have their page written when they are cleaned, and
// are looked at then.
void ChecksummedBackend::KeepAdopted(uint64_t now_ms) {
  if (adopted_.empty() || now_ms < adopted_at_ms_) return;
  adopted_at_ms_ = now_ms + options_.limits.look_ms;
  size_t count = std::min(adopted_.size(), options_.limits.batch_max);
  for (size_t i = 0; i < count; i++) {
    auto at = adopted_.lower_bound(adopted_cursor_);
    if (at == adopted_.end()) at = adopted_.begin();
    uint64_t region = *at;
    adopted_cursor_ = region + 1;
    if (intents_->IsDirty(region)) continue;
    adopted_.erase(at);
    WriteSums(region, false, [region](int32_t result) {
      if (result == 0) return;
      LogWarning("{}", Status::Errno(-result, fmt::format("write checksums of region {}", region)).message());
    });
  }
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
  if (!told_.empty()) {
    for (size_t i = 0; i < sums.size(); i++) told_.erase(request.offset_bytes + i * kBlockBytes);
  }
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
  done_.push_back({operations_[index].request.cookie, result});
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
    uint64_t now_ms = clock_->NowMs();
    intents_->Tick(now_ms);
    KeepAdopted(now_ms);
  }
  std::array<BackendDone, kPollBatch> batch;
  size_t count = device_->Poll(batch);
  for (size_t i = 0; i < count; i++) {
    if ((batch[i].cookie & kAreaCookie) == 0) {
      OnDevice(static_cast<uint32_t>(batch[i].cookie), batch[i].result);
    } else if (auto area = area_done_.extract(batch[i].cookie)) {
      area.mapped()(batch[i].result);
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
  uint64_t deadline_ms = std::min(intents_->deadline_ms(), adopted_.empty() ? UINT64_MAX : adopted_at_ms_);
  if (deadline_ms != UINT64_MAX) {
    uint64_t now_ms = clock_->NowMs();
    auto left_ms = static_cast<int>(deadline_ms > now_ms ? std::min<uint64_t>(deadline_ms - now_ms, 1000) : 0);
    timeout_ms = timeout_ms < 0 ? left_ms : std::min(timeout_ms, left_ms);
  }
  device_->Wait(timeout_ms);
}

uint32_t ChecksummedBackend::TakeLatencyUs() {
  uint64_t count = latency_count_.exchange(0, std::memory_order_relaxed);
  uint64_t ns = latency_ns_.exchange(0, std::memory_order_relaxed);
  return count == 0 ? 0 : static_cast<uint32_t>(std::max<uint64_t>(1, ns / count / 1000));
}

// ---- the areas

void ChecksummedBackend::SubmitArea(const BackendRequest& request, Done done) {
  BackendRequest own = request;
  own.cookie = area_next_++;
  area_done_.emplace(own.cookie, std::move(done));
  device_->Submit(own);
}

void ChecksummedBackend::WriteIntentPage(uint64_t page, const uint8_t* data, Done done) {
  SubmitArea({.op = BackendOp::kWrite,
              .durable = true,
              .offset_bytes = options_.areas.intents + page * kPageBytes,
              .length_bytes = kPageBytes,
              .data = const_cast<uint8_t*>(data)},
             std::move(done));
}

void ChecksummedBackend::WriteSums(uint64_t region, bool durable, Done done) {
  PageWrite& write = page_writes_[region];
  write.next.push_back(std::move(done));
  write.next_durable = write.next_durable || durable;
  if (write.now.empty()) WritePage(region);
}

void ChecksummedBackend::WritePage(uint64_t region) {
  PageWrite& write = page_writes_[region];
  write.now = std::exchange(write.next, {});
  SubmitArea({.op = BackendOp::kWrite,
              .durable = std::exchange(write.next_durable, false),
              .offset_bytes = options_.areas.checksums + region * kPageBytes,
              .length_bytes = kPageBytes,
              .data = table_.page(region)},
             [this, region](int32_t result) { OnPage(region, result); });
}

void ChecksummedBackend::OnPage(uint64_t region, int32_t result) {
  std::vector<Done> done = std::exchange(page_writes_[region].now, {});
  if (page_writes_[region].next.empty()) {
    page_writes_.erase(region);
  } else {
    WritePage(region);
  }
  for (Done& each : done) each(result);
}

void ChecksummedBackend::Flush(Done done) { SubmitArea({.op = BackendOp::kFlush}, std::move(done)); }

}  // namespace weft::target
