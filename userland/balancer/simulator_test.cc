// SPDX-License-Identifier: MIT
#include "userland/balancer/simulator.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

// of the kernel, whose names of types it uses
using u64 = uint64_t;
using u16 = uint16_t;
using u32 = uint32_t;
using s32 = int32_t;
#include "kmod/balancer.h"
#include "kmod/uapi/weft.h"
#include "userland/balancer/choice.h"
#include "userland/balancer/policies.h"
#include "userland/balancer/policy_object.h"
#include "userland/balancer/trace_recorder.h"

namespace weft::balancer {
namespace {

static_assert(WEFT_TRACE_COPIES == WEFT_COPIES_MAX);
static_assert(WEFT_TRACE_GRANTS == WEFT_PLACE_MAX);
static_assert(kPolicyFaultsMax == WEFT_BALANCER_FAULTS_MAX);

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kReadNs = 400'000;
constexpr const char* kTestObjects = "build/tests/bpf/";

// A closed loop of 4 KiB reads at a depth over chunks with two copies each on `targets` targets.
Trace MakeTrace(int reads, int depth, int targets) {
  Trace trace;
  std::mt19937_64 random(3);
  for (int i = 1; i <= targets; ++i) {
    weft_trace_target target = {};
    target.head.cluster = 1;
    target.id = static_cast<uint32_t>(i);
    target.weight = 100;
    snprintf(target.name, sizeof target.name, "t%d", i);
    trace.targets.push_back(target);
  }
  uint64_t step_ns = kReadNs / static_cast<uint64_t>(depth);
  for (int i = 0; i < reads; ++i) {
    weft_trace_read read = {};
    read.head.cluster = 1;
    read.head.time_ns = kMs + step_ns * static_cast<uint64_t>(i);
    read.length = 4096;
    read.nr = 2;
    uint32_t first = static_cast<uint32_t>(random() % static_cast<uint64_t>(targets));
    uint32_t other = (first + 1 + static_cast<uint32_t>(random() % static_cast<uint64_t>(targets - 1))) %
                     static_cast<uint32_t>(targets);
    read.targets[0] = 1 + first;
    read.targets[1] = 1 + other;
    trace.reads.push_back(read);
    weft_trace_done done = {};
    done.head.cluster = 1;
    done.latency_ns = kReadNs / 2 + random() % kReadNs;
    done.head.time_ns = read.head.time_ns + done.latency_ns;
    done.target = read.targets[i % 2];
    done.op = WEFT_OP_READ;
    done.bytes = 4096;
    trace.dones.push_back(done);
  }
  trace.complete = true;
  return trace;
}

SimulationResult Simulate(const Trace& trace, const std::string& policy, std::map<std::string, double> slow = {},
                          uint32_t servers = 8) {
  SimulationOptions options;
  options.depth = 16;
  options.back_to_back = true;
  options.model.servers = servers;
  options.model.slow = std::move(slow);
  auto simulator = Simulator::Create(&trace, options);
  EXPECT_TRUE(simulator.ok()) << simulator.status().message();
  Result<SimulationResult> result = (*simulator)->Run(policy);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return *std::move(result);
}

// Writes of the trace do not make it go at the trace's pace.
TEST(SimulatorTest, BackToBackWaitsForNothingButTheDepth) {
  Trace trace = MakeTrace(2000, 16, 2);
  const uint64_t pace_ns = 10 * kMs;
  for (size_t i = 0; i < trace.reads.size(); ++i) {
    trace.reads[i].head.time_ns = kMs + pace_ns * i;
    trace.dones[i].head.time_ns = trace.reads[i].head.time_ns + trace.dones[i].latency_ns;
    if (i % 4 != 0) continue;
    weft_trace_done write = trace.dones[i];
    write.op = WEFT_OP_WRITE;
    for (uint32_t copy : {1, 2}) {
      write.target = copy;
      trace.dones.push_back(write);
    }
  }
  EXPECT_GT(Simulate(trace, "round_robin").reads_per_s, 20 * 1e9 / static_cast<double>(pace_ns));
  SimulationOptions options;
  auto paced = Simulator::Create(&trace, options);
  ASSERT_TRUE(paced.ok()) << paced.status().message();
  EXPECT_EQ((*paced)->depth(), 1u);
  Result<SimulationResult> result = (*paced)->Run("round_robin");
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_NEAR(result->reads_per_s, 1e9 / static_cast<double>(pace_ns), 1);
  options.back_to_back = true;
  EXPECT_EQ((*Simulator::Create(&trace, options))->depth(), 3u) << "a read and a write of two copies";
}

TEST(SimulatorTest, EveryPolicyThatShipsChoosesLegally) {
  Trace trace = MakeTrace(2000, 16, 3);
  for (int i = 0; i < 100; ++i) {
    weft_trace_place place = {};
    place.head.cluster = 1;
    place.head.time_ns = kMs + static_cast<uint64_t>(i) * kMs;
    place.blocks = 16;
    place.nr = static_cast<uint16_t>(1 + i % WEFT_TRACE_GRANTS);
    for (int g = 0; g < place.nr; ++g) {
      place.grants[g].nr_targets = 2;
      place.grants[g].targets[0] = static_cast<uint32_t>(1 + g % 3);
      place.grants[g].targets[1] = static_cast<uint32_t>(1 + (g + 1) % 3);
    }
    trace.places.push_back(place);
  }
  for (const Policy& policy : ShippedPolicies()) {
    SimulationResult result = Simulate(trace, std::string(policy.name));
    EXPECT_EQ(result.policy, policy.name);
    EXPECT_EQ(result.reads, 2000u);
    EXPECT_EQ(result.places, 100u);
    EXPECT_EQ(result.faults, 0u) << policy.name;
    for (const SimulatedTarget& target : result.targets) {
      EXPECT_GT(target.reads, 300u) << policy.name << " leaves " << target.name << " idle";
      EXPECT_GT(target.placed_blocks, 0u) << policy.name;
    }
  }
}

TEST(SimulatorTest, TheTemplateWorks) {
  SimulationResult result = Simulate(MakeTrace(500, 16, 2), "build/bpf/template.bpf.o");
  EXPECT_EQ(result.policy, "mine");
  EXPECT_EQ(result.faults, 0u);
}

// What the balancer must show: half of the targets slowed tenfold, 4 KiB reads at depth 16.
TEST(SimulatorTest, P2cKeepsClearOfOneSlowTargetOfTwo) {
  Trace trace = MakeTrace(20'000, 16, 2);
  for (uint32_t servers : {4, 8, 16}) {
    SimulationResult healthy = Simulate(trace, "p2c_latency", {}, servers);
    SimulationResult slow = Simulate(trace, "p2c_latency", {{"t2", 10}}, servers);
    EXPECT_LT(slow.p99_ns, 2 * healthy.p99_ns) << servers;
    EXPECT_GT(slow.reads_per_s, 0.45 * healthy.reads_per_s) << servers;
  }
  SimulationResult healthy = Simulate(trace, "p2c_latency");
  SimulationResult in_turn = Simulate(trace, "round_robin", {{"t2", 10}});
  EXPECT_GT(in_turn.p99_ns, 5 * healthy.p99_ns);
  EXPECT_LT(in_turn.reads_per_s, 0.45 * healthy.reads_per_s);
}

TEST(SimulatorTest, P2cKeepsClearOfOneSlowTargetOfThree) {
  Trace trace = MakeTrace(20'000, 16, 3);
  SimulationResult healthy = Simulate(trace, "p2c_latency");
  SimulationResult slow = Simulate(trace, "p2c_latency", {{"t2", 10}});
  EXPECT_GT(slow.reads_per_s, 0.6 * healthy.reads_per_s);
  EXPECT_LT(slow.targets[1].reads, 400u);
  EXPECT_GT(slow.targets[1].reads, 0u) << "it is tried now and then";
}

// Targets that are loaded alike share the load, whether they work on one request at a time or on many.
TEST(SimulatorTest, P2cSharesBetweenHealthyTargets) {
  Trace trace = MakeTrace(10'000, 16, 2);
  for (uint32_t servers : {1, 4, 16}) {
    SimulationResult in_turn = Simulate(trace, "round_robin", {}, servers);
    SimulationResult p2c = Simulate(trace, "p2c_latency", {}, servers);
    EXPECT_GT(p2c.reads_per_s, 0.95 * in_turn.reads_per_s) << servers;
    EXPECT_LT(p2c.p99_ns, 1.1 * static_cast<double>(in_turn.p99_ns)) << servers;
  }
}

TEST(SimulatorTest, WeightedFollowsWeights) {
  Trace trace = MakeTrace(20'000, 16, 2);
  trace.targets[0].weight = 300;
  SimulationResult result = Simulate(trace, "weighted");
  EXPECT_NEAR(static_cast<double>(result.targets[0].reads) / 20'000, 0.75, 0.02);
  trace.targets[0].weight = trace.targets[1].weight = 0;
  EXPECT_NEAR(static_cast<double>(Simulate(trace, "weighted").targets[0].reads) / 20'000, 0.5, 0.02);
}

TEST(SimulatorTest, LocalFirstStaysInItsZoneUntilThatIsTooSlow) {
  Trace trace = MakeTrace(20'000, 16, 2);
  trace.targets[0].flags = WEFT_TARGET_LOCAL;
  EXPECT_GT(Simulate(trace, "local_first").targets[0].reads, 19'000u);
  EXPECT_LT(Simulate(trace, "local_first", {{"t1", 20}}).targets[0].reads, 1000u);
}

TEST(SimulatorTest, TheSameEachTime) {
  Trace trace = MakeTrace(3000, 16, 3);
  SimulationResult first = Simulate(trace, "p2c_latency");
  SimulationResult second = Simulate(trace, "p2c_latency");
  EXPECT_EQ(first.mean_ns, second.mean_ns);
  EXPECT_EQ(first.p99_ns, second.p99_ns);
  EXPECT_EQ(first.targets[0].reads, second.targets[0].reads);
}

TEST(SimulatorTest, GarbageIsCountedAndDetached) {
  SimulationResult result = Simulate(MakeTrace(1000, 16, 2), std::string(kTestObjects) + "garbage.bpf.o");
  EXPECT_EQ(result.faults, 64u);
  EXPECT_EQ(result.reads, 1000u);
}

TEST(SimulatorTest, ALoopCostsNothingButTime) {
  SimulationResult result = Simulate(MakeTrace(20, 16, 2), std::string(kTestObjects) + "loop.bpf.o");
  EXPECT_EQ(result.faults, 0u);
}

TEST(SimulatorTest, AnIllegalStepEndsTheRunWithItsPlace) {
  Trace trace = MakeTrace(10, 4, 2);
  auto simulator = Simulator::Create(&trace, {});
  ASSERT_TRUE(simulator.ok());
  Status status = (*simulator)->Run(std::string(kTestObjects) + "refused.bpf.o").status();
  EXPECT_EQ(status.code(), EFAULT);
  EXPECT_NE(status.message().find("balancer policy refused: pick_read: instruction "), std::string::npos)
      << status.message();
}

TEST(SimulatorTest, ErrorsNameTheThing) {
  Trace empty;
  EXPECT_EQ(Simulator::Create(&empty, {}).status().code(), EINVAL);
  Trace trace = MakeTrace(10, 4, 2);
  SimulationOptions options;
  options.model.slow = {{"t9", 2}};
  Status status = Simulator::Create(&trace, options).status();
  EXPECT_NE(status.message().find("no target 't9'; it has t1, t2"), std::string::npos) << status.message();
  auto simulator = Simulator::Create(&trace, {});
  EXPECT_EQ((*simulator)->Run("fastest").status().code(), ENOENT);
  EXPECT_EQ((*simulator)->Run("/etc/passwd").status().code(), EINVAL);
}

// Requests that overlap sixteenfold, each with 1.6 ms: on 4 workers that is 0.4 ms of work and the rest waiting.
TEST(TargetModelTest, WaitingIsNoWork) {
  Trace trace;
  for (uint64_t i = 0; i < 200; ++i) {
    weft_trace_done done = {};
    done.target = 1;
    done.op = WEFT_OP_READ;
    done.bytes = 4096;
    done.latency_ns = 1'600'000;
    done.head.time_ns = kMs + i * 100'000 + done.latency_ns;
    trace.dones.push_back(done);
  }
  auto profiles = ProfileTargets(trace, {.servers = 4, .slow = {}, .seed = 1});
  ASSERT_TRUE(profiles.ok()) << profiles.status().message();
  const TargetProfile& profile = profiles->at({0, 1});
  EXPECT_EQ(profile.work.Draw(WEFT_OP_READ, 4096, 100), 400'000u);
  EXPECT_EQ(profile.work.Draw(WEFT_OP_READ, 4096, 0), 1'600'000u) << "the first one met nobody";
  auto many = ProfileTargets(trace, {.servers = 16, .slow = {}, .seed = 1});
  EXPECT_EQ(many->at({0, 1}).work.Draw(WEFT_OP_READ, 4096, 100), 1'600'000u);
}

TEST(TargetModelTest, QueuesBehindItsWorkers) {
  TargetProfile profile;
  profile.work.Add(WEFT_OP_READ, 4096, 1000);
  profile.factor = 2;
  TargetModel target(&profile, 1, 2);
  EXPECT_EQ(target.Accept(100, WEFT_OP_READ, 4096, 0), 2100u);
  EXPECT_EQ(target.Accept(200, WEFT_OP_READ, 4096, 0), 2200u);
  EXPECT_EQ(target.Accept(300, WEFT_OP_READ, 4096, 0), 4100u) << "behind the first";
  EXPECT_EQ(target.Stat().inflight, 3u);
  target.Complete(WEFT_OP_READ, 4096, 2000);
  EXPECT_EQ(target.Stat().inflight, 2u);
  EXPECT_EQ(target.Stat().ewma_latency_ns, 2000u);
  EXPECT_EQ(target.Accept(9000, WEFT_OP_READ, 4096, 0), 11'000u) << "idle again";
}

std::vector<std::byte> ObjectOf(std::string_view policy) {
  auto object = FindPolicy(policy)->object();
  return {object.begin(), object.end()};
}

// An object file may hold anything.
TEST(PolicyObjectTest, DamagedObjectsAreRefusedOrRun) {
  const std::vector<std::byte> good = ObjectOf("p2c_latency");
  ASSERT_TRUE(LoadPolicyObject(good, "p2c").ok());
  std::mt19937_64 random(11);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> bad = good;
    if (round % 4 == 0) bad.resize(random() % bad.size());
    for (uint64_t flips = random() % 8; flips > 0 && !bad.empty(); --flips) {
      // headers and tables are at both ends
      size_t at = random() % bad.size();
      if (random() % 2) at = random() % std::min<size_t>(bad.size(), 64);
      if (random() % 3 == 0) at = bad.size() - 1 - random() % std::min<size_t>(bad.size(), 4096);
      bad[at] = static_cast<std::byte>(random());
    }
    Result<std::unique_ptr<PolicyObject>> object = LoadPolicyObject(bad, "bad");
    if (object.ok()) continue;
    ++refused;
    EXPECT_EQ(object.status().code(), EINVAL);
    EXPECT_TRUE(object.status().message().starts_with("balancer policy bad: ")) << object.status().message();
  }
  EXPECT_GT(refused, 1000);
}

class TraceTest : public testing::Test {
 protected:
  ~TraceTest() override { std::filesystem::remove_all(dir); }
  TraceTest() { std::filesystem::create_directories(dir); }
  std::string dir = testing::TempDir() + "trace_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  std::string path = dir + "/trace";
};

void WriteTrace(const Trace& trace, const std::string& path) {
  auto writer = TraceWriter::Create(path, 99);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  for (const auto& target : trace.targets) ASSERT_TRUE((*writer)->AddTarget(target).ok());
  auto add = [&](auto record, uint16_t type) {
    record.head.type = type;
    record.head.bytes = sizeof record;
    ASSERT_TRUE((*writer)->Add(std::as_bytes(std::span(&record, 1))).ok());
  };
  for (const auto& read : trace.reads) add(read, WEFT_TRACE_READ);
  for (const auto& done : trace.dones) add(done, WEFT_TRACE_DONE);
  ASSERT_TRUE((*writer)->Finish(trace.dropped).ok());
}

std::vector<std::byte> Bytes(const std::string& path) { return *ReadObject(path); }

TEST_F(TraceTest, WhatIsWrittenIsRead) {
  Trace trace = MakeTrace(50, 4, 2);
  trace.dropped = 3;
  WriteTrace(trace, path);
  Result<Trace> read = ReadTrace(path);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(read->complete);
  EXPECT_EQ(read->dropped, 3u);
  EXPECT_EQ(read->targets.size(), 2u);
  ASSERT_EQ(read->reads.size(), 50u);
  ASSERT_EQ(read->dones.size(), 50u);
  EXPECT_EQ(read->reads[7].targets[1], trace.reads[7].targets[1]);
  EXPECT_EQ(read->dones[7].latency_ns, trace.dones[7].latency_ns);
}

TEST_F(TraceTest, ACutTraceIsReadAsFarAsItGoes) {
  WriteTrace(MakeTrace(50, 4, 2), path);
  std::vector<std::byte> bytes = Bytes(path);
  Result<Trace> cut = ParseTrace(std::span(bytes).first(bytes.size() - 40), "cut");
  ASSERT_TRUE(cut.ok()) << cut.status().message();
  EXPECT_FALSE(cut->complete);
  EXPECT_EQ(cut->dones.size(), 49u);
}

TEST_F(TraceTest, RefusesWhatIsWrong) {
  WriteTrace(MakeTrace(2, 4, 2), path);
  const std::vector<std::byte> good = Bytes(path);
  auto message = [&](size_t at, uint64_t value, size_t size) {
    std::vector<std::byte> bad = good;
    memcpy(bad.data() + at, &value, size);
    return ParseTrace(bad, "bad").status().message();
  };
  size_t read = sizeof(weft_trace_file) + 2 * sizeof(weft_trace_target);
  EXPECT_NE(message(0, 1, 8).find("bad: byte 0: not a trace of weftfs"), std::string::npos);
  EXPECT_NE(message(8, 2, 4).find("version 2; this program reads version 1"), std::string::npos);
  EXPECT_NE(message(read, 77, 2).find(fmt::format("byte {}: a record of unknown type 77", read)), std::string::npos);
  EXPECT_NE(message(read + 2, 7, 2).find("a record of 7 bytes"), std::string::npos);
  EXPECT_NE(message(read + offsetof(weft_trace_read, nr), 5, 2).find("a read with 5 targets"), std::string::npos);
  EXPECT_NE(message(read + offsetof(weft_trace_read, choice), 2, 2).find("choice 2 of 2"), std::string::npos);
  EXPECT_NE(message(good.size() - 16, 9, 8).find("it should have 9 records and has 6"), std::string::npos);
  std::vector<std::byte> more = good;
  more.resize(more.size() + 8);
  EXPECT_EQ(ParseTrace(more, "more").status().code(), EINVAL);
}

TEST_F(TraceTest, RandomDamageIsRefusedOrSimulated) {
  WriteTrace(MakeTrace(60, 4, 2), path);
  const std::vector<std::byte> good = Bytes(path);
  std::mt19937_64 random(5);
  for (int round = 0; round < 1500; ++round) {
    std::vector<std::byte> bad = good;
    for (uint64_t flips = 1 + random() % 6; flips > 0; --flips) {
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    }
    if (round % 5 == 0) bad.resize(random() % bad.size());
    Result<Trace> trace = ParseTrace(bad, "bad");
    if (!trace.ok()) continue;
    auto simulator = Simulator::Create(&*trace, {});
    if (!simulator.ok()) continue;
    EXPECT_TRUE((*simulator)->Run("p2c_latency").ok());
  }
}

class FakeSource : public TraceSource {
 public:
  Status Start() override { return start_error; }
  Status Run(std::chrono::milliseconds, int, const Sink& sink) override {
    for (const auto& record : records) {
      if (Status s = sink(record); !s.ok()) return s;
    }
    return {};
  }
  uint64_t dropped() const override { return 5; }
  std::vector<std::vector<std::byte>> records;
  Status start_error;
};

TEST_F(TraceTest, RecordsTargetsAndWhatTheSourceTells) {
  auto write = [&](const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(dir + "/" + file).parent_path());
    std::ofstream(dir + "/" + file) << text << "\n";
  };
  for (const char* file : {"balancer/picks", "balancer/faults", "weft/number"}) write(file, "4");
  write("balancer/policy", "round_robin");
  write("weft/targets/1/name", "t1");
  write("weft/targets/1/stat", "1 0 0 0 0 0 0 0");
  write("weft/targets/1/label", "50 7 1");
  write("weft/targets/1/read_latency", "4096 1");
  write("weft/targets/1/write_latency", "4096 1");
  FakeSource source;
  weft_trace_place place = {};
  place.head = {
      .type = WEFT_TRACE_PLACE, .bytes = sizeof place - 6 * sizeof place.grants[0], .cluster = 4, .time_ns = 9};
  place.nr = 2;
  auto bytes = std::as_bytes(std::span(&place, 1));
  source.records.emplace_back(bytes.begin(), bytes.end());
  Sysfs sysfs(dir);
  Result<TraceSummary> summary = RecordTrace(source, sysfs, path, std::chrono::seconds(1), -1);
  ASSERT_TRUE(summary.ok()) << summary.status().message();
  EXPECT_EQ(summary->records, 2u);
  EXPECT_EQ(summary->dropped, 5u);
  Result<Trace> trace = ReadTrace(path);
  ASSERT_TRUE(trace.ok()) << trace.status().message();
  EXPECT_EQ(trace->targets[0].weight, 50u);
  EXPECT_EQ(trace->targets[0].head.cluster, 4u);
  EXPECT_EQ(trace->places[0].nr, 2u);
  EXPECT_EQ(trace->dropped, 5u);

  source.records.emplace_back(3);
  const std::vector<std::byte> before = Bytes(path);
  EXPECT_EQ(RecordTrace(source, sysfs, path, std::chrono::seconds(1), -1).status().code(), EINVAL);
  EXPECT_FALSE(std::filesystem::exists(path + ".new")) << "half a trace is left";
  EXPECT_EQ(Bytes(path), before) << "what was there has gone";
  Status refused = RecordTrace(source, sysfs, "/dev/full", std::chrono::seconds(1), -1).status();
  EXPECT_EQ(refused.message(), "/dev/full is no file; name one that may be replaced");
  source.start_error = Status(EPERM, "needs root");
  EXPECT_EQ(RecordTrace(source, sysfs, path, std::chrono::seconds(1), -1).status().message(), "needs root");
}

}  // namespace
}  // namespace weft::balancer
