// SPDX-License-Identifier: MIT
//
// Years of a pool in a second: targets that die, return, join, drain and are lost, clients that write and mark copies
// stale, results that come late, a server that restarts. What is checked: a copy in sync has every acknowledged write,
// and the pool becomes whole when the events stop. WEFT_SEED=N repeats a run.
#include <cerrno>
#include <cstdlib>
#include <random>

#include "userland/meta/test_pool.h"

namespace weft {
namespace {

class PoolModel {
 public:
  PoolModel(uint64_t seed, int targets, int copies) : random_(seed) {
    pool_.Form(targets, copies);
    for (int i = 0; i < 6; ++i) indexes_.push_back(pool_.MakeChunk());
    next_name_ = targets + 1;
    for (uint64_t index : indexes_) {
      for (const Copy& copy : pool_.ChunkAt(index).copies) content_[{copy.target, index}] = 0;
    }
  }

  // What arrives together is one batch: nothing is planned in between.
  void Steps() {
    uint32_t together = Below(2) == 0 ? 1 : 2 + Below(6);
    if (together == 1 && Below(14) == 0) pool_.server().Open();
    if (together > 1) pool_.server().BeginBatch();
    for (uint32_t i = 0; i < together; ++i) Step();
    if (together > 1) pool_.server().EndBatch();
  }

 private:
  void Step() {
    switch (Below(13)) {
      case 0:
        return Kill();
      case 1:
        return Return();
      case 2:
        return Admin();
      case 3:
        return pool_.Advance(1 + Below(3000));
      case 4:
      case 5:
      case 6:
        return Copying();
      case 7:
      case 8:
      case 9:
        return Deliver();
      default:
        return Write();
    }
  }

 public:
  void CheckData() {
    for (uint64_t index : indexes_) {
      const Chunk* chunk = pool_.server().machine().chunks().Find(index);
      ASSERT_NE(chunk, nullptr);
      ASSERT_FALSE(chunk->Lost()) << "chunk " << index;
      for (const Copy& copy : chunk->copies) {
        if (copy.state != CopyState::kInSync) continue;
        auto at = content_.find({copy.target, index});
        ASSERT_NE(at, content_.end()) << "chunk " << index << " was never copied to target " << copy.target;
        ASSERT_EQ(at->second, latest_[index]) << "chunk " << index << " on target " << copy.target;
      }
    }
  }

  void Settle() {
    late_.clear();
    for (const std::string& name : pool_.Names()) {
      if (!pool_.IsUp(name)) pool_.Restart(name);
    }
    for (int i = 0; i < 400; ++i) {
      Copying();
      while (!late_.empty()) Deliver();
      CheckData();
      if (testing::Test::HasFatalFailure()) return;
      pool_.Advance(1000);
    }
    pool_.ExpectWhole();
    idl::PoolStatus status = pool_.Status();
    for (const idl::TaskInfo& task : status.tasks)
      EXPECT_EQ(task.kind, idl::TaskKind::DRAIN) << "for lack of room alone: " << task.waits_for;
  }

 private:
  struct Late {
    std::string target;
    int64_t instance;
    idl::JobResult result;
    uint64_t index;
    uint64_t content;
  };

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  std::string Any() {
    std::vector<std::string> names = pool_.Names();
    return names[Below(static_cast<uint32_t>(names.size()))];
  }
  // As `name` is known by, when no call may be made in between.
  uint32_t IdOf(const std::string& name) {
    for (const idl::TargetInfo& info : pool_.server().machine().PoolStatus().targets) {
      if (info.name == name) return static_cast<uint32_t>(info.id);
    }
    return 0;
  }
  bool IsUp(uint32_t id) {
    for (const std::string& name : pool_.Names()) {
      if (IdOf(name) == id) return pool_.IsUp(name);
    }
    return false;
  }

  void Kill() {
    std::string name = Any();
    size_t down = 0;
    for (const std::string& other : pool_.Names()) down += pool_.IsUp(other) ? 0 : 1;
    if (down >= 2 || !pool_.IsUp(name)) return;
    if (Below(2) == 0) return pool_.Restart(name);
    pool_.Silence(name);  // nobody knows yet
  }

  void Return() {
    std::string name = Any();
    if (!pool_.IsUp(name)) Below(2) == 0 ? pool_.Restart(name) : pool_.Up(name);
  }

