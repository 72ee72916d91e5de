// SPDX-License-Identifier: MIT
//
// For tests: a peer that speaks to the port of a block target as badly as it is told to. It changes no
// data and no chunk version: what it sends is refused, or reads. Runs on RealVerbs (tests/rdma/rdma_garbage) and on a
// FakeFabric (garbage_test.cc). One thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "rdma/block_wire.h"
#include "rdma/verbs.h"

namespace weft::rdma {

struct GarbageOptions {
  std::string host;
  uint16_t port = 0;
  std::vector<uint8_t> key;  // empty: only what a peer without the key can do
  uint64_t session = 0;
  uint32_t seed = 1;
  int rounds = 10;             // of random bytes
  std::function<void()> turn;  // lets the other side work; called while this one waits
  int turns_max = 2000;        // until this gives up waiting
};

class GarbagePeer {
 public:
  GarbagePeer(Verbs* verbs, GarbageOptions options)
      : verbs_(verbs), options_(std::move(options)), random_(options_.seed) {}

  // Everything this knows, one attempt after the other. An error: something was not refused.
  Status Run();
  int attempts() const { return attempts_; }

 private:
  enum class Outcome : uint8_t { kNone, kEstablished, kRejected, kClosed };

  Status Refused(const std::string& what, std::span<const uint8_t> private_data);
  Status Ended(const std::string& what, const std::function<Status()>& talk);  // on a proven connection
  Status EndedOrStale(const std::string& what, const Capsule& capsule);
  Status PrivateData();
  Status BeforeHello();
  Status Capsules();
  Status ChecksumCapsules();
  Status PeerCapsules();
  Status RandomCapsules();
  Status TooMany();

  Status Connect(std::span<const uint8_t> private_data, uint32_t send_depth);
  Status ConnectWell();
  Status Prove();
  Status Send(std::span<const uint8_t> message);
  Status Send(const Capsule& capsule, size_t data_bytes = 0);
  Outcome Wait();  // for the next thing that happens to the connection
  bool WaitForAnswer(Completion* answer);
  void Close();
  rdma::Connect GoodConnect();
  uint64_t session() const { return peer_ ? 0 : options_.session; }
  Capsule GoodRead();
  std::vector<uint8_t> RandomBytes(size_t bytes);

  Verbs* verbs_;
  GarbageOptions options_;
  std::mt19937 random_;
  int attempts_ = 0;
  bool peer_ = false;  // connects as another target

  std::unique_ptr<CmChannel> channel_;
  std::unique_ptr<CompletionQueue> completions_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(64 << 10);  // messages, answers, data
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Connection> connection_;
  size_t sent_ = 0;  // messages on connection_
  uint32_t send_depth_ = 0;
  CmEvent event_;
  std::array<uint8_t, kConnectBytes> connect_bytes_{};
};

}  // namespace weft::rdma
