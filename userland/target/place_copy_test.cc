// SPDX-License-Identifier: MIT
#include "userland/target/place_copy.h"

#include <cerrno>
#include <set>

#include "userland/target/job_fixture.h"
#include "userland/target/label.h"

namespace weft::target {
namespace {

using rdma::BlockOp;

constexpr int32_t kVersion = 10;

class PlaceCopyTest : public JobFixture {
 protected:
  // The place at kPlace of the target that does it, from the place at 2 * kPlace of others.
  idl::Job Copy(const std::vector<TestTarget*>& peers, int32_t version = kVersion) {
    std::vector<idl::Peer> list;
    for (TestTarget* peer : peers) list.push_back(peer->AsPeer(2 * kPlace));
    return Job(idl::JobKind::COPY, version, kPlace, std::move(list));
  }
  const idl::JobResult& Result() {
    EXPECT_TRUE(PassUntilResult());
    static const idl::JobResult kNone;
    return own().results.empty() ? kNone : own().results[0];
  }
};

TEST_F(PlaceCopyTest, CopiesAllOfAPlaceAndNothingElse) {
  Fill(&a(), 2 * kPlace, 1);
  Fill(&own(), 0, 2);
  std::vector<uint8_t> before(own().backend.bytes().begin(), own().backend.bytes().begin() + kPlace);
  own().SetJobs({Copy({&a()})});
  const idl::JobResult& result = Result();
  EXPECT_EQ(result.error, 0) << result.message;
  EXPECT_EQ(result.chunk, 7);
  EXPECT_EQ(result.version, kVersion);
  EXPECT_EQ(result.offset, static_cast<int64_t>(kPlace));
  EXPECT_TRUE(result.bad_blocks.empty());
  EXPECT_TRUE(Same(own(), kPlace, a(), 2 * kPlace));
  EXPECT_EQ(memcmp(before.data(), own().backend.bytes().data(), kPlace), 0);
  EXPECT_EQ(own().floors.floor(1), static_cast<uint32_t>(kVersion));
  EXPECT_EQ(a().floors.floor(2), static_cast<uint32_t>(kVersion)) << "its older clients are refused from now on";
  EXPECT_GE(own().backend.flushes(), 1U);
  Pass(100);
  EXPECT_EQ(own().results.size(), 1U) << "told once, however long it stays in the list";
  EXPECT_TRUE(own().runner->Progress().empty());
}

TEST_F(PlaceCopyTest, ProgressIsTold) {
  Fill(&a(), 2 * kPlace, 1);
  own().SetJobs({Copy({&a()})}, 10 << 20);
  ASSERT_TRUE(PassUntil([&] {
    auto progress = own().runner->Progress();
    return progress.size() == 1 && progress[0].done_bytes >= 3 << 20;
  }));
  EXPECT_EQ(own().runner->Progress()[0].version, kVersion);
  EXPECT_TRUE(own().results.empty());
}

TEST_F(PlaceCopyTest, TheRateIsKeptAndMayChange) {
  uint64_t start = clock_.now_ms;
  own().SetJobs({Copy({&a()})}, 4 << 20);
  ASSERT_TRUE(PassUntilResult());
  uint64_t took = clock_.now_ms - start;
  EXPECT_GE(took, 1100U) << "6 MiB at 4 MiB/s, the first one at once, and what is not saved up";
  EXPECT_LE(took, 1700U);
  own().results.clear();
  start = clock_.now_ms;
  own().SetJobs({Copy({&a()}, 11)}, 1 << 20);
  Pass(300);
  own().SetJobs({Copy({&a()}, 11)}, 0);
  ASSERT_TRUE(PassUntilResult());
  EXPECT_LE(clock_.now_ms - start, 500U);
}

// Writers that go on while the copy is made, each to both copies at once as a client does, with both maps: those
// that do not know of the new copy are refused by the source from some moment on and come again. Its two writes may
// arrive at different times.
TEST_F(PlaceCopyTest, NoWriteIsMissingAfterwards) {
  for (uint32_t seed = 1; seed <= 8; seed++) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto version = static_cast<int32_t>(100 * seed);
    auto old_version = static_cast<uint32_t>(version - 1);
    Fill(&a(), 2 * kPlace, seed);
    own().results.clear();
    struct Write {
      uint64_t offset;
      uint32_t length;
      uint64_t buffer;
      std::set<uint64_t> tags;  // under way
    };
    // A writer each for its own 512 KiB, so that no two of them write a block at once.
    std::vector<Write> writers(12);
    std::map<uint64_t, size_t> by_tag;
    bool stop = false;
    uint64_t next_tag = seed * 1'000'000'000ULL;
    bool knows = false;  // clients have the new map
    uint64_t turn = 0;
    std::multimap<uint64_t, std::function<void()>> late;  // by the turn in which they are sent
    on_turn_ = [&] {
      for (turn++; !late.empty() && late.begin()->first <= turn; late.erase(late.begin())) late.begin()->second();
      own().backend.Hold(turn % 8 != 0);  // so that writes are under way for some time
    };
    auto send = [&](size_t i) {
      Write& write = writers[i];
      write.length = 4096 * (1 + random() % 16);
      write.offset = i * (512 << 10) + random() % ((512 << 10) / 4096 - 16) * 4096;
      write.buffer = i * (64 << 10);
      for (uint32_t at = 0; at < write.length; at += 4) {
        uint32_t value = random();
        memcpy(&pool_[write.buffer + at], &value, 4);
      }
      auto both = [&](int32_t target, uint32_t with, uint64_t place) {
        uint64_t tag = next_tag++;
        write.tags.insert(tag);
        by_tag[tag] = i;
        uint64_t at = place + write.offset;
        late.emplace(turn + random() % 40, [this, tag, target, with, at, length = write.length, from = write.buffer] {
          Submit(tag, BlockOp::kWrite, target, with, at, length, from);
        });
      };
      both(a().id, knows ? version : old_version, 2 * kPlace);
      if (knows) both(own().id, version, kPlace);
    };
    int refused = 0;
    on_end_ = [&](uint64_t tag, int32_t result) {
      auto found = by_tag.find(tag);
      if (found == by_tag.end()) return;
      size_t i = found->second;
      by_tag.erase(found);
      if (result < 0) {
        EXPECT_EQ(result, -ESTALE);
        refused++;
        knows = true;
      }
      writers[i].tags.erase(tag);
      if (writers[i].tags.empty() && (!stop || result < 0)) send(i);
    };
    for (size_t i = 0; i < writers.size(); i++) send(i);
    Pass(1 + random() % 3);
    if (random() % 2) knows = true;  // or they hear of it by being refused
    Pass(random() % 2);
    own().SetJobs({Copy({&a()}, version)}, random() % 2 ? 30 << 20 : 0);
    ASSERT_TRUE(PassUntilResult());
    EXPECT_EQ(own().results[0].error, 0) << own().results[0].message;
    stop = true;
    ASSERT_TRUE(PassUntil([&] { return by_tag.empty(); }));
    on_end_ = nullptr;
    on_turn_ = nullptr;
    own().backend.Hold(false);
    EXPECT_TRUE(Same(own(), kPlace, a(), 2 * kPlace));
  }
}

TEST_F(PlaceCopyTest, TheNextPeerIsAskedWhenOneIsAway) {
  Fill(&b(), 2 * kPlace, 3);
  fabric_.SetCut(a().host, true);
  own().SetJobs({Copy({&a(), &b()})});
  ASSERT_TRUE(PassUntil([&] { return !own().results.empty(); }, 12000));
  EXPECT_EQ(own().results[0].error, 0) << own().results[0].message;
  EXPECT_TRUE(Same(own(), kPlace, b(), 2 * kPlace));
}

TEST_F(PlaceCopyTest, WithoutAPeerItFails) {
  fabric_.SetCut(a().host, true);
  own().SetJobs({Copy({&a()}), Job(idl::JobKind::COPY, 3, 0, {})});
  ASSERT_TRUE(PassUntil([&] { return own().results.size() == 2; }, 12000));
  EXPECT_EQ(own().results[0].error, EINVAL) << own().results[0].message;
  EXPECT_EQ(own().results[1].error, EHOSTDOWN) << own().results[1].message;
  EXPECT_NE(own().results[1].message.find("t2"), std::string::npos) << own().results[1].message;
}

TEST_F(PlaceCopyTest, APeerThatKnowsMoreEndsIt) {
  ASSERT_TRUE(a().floors.Raise(2, kVersion + 1).ok());
  own().SetJobs({Copy({&a(), &b()})});
  EXPECT_EQ(Result().error, ESTALE);
  Pass(10);
  EXPECT_EQ(b().floors.floor(2), 0U) << "the other one was not asked";
}

TEST_F(PlaceCopyTest, AnOldJobDoesNothing) {
  ASSERT_TRUE(own().floors.Raise(1, kVersion + 1).ok());
  Fill(&a(), 2 * kPlace, 1);
  own().SetJobs({Copy({&a()})});
  EXPECT_EQ(Result().error, ESTALE);
  EXPECT_EQ(a().floors.floor(2), 0U);
}

TEST_F(PlaceCopyTest, AfterARestartTheSameVersionIsNotTakenUp) {
  Fill(&a(), 2 * kPlace, 1);
  own().SetJobs({Copy({&a()})}, 1 << 20);
  Pass(200);
  own().Restart();
  own().SetJobs({Copy({&a()})});
  EXPECT_EQ(Result().error, ESTALE) << "what clients wrote meanwhile is not known any more";
  own().results.clear();
  own().SetJobs({Copy({&a()}, kVersion + 1)});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Same(own(), kPlace, a(), 2 * kPlace));
}

