// SPDX-License-Identifier: MIT
//
// For tests: three targets with places on a FakeFabric, the first of which does jobs, and a client of them all. One
// thread; the clock moves when the test says so.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rdma/block_fixture.h"
#include "rdma/places_fixture.h"
#include "userland/base/uuid.h"
#include "userland/target/job_runner.h"

namespace weft::target {

constexpr uint64_t kJobPlaceBytes = 6 << 20;  // of 1 MiB regions: more than are copied at once

// A target without its threads. `runner` works for it.
struct TestTarget {
  TestTarget(rdma::FakeFabric* fabric, const rdma::Clock* clock, int32_t id)
      : id(id), host("10.0.1." + std::to_string(id)), verbs(fabric->AddHost(host)), clock(clock) {
    uuid.fill(static_cast<uint8_t>(id));
  }
  void Start() {
    places.emplace(&floors, kCapacity, kJobPlaceBytes);
    peers =
        std::make_unique<PeerReader>(verbs.get(), &backend, PeerReaderOptions{.cluster_key = Key(), .clock = clock});
    runner = std::make_unique<JobRunner>(
        &*places, peers.get(), [this](const idl::JobResult& result) { results.push_back(result); }, clock);
    rdma::BlockTargetOptions options;
    options.host = host;
    options.port = 7471;
    options.uuid = uuid;
    options.places = &*places;
    options.cluster_key = Key();
    options.buffer_bytes = 4 << 20;
    options.clock = clock;
    auto created = rdma::BlockTarget::Create(verbs.get(), &backend, &fence, options);
    ASSERT_TRUE(created.ok()) << created.status().message();
    engine = *std::move(created);
    runner->SetEngine(engine.get());
  }
  void Stop() {
    engine.reset();
    runner.reset();
    peers.reset();
  }
  // The process ends and comes again: what it knew in memory alone is gone.
  void Restart() {
    Stop();
    Start();
  }
  void Turn() {
    if (!engine) return;
    engine->Poll();
    runner->Poll();
  }
  void SetJobs(const std::vector<idl::Job>& jobs, int64_t resync_bytes_per_s = 0) {
    idl::Jobs list;
    list.jobs = jobs;
    list.resync_bytes_per_s = resync_bytes_per_s;
    runner->SetJobs(list);
  }
  idl::Peer AsPeer(int64_t offset) const {
    idl::Peer peer;
    peer.id = id;
    peer.uuid = ToBytes(uuid);
    peer.name = "t" + std::to_string(id);
    peer.host = host;
    peer.port = 7471;
    peer.offset = offset;
    return peer;
  }
  static std::vector<uint8_t> Key() { return std::vector<uint8_t>(32, 0x11); }

  static constexpr uint64_t kCapacity = 4 * kJobPlaceBytes;
  const int32_t id;
  const std::string host;
  std::array<uint8_t, 16> uuid;
  std::unique_ptr<rdma::Verbs> verbs;
  const rdma::Clock* const clock;
  rdma::MemoryBackend backend{kCapacity};
  rdma::VolatileFence fence;
  rdma::MapFloorStore floors;
  std::optional<rdma::Places> places;
  std::unique_ptr<PeerReader> peers;
  std::unique_ptr<JobRunner> runner;
  std::unique_ptr<rdma::BlockTarget> engine;
  std::vector<idl::JobResult> results;
};

class JobFixture : public ::testing::Test {
 protected:
  static constexpr uint64_t kPlace = kJobPlaceBytes;
  static constexpr size_t kPoolBytes = 8 << 20;

  JobFixture() : pool_(kPoolBytes) {
    client_verbs_ = fabric_.AddHost("10.0.0.1");
    for (int32_t id : {1, 2, 3}) targets_.push_back(std::make_unique<TestTarget>(&fabric_, &clock_, id));
    for (auto& target : targets_) target->Start();
    rdma::InitiatorOptions options;
    options.memory = pool_.data();
    options.memory_bytes = pool_.size();
    options.session = 5;
    options.cluster_key = TestTarget::Key();
    options.number = 0;
    options.clock = &clock_;
    auto client = rdma::BlockInitiator::Create(client_verbs_.get(), options);
    EXPECT_TRUE(client.ok()) << client.status().message();
    client_ = *std::move(client);
    for (auto& target : targets_) {
      EXPECT_TRUE(client_
                      ->SetTarget({.id = static_cast<uint32_t>(target->id),
                                   .uuid = target->uuid,
                                   .name = target->host,
                                   .host = target->host,
                                   .port = 7471})
                      .ok());
    }
    Pass(30);
  }
  ~JobFixture() override {
    for (auto& target : targets_) target->Stop();
  }

