// SPDX-License-Identifier: MIT
#include "userland/target/place_scrub.h"

#include <cerrno>

#include "userland/target/job_fixture.h"
#include "userland/target/label.h"

namespace weft::target {
namespace {

using rdma::BlockOp;

constexpr int32_t kVersion = 10;

class PlaceScrubTest : public JobFixture {
 protected:
  PlaceScrubTest() {
    Fill(&own(), kPlace, 1);
    Fill(&a(), 2 * kPlace, 1);
    Fill(&b(), 2 * kPlace, 1);
  }
  void Scrub(const std::vector<TestTarget*>& peers, int64_t bytes_per_s = 0) {
    std::vector<idl::Peer> list;
    for (TestTarget* peer : peers) list.push_back(peer->AsPeer(2 * kPlace));
    idl::Jobs jobs;
    jobs.jobs = {Job(idl::JobKind::SCRUB, kVersion, kPlace, std::move(list))};
    jobs.scrub_bytes_per_s = bytes_per_s;
    own().runner->SetJobs(jobs);
  }
  const idl::JobResult& Result() {
    EXPECT_TRUE(PassUntil([this] { return !own().results.empty(); }, 12000));
    static const idl::JobResult kNone;
    return own().results.empty() ? kNone : own().results[0];
  }
  void Change(TestTarget* target, uint64_t place, int block) {  // and its checksum
    target->backend.bytes()[place + static_cast<uint64_t>(block) * kBlockBytes] ^= 1;
  }
};

TEST_F(PlaceScrubTest, EqualCopiesAreFine) {
  Scrub({&a(), &b()});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Result().mismatches.empty());
}

TEST_F(PlaceScrubTest, WhatDiffersTwiceIsToldByPeer) {
  Change(&a(), 2 * kPlace, 4);
  Change(&a(), 2 * kPlace, 1535);
  Change(&b(), 2 * kPlace, 9);
  Scrub({&a(), &b()});
  uint64_t start = clock_.now_ms;
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_GE(clock_.now_ms - start, 1000U) << "looked at again after a second";
  EXPECT_LT(clock_.now_ms - start, 1500U) << "and not much later";
  ASSERT_EQ(Result().mismatches.size(), 2U);
  EXPECT_EQ(Result().mismatches[0].peer, a().id);
  EXPECT_EQ(Result().mismatches[0].blocks, (std::vector<int64_t>{4, 1535}));
  EXPECT_EQ(Result().mismatches[1].peer, b().id);
  EXPECT_EQ(Result().mismatches[1].blocks, (std::vector<int64_t>{9}));
}

TEST_F(PlaceScrubTest, AWriteThatIsNotEverywhereYetIsNoMismatch) {
  Change(&a(), 2 * kPlace, 4);
  Change(&a(), 2 * kPlace, 5);
  Change(&a(), 2 * kPlace, 8);
  Scrub({&a()});
  Pass(500);
  EXPECT_TRUE(own().results.empty());
  Change(&own(), kPlace, 4);                                                   // has arrived here, too
  Change(&a(), 2 * kPlace, 5);                                                 // and the next one there
  memset(&a().backend.bytes()[2 * kPlace + 6 * kBlockBytes], 9, kBlockBytes);  // began meanwhile
  memset(&a().backend.bytes()[2 * kPlace + 8 * kBlockBytes], 9, kBlockBytes);  // is written again and again
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Result().mismatches.empty());
}

TEST_F(PlaceScrubTest, ABlockWithoutAChecksumIsNotCompared) {
  a().backend.Corrupt(2 * kPlace + 3 * kBlockBytes);
  ASSERT_EQ(Do(BlockOp::kRead, a().id, kVersion, 2 * kPlace + 3 * kBlockBytes, kBlockBytes), -EBADMSG);
  Scrub({});
  EXPECT_EQ(Result().error, 0) << Result().message;
}

// The backend tells of it; the copy is no other one for that.
TEST_F(PlaceScrubTest, DamageDoesNotEndIt) {
  own().backend.Corrupt(kPlace + 3 * kBlockBytes);
  Change(&a(), 2 * kPlace, 1000);
  Scrub({&a()});
  EXPECT_EQ(Result().error, 0) << Result().message;
  ASSERT_EQ(Result().mismatches.size(), 1U);
  EXPECT_EQ(Result().mismatches[0].blocks.back(), 1000);
}

TEST_F(PlaceScrubTest, TheRateIsKept) {
  uint64_t start = clock_.now_ms;
  Scrub({}, 3 << 20);
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_GE(clock_.now_ms - start, 1500U);
  EXPECT_LE(clock_.now_ms - start, 2200U);
}

TEST_F(PlaceScrubTest, ErrorsAreTold) {
  ASSERT_TRUE(a().floors.Raise(2, kVersion + 1).ok());
  Scrub({&a()});
  EXPECT_EQ(Result().error, ESTALE) << "of another version: to be scrubbed again";
  own().results.clear();
  own().SetJobs({});
  fabric_.SetCut(b().host, true);
  Scrub({&b()});
  EXPECT_EQ(Result().error, EHOSTDOWN);
  EXPECT_NE(Result().message.find("t3"), std::string::npos) << Result().message;
  own().results.clear();
  own().SetJobs({});
  own().backend.FailNext(EIO);
  Scrub({});
  EXPECT_EQ(Result().error, EIO);
}

TEST_F(PlaceScrubTest, CalledOffItStops) {
  Change(&a(), 2 * kPlace, 4);
  Scrub({&a()});
  Pass(500);
  own().SetJobs({});
  Pass(5);
  EXPECT_TRUE(own().runner->Progress().empty());
  EXPECT_TRUE(own().results.empty());
  Scrub({&a()});
  EXPECT_EQ(Result().mismatches.size(), 1U);
}

}  // namespace
}  // namespace weft::target