TEST_F(PlaceCopyTest, CalledOffItStopsAndTellsNothing) {
  Fill(&a(), 2 * kPlace, 1);
  own().SetJobs({Copy({&a()})}, 2 << 20);
  Pass(700);
  own().SetJobs({});
  Pass(5);
  EXPECT_TRUE(own().runner->Progress().empty());
  EXPECT_TRUE(own().results.empty());
  EXPECT_FALSE(Same(own(), kPlace, a(), 2 * kPlace));
  EXPECT_EQ(Do(BlockOp::kWrite, own().id, kVersion, kPlace, 4096), 4096) << "nothing is locked";
  own().SetJobs({Copy({&a()}, kVersion + 1)});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Same(own(), kPlace, a(), 2 * kPlace));
}

TEST_F(PlaceCopyTest, CalledOffWhileItWaitsForAClientsWrite) {
  own().backend.Hold(true);
  Submit(1, BlockOp::kWrite, own().id, kVersion, kPlace, 4096);
  Pass(3);
  own().SetJobs({Copy({&a()})});
  Pass(3);
  own().SetJobs({});
  Pass(3);
  own().backend.Hold(false);
  Pass(10);
  EXPECT_EQ(ended_[1], 4096);
  EXPECT_TRUE(own().runner->Progress().empty());
  EXPECT_EQ(Do(BlockOp::kWrite, own().id, kVersion, kPlace, 1 << 20), 1 << 20);
}

