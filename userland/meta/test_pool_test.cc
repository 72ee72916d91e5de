// SPDX-License-Identifier: MIT
//
// Implementation of test_pool.h; among the tests so that it is linked into them only.
#include "userland/meta/test_pool.h"

#include <sys/stat.h>

namespace weft {

void TestPool::Add(const std::string& name, int64_t mib, const std::string& zone) {
  SimTarget& target = targets_[name];
  target.args = TestServer::TargetArgs(name, mib << 20);
  target.args.zone = zone;
  target.args.instance = ++instances_;
  auto orders = server_.Register(target.args);
  ASSERT_TRUE(orders.ok()) << orders.status().message();
}

void TestPool::Create(int copies, int64_t chunk_bytes) {
  chunk_bytes_ = chunk_bytes;
  if (targets_.empty()) {
    for (const char* name : {"t1", "t2"}) Add(name, 4 * chunk_bytes >> 20);
  }
  auto pool = server_.CreatePool(copies, chunk_bytes);
  ASSERT_TRUE(pool.ok()) << pool.status().message();
  idl::PoolSettings settings;
  settings.__set_scrub_interval_s(0);  // when asked for
  ASSERT_TRUE(Admin([&](StateMachine& m) { return m.SetPool(settings); }).ok());
  for (int i = 0; i < 2; ++i) {  // the first tells them that they are members, the second that they know
    for (const auto& [name, target] : targets_) ASSERT_TRUE(server_.Heartbeat(target.args).ok());
  }
  auto session = server_.OpenSession("c1");
  ASSERT_TRUE(session.ok()) << session.status().message();
  server_.set_session(session->id);
}

void TestPool::Form(int targets, int copies) {
  for (int i = 1; i <= targets; ++i) Add("t" + std::to_string(i), 64);
  Create(copies);
}

size_t TestPool::On(const std::string& name) {
  return static_cast<size_t>(std::ranges::count_if(server_.machine().chunks().on(Id(name)), [this](uint64_t index) {
    return !server_.machine().space().AllFree(index);
  }));
}

std::vector<idl::Job> TestPool::Jobs(const std::string& name) {
  std::vector<idl::Job> jobs = AllJobs(name);
  std::erase_if(jobs, [](const idl::Job& job) { return job.kind == idl::JobKind::RELEASE; });
  return jobs;
}

std::vector<std::string> TestPool::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, target] : targets_) names.push_back(name);
  return names;
}

std::string TestPool::NameOf(uint32_t id) {
  for (const idl::TargetInfo& info : Status().targets) {
    if (static_cast<uint32_t>(info.id) == id) return info.name;
  }
  return "";
}

uint64_t TestPool::MakeChunk(int copies) {
  std::string name = "f" + std::to_string(++files_);
  idl::Reply file = server_.Execute(op::Create(static_cast<int64_t>(kRootIno), name, S_IFREG | 0644));
  EXPECT_EQ(file.error, 0);
  int blocks = static_cast<int>(chunk_bytes_ / 4096);
  idl::Operation wanted = op::Grant(blocks, 1);
  if (copies > 0) wanted.grant.__set_copies(copies);
  idl::Reply grant = server_.Execute(wanted);
  if (grant.error != 0 || grant.ranges.at(0).blocks != blocks) {
    ADD_FAILURE() << "no whole chunk was granted: error " << grant.error;
    return 0;
  }
  int64_t first = grant.ranges[0].pool_block;
  EXPECT_EQ(server_.Execute(op::Commit(file.attr.ino, {op::MakeExtent(0, first, blocks)})).error, 0);
  return static_cast<uint64_t>(first / blocks);
}

void TestPool::MarkStale(uint64_t index, const std::string& target) {
  Chunk chunk = ChunkAt(index);
  for (size_t i = 0; i < chunk.copies.size(); ++i) {
    if (chunk.copies[i].target != Id(target)) continue;
    auto reply = server_.Execute(op::MarkStale(static_cast<int64_t>(index), static_cast<int>(chunk.version), 1 << i));
    EXPECT_EQ(reply.error, 0);
    return;
  }
  FAIL() << "chunk " << index << " has no copy on " << target;
}

void TestPool::MarkAllStale(const std::string& target) {
  for (uint64_t index : std::set(server_.machine().chunks().on(Id(target)))) MarkStale(index, target);
}

