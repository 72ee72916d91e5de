// SPDX-License-Identifier: MIT
#include "userland/target/job_link.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <numeric>
#include <set>

#include <thrift/processor/TMultiplexedProcessor.h>

#include "thrift-gen/TargetService.h"
#include "userland/rpc/client.h"
#include "userland/rpc/server.h"

namespace weft::target {
namespace {

constexpr uint64_t kPlaceBytes = 1 << 20;

// Answers with what the test has put in line; without anything a list is waited for until Interrupt.
class FakeJobs final : public JobService {
 public:
  struct Log {
    std::mutex mutex;
    std::condition_variable changed;
    bool interrupted = false;
    std::deque<Result<idl::Jobs>> lists;
    std::deque<Status> answers;  // of FinishJobs and ReportDamage; none: success
    std::vector<int64_t> asked;  // versions
    std::vector<idl::JobResult> results;
    std::vector<idl::Damage> damages;
    int calls = 0;

    template <typename F>
    bool WaitFor(F&& condition) {
      std::unique_lock lock(mutex);
      return changed.wait_for(lock, std::chrono::seconds(20), condition);
    }
  };

  explicit FakeJobs(Log* log) : log_(log) {}
  Result<idl::Jobs> NextJobs(int64_t version, int) override {
    std::unique_lock lock(log_->mutex);
    log_->asked.push_back(version);
    log_->changed.notify_all();
    log_->changed.wait(lock, [this] { return log_->interrupted || !log_->lists.empty(); });
    if (log_->interrupted) return Error(ECANCELED, "interrupted");
    Result<idl::Jobs> list = log_->lists.front();
    log_->lists.pop_front();
    return list;
  }
  Status FinishJobs(const std::vector<idl::JobResult>& results) override {
    return Answer([&] { log_->results.insert(log_->results.end(), results.begin(), results.end()); });
  }
  Status ReportDamage(const std::vector<idl::Damage>& damages) override {
    return Answer([&] { log_->damages.insert(log_->damages.end(), damages.begin(), damages.end()); });
  }
  void Interrupt() override {
    std::lock_guard lock(log_->mutex);
    log_->interrupted = true;
    log_->changed.notify_all();
  }

 private:
  template <typename F>
  Status Answer(F&& take) {
    std::lock_guard lock(log_->mutex);
    log_->calls++;
    Status s;
    if (!log_->answers.empty()) {
      s = log_->answers.front();
      log_->answers.pop_front();
    }
    if (s.ok()) take();
    log_->changed.notify_all();
    return s;
  }
  Log* log_;
};

idl::Jobs List(int64_t version) {
  idl::Jobs jobs;
  jobs.version = version;
  return jobs;
}

class JobLinkTest : public ::testing::Test {
 protected:
  void Start() {
    link_ = std::make_unique<JobLink>(std::make_unique<FakeJobs>(&log_), &reports_,
                                      JobLinkOptions{.on_jobs =
                                                         [this](const idl::Jobs& jobs) {
                                                           std::lock_guard lock(log_.mutex);
                                                           got_.push_back(jobs.version);
                                                           log_.changed.notify_all();
                                                         },
                                                     .report_now =
                                                         [this] {
                                                           std::lock_guard lock(log_.mutex);
                                                           reports_now_++;
                                                           log_.changed.notify_all();
                                                         },
                                                     .chunk_bytes = [] { return kPlaceBytes; }});
  }
  static idl::JobResult ResultOf(int64_t chunk) {
    idl::JobResult result;
    result.chunk = chunk;
    return result;
  }

  FakeJobs::Log log_;
  JobReports reports_;
  std::vector<int64_t> got_;  // under log_.mutex
  int reports_now_ = 0;       // under log_.mutex
  std::unique_ptr<JobLink> link_;
};

TEST_F(JobLinkTest, AsksOnlyAServerThatKnowsIt) {
  log_.lists = {List(5)};
  reports_.AddResult(ResultOf(1));
  Start();
  EXPECT_EQ(log_.calls, 0);
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return got_.size() == 1 && log_.results.size() == 1 && log_.asked.size() == 2; }));
  link_.reset();
  EXPECT_EQ(log_.asked, (std::vector<int64_t>{0, 5}));
  EXPECT_EQ(reports_now_, 1) << "orders may have changed, too";
}

TEST_F(JobLinkTest, TheSameListIsNoNews) {
  log_.lists = {List(5), List(5), List(6)};
  Start();
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.asked.size() == 4; }));
  link_.reset();
  EXPECT_EQ(got_, (std::vector<int64_t>{5, 6}));
}

TEST_F(JobLinkTest, AServerThatDoesNotKnowItAnyMoreIsAskedAnewWhenItDoes) {
  log_.lists = {List(5), Error(ESTALE, "who are you?"), List(5)};
  Start();
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return reports_now_ == 2; }));
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return got_.size() == 2; }));
  EXPECT_TRUE(log_.WaitFor([&] { return log_.asked.size() == 4; }));
  link_.reset();
  EXPECT_EQ(log_.asked, (std::vector<int64_t>{0, 5, 0, 5}));
}

TEST_F(JobLinkTest, ResultsAreToldUntilTheServerHasThem) {
  log_.answers = {Error(ECONNRESET, "gone"), Error(ESTALE, "who are you?")};
  Start();
  link_->Known();
  reports_.AddResult(ResultOf(1));
  EXPECT_TRUE(log_.WaitFor([&] { return reports_now_ == 1; }));
  reports_.AddResult(ResultOf(2));
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.results.size() == 2; }));
  EXPECT_EQ(log_.results[0].chunk, 1);
  EXPECT_EQ(log_.results[1].chunk, 2);
}

