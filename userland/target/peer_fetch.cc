// SPDX-License-Identifier: MIT
#include "userland/target/peer_fetch.h"

#include <cerrno>
#include <utility>

#include "userland/target/label.h"

namespace weft::target {

PeerFetch::PeerFetch(PeerReader* reader, const std::vector<idl::Peer>* peers, uint32_t version, size_t first)
    : reader_(reader), peers_(peers), version_(version), first_(first) {}

void PeerFetch::Start(uint64_t offset, uint32_t length, uint8_t* buffer, Done done) {
  offset_ = offset;
  length_ = length;
  buffer_ = buffer;
  done_ = std::move(done);
  AskWhole();
}

void PeerFetch::AskWhole() {
  reader_->Read(peer().id, version_, static_cast<uint64_t>(peer().offset) + offset_, length_, buffer_,
                [this](int32_t result) { OnWhole(result); });
}

void PeerFetch::OnWhole(int32_t result) {
  outcome_.peer = peer().id;
  if (result == 0 || result == -ESTALE) {
    End(-result);
  } else if (result == -EBADMSG) {
    tried_ = 0;
    AskBlock();
  } else if (++tried_ < peers_->size()) {
    AskWhole();
  } else {
    End(-result);
  }
}

void PeerFetch::AskBlock() {
  uint64_t at = block_ * kBlockBytes;
  reader_->Read(peer().id, version_, static_cast<uint64_t>(peer().offset) + offset_ + at, kBlockBytes, buffer_ + at,
                [this](int32_t result) { OnBlock(result); });
}

void PeerFetch::OnBlock(int32_t result) {
  outcome_.peer = peer().id;
  if (result == -ESTALE) {
    End(ESTALE);
    return;
  }
  if (result < 0) {
    if (result != -EBADMSG) error_ = -result;
    if (++tried_ < peers_->size()) {
      AskBlock();
      return;
    }
    if (error_) {  // one that does not answer may have it
      End(error_);
      return;
    }
    outcome_.bad.push_back(block_);
  }
  tried_ = 0;
  error_ = 0;
  if (++block_ * kBlockBytes < length_) {
    AskBlock();
  } else {
    End(0);
  }
}

void PeerFetch::End(int error) {
  outcome_.error = error;
  Outcome outcome = std::move(outcome_);
  Done done = std::move(done_);
  done(outcome);
}

}  // namespace weft::target
