// SPDX-License-Identifier: MIT
//
// Reads blocks and checksums of other targets of the pool: a BlockInitiator with connections to those that a job
// uses now, and the memory that data goes through. Costs nothing while no peer is in use. Engine thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rdma/block_backend.h"
#include "rdma/block_initiator.h"
#include "rdma/buffer_pool.h"
#include "userland/base/status.h"

namespace weft::idl {
class Peer;
}

namespace weft::target {

struct PeerReaderOptions {
  std::vector<uint8_t> cluster_key;
  size_t buffer_bytes = 16 << 20;  // a multiple of 1 MiB
  uint32_t detect_ms = 5000;
  const rdma::Clock* clock = nullptr;  // nullptr: CLOCK_MONOTONIC; outlives the reader
};

class PeerReader {
 public:
  using Done = std::function<void(int32_t result)>;  // 0 or -errno, from Poll

  // backend: the target's own, whose Wait ends when a peer answers. Both outlive the reader, which outlives the
  // backend's last Poll and Wait.
  PeerReader(rdma::Verbs* verbs, rdma::BlockBackend* backend, PeerReaderOptions options);
  ~PeerReader();

  // Connects, in the background; as often as Release for the same id.
  Status Use(const idl::Peer& peer);
  void Release(int32_t id);

  Status PrepareBuffers();              // for TakeBuffer without Use. ENOMEM
  uint8_t* TakeBuffer(uint32_t bytes);  // nullptr: there is none now
  void GiveBuffer(uint8_t* buffer, uint32_t bytes);
  // buffer: of TakeBuffer. EHOSTDOWN: the peer was not reached for detect_ms.
  void Read(int32_t id, uint32_t version, uint64_t offset, uint32_t length, uint8_t* buffer, Done done) {
    Get(rdma::BlockOp::kRead, id, version, offset, length, buffer, std::move(done));
  }
  void Checksums(int32_t id, uint32_t version, uint64_t offset, uint32_t length, uint8_t* buffer, Done done) {
    Get(rdma::BlockOp::kChecksums, id, version, offset, length, buffer, std::move(done));
  }

  size_t Poll();
  bool Arm();  // false: Poll again instead of sleeping

 private:
  Status Open();
  void Get(rdma::BlockOp op, int32_t id, uint32_t version, uint64_t offset, uint32_t length, uint8_t* buffer,
           Done done);

  rdma::Verbs* const verbs_;
  rdma::BlockBackend* const backend_;
  const PeerReaderOptions options_;
  std::unique_ptr<rdma::BufferPool> buffers_;  // null, like initiator_, before the first Use
  std::unique_ptr<rdma::BlockInitiator> initiator_;
  bool ready_ = false;  // the backend's Watch sets it
  bool slept_ = false;
  std::map<int32_t, int> users_;                  // by peer
  std::unordered_map<uint64_t, Done> under_way_;  // by tag
  std::vector<std::pair<Done, int32_t>> refused_;
  uint64_t next_tag_ = 1;
  std::vector<rdma::BlockCompletion> done_;  // reused by Poll
};

}  // namespace weft::target
