// SPDX-License-Identifier: MIT
#include "userland/target/place_repair.h"

#include <cerrno>

#include "userland/target/label.h"

namespace weft::target {

using rdma::BackendOp;

PlaceRepair::~PlaceRepair() {
  if (buffer_) host_->peers->GiveBuffer(buffer_, kBlockBytes);
}

void PlaceRepair::Start() {
  if (job_.peers.empty()) {
    Fail(EINVAL, fmt::format("{}: the job names no peer to copy from", Name()));
    Finish();
    return;
  }
  UsePeers();
}

rdma::BlockRange PlaceRepair::range() const {
  return {.offset = offset() + static_cast<uint64_t>(job_.blocks[next_]) * kBlockBytes, .length = kBlockBytes};
}

void PlaceRepair::Step() {
  if (finished_ || stopping_ || busy_) return;
  if (failed() || flushed_) {
    Finish();
    return;
  }
  if (next_ == job_.blocks.size()) {
    busy_ = true;
    host_->engine->Execute({.op = BackendOp::kFlush}, [this](int32_t result) {
      busy_ = false;
      flushed_ = true;
      if (result < 0) FailAt("flush the device", -result);
    });
    return;
  }
  if (!buffer_) buffer_ = host_->peers->TakeBuffer(kBlockBytes);
  if (!buffer_ || !host_->Take(&host_->resync, kBlockBytes)) return;
  busy_ = true;
  host_->places->Lock(range(), [this] { OnLocked(); });
}

void PlaceRepair::OnLocked() {
  locked_ = true;
  host_->engine->Execute(
      {.op = BackendOp::kRead, .offset_bytes = range().offset, .length_bytes = kBlockBytes, .data = buffer_},
      [this](int32_t result) { OnRead(result); });
}

void PlaceRepair::OnRead(int32_t result) {
  if (stopping_ || result == 0) {
    EndBlock();
    return;
  }
  // What the device cannot read may be written: it puts a good sector in the place of a bad one.
  fetch_ = std::make_unique<PeerFetch>(host_->peers, &job_.peers, version(), 0);
  fetch_->Start(range().offset - offset(), kBlockBytes, buffer_,
                [this](const PeerFetch::Outcome& outcome) { OnFetched(outcome); });
}

void PlaceRepair::OnFetched(const PeerFetch::Outcome& outcome) {
  if (outcome.error) {
    FailAt(fmt::format("read from target {}", outcome.peer), outcome.error);
  }
  if (stopping_ || failed()) {
    EndBlock();
  } else {
    Write(!outcome.bad.empty());
  }
}

void PlaceRepair::Write(bool bad) {
  if (bad) result_.bad_blocks.push_back(job_.blocks[next_]);
  host_->engine->Execute({.op = bad ? BackendOp::kPoison : BackendOp::kWrite,
                          .offset_bytes = range().offset,
                          .length_bytes = kBlockBytes,
                          .data = buffer_},
                         [this](int32_t result) {
                           if (result < 0) {
                             FailAt("write", -result);
                           }
                           EndBlock();
                         });
}

void PlaceRepair::EndBlock() {
  rdma::BlockRange done = range();
  locked_ = false;
  busy_ = false;
  next_++;
  done_bytes_ += kBlockBytes;
  host_->places->Unlock(done);
}

void PlaceRepair::CallOff() {
  PlaceJob::CallOff();
  bool waits = busy_ && !locked_ && next_ < job_.blocks.size();  // for a client's write
  if (waits) EndBlock();
}

}  // namespace weft::target
