// SPDX-License-Identifier: MIT
//
// For tests: a state machine over a MemoryStore with a clock that the test moves, a pool, one session, and
// short ways to say an operation. Check() verifies what must hold of the store at any time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "userland/meta/memory_store.h"
#include "userland/meta/state_machine.h"

namespace weft {

// Nothing happens that the test does not do.
inline MetaOptions WithoutUpkeep() {
  MetaOptions options;
  options.upkeep = false;
  return options;
}

class TestServer {
 public:
  explicit TestServer(MetaOptions options = {});

  // Throws the state machine away and opens the store again, as a restart of the server does.
  void Open();
  MetaOptions& options() { return options_; }  // from the next Open on
  MetaNow now() const { return {now_ms_, now_ms_ * 1'000'000}; }
  void Advance(int64_t ms) { now_ms_ += ms; }

  MemoryStore& store() { return store_; }
  StateMachine& machine() { return *machine_; }

  // What is run until EndBatch is one batch.
  void BeginBatch();
  void EndBatch();

  // Runs one call, as a batch of its own unless one has begun.
  template <typename F>
  auto Run(F&& call) {
    if (in_batch_) return call(*machine_);
    machine_->Begin(now());
    auto result = call(*machine_);
    Status status = machine_->Commit();
    EXPECT_TRUE(status.ok()) << status.message();
    return result;
  }

  // A target with a UUID made from its name.
  static idl::RegisterTargetArgs TargetArgs(const std::string& name, int64_t capacity_bytes);
  // Of kind nvmeof, as an operator makes it known.
  static idl::RegisterTargetArgs NvmeArgs(const std::string& name, int64_t capacity_bytes);
  Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args) {
    return Run([&](StateMachine& m) { return m.RegisterTarget(args); });
  }
  Result<idl::TargetOrders> Heartbeat(const idl::RegisterTargetArgs& args, int load = 0) {
    idl::TargetReport report;
    report.load = load;
    return Run([&](StateMachine& m) { return m.Heartbeat(args.uuid, report, args.instance); });
  }
  Result<idl::PoolStatus> CreatePool(int copies, int64_t chunk_bytes, std::vector<std::string> targets = {});

  static idl::OpenSessionArgs ClientArgs(const std::string& name);
  Result<idl::Session> OpenSession(const std::string& client) {
    return Run([&](StateMachine& m) { return m.OpenSession(ClientArgs(client)); });
  }

  // Two targets of 64 MiB, two copies, chunks of 4 MiB, session of "c1".
  void Form();
  uint64_t session() const { return session_; }
  void set_session(uint64_t session) { session_ = session; }

  // Executes one operation with a fresh sequence number of slot 0.
  idl::Reply Execute(const idl::Operation& op);
  idl::Reply ExecuteRequest(const idl::Request& request);
  idl::Request MakeRequest(const idl::Operation& op, int slot = 0);

  // Changes the chunk table in a batch of its own.
  template <typename F>
  auto RunOnChunks(F&& call) {
    return Run([&](StateMachine& m) { return call(*m.mutable_chunks()); });
  }
  // All targets let go of the places that they are to release.
  void FinishReleases();

  // The invariants: free + granted + used == blocks of the chunks that exist and no block in two places; no
  // place of a target is taken twice; versions are unique; sessions that own something exist; both orders of
  // directory entries agree; inode counts, block counts and link counts are right; memory mirrors the store.
  void Check();

 private:
  MetaOptions options_;
  MemoryStore store_;
  std::unique_ptr<StateMachine> machine_;
  int64_t now_ms_ = 1'000'000;
  uint64_t session_ = 0;
  bool in_batch_ = false;
  std::map<int, int64_t> seq_;
};

// Operations.
namespace op {

idl::Operation StatFs();
idl::Operation Lookup(int64_t parent, const std::string& name);
idl::Operation GetAttr(int64_t ino);
idl::Operation SetSize(int64_t ino, int64_t size);
idl::Operation SetCopies(int64_t ino, int copies);
idl::Operation Create(int64_t parent, const std::string& name, int mode, const std::string& target = "");
idl::Operation Remove(int64_t parent, const std::string& name, bool directory = false);
idl::Operation Rename(int64_t old_parent, const std::string& old_name, int64_t new_parent, const std::string& new_name,
                      bool noreplace = false, bool exchange = false);
idl::Operation Link(int64_t ino, int64_t parent, const std::string& name);
idl::Operation ReadLink(int64_t ino);
idl::Operation ReadDir(int64_t ino, int64_t cookie, int bytes_max);
idl::Operation GetExtents(int64_t ino, int64_t file_block, int count_max);
idl::Extent MakeExtent(int64_t file_block, int64_t pool_block, int blocks, bool unwritten = false);
idl::Operation Commit(int64_t ino, std::vector<idl::Extent> extents, int64_t size = -1);
idl::Operation Punch(int64_t ino, int64_t file_block, int64_t blocks);
idl::Operation Evict(std::vector<int64_t> inos);
idl::Operation Grant(int64_t blocks, int ranges_max, int copies = 0);
idl::Operation Release(int64_t pool_block, int64_t blocks);
idl::Operation GetChunks(int64_t first, int count);
idl::Operation MarkStale(int64_t index, int version, int mask);
idl::Operation OpenChunks(std::vector<int64_t> indexes);
idl::Operation CloseChunks(std::vector<int64_t> indexes);

}  // namespace op

}  // namespace weft
