// SPDX-License-Identifier: MIT
#include "userland/target/meta_link.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>

#include "thrift-gen/TargetService.h"

namespace weft::target {
namespace {

// Answers with what the test has put in line; the last answer stays.
class FakeReporting final : public TargetReporting {
 public:
  struct Log {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Result<idl::TargetOrders>> register_answers;
    std::deque<Result<idl::TargetOrders>> heartbeat_answers;
    std::vector<idl::RegisterTargetArgs> registered;
    int heartbeats = 0;

    template <typename F>
    bool WaitFor(F&& condition) {
      std::unique_lock lock(mutex);
      return changed.wait_for(lock, std::chrono::seconds(20), condition);
    }
  };

  explicit FakeReporting(Log* log) : log_(log) {}
  Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args) override {
    std::lock_guard lock(log_->mutex);
    log_->registered.push_back(args);
    log_->changed.notify_all();
    return Next(&log_->register_answers);
  }
  Result<idl::TargetOrders> Heartbeat(const Uuid& uuid, const idl::TargetReport& report, int64_t instance) override {
    EXPECT_EQ(instance, 77);
    std::lock_guard lock(log_->mutex);
    EXPECT_EQ(report.queue_depth, 5);
    log_->heartbeats++;
    log_->changed.notify_all();
    return Next(&log_->heartbeat_answers);
  }
  void Interrupt() override {}

 private:
  static Result<idl::TargetOrders> Next(std::deque<Result<idl::TargetOrders>>* answers) {
    Result<idl::TargetOrders> answer = answers->front();
    if (answers->size() > 1) answers->pop_front();
    return answer;
  }
  Log* log_;
};

idl::TargetOrders Orders(int32_t id, const std::string& cluster) {
  idl::TargetOrders orders;
  orders.id = id;
  orders.cluster_uuid = cluster;
  orders.heartbeat_ms = 50;
  return orders;
}

class MetaLinkTest : public ::testing::Test {
 protected:
  std::unique_ptr<MetaLink> Start() {
    MetaLinkOptions options;
    options.self = std::make_unique<idl::RegisterTargetArgs>();
    options.self->name = "t1";
    options.self->instance = 77;
    options.self->uuid = std::string(16, 'u');
    options.cluster = [this] {
      std::lock_guard lock(log_.mutex);
      return cluster_;
    };
    options.set_cluster = [this](const Uuid& cluster) {
      std::lock_guard lock(log_.mutex);
      cluster_ = cluster;
      writes_++;
      log_.changed.notify_all();
      return Status::Ok();
    };
    options.chunk_bytes = [this] {
      std::lock_guard lock(log_.mutex);
      return chunk_bytes_;
    };
    options.set_chunk_bytes = [this](uint64_t bytes) {
      std::lock_guard lock(log_.mutex);
      chunk_bytes_ = bytes;
      return Status::Ok();
    };
    options.on_known = [this] { known_++; };
    options.fill_report = [](idl::TargetReport* report) { report->queue_depth = 5; };
    options.on_registered = [this] { registered_++; };
    options.on_refused = [this](const Status& why) {
      std::lock_guard lock(log_.mutex);
      refusals_.push_back(why.message());
      log_.changed.notify_all();
    };
    return std::make_unique<MetaLink>(std::make_unique<FakeReporting>(&log_), std::move(options));
  }

  FakeReporting::Log log_;
  Uuid cluster_{};
  int writes_ = 0;
  std::atomic<int> registered_ = 0;
  std::atomic<int> known_ = 0;
  uint64_t chunk_bytes_ = 0;
  std::vector<std::string> refusals_;  // under log_.mutex
};

TEST_F(MetaLinkTest, RegistersThenJoinsThePool) {
  std::string cluster(16, 'c');
  log_.register_answers = {Orders(0, "")};
  log_.heartbeat_answers = {Orders(0, ""), Orders(3, cluster)};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.heartbeats >= 4; }));
  link.reset();
  EXPECT_EQ(ToBytes(cluster_), cluster);
  EXPECT_EQ(writes_, 1);
  EXPECT_EQ(registered_, 1);
  EXPECT_EQ(log_.registered.size(), 1U);
}

