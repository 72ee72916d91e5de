// SPDX-License-Identifier: MIT
//
// Gets a range of a place from whichever of the peers has it: one after the other until one answers; block by block
// where blocks are bad there, so that peers with different bad blocks make a whole. Engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "thrift-gen/admin_types.h"
#include "userland/target/peer_reader.h"

namespace weft::target {

class PeerFetch {
 public:
  struct Outcome {
    int error = 0;              // errno: nothing is there. ESTALE: a peer knows a higher version
    int32_t peer = 0;           // that answered so
    std::vector<uint32_t> bad;  // blocks of the range, by number, that all peers have and none can read
  };
  using Done = std::function<void(const Outcome&)>;

  // peers: in use at the reader; outlive this. first: index of the one to ask first.
  PeerFetch(PeerReader* reader, const std::vector<idl::Peer>* peers, uint32_t version, size_t first);

  // offset: inside the place. `done` once, from PeerReader::Poll; may destroy this.
  void Start(uint64_t offset, uint32_t length, uint8_t* buffer, Done done);

 private:
  const idl::Peer& peer() const { return (*peers_)[(first_ + tried_) % peers_->size()]; }
  void AskWhole();
  void OnWhole(int32_t result);
  void AskBlock();
  void OnBlock(int32_t result);
  void End(int error);

  PeerReader* const reader_;
  const std::vector<idl::Peer>* const peers_;
  const uint32_t version_;
  const size_t first_;
  uint64_t offset_ = 0;
  uint32_t length_ = 0;
  uint8_t* buffer_ = nullptr;
  Done done_;
  size_t tried_ = 0;  // peers, for what is asked for now
  uint32_t block_ = 0;
  int error_ = 0;  // of a peer that did not say that this block is bad
  Outcome outcome_;
};

}  // namespace weft::target