TEST_F(JobLinkTest, WhatTheServerRefusesIsNotToldForEver) {
  log_.answers = {Error(EINVAL, "no such job")};
  Start();
  link_->Known();
  reports_.AddResult(ResultOf(1));
  EXPECT_TRUE(log_.WaitFor([&] { return log_.calls == 1; }));
  reports_.AddResult(ResultOf(2));
  EXPECT_TRUE(log_.WaitFor([&] { return log_.results.size() == 1; }));
  EXPECT_EQ(log_.results[0].chunk, 2);
}

TEST_F(JobLinkTest, DamageIsToldByPlace) {
  Start();
  std::vector<uint64_t> offsets{3 * kPlaceBytes + 8192, kPlaceBytes, 3 * kPlaceBytes + 4096, 3 * kPlaceBytes + 8192};
  reports_.AddDamage(offsets);
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.damages.size() == 2; }));
  EXPECT_EQ(log_.damages[0].offset, static_cast<int64_t>(kPlaceBytes));
  EXPECT_EQ(log_.damages[0].blocks, (std::vector<int64_t>{0}));
  EXPECT_EQ(log_.damages[1].offset, static_cast<int64_t>(3 * kPlaceBytes));
  EXPECT_EQ(log_.damages[1].blocks, (std::vector<int64_t>{1, 2}));
}

TEST_F(JobLinkTest, EndsWhileItBacksOff) {
  log_.lists = {Error(ENOSYS, "nextJobs")};
  log_.answers = {Error(ECONNREFUSED, "away")};
  Start();
  link_->Known();
  reports_.AddResult(ResultOf(1));
  EXPECT_TRUE(log_.WaitFor([&] { return log_.calls == 1 && log_.asked.size() == 1; }));
  link_.reset();
}

TEST_F(JobLinkTest, WhatTheServerRefusesHindersNothingElse) {
  log_.answers = {Error(EINVAL, "no such place")};
  Start();
  reports_.AddDamage(std::vector<uint64_t>{0});
  reports_.AddResult(ResultOf(1));
  link_->Known();
  EXPECT_TRUE(log_.WaitFor([&] { return log_.results.size() == 1; }));
  EXPECT_TRUE(log_.damages.empty());
}

// Notes what comes through a connection with its limits.
class NotingService : public idl::TargetServiceNull {
 public:
  void finishJobs(const std::string&, int64_t, const std::vector<idl::JobResult>& results) override {
    Note([&] {
      for (const idl::JobResult& result : results) {
        chunks.push_back(result.chunk);
        for (int64_t block : result.bad_blocks) bad.insert(block);
        for (const idl::Mismatch& mismatch : result.mismatches) differing += mismatch.blocks.size();
      }
    });
  }
  void reportDamage(const std::string&, int64_t, const std::vector<idl::Damage>& damages) override {
    Note([&] {
      for (const idl::Damage& damage : damages) {
        for (int64_t block : damage.blocks) (chunks.empty() ? early : bad).insert(damage.offset / 4096 + block);
      }
    });
  }
  void nextJobs(idl::Jobs&, const std::string&, int64_t, int64_t, int32_t wait_ms) override {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return stop; });
  }
  template <typename F>
  void Note(F&& note) {
    std::lock_guard lock(mutex);
    note();
    changed.notify_all();
  }

  std::mutex mutex;  // for all below
  std::condition_variable changed;
  std::vector<int64_t> chunks;  // of results
  std::set<int64_t> early;      // blocks of damage that was told before the first result
  std::set<int64_t> bad;        // others, by result or damage
  size_t differing = 0;
  bool stop = false;
};

TEST(JobLinkRpcTest, MoreThanACallCarriesIsToldInSeveral) {
  constexpr uint64_t kLargePlace = 64 << 20;
  auto service = std::make_shared<NotingService>();
  auto processor = std::make_shared<apache::thrift::TMultiplexedProcessor>();
  processor->registerProcessor(std::string(kTargetService), std::make_shared<idl::TargetServiceProcessor>(service));
  auto server = RpcServer::Listen({"127.0.0.1", 0}, processor);
  ASSERT_TRUE(server.ok()) << server.status().message();
  JobReports reports;
  JobLink link(MakeJobService((*server)->address(), RandomUuid(), 1), &reports,
               {.on_jobs = [](const idl::Jobs&) {}, .report_now = [] {}, .chunk_bytes = [] { return kLargePlace; }});

  std::vector<uint64_t> damage(5000);
  for (size_t i = 0; i < damage.size(); i++) damage[i] = i * 4096;
  reports.AddDamage(damage);
  for (int64_t chunk = 0; chunk < 5000; chunk++) {
    idl::JobResult result;
    result.chunk = chunk;
    result.message = std::string(100'000, 'x');
    result.error = EIO;
    if (chunk % 1000 == 7) {
      for (int peer = 1; peer <= 3; peer++) {
        result.mismatches.emplace_back().peer = peer;
        result.mismatches.back().blocks.resize(4096);
      }
    }
    if (chunk == 0) {
      result.bad_blocks.resize(15'000);
      std::iota(result.bad_blocks.begin(), result.bad_blocks.end(), 0);
    }
    reports.AddResult(result);
  }
  link.Known();
  std::unique_lock lock(service->mutex);
  EXPECT_TRUE(service->changed.wait_for(
      lock, std::chrono::seconds(30), [&] { return service->chunks.size() == 5000 && service->bad.size() == 15'000; }))
      << service->chunks.size() << " " << service->bad.size();
  EXPECT_EQ(service->early.size(), 5000U);
  EXPECT_EQ(service->differing, 5U * 3 * 4096);
  service->stop = true;
  service->changed.notify_all();
}

}  // namespace
}  // namespace weft::target