TEST_F(PlaceCopyTest, BadBlocksOfOnePeerComeFromAnother) {
  Fill(&a(), 2 * kPlace, 1);
  Fill(&b(), 2 * kPlace, 1);
  a().backend.Corrupt(2 * kPlace + 8192);
  b().backend.Corrupt(2 * kPlace + 12288);
  own().SetJobs({Copy({&a(), &b()})});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_TRUE(Result().bad_blocks.empty());
  Fill(&b(), 2 * kPlace, 1);
  EXPECT_TRUE(Same(own(), kPlace, b(), 2 * kPlace));
}

TEST_F(PlaceCopyTest, BlocksThatNobodyHasAreErrorsHereToo) {
  Fill(&a(), 2 * kPlace, 1);
  for (int block : {2, 3, 300}) a().backend.Corrupt(2 * kPlace + block * kBlockBytes);
  own().SetJobs({Copy({&a()})});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_EQ(Result().bad_blocks, (std::vector<int64_t>{2, 3, 300}));
  EXPECT_EQ(Do(BlockOp::kRead, own().id, kVersion, kPlace + 4096, 4096), 4096);
  EXPECT_EQ(Do(BlockOp::kRead, own().id, kVersion, kPlace + 8192, 4096), -EBADMSG);
  EXPECT_EQ(Do(BlockOp::kRead, own().id, kVersion, kPlace + 300 * kBlockBytes, 4096), -EBADMSG);
  EXPECT_EQ(Do(BlockOp::kWrite, own().id, kVersion, kPlace + 8192, 4096), 4096);
  EXPECT_EQ(Do(BlockOp::kRead, own().id, kVersion, kPlace + 8192, 4096), 4096);
}

