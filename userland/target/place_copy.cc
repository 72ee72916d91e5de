// SPDX-License-Identifier: MIT
#include "userland/target/place_copy.h"

#include <algorithm>
#include <cerrno>

#include "userland/target/label.h"

namespace weft::target {
namespace {

using rdma::BackendOp;

constexpr size_t kRegionsMax = 4;  // under way
constexpr uint64_t kCopyBytes = 1 << 20;

}  // namespace

PlaceCopy::~PlaceCopy() {
  if (tracked_) host_->places->Untrack(offset());
}

void PlaceCopy::Start() {
  Status s = job_.peers.empty() ? Error(EINVAL, "{}: the job names no peer to copy from", Name())
                                : host_->places->Track(offset(), version(), rdma::Places::Since::kRaise);
  if (!s.ok()) {
    Fail(s.code(), s.message());
    Finish();
    return;
  }
  tracked_ = true;
  UsePeers();
}

void PlaceCopy::Step() {
  if (finished_) return;
  while (!stopping_ && !failed() && next_ < bytes() && StartRegion()) continue;
  if (stopping_ || !idle()) return;
  if (failed() || flushed_) {
    Finish();
  } else if (next_ >= bytes()) {
    flushing_ = true;
    host_->engine->Execute({.op = BackendOp::kFlush}, [this](int32_t result) {
      flushing_ = false;
      flushed_ = true;
      if (result < 0) FailAt("flush the device", -result);
    });
  }
}

bool PlaceCopy::AllWritten(const rdma::BlockRange& range) const {
  for (uint64_t at = range.offset; at < range.offset + range.length; at += kBlockBytes) {
    if (!host_->places->Written(at)) return false;
  }
  return true;
}

bool PlaceCopy::StartRegion() {
  if (regions_.size() == kRegionsMax) return false;
  rdma::BlockRange range{.offset = offset() + next_, .length = std::min(kCopyBytes, bytes() - next_)};
  if (AllWritten(range)) {
    next_ += range.length;
    done_bytes_ += range.length;
    return true;
  }
  auto length = static_cast<uint32_t>(range.length);
  uint8_t* buffer = host_->peers->TakeBuffer(length);
  if (!buffer) return false;  // other jobs have them all
  if (!host_->Take(&host_->resync, length)) {
    host_->peers->GiveBuffer(buffer, length);
    return false;
  }
  next_ += range.length;
  Handle region = regions_.emplace(regions_.end());
  region->range = range;
  region->buffer = buffer;
  host_->places->Lock(range, [this, region] { OnLocked(region); });
  return true;
}

void PlaceCopy::OnLocked(Handle region) {
  region->locked = true;
  if (stopping_ || failed()) {
    EndRegion(region);
    return;
  }
  region->fetch = std::make_unique<PeerFetch>(host_->peers, &job_.peers, version(), peer_);
  region->fetch->Start(region->range.offset - offset(), static_cast<uint32_t>(region->range.length), region->buffer,
                       [this, region](const PeerFetch::Outcome& outcome) { OnFetched(region, outcome); });
}

void PlaceCopy::OnFetched(Handle region, const PeerFetch::Outcome& outcome) {
  auto answered = std::ranges::find(job_.peers, outcome.peer, &idl::Peer::id);
  if (outcome.error) {
    FailAt(fmt::format("read from target '{}'", answered->name), outcome.error);
  } else {
    peer_ = static_cast<size_t>(answered - job_.peers.begin());
  }
  if (stopping_ || failed()) {
    EndRegion(region);
  } else {
    Store(region, outcome.bad);
  }
}

// What no client has written, in runs as long as possible.
void PlaceCopy::Store(Handle region, const std::vector<uint32_t>& bad) {
  enum class What : uint8_t { kNothing, kData, kBad };
  auto what = [&](uint32_t block) {
    if (host_->places->Written(region->range.offset + block * kBlockBytes)) return What::kNothing;
    return std::ranges::binary_search(bad, block) ? What::kBad : What::kData;
  };
  auto blocks = static_cast<uint32_t>(region->range.length / kBlockBytes);
  region->writes = 1;  // this function
  for (uint32_t first = 0, end; first < blocks; first = end) {
    What kind = what(first);
    for (end = first + 1; end < blocks && what(end) == kind; end++) continue;
    if (kind != What::kNothing) StoreRun(region, first, end - first, kind == What::kBad);
  }
  OnStored(region, 0);
}

void PlaceCopy::StoreRun(Handle region, uint32_t first, uint32_t count, bool bad) {
  uint64_t at = first * kBlockBytes;
  region->writes++;
  host_->engine->Execute({.op = bad ? BackendOp::kPoison : BackendOp::kWrite,
                          .offset_bytes = region->range.offset + at,
                          .length_bytes = static_cast<uint32_t>(count * kBlockBytes),
                          .data = region->buffer + at},
                         [this, region](int32_t result) { OnStored(region, result); });
  if (!bad) return;
  auto block = static_cast<int64_t>((region->range.offset - offset()) / kBlockBytes + first);
  for (uint32_t i = 0; i < count; i++) result_.bad_blocks.push_back(block + i);
}

void PlaceCopy::OnStored(Handle region, int32_t result) {
  if (result < 0) FailAt("write", -result);
  if (--region->writes > 0) return;
  if (!failed()) done_bytes_ += region->range.length;
  EndRegion(region);
}

void PlaceCopy::EndRegion(Handle region) {
  rdma::BlockRange range = region->range;
  host_->peers->GiveBuffer(region->buffer, static_cast<uint32_t>(range.length));
  regions_.erase(region);
  host_->places->Unlock(range);
}

void PlaceCopy::CallOff() {
  PlaceJob::CallOff();
  for (Handle region = regions_.begin(); region != regions_.end();) {
    Handle next = std::next(region);
    if (!region->locked) EndRegion(region);  // it waits for a client's write, and shall not any more
    region = next;
  }
}

}  // namespace weft::target