  TestTarget& own() { return *targets_[0]; }  // that does the jobs
  TestTarget& a() { return *targets_[1]; }
  TestTarget& b() { return *targets_[2]; }

  void Turn() {
    client_->Kick();
    std::vector<rdma::BlockCompletion> done;
    client_->Poll(&done);
    for (const rdma::BlockCompletion& completion : done) {
      ended_[completion.tag] = completion.result;
      if (on_end_) on_end_(completion.tag, completion.result);
    }
    for (auto& target : targets_) target->Turn();
    if (on_turn_) on_turn_();
  }
  void Pass(uint64_t ms) {
    for (uint64_t i = 0; i < ms; i++) {
      clock_.now_ms++;
      for (int turn = 0; turn < 16; turn++) Turn();
    }
  }
  bool PassUntil(const std::function<bool()>& condition, int ms_max = 5000) {
    for (int i = 0; i < ms_max && !condition(); i++) Pass(1);
    return condition();
  }
  bool PassUntilResult() {
    return PassUntil([this] { return !own().results.empty(); });
  }

  void Submit(uint64_t tag, rdma::BlockOp op, int32_t target, uint32_t version, uint64_t offset, uint32_t length,
              uint64_t buffer = 0) {
    rdma::BlockCommand command{.tag = tag, .op = op};
    command.chunk_version = version;
    command.offset_bytes = offset;
    command.length_bytes = length;
    command.buffer_offset = buffer;
    Status s = client_->Submit(static_cast<uint32_t>(target), command);
    ASSERT_TRUE(s.ok()) << s.message();
  }
  int32_t Do(rdma::BlockOp op, int32_t target, uint32_t version, uint64_t offset, uint32_t length) {
    uint64_t tag = next_tag_++;
    Submit(tag, op, target, version, offset, length);
    EXPECT_TRUE(PassUntil([&] { return ended_.contains(tag); }));
    return ended_[tag];
  }
  static void Fill(TestTarget* target, uint64_t place, uint32_t seed) {
    std::mt19937 random(seed);
    auto* words = reinterpret_cast<uint32_t*>(&target->backend.bytes()[place]);
    for (size_t i = 0; i < kPlace / sizeof(uint32_t); i++) words[i] = random();
  }
  static bool Same(const TestTarget& x, uint64_t x_place, const TestTarget& y, uint64_t y_place,
                   uint64_t length = kPlace) {
    auto& x_bytes = const_cast<TestTarget&>(x).backend.bytes();
    auto& y_bytes = const_cast<TestTarget&>(y).backend.bytes();
    return memcmp(&x_bytes[x_place], &y_bytes[y_place], length) == 0;
  }
  static idl::Job Job(idl::JobKind::type kind, int32_t version, int64_t offset, std::vector<idl::Peer> peers) {
    idl::Job job;
    job.kind = kind;
    job.chunk = 7;
    job.version = version;
    job.offset = offset;
    job.bytes = kPlace;
    job.peers = std::move(peers);
    return job;
  }

  rdma::FakeFabric fabric_;
  rdma::FakeClock clock_;
  std::vector<uint8_t> pool_;
  std::unique_ptr<rdma::Verbs> client_verbs_;
  std::vector<std::unique_ptr<TestTarget>> targets_;
  std::unique_ptr<rdma::BlockInitiator> client_;
  std::map<uint64_t, int32_t> ended_;
  std::function<void(uint64_t tag, int32_t result)> on_end_;
  std::function<void()> on_turn_;
  uint64_t next_tag_ = 1000000;
};

}  // namespace weft::target