TEST_F(MetaLinkTest, SurvivesAnAbsentAndAForgetfulServer) {
  log_.register_answers = {Error(ECONNREFUSED, "away"), Error(ECONNREFUSED, "away"), Orders(1, std::string(16, 'c')),
                           Orders(1, std::string(16, 'c'))};
  log_.heartbeat_answers = {Error(ESTALE, "who are you?"), Error(ECONNRESET, "gone"), Orders(1, std::string(16, 'c'))};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.heartbeats >= 4; }));
  link.reset();
  EXPECT_EQ(log_.registered.size(), 4U) << "twice in vain, once, and again after ESTALE";
  EXPECT_EQ(log_.registered.back().cluster_uuid, std::string(16, 'c')) << "what the label says now";
  EXPECT_EQ(registered_, 1);
}

TEST_F(MetaLinkTest, AnotherClustersOrdersAreNotObeyed) {
  cluster_.fill('a');
  log_.register_answers = {Orders(1, std::string(16, 'b'))};
  log_.heartbeat_answers = {Orders(1, "")};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return !refusals_.empty(); }));
  link.reset();
  EXPECT_EQ(writes_, 0);
  EXPECT_EQ(registered_, 0);
}

TEST_F(MetaLinkTest, RefusedForGoodBeforeItWasRegisteredItGivesUp) {
  log_.register_answers = {Error(ECONNREFUSED, "away"), Error(EEXIST, "another target is named 't1'"),
                           Error(EINVAL, "this server serves 'other'"), Orders(1, "")};
  log_.heartbeat_answers = {Orders(1, "")};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return !refusals_.empty(); }));
  link.reset();
  EXPECT_EQ(refusals_, std::vector<std::string>{"this server serves 'other'"});
  EXPECT_EQ(log_.registered.size(), 3U) << "what may heal is tried again, the refusal is not";
  EXPECT_EQ(registered_, 0);
}

TEST_F(MetaLinkTest, RefusedLaterItGoesOn) {
  log_.register_answers = {Orders(1, ""), Error(EINVAL, "has shrunk"), Orders(1, "")};
  log_.heartbeat_answers = {Error(ESTALE, "who are you?"), Orders(1, "")};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.registered.size() == 3 && log_.heartbeats >= 3; }));
  link.reset();
  EXPECT_TRUE(refusals_.empty());
}

TEST_F(MetaLinkTest, LearnsTheSizeOfItsPlaces) {
  idl::TargetOrders joined = Orders(3, std::string(16, 'c'));
  joined.chunk_bytes = 8 << 20;
  log_.register_answers = {Orders(0, "")};
  log_.heartbeat_answers = {Orders(0, ""), joined};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return chunk_bytes_ != 0; }));
  link.reset();
  EXPECT_EQ(chunk_bytes_, 8U << 20);
  EXPECT_GE(known_, 2);
}

TEST_F(MetaLinkTest, PlacesOfAnotherSizeAreNotObeyed) {
  chunk_bytes_ = 4 << 20;
  idl::TargetOrders joined = Orders(3, std::string(16, 'c'));
  joined.chunk_bytes = 8 << 20;
  log_.register_answers = {joined};
  log_.heartbeat_answers = {joined};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return !refusals_.empty(); }));
  link.reset();
  EXPECT_EQ(chunk_bytes_, 4U << 20);
  EXPECT_NE(refusals_[0].find("4194304"), std::string::npos) << refusals_[0];
}

TEST_F(MetaLinkTest, ReportsAtOnceWhenItIsAskedTo) {
  idl::TargetOrders slow = Orders(1, "");
  slow.heartbeat_ms = 60'000;
  log_.register_answers = {slow};
  log_.heartbeat_answers = {slow};
  auto link = Start();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.registered.size() == 1; }));
  for (int reports = 1; reports <= 3; reports++) {
    link->ReportNow();
    EXPECT_TRUE(log_.WaitFor([&] { return log_.heartbeats >= reports; }));
  }
}

}  // namespace
}  // namespace weft::target