void TestPool::Advance(int64_t ms) {
  server_.Advance(ms);
  for (const auto& [name, target] : targets_) {
    if (target.up) {
      EXPECT_TRUE(server_.Heartbeat(target.args).ok());
    }
  }
  server_.Run([](StateMachine&) { return 0; });
}

void TestPool::Down(const std::string& name) {
  targets_.at(name).up = false;
  for (int i = 0; i < 5; ++i) Advance(1000);
  EXPECT_FALSE(Target(name).up);
}

void TestPool::Restart(const std::string& name) {
  SimTarget& target = targets_.at(name);
  target.args.instance = ++instances_;
  target.up = true;
  auto orders = server_.Register(target.args);
  EXPECT_TRUE(orders.ok()) << orders.status().message();
}

void TestPool::Up(const std::string& name) {
  targets_.at(name).up = true;
  EXPECT_TRUE(server_.Heartbeat(targets_.at(name).args).ok());
}

idl::Jobs TestPool::List(const std::string& name) {
  const idl::RegisterTargetArgs& args = Args(name);
  auto jobs = server_.Run([&](StateMachine& m) { return m.NextJobs(args.uuid, args.instance); });
  EXPECT_TRUE(jobs.ok()) << jobs.status().message();
  return jobs.ok() ? *jobs : idl::Jobs();
}

idl::JobResult TestPool::ResultOf(const idl::Job& job, int error) {
  idl::JobResult result;
  result.kind = job.kind;
  result.chunk = job.chunk;
  result.version = job.version;
  result.attempt = job.attempt;
  result.offset = job.offset;
  result.error = error;
  return result;
}

void TestPool::Finish(const std::string& name, const idl::JobResult& result) {
  const idl::RegisterTargetArgs& args = Args(name);
  weft::Status status = server_.Run([&](StateMachine& m) { return m.FinishJobs(args.uuid, args.instance, {result}); });
  EXPECT_TRUE(status.ok()) << status.message();
}

void TestPool::Progress(const std::string& name, const idl::Job& job, int64_t done_bytes) {
  idl::TargetReport report;
  idl::JobProgress& progress = report.jobs.emplace_back();
  progress.kind = job.kind;
  progress.chunk = job.chunk;
  progress.version = job.version;
  progress.done_bytes = done_bytes;
  const idl::RegisterTargetArgs& args = Args(name);
  EXPECT_TRUE(server_.Run([&](StateMachine& m) { return m.Heartbeat(args.uuid, report, args.instance); }).ok());
}

void TestPool::Damage(const std::string& name, int64_t offset, std::vector<int64_t> blocks) {
  idl::Damage damage;
  damage.offset = offset;
  damage.blocks = std::move(blocks);
  const idl::RegisterTargetArgs& args = Args(name);
  EXPECT_TRUE(server_.Run([&](StateMachine& m) { return m.ReportDamage(args.uuid, args.instance, {damage}); }).ok());
}

bool TestPool::WorkOnce() {
  bool any = false;
  for (const std::string& name : Names()) {
    if (!IsUp(name)) continue;
    for (const idl::Job& job : AllJobs(name)) {
      any = true;
      Finish(name, job);
    }
  }
  return any;
}

void TestPool::Work() {
  int idle = 0;  // rounds: a target that joins, and what has failed, takes a moment
  for (int i = 0; i < 1000; ++i) {
    idle = WorkOnce() ? 0 : idle + 1;
    if (idle > 3) return;
    Advance(1000);
  }
  FAIL() << "the jobs do not end";
}

idl::TargetInfo TestPool::Target(const std::string& name) {
  for (const idl::TargetInfo& info : Status().targets) {
    if (info.name == name) return info;
  }
  ADD_FAILURE() << "no target " << name;
  return {};
}

bool TestPool::HasTask(idl::TaskKind::type kind) {
  return std::ranges::any_of(Status().tasks, [&](const idl::TaskInfo& task) { return task.kind == kind; });
}

idl::TaskInfo TestPool::Task(idl::TaskKind::type kind, const std::string& target) {
  for (const idl::TaskInfo& task : Status().tasks) {
    if (task.kind == kind && task.target == target) return task;
  }
  ADD_FAILURE() << "no task of kind " << static_cast<int>(kind) << " for '" << target << "'";
  return {};
}

void TestPool::ExpectWhole() {
  for (const auto& [index, chunk] : server_.machine().chunks().all()) {
    EXPECT_TRUE(chunk.Settled()) << "chunk " << index;
  }
  EXPECT_EQ(Status().chunks_degraded, 0);
  server_.Check();
}

}  // namespace weft
