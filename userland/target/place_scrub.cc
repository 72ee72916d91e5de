// SPDX-License-Identifier: MIT
#include "userland/target/place_scrub.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/target/job_reports.h"
#include "userland/target/label.h"

namespace weft::target {
namespace {

using rdma::BackendOp;

constexpr size_t kReadsMax = 2;  // under way
constexpr uint64_t kReadBytes = 1 << 20;
constexpr uint64_t kPartBytes = 256 << 20;  // that are compared at a time
constexpr uint32_t kSumsBytes = kPartBytes / kBlockBytes * sizeof(uint32_t);
constexpr uint64_t kPauseMs = 1000;

uint32_t SumAt(const uint8_t* sums, uint64_t block) {
  uint32_t sum;
  memcpy(&sum, sums + block * sizeof sum, sizeof sum);
  return sum;
}

}  // namespace

PlaceScrub::~PlaceScrub() {
  if (own_sums_) host_->peers->GiveBuffer(own_sums_, kSumsBytes);
  if (peer_sums_) host_->peers->GiveBuffer(peer_sums_, kSumsBytes);
}

void PlaceScrub::Start() {
  if (host_->on_scrub) host_->on_scrub({.offset = offset(), .length = bytes()});
  suspected_.resize(job_.peers.size());
  Status s = host_->peers->PrepareBuffers();
  if (s.ok()) {
    UsePeers();
    return;
  }
  Fail(s.code(), s.message());
  Finish();
}

void PlaceScrub::Step() {
  if (finished_ || stopping_) return;
  switch (phase_) {
    case Phase::kVerify:
      Verify();
      break;
    case Phase::kPause:
      Pause();
      break;
    case Phase::kCompare:
    case Phase::kCompareAgain:
      if (under_way_ == 0) Compare();
      break;
  }
}

void PlaceScrub::Verify() {
  while (next_ < bytes() && under_way_ < kReadsMax) {
    auto length = static_cast<uint32_t>(std::min(kReadBytes, bytes() - next_));
    uint8_t* buffer = host_->peers->TakeBuffer(length);
    if (!buffer) return;
    if (!host_->Take(&host_->scrub, length)) {
      host_->peers->GiveBuffer(buffer, length);
      return;
    }
    under_way_++;
    host_->engine->Execute(
        {.op = BackendOp::kRead, .offset_bytes = offset() + next_, .length_bytes = length, .data = buffer},
        [this, buffer, length](int32_t result) {
          host_->peers->GiveBuffer(buffer, length);
          under_way_--;
          done_bytes_ += length;
          if (result == 0 || result == -EBADMSG) return;  // the latter the backend tells
          FailAt("read", -result);
        });
    next_ += length;
  }
  if (next_ < bytes() || under_way_ > 0) return;
  next_ = 0;
  phase_ = Phase::kCompare;
  if (failed() || job_.peers.empty()) Finish();
}

// ---- comparing: part by part, and in each part peer by peer

uint64_t PlaceScrub::part_bytes() const { return std::min(kPartBytes, bytes() - next_); }

void PlaceScrub::Compare() {
  if (failed()) {
    Finish();
    return;
  }
  if (next_ == bytes()) {
    if (phase_ == Phase::kCompareAgain || suspects_.empty()) {
      Report();
      Finish();
    } else {
      phase_ = Phase::kPause;
      pause_until_ms_ = host_->now_ms + kPauseMs;
      host_->WakeAt(pause_until_ms_);
    }
    return;
  }
  if (!own_sums_) own_sums_ = host_->peers->TakeBuffer(kSumsBytes);
  if (own_sums_ && !peer_sums_) peer_sums_ = host_->peers->TakeBuffer(kSumsBytes);
  if (!own_sums_ || !peer_sums_) return;
  under_way_++;
  host_->engine->Execute({.op = BackendOp::kChecksums,
                          .offset_bytes = offset() + next_,
                          .length_bytes = static_cast<uint32_t>(part_bytes()),
                          .data = own_sums_},
                         [this](int32_t result) { OnOwnSums(result); });
}

void PlaceScrub::OnOwnSums(int32_t result) {
  under_way_--;
  if (result < 0) FailAt("checksums", -result);
  if (stopping_ || failed()) return;
  under_way_++;
  const idl::Peer& peer = job_.peers[peer_];
  host_->peers->Checksums(peer.id, version(), static_cast<uint64_t>(peer.offset) + next_,
                          static_cast<uint32_t>(part_bytes()), peer_sums_,
                          [this](int32_t answer) { OnPeerSums(answer); });
}

void PlaceScrub::OnPeerSums(int32_t result) {
  under_way_--;
  if (result < 0) {
    FailAt(fmt::format("checksums of target '{}'", job_.peers[peer_].name), -result);
  }
  if (stopping_ || failed()) return;
  Look();
  if (++peer_ < job_.peers.size()) return;
  peer_ = 0;
  next_ += part_bytes();
}

void PlaceScrub::Look() {
  uint64_t first = next_ / kBlockBytes;
  for (uint64_t block = 0; block < part_bytes() / kBlockBytes; block++) {
    Pair pair{SumAt(own_sums_, block), SumAt(peer_sums_, block)};
    if (pair.first == 0 || pair.second == 0 || pair.first == pair.second) continue;
    std::pair<size_t, uint64_t> key{peer_, first + block};
    if (phase_ == Phase::kCompare) {
      if (suspected_[peer_] == BlocksPerItem()) return;  // the copy is no copy: these are enough to say so
      suspected_[peer_] += suspects_.emplace(key, pair).second;
    } else if (auto before = suspects_.find(key); before != suspects_.end() && before->second == pair) {
      mismatches_.emplace(key, pair);
    }
  }
}

void PlaceScrub::Pause() {
  if (host_->now_ms < pause_until_ms_) {
    host_->WakeAt(pause_until_ms_);
    return;
  }
  next_ = 0;
  phase_ = Phase::kCompareAgain;
  Compare();  // nothing else would bring the next Step soon
}

void PlaceScrub::Report() {
  for (const auto& [key, pair] : mismatches_) {
    int32_t peer = job_.peers[key.first].id;
    if (result_.mismatches.empty() || result_.mismatches.back().peer != peer) {
      result_.mismatches.emplace_back().peer = peer;
    }
    result_.mismatches.back().blocks.push_back(static_cast<int64_t>(key.second));
  }
}

}  // namespace weft::target
