// SPDX-License-Identifier: MIT
//
// A metadata server in memory, for unit tests of the agent: real connections over loopback, answers that
// the test chooses, and an end at any moment. It keeps the replies of sequence numbers as the real one
// does, so that a request executed twice is seen. Any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "thrift-gen/MetaService.h"
#include "userland/base/address.h"
#include "userland/rpc/server.h"

namespace weft::agent {

class FakeMetaService {
 public:
  static constexpr int32_t kLeaseMs = 3000;

  FakeMetaService();
  ~FakeMetaService();

  const Address& address() const { return address_; }
  // Ends all connections and listens no more; what it knows stays.
  void Kill();
  void Restart();

  // What a request is answered with; the default says success with an attribute.
  void OnExecute(std::function<idl::Reply(const idl::Request&)> handler);
  // The next execute is carried out, but the connection is lost before the reply.
  void LoseNextReply();
  // While blocked, execute waits.
  void Block(bool block);
  void RefuseOpen(int code);
  void EndSession();  // ESTALE from here on
  void SetTargets(std::vector<int32_t> ids);
  // The chunk's map as it is from now on: a change that nextEvents tells of.
  void SetChunk(const idl::Chunk& chunk);
  void DeleteChunk(int64_t index);  // a change as well, of which there is nothing to tell

  bool WaitForBatch(size_t requests);  // that an execute has had so many
  bool WaitForCalls(size_t executes);
  size_t executed() const;  // requests, replays not counted
  size_t opened() const;
  size_t closed() const;
  size_t reclaimed() const;
  size_t event_calls() const;  // of nextEvents
  int64_t settled() const;     // version that chunksSettled has named last; -1: none
  bool WaitForSettled(int64_t version);

 private:
  class Handler;
  friend class Handler;
  idl::Session MakeSession() const;
  idl::TargetMap MakeMap() const;

  std::shared_ptr<Handler> handler_;
  Address address_{"127.0.0.1", 0};
  std::unique_ptr<RpcServer> server_;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::function<idl::Reply(const idl::Request&)> execute_;
  std::map<std::pair<int32_t, int64_t>, idl::Reply> replies_;  // by slot and sequence
  std::vector<int32_t> targets_{1, 2};
  int64_t map_version_ = 1;
  std::map<int64_t, idl::Chunk> chunks_;  // by index
  int64_t chunks_version_ = 0;
  int64_t settled_ = -1;
  int64_t session_ = 0;
  size_t executed_ = 0, calls_ = 0, largest_batch_ = 0, opened_ = 0, closed_ = 0, reclaimed_ = 0, event_calls_ = 0;
  bool lose_reply_ = false, blocked_ = false, killed_ = false;
  int refuse_open_ = 0;
};

}  // namespace weft::agent
