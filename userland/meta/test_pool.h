// SPDX-License-Identifier: MIT
//
// For tests: a TestServer with targets that register, send heartbeats, restart and do their jobs.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "userland/meta/test_server.h"

namespace weft {

class TestPool {
 public:
  static constexpr int64_t kChunkBytes = 4 << 20;

  TestServer& server() { return server_; }

  // Targets t1, t2, ... of 64 MiB, and a session.
  void Form(int targets, int copies);
  void Add(const std::string& name, int64_t mib, const std::string& zone = "");
  void AddInZone(const std::string& name, const std::string& zone) { Add(name, 64, zone); }
  // Of the targets there are; if there are none, of two that hold four chunks.
  void Create(int copies, int64_t chunk_bytes = kChunkBytes);

  const idl::RegisterTargetArgs& Args(const std::string& name) { return targets_.at(name).args; }
  bool IsUp(const std::string& name) { return targets_.at(name).up; }
  uint32_t Id(const std::string& name) { return static_cast<uint32_t>(Target(name).id); }
  std::string NameOf(uint32_t id);
  size_t Copies(const std::string& name) { return server_.machine().chunks().on(Id(name)).size(); }
  // Of them, those of chunks in which something is stored.
  size_t On(const std::string& name);
  std::vector<std::string> Names() const;

  // Fills a chunk with a file of its own. (Space makes chunks eight at a time.)
  uint64_t MakeChunk(int copies = 0);  // 0: as many as the pool says
  Chunk ChunkAt(uint64_t index) { return *server_.machine().chunks().Find(index); }
  void MarkStale(uint64_t index, const std::string& target);
  void MarkAllStale(const std::string& target);

  // Time passes; those that are up send heartbeats.
  void Advance(int64_t ms);
  // It is silent until it counts as down.
  void Down(const std::string& name);
  // It dies: is silent from now on.
  void Silence(const std::string& name) { targets_.at(name).up = false; }
  // Another process of it registers.
  void Restart(const std::string& name);
  // The same process is heard of again.
  void Up(const std::string& name);
  void Forget(const std::string& name) { targets_.erase(name); }

  // But for RELEASE: chunks that nothing is stored in come and go by themselves.
  std::vector<idl::Job> Jobs(const std::string& name);
  std::vector<idl::Job> AllJobs(const std::string& name) { return List(name).jobs; }
  int64_t JobsVersion(const std::string& name) { return List(name).version; }
  static idl::JobResult ResultOf(const idl::Job& job, int error = 0);
  void Finish(const std::string& name, const idl::JobResult& result);
  void Finish(const std::string& name, const idl::Job& job, int error = 0) { Finish(name, ResultOf(job, error)); }
  void Progress(const std::string& name, const idl::Job& job, int64_t done_bytes);
  void Damage(const std::string& name, int64_t offset, std::vector<int64_t> blocks);
  // Every target that is up does all jobs of its list. False: there were none.
  bool WorkOnce();
  // Until there are none.
  void Work();

  template <typename F>
  weft::Status Admin(F&& call) {
    return server_.Run(call).status();
  }
  idl::PoolStatus Status() {
    return server_.Run([](StateMachine& m) { return m.PoolStatus(); });
  }
  idl::TargetInfo Target(const std::string& name);
  bool HasTask(idl::TaskKind::type kind);
  idl::TaskInfo Task(idl::TaskKind::type kind, const std::string& target);

  // Every chunk has as many copies as it is wanted to, all in sync; the store is consistent.
  void ExpectWhole();

 private:
  struct SimTarget {
    idl::RegisterTargetArgs args;
    bool up = true;
  };
  idl::Jobs List(const std::string& name);

  TestServer server_;
  int64_t chunk_bytes_ = kChunkBytes;
  std::map<std::string, SimTarget> targets_;
  int64_t instances_ = 0;
  int files_ = 0;
};

}  // namespace weft