// A peer that is away may have the block: it is not given up for lost.
// One that did not answer for another block may well have said that this one is bad.
TEST_F(PlaceCopyTest, AnErrorCountsForTheBlockThatItWasAbout) {
  a().backend.Corrupt(2 * kPlace + 5 * kBlockBytes);
  b().backend.Corrupt(2 * kPlace + 5 * kBlockBytes);
  a().backend.Hold(true);
  own().SetJobs({Copy({&a(), &b()})}, 1 << 20);  // a region at a time
  ASSERT_TRUE(PassUntil([&] { return a().backend.waiting() == 1; })) << "all of the region";
  a().backend.Hold(false);
  while (a().backend.waiting() == 1) Turn();
  a().backend.Hold(true);
  ASSERT_TRUE(PassUntil([&] { return a().backend.waiting() == 1; })) << "its first block";
  a().backend.FailNext(EIO);
  a().backend.Hold(false);
  EXPECT_TRUE(PassUntil([&] { return !own().results.empty(); }, 10000));
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_EQ(Result().bad_blocks, (std::vector<int64_t>{5}));
}

TEST_F(PlaceCopyTest, ABadBlockIsNotLostWhileAPeerIsAway) {
  Fill(&a(), 2 * kPlace, 1);
  a().backend.Corrupt(2 * kPlace);
  fabric_.SetCut(b().host, true);
  own().SetJobs({Copy({&a(), &b()})});
  ASSERT_TRUE(PassUntil([&] { return !own().results.empty(); }, 12000));
  EXPECT_EQ(own().results[0].error, EHOSTDOWN);
}

TEST_F(PlaceCopyTest, AnErrorOfItsOwnDeviceEndsIt) {
  own().backend.FailNext(EIO);
  own().SetJobs({Copy({&a()})});
  EXPECT_EQ(Result().error, EIO);
  EXPECT_NE(Result().message.find("chunk 7"), std::string::npos) << Result().message;
}

TEST_F(PlaceCopyTest, NonsenseIsRefused) {
  idl::Job outside = Copy({&a()});
  outside.offset = 100 * kPlace;
  idl::Job crooked = Copy({&a()}, 11);
  crooked.offset += 4096;
  idl::Job large = Copy({&a()}, 12);
  large.bytes = 2 * kPlace;
  idl::Job nameless = Copy({&a()}, 13);
  nameless.peers[0].uuid = "short";
  own().SetJobs({outside, crooked, large, nameless});
  ASSERT_TRUE(PassUntil([&] { return own().results.size() == 4; }));
  for (const idl::JobResult& result : own().results) EXPECT_EQ(result.error, EINVAL) << result.message;
}

TEST_F(PlaceCopyTest, TheTargetMayEndInTheMiddle) {
  own().SetJobs({Copy({&a()})}, 3 << 20);
  Pass(300);
  own().backend.Hold(true);
  Pass(300);
  own().backend.Hold(false);
  own().Stop();
}

TEST_F(PlaceCopyTest, ReleaseRefusesOldVersionsAndDiscards) {
  Fill(&own(), kPlace, 1);
  ASSERT_EQ(Do(BlockOp::kWrite, own().id, 9, kPlace, 4096), 4096);
  own().SetJobs({Job(idl::JobKind::RELEASE, kVersion, kPlace, {})});
  EXPECT_EQ(Result().error, 0) << Result().message;
  EXPECT_EQ(own().backend.bytes()[kPlace], 0);
  EXPECT_EQ(own().backend.bytes()[2 * kPlace - 1], 0);
  EXPECT_EQ(Do(BlockOp::kWrite, own().id, 9, kPlace, 4096), -ESTALE);
  own().results.clear();
  own().SetJobs({Job(idl::JobKind::RELEASE, 5, kPlace, {})});
  EXPECT_EQ(Result().error, ESTALE) << "the place is of a newer copy";
}

TEST_F(PlaceCopyTest, AReleaseThatWasNotSentIsNotDone) {
  own().backend.FailNext(EHOSTDOWN);
  own().SetJobs({Job(idl::JobKind::RELEASE, kVersion, kPlace, {})});
  EXPECT_EQ(Result().error, EHOSTDOWN);
}

}  // namespace
}  // namespace weft::target
