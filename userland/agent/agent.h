// SPDX-License-Identifier: MIT
//
// The agent of one cluster on this host: attaches to the kernel, runs the queue threads, the metadata
// threads and the session, and ends them in order. One thread calls; Interrupt may come from any other.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "userland/agent/device_paths.h"
#include "userland/agent/gateway.h"
#include "userland/agent/lease.h"
#include "userland/agent/meta_dispatcher.h"
#include "userland/agent/queue_loop.h"
#include "userland/agent/session_keeper.h"
#include "userland/agent/settler.h"
#include "userland/agent/target_table.h"
#include "userland/channel/channel.h"

namespace weft::agent {

struct AgentOptions {
  channel::AttachOptions attach;
  Address meta;
  std::string host;  // this host's name, for people
  std::string zone;  // its failure domain; empty: none
  size_t meta_connections = 2;
  std::chrono::microseconds spin{0};
  bool spin_for_devices = true;  // QueueLoopOptions
  std::chrono::milliseconds detect{5000};
  GatewayOptions gateway;                   // of the NVMe-oF targets; cluster, meta, detect and lease are the agent's
  std::string hostnqn;                      // what this host is to their storage nodes
  std::chrono::milliseconds nvme_drain{0};  // OpenSessionArgs.nvme_drain_ms
};

// Makes initiators on the pool; called in the queue threads.
using InitiatorMaker =
    std::function<Result<std::unique_ptr<rdma::BlockInitiator>>(std::span<std::byte> pool, uint64_t session)>;

class Agent : private SessionListener {
 public:
  static Result<std::unique_ptr<Agent>> Attach(channel::Device* device, InitiatorMaker make_initiator,
                                               const AgentOptions& options);
  ~Agent() override;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Takes up the session of a mount that is there and lets requests flow. Waits for the metadata server.
  Status Start();
  // Makes Start return ECANCELED if it waits.
  void Interrupt() { start_link_.Interrupt(); }
  // Finishes what was taken, `grace` at most. What is left stays in the kernel for the next agent.
  void Stop(std::chrono::milliseconds grace);

 private:
  Agent(std::unique_ptr<channel::Channel> channel, InitiatorMaker make_initiator, const AgentOptions& options);
  Status OnAllLoops(const std::function<Status(QueueLoop&)>& task);
  Status SetChunks(const std::vector<weft_chunk>& maps);
  Status HandDevice(uint32_t target, const std::optional<BlockDevice>& device);

  Status OnSessionOpen(const idl::Session& session) override;
  void OnTargets(const idl::TargetMap& map) override;
  void OnChunks(const std::vector<idl::Chunk>& chunks, int64_t version) override;
  void OnLease(int64_t until_ns) override;
  void OnSessionEnded() override;
  std::string OnSessionClosing() override;
  void OnSessionClosed() override;

  const AgentOptions options_;
  const std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
  const std::shared_ptr<MetaServerHealth> health_ = std::make_shared<MetaServerHealth>();
  // Destroyed from the last to the first: the channel must outlive everybody.
  std::unique_ptr<channel::Channel> channel_;
  MetaLink start_link_;
  TargetTable targets_;
  DevicePaths paths_;
  Gateways gateways_;
  Settler settler_;
  SessionKeeper session_;
  MetaDispatcher dispatcher_;
  std::vector<std::unique_ptr<QueueLoop>> loops_;
};

}  // namespace weft::agent
