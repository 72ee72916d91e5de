// SPDX-License-Identifier: MIT
#include "userland/target/job_link.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>

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

}  // namespace
}  // namespace weft::target
