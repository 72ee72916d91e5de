// SPDX-License-Identifier: MIT
#include "userland/target/job_runner.h"

#include <cerrno>

#include "userland/target/job_fixture.h"

namespace weft::target {
namespace {

class JobRunnerTest : public JobFixture {
 protected:
  idl::Job Copy(int32_t version, uint64_t place) {
    idl::Job job = Job(idl::JobKind::COPY, version, static_cast<int64_t>(place), {a().AsPeer(2 * kPlace)});
    job.chunk = static_cast<int64_t>(place / kPlace);
    return job;
  }
};

TEST_F(JobRunnerTest, ANewerJobForThePlaceWaitsForTheOldOneToEnd) {
  Fill(&a(), 2 * kPlace, 1);
  own().SetJobs({Copy(10, kPlace)}, 4 << 20);
  Pass(300);
  own().backend.Hold(true);
  Pass(600);
  own().SetJobs({Copy(11, kPlace)});
  Pass(20);
  ASSERT_EQ(own().runner->Progress().size(), 1U);
  EXPECT_EQ(own().runner->Progress()[0].version, 10) << "what it has under way is at the device";
  own().backend.Hold(false);
  ASSERT_TRUE(PassUntilResult());
  EXPECT_EQ(own().results[0].version, 11);
  EXPECT_EQ(own().results[0].error, 0) << own().results[0].message;
  EXPECT_TRUE(Same(own(), kPlace, a(), 2 * kPlace));
}

TEST_F(JobRunnerTest, PlacesAreWorkedAtBesideEachOther) {
  own().SetJobs({Copy(10, 0), Copy(11, kPlace), Copy(12, 3 * kPlace)}, 2 << 20);
  Pass(50);
  EXPECT_EQ(own().runner->Progress().size(), 3U);
}

// The server forgets a job when it has the result; a list that still has it may come before.
TEST_F(JobRunnerTest, AnEndedJobIsNotDoneAgainUntilItWasMissing) {
  own().SetJobs({Copy(10, kPlace)});
  ASSERT_TRUE(PassUntilResult());
  own().SetJobs({Copy(10, kPlace), Copy(12, 0)});
  ASSERT_TRUE(PassUntil([&] { return own().results.size() == 2; }));
  EXPECT_EQ(own().results[1].version, 12);
  own().SetJobs({});
  own().SetJobs({Copy(12, 0)});
  Pass(100);
  ASSERT_EQ(own().results.size(), 3U);
  EXPECT_EQ(own().results[2].version, 12);
}

TEST_F(JobRunnerTest, AnotherAttemptIsAnotherJob) {
  idl::Job job = Copy(10, kPlace);
  own().SetJobs({job});
  ASSERT_TRUE(PassUntilResult());
  EXPECT_EQ(own().results[0].attempt, 0);
  job.attempt = 3;
  own().SetJobs({job});
  ASSERT_TRUE(PassUntil([&] { return own().results.size() == 2; }));
  EXPECT_EQ(own().results[1].attempt, 3);
  EXPECT_EQ(own().results[1].error, 0) << own().results[1].message;
  job.bytes = 4096;
  job.attempt = 4;
  own().SetJobs({job});
  ASSERT_TRUE(PassUntil([&] { return own().results.size() == 3; }));
  EXPECT_EQ(own().results[2].attempt, 4);
  EXPECT_EQ(own().results[2].error, EINVAL) << "no place has so many bytes";
}

// A mistaken server, or one whose pool has another chunk size: nothing outside the data area is touched.
TEST_F(JobRunnerTest, WhatIsNoPlaceIsRefused) {
  using Kind = idl::JobKind;
  int64_t chunk = 0;
  size_t expected = 0;
  for (auto kind : {Kind::COPY, Kind::REPAIR, Kind::RELEASE, Kind::SCRUB}) {
    for (int64_t offset : {static_cast<int64_t>(TestTarget::kCapacity), static_cast<int64_t>(kPlace) + 4096,
                           static_cast<int64_t>(100 * kPlace), -static_cast<int64_t>(kPlace)}) {
      idl::Job job = Job(kind, 10, offset, {a().AsPeer(2 * kPlace)});
      job.chunk = ++chunk;
      if (kind == Kind::REPAIR) job.blocks = {0};
      own().SetJobs({job});
      ASSERT_TRUE(PassUntil([&] { return own().results.size() == expected + 1; })) << kind << " at " << offset;
      EXPECT_EQ(own().results[expected++].error, EINVAL) << kind << " at " << offset;
    }
  }
}

TEST_F(JobRunnerTest, CalledOffAndListedAgainItIsBegunAnew) {
  own().SetJobs({Copy(10, kPlace)}, 2 << 20);
  Pass(100);
  own().SetJobs({});
  own().SetJobs({Copy(10, kPlace)});
  ASSERT_TRUE(PassUntilResult());
  EXPECT_EQ(own().results[0].error, 0) << own().results[0].message;
}

TEST_F(JobRunnerTest, WithoutAPoolThereAreNoPlaces) {
  own().Stop();
  own().places.emplace(&own().floors, TestTarget::kCapacity, 0);
  PeerReader peers(own().verbs.get(), &own().backend, {.cluster_key = TestTarget::Key(), .clock = &clock_});
  std::vector<idl::JobResult> results;
  JobRunner runner(
      &*own().places, &peers, [&](const idl::JobResult& result) { results.push_back(result); }, &clock_);
  idl::Jobs jobs;
  jobs.jobs = {Copy(10, kPlace)};
  runner.SetJobs(jobs);
  runner.Poll();
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].error, EINVAL);
}

// The engine thread sleeps no longer than until a job may go on.
TEST_F(JobRunnerTest, ARateWakesTheEngine) {
  int timeout_ms = -1;
  EXPECT_TRUE(own().runner->Arm(&timeout_ms));
  EXPECT_EQ(timeout_ms, -1);
  own().SetJobs({Copy(10, kPlace)}, 1 << 20);
  timeout_ms = -1;
  EXPECT_FALSE(own().runner->Arm(&timeout_ms)) << "it has not begun";
  Pass(100);
  timeout_ms = -1;
  own().runner->Arm(&timeout_ms);
  EXPECT_GT(timeout_ms, 0);
  EXPECT_LE(timeout_ms, 1000);
}

}  // namespace
}  // namespace weft::target
