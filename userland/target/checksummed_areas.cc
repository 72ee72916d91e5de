// SPDX-License-Identifier: MIT
//
// What ChecksummedBackend keeps on the device: read when it is opened, written as it goes and when it is closed.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "userland/base/log.h"
#include "userland/target/checksummed_backend.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint64_t kLoadBytes = 1 << 20;
constexpr uint64_t kSettleBytes = 1 << 20;  // read at a time
constexpr size_t kCloseBatch = 64;

}  // namespace

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
    settle_buffer_.reset(static_cast<uint8_t*>(aligned_alloc(kPageBytes, kSettleBytes)));
    if (!settle_buffer_) return Error(ENOMEM, "no memory to take checksums anew");
  }
  return read("checksums", areas.checksums, table_.regions() * kPageBytes, [&](uint64_t at, uint32_t count) {
    for (uint64_t page = 0; page < count / kPageBytes; page++) {
      uint64_t region = at / kPageBytes + page;
      bool in_doubt = intents_->IsDirty(region);
      table_.Load(region, buffer.get() + page * kPageBytes, in_doubt);
      if (!in_doubt) continue;
      uint64_t start = region * kRegionBytes;
      uint64_t bytes = std::min(kRegionBytes, options_.capacity_bytes - start);
      if (!doubt_.Add(region, table_.Of(start, bytes - bytes % kBlockBytes))) intents_->Settled(region);
    }
  });
}

Status ChecksummedBackend::Close() {
  closing_ = true;
  intents_->CleanAll();
  while (!intents_->clean() || settling_ || !area_done_.empty()) {
    intents_->Tick(clock_->NowMs());
    std::array<BackendDone, kCloseBatch> ignored;
    Kick();
    Poll(ignored);
    if (intents_->failed() && !settling_) {
      return Error(EIO, "the checksums are not all written: some are taken anew at the next start");
    }
    if ((settling_ || !area_done_.empty()) && Arm()) device_->Wait(-1);
  }
  if (!doubt_.empty()) {
    LogInfo("checksums of {} regions are still in doubt; it is gone on with at the next start", doubt_.regions());
  }
  return Status::Ok();
}

// ---- doubt: what nobody reads is read in the background

void ChecksummedBackend::SettleMore() {
  if (doubt_.empty() || settling_ || closing_ || settle_rate_.ready_ms() > now_ms_) return;
  uint64_t offset = 0, length = 0;
  if (!doubt_.Next(kSettleBytes, &offset, &length) || !settle_rate_.Take(length, now_ms_)) return;
  settling_ = true;
  uint32_t index = Take({.op = BackendOp::kRead,
                         .offset_bytes = offset,
                         .length_bytes = static_cast<uint32_t>(length),
                         .data = settle_buffer_.get()});
  operations_[index].own = true;
  if (order_.Add(index, offset, length, false)) Start(index);
  device_->Kick();
}

// Of a block that cannot be read nothing will be known later either.
void ChecksummedBackend::OnSettleRead(const BackendRequest& request, int32_t result) {
  settling_ = false;
  if (result >= 0 || result == -EBADMSG) return;
  LogWarning("{}", Status::Errno(-result, fmt::format("read {} bytes at offset {} of the data area for their checksums",
                                                      request.length_bytes, request.offset_bytes))
                       .message());
  Settled(request);
}

void ChecksummedBackend::Settled(const BackendRequest& request) {
  if (doubt_.empty()) return;
  doubt_.Settle(request.offset_bytes, request.length_bytes, [this](uint64_t region) { intents_->Settled(region); });
  if (doubt_.empty()) LogInfo("no checksum is in doubt any more");
}

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
