// SPDX-License-Identifier: MIT
#include "userland/target/place_repair.h"

#include <cerrno>

#include "userland/target/job_fixture.h"
#include "userland/target/label.h"

namespace weft::target {
namespace {

using rdma::BlockOp;

constexpr int32_t kVersion = 10;

class PlaceRepairTest : public JobFixture {
 protected:
  PlaceRepairTest() {
    Fill(&own(), kPlace, 1);
    Fill(&a(), 2 * kPlace, 1);
    Fill(&b(), 2 * kPlace, 1);
  }
  void Corrupt(TestTarget* target, uint64_t place, const std::vector<int64_t>& blocks) {
    for (int64_t block : blocks) target->backend.Corrupt(place + static_cast<uint64_t>(block) * kBlockBytes);
  }
  void Repair(const std::vector<TestTarget*>& peers, std::vector<int64_t> blocks) {
    std::vector<idl::Peer> list;
    for (TestTarget* peer : peers) list.push_back(peer->AsPeer(2 * kPlace));
    idl::Job job = Job(idl::JobKind::REPAIR, kVersion, kPlace, std::move(list));
    job.blocks = std::move(blocks);
    own().SetJobs({job});
  }
  const idl::JobResult& Result() {
    EXPECT_TRUE(PassUntil([this] { return !own().results.empty(); }, 12000));
    static const idl::JobResult kNone;
    return own().results.empty() ? kNone : own().results[0];
  }
  int32_t ReadBlock(int64_t block) {
    return Do(BlockOp::kRead, own().id, kVersion, kPlace + static_cast<uint64_t>(block) * kBlockBytes, kBlockBytes);
  }
};

TEST_F(PlaceRepairTest, BadBlocksComeFromAnotherCopyAndNothingElse) {
  Corrupt(&own(), kPlace, {0, 5, 1535});
  memset(&own().backend.bytes()[kPlace + 6 * kBlockBytes], 0x55, kBlockBytes);  // good, and other than there
  Repair({&a()}, {0, 5, 6, 1535});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Result().bad_blocks.empty());
  for (int64_t block : {0, 5, 6, 1535}) EXPECT_EQ(ReadBlock(block), static_cast<int32_t>(kBlockBytes)) << block;
  EXPECT_EQ(own().backend.bytes()[kPlace + 6 * kBlockBytes], 0x55) << "a client has written it: it was not bad";
  Fill(&own(), 0, 1);
  memset(&own().backend.bytes()[6 * kBlockBytes], 0x55, kBlockBytes);
  EXPECT_EQ(memcmp(&own().backend.bytes()[0], &own().backend.bytes()[kPlace], kPlace), 0);
  EXPECT_GE(own().backend.flushes(), 1U);
}

TEST_F(PlaceRepairTest, WhatOnePeerCannotReadComesFromAnother) {
  Corrupt(&own(), kPlace, {7});
  Corrupt(&a(), 2 * kPlace, {7});
  Repair({&a(), &b()}, {7});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Result().bad_blocks.empty());
  EXPECT_TRUE(Same(own(), kPlace, b(), 2 * kPlace));
}

TEST_F(PlaceRepairTest, WhatNobodyHasStaysBad) {
  Corrupt(&own(), kPlace, {7, 8});
  Corrupt(&a(), 2 * kPlace, {7});
  Repair({&a()}, {7, 8});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_EQ(Result().bad_blocks, (std::vector<int64_t>{7}));
  EXPECT_EQ(ReadBlock(7), -EBADMSG);
  EXPECT_EQ(ReadBlock(8), static_cast<int32_t>(kBlockBytes));
}

TEST_F(PlaceRepairTest, APeerThatIsAwayMayHaveIt) {
  Corrupt(&own(), kPlace, {7});
  fabric_.SetCut(a().host, true);
  Repair({&a()}, {7});
  EXPECT_EQ(Result().error, EHOSTDOWN) << Result().message;
  EXPECT_EQ(ReadBlock(7), -EBADMSG);
}

// A write that is on its way while the block is repaired: it comes before, and the block is good; or after.
TEST_F(PlaceRepairTest, AClientsWriteIsNotUndone) {
  for (int turns = 0; turns < 40; turns++) {
    SCOPED_TRACE(turns);
    own().results.clear();
    own().SetJobs({});
    Corrupt(&own(), kPlace, {3});
    Repair({&a()}, {3});
    for (int i = 0; i < turns; i++) Turn();
    memset(pool_.data(), 0x30 + turns, kBlockBytes);
    ASSERT_EQ(Do(BlockOp::kWrite, own().id, kVersion, kPlace + 3 * kBlockBytes, kBlockBytes),
              static_cast<int32_t>(kBlockBytes));
    EXPECT_EQ(Result().error, 0) << Result().message;
    EXPECT_EQ(own().backend.bytes()[kPlace + 3 * kBlockBytes], 0x30 + turns);
    EXPECT_EQ(ReadBlock(3), static_cast<int32_t>(kBlockBytes));
  }
}

TEST_F(PlaceRepairTest, CalledOffWhileItWaitsForAClientsWrite) {
  Corrupt(&own(), kPlace, {3});
  own().backend.Hold(true);
  Submit(1, BlockOp::kWrite, own().id, kVersion, kPlace, 65536);
  Pass(3);
  Repair({&a()}, {3});
  Pass(3);
  own().SetJobs({});
  Pass(3);
  own().backend.Hold(false);
  Pass(10);
  EXPECT_EQ(ended_[1], 65536);
  EXPECT_TRUE(own().results.empty());
  EXPECT_TRUE(own().runner->Progress().empty());
  EXPECT_EQ(Do(BlockOp::kWrite, own().id, kVersion, kPlace, 65536), 65536) << "nothing is locked";
}

TEST_F(PlaceRepairTest, NonsenseIsRefused) {
  Repair({&a()}, {1536});
  EXPECT_EQ(Result().error, EINVAL) << Result().message;
  own().results.clear();
  Repair({}, {1});
  own().SetJobs({});
  Repair({}, {1});
  EXPECT_EQ(Result().error, EINVAL) << Result().message;
}

}  // namespace
}  // namespace weft::target