  void Admin() {
    std::string name = Any();
    uint32_t what = Below(6);
    // Refusals are part of life: no room to drain to, nothing that is draining.
    Status status = pool_.server().Run([&](StateMachine& m) {
      switch (what) {
        case 0:
          return m.DrainTarget(name, false).status();
        case 1:
        case 2:
          return m.DrainTarget(name, true).status();
        case 3:
          return m.Rebalance(Below(3) == 0).status();
        case 4:
          return m.Scrub(Below(3) == 0).status();
        default:
          return Status();
      }
    });
    EXPECT_TRUE(status.ok() || status.code() == ENOSPC) << status.message();
    if (what == 5 && pool_.Names().size() < 9) {
      std::string fresh = "t" + std::to_string(next_name_++);
      pool_.Add(fresh, 64);
      EXPECT_TRUE(pool_.Admin([&](StateMachine& m) { return m.AddTarget(fresh); }).ok());
    }
  }

  // A client writes: to every copy that is in sync or being resynchronised; those that fail are stale first.
  void Write() {
    uint64_t index = indexes_[Below(static_cast<uint32_t>(indexes_.size()))];
    Chunk chunk = pool_.ChunkAt(index);
    int failed = 0;
    bool readable = false;
    for (size_t i = 0; i < chunk.copies.size(); ++i) {
      if (chunk.copies[i].state == CopyState::kStale) continue;
      bool reached = IsUp(chunk.copies[i].target) && Below(10) != 0;
      if (!reached) failed |= 1 << i;
      readable = readable || (reached && chunk.copies[i].state == CopyState::kInSync);
    }
    if (!readable) return;  // the client waits
    if (failed != 0) {
      idl::Operation mark = op::MarkStale(static_cast<int64_t>(index), static_cast<int>(chunk.version), failed);
      if (pool_.server().Execute(mark).error != 0) return;
    }
    // It is acknowledged by the map as it is then: a copy that began to be resynchronised meanwhile has it, too.
    ++latest_[index];
    Chunk now = pool_.ChunkAt(index);
    for (const Copy& copy : now.copies) {
      if (copy.state == CopyState::kInSync) content_[{copy.target, index}] = latest_[index];
      if (copy.state != CopyState::kResyncing) continue;
      for (Late& late : late_) {
        if (late.index == index && static_cast<uint32_t>(late.result.version) == now.version)
          late.content = latest_[index];
      }
    }
  }

  // Targets carry out jobs; their results are on the way.
  void Copying() {
    for (const std::string& name : pool_.Names()) {
      if (!pool_.IsUp(name)) continue;
      for (const idl::Job& job : pool_.AllJobs(name)) {
        Late late{name, pool_.Args(name).instance, TestPool::ResultOf(job), static_cast<uint64_t>(job.chunk), 0};
        if (job.kind == idl::JobKind::COPY) {
          if (job.peers.empty() || Below(8) == 0) {
            late.result.error = EIO;
          } else {
            late.content = content_[{static_cast<uint32_t>(job.peers[0].id), late.index}];
          }
        }
        late_.push_back(late);
      }
    }
  }

  void Deliver() {
    if (late_.empty()) return;
    size_t at = Below(static_cast<uint32_t>(late_.size()));
    Late late = late_[at];
    late_.erase(late_.begin() + static_cast<ptrdiff_t>(at));
    const idl::RegisterTargetArgs& args = pool_.Args(late.target);
    uint32_t id = IdOf(late.target);
    auto state = [&] {
      const Chunk* chunk = pool_.server().machine().chunks().Find(late.index);
      const Copy* copy = chunk == nullptr ? nullptr : chunk->On(id);
      return copy == nullptr ? CopyState::kStale : copy->state;
    };
    CopyState before = state();
    Status status =
        pool_.server().Run([&](StateMachine& m) { return m.FinishJobs(args.uuid, late.instance, {late.result}); });
    EXPECT_TRUE(status.ok() || status.code() == ESTALE) << status.message();
    if (late.result.kind == idl::JobKind::COPY && before != CopyState::kInSync && state() == CopyState::kInSync)
      content_[{id, late.index}] = late.content;
  }

  TestPool pool_;
  std::mt19937_64 random_;
  std::vector<uint64_t> indexes_;
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> content_;  // (target, chunk) -> the last write it has
  std::map<uint64_t, uint64_t> latest_;                        // that was acknowledged
  std::vector<Late> late_;
  int next_name_ = 0;
};

TEST(UpkeepModelTest, NoAcknowledgedWriteIsLost) {
  const char* given = std::getenv("WEFT_SEED");
  uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  uint64_t runs = given != nullptr ? 1 : 30;
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    SCOPED_TRACE("again with WEFT_SEED=" + std::to_string(seed));
    PoolModel model(seed, 4 + static_cast<int>(seed % 3), 2 + static_cast<int>(seed % 2));
    for (int step = 0; step < 400; ++step) {
      model.Steps();
      model.CheckData();
      if (testing::Test::HasFatalFailure()) return;
    }
    model.Settle();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace weft
