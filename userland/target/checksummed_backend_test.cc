// SPDX-License-Identifier: MIT
#include "userland/target/checksummed_backend.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include "rdma/memory_backend.h"
#include "userland/target/crc32c.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint64_t kCapacity = (10 << 20) + 8192;  // three regions, the last one short

class TestClock final : public rdma::Clock {
 public:
  uint64_t NowMs() const override { return now_ms; }
  uint64_t now_ms = 1000;
};

class ChecksummedBackendTest : public ::testing::Test {
 protected:
  ChecksummedBackendTest() : areas_(AreasFor(kCapacity)), disk_(areas_.data + kCapacity), data_(2 << 20) { Open(); }

  void Open() {
    std::array<BackendDone, 16> nobody;
    while (disk_.waiting()) disk_.Poll(nobody);  // into memory that is there still
    backend_.reset();
    auto backend = ChecksummedBackend::Open(
        &disk_,
        {.areas = areas_, .capacity_bytes = kCapacity, .settle_bytes_per_s = settle_bytes_per_s_, .clock = &clock_});
    ASSERT_TRUE(backend.ok()) << backend.status().message();
    backend_ = *std::move(backend);
    backend_->OnDamage(
        [this](std::span<const uint64_t> offsets) { damage_.insert(damage_.end(), offsets.begin(), offsets.end()); });
  }
  void Turn() {
    backend_->Kick();
    std::array<BackendDone, 4> done;
    size_t count = backend_->Poll(done);
    for (size_t i = 0; i < count; i++) {
      EXPECT_FALSE(results_.contains(done[i].cookie));
      results_[done[i].cookie] = done[i].result;
    }
  }
  void Turns(int count) {
    for (int i = 0; i < count; i++) Turn();
  }
  void Pass(uint64_t ms) {
    clock_.now_ms += ms;
    Turns(200);  // the clock is looked at once in so many
  }
  int32_t Do(BackendRequest request) {
    request.cookie = next_++;
    backend_->Submit(request);
    for (int i = 0; i < 1000 && !results_.contains(request.cookie); i++) Turn();
    EXPECT_TRUE(results_.contains(request.cookie));
    return results_[request.cookie];
  }
  int32_t Write(uint64_t offset, uint32_t length, uint8_t value, bool durable = false) {
    memset(data_.data(), value, length);
    return Do({.op = BackendOp::kWrite,
               .durable = durable,
               .offset_bytes = offset,
               .length_bytes = length,
               .data = data_.data()});
  }
  int32_t Read(uint64_t offset, uint32_t length) {
    return Do({.op = BackendOp::kRead, .offset_bytes = offset, .length_bytes = length, .data = data_.data()});
  }
  std::vector<uint32_t> Sums(uint64_t offset, uint32_t length) {
    std::vector<uint32_t> sums(length / kBlockBytes);
    EXPECT_EQ(Do({.op = BackendOp::kChecksums,
                  .offset_bytes = offset,
                  .length_bytes = length,
                  .data = reinterpret_cast<uint8_t*>(sums.data())}),
              0);
    return sums;
  }
  uint32_t SumOfValue(uint8_t value) { return SumOf(std::vector<uint8_t>(kBlockBytes, value).data()); }
  void Damage(uint64_t offset) { disk_.bytes()[areas_.data + offset] ^= 0x40; }
  bool IntentOnDisk(uint64_t region) { return disk_.bytes()[areas_.intents + region / 8] >> (region % 8) & 1; }
  uint32_t SumOnDisk(uint64_t offset) {
    uint32_t sum;
    memcpy(&sum, &disk_.bytes()[areas_.checksums + offset / kBlockBytes * 4], 4);
    return sum;
  }

  const Areas areas_;
  TestClock clock_;
  rdma::MemoryBackend disk_;
  std::unique_ptr<ChecksummedBackend> backend_;
  std::vector<uint8_t> data_;
  std::map<uint64_t, int32_t> results_;
  std::vector<uint64_t> damage_;
  uint64_t next_ = 1000;
  uint64_t settle_bytes_per_s_ = 32 << 20;
};

TEST_F(ChecksummedBackendTest, WhatWasWrittenIsRead) {
  EXPECT_EQ(Sums(0, 8192), (std::vector<uint32_t>{0, 0}));
  EXPECT_EQ(Write(kCapacity - 8192, 8192, 0x5a), 0);
  memset(data_.data(), 0, 8192);
  EXPECT_EQ(Read(kCapacity - 8192, 8192), 0);
  EXPECT_EQ(data_[0], 0x5a);
  EXPECT_EQ(data_[8191], 0x5a);
  EXPECT_EQ(Sums(kCapacity - 8192, 8192), std::vector<uint32_t>(2, SumOfValue(0x5a)));
  EXPECT_EQ(Do({.op = BackendOp::kWriteZeroes, .offset_bytes = 0, .length_bytes = kCapacity}), 0);
  EXPECT_EQ(Sums(kCapacity - 4096, 4096), std::vector<uint32_t>{SumOfValue(0)});
  EXPECT_EQ(Do({.op = BackendOp::kDiscard, .offset_bytes = 4096, .length_bytes = 4096}), 0);
  EXPECT_EQ(Sums(0, 8192), (std::vector<uint32_t>{SumOfValue(0), 0}));
}

TEST_F(ChecksummedBackendTest, AChangedBlockIsAnErrorUntilItIsWritten) {
  ASSERT_EQ(Write(0, 65536, 0x11), 0);
  Damage(8192);
  Damage(12288);
  EXPECT_EQ(Read(0, 4096), 0);
  EXPECT_EQ(Read(0, 65536), -EBADMSG);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_, (std::vector<uint64_t>{8192, 12288})) << "each once";
  ASSERT_EQ(Write(8192, 4096, 0x12), 0);
  EXPECT_EQ(Read(8192, 4096), 0);
  EXPECT_EQ(Read(12288, 4096), -EBADMSG);
  Damage(8192);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_.size(), 3U) << "damaged anew";
}

// What a device holds where nobody has written is not the same at every copy, nor for ever after a discard.
TEST_F(ChecksummedBackendTest, WhatNobodyWroteHasNoChecksum) {
  Damage(0);
  EXPECT_EQ(Read(0, 4096), 0);
  EXPECT_EQ(Sums(0, 4096)[0], kSumUnknown);
  Damage(1);
  EXPECT_EQ(Read(0, 4096), 0);
  ASSERT_EQ(Write(0, 8192, 0x19), 0);
  ASSERT_EQ(Do({.op = BackendOp::kDiscard, .offset_bytes = 0, .length_bytes = 4096}), 0);
  EXPECT_EQ(Read(0, 8192), 0);
  EXPECT_EQ(Sums(0, 8192), (std::vector<uint32_t>{kSumUnknown, SumOfValue(0x19)}));
}

TEST_F(ChecksummedBackendTest, AfterAnUncleanStopSumsAreTakenAnewInTheBackground) {
  ASSERT_EQ(Write(0, 1 << 20, 0x21), 0);
  ASSERT_EQ(Write(7 << 20, 1 << 20, 0x22), 0);
  settle_bytes_per_s_ = 1 << 20;
  Open();
  EXPECT_EQ(backend_->in_doubt(), 2U);
  EXPECT_EQ(Sums(4096, 4096)[0], kSumUnknown);
  ASSERT_EQ(Write(4096, 4096, 0x23), 0);
  ASSERT_EQ(Do({.op = BackendOp::kDiscard, .offset_bytes = 8192, .length_bytes = 4096}), 0);
  ASSERT_EQ(Do({.op = BackendOp::kPoison, .offset_bytes = 12288, .length_bytes = 4096}), 0);
  EXPECT_EQ(Read(7 << 20, 4096), 0);
  EXPECT_EQ(Sums(7 << 20, 4096)[0], SumOfValue(0x22)) << "whoever reads it settles it";
  for (int i = 0; i < 2; i++) Pass(1000);
  EXPECT_EQ(backend_->regions_in_doubt(), 2U) << "at the rate it was given";
  EXPECT_TRUE(IntentOnDisk(0)) << "a crash must not make what is unknown look like what was never written";
  EXPECT_TRUE(IntentOnDisk(1));
  for (int i = 0; i < 20; i++) Pass(1000);
  EXPECT_EQ(backend_->regions_in_doubt(), 0U);
  EXPECT_FALSE(IntentOnDisk(0));
  EXPECT_FALSE(IntentOnDisk(1));
  Open();
  EXPECT_EQ(backend_->in_doubt(), 0U);
  EXPECT_EQ(Sums(0, 20480),
            (std::vector<uint32_t>{SumOfValue(0x21), SumOfValue(0x23), kSumUnknown, kSumUnknown, SumOfValue(0x21)}));
  EXPECT_EQ(Sums(7 << 20, 1 << 20), std::vector<uint32_t>(256, SumOfValue(0x22)));
  EXPECT_TRUE(damage_.empty());
  EXPECT_EQ(Read(12288, 4096), -EBADMSG);
  Damage((8 << 20) - 4096);
  EXPECT_EQ(Read((8 << 20) - 4096, 4096), -EBADMSG);
}

TEST_F(ChecksummedBackendTest, WhatIsInDoubtAtAStopIsSoAtTheNextStart) {
  ASSERT_EQ(Write(0, 8192, 0x24), 0);
  ASSERT_EQ(Write(5 << 20, 4096, 0x25), 0);
  settle_bytes_per_s_ = 1;
  Open();
  ASSERT_EQ(Write(9 << 20, 4096, 0x26), 0);
  ASSERT_TRUE(backend_->Close().ok());
  Open();
  EXPECT_EQ(backend_->in_doubt(), 2U);
  EXPECT_EQ(Sums(9 << 20, 4096)[0], SumOfValue(0x26));
  EXPECT_EQ(Read(0, 8192), 0);
}

TEST_F(ChecksummedBackendTest, DoubtAboutWhatCannotBeReadEnds) {
  ASSERT_EQ(Write(0, 65536, 0x27), 0);
  disk_.FailReads(areas_.data + 8192, EIO);
  disk_.FailReads(areas_.data + (2 << 20), ENODATA);
  Open();
  for (int i = 0; i < 20; i++) Pass(500);
  EXPECT_EQ(backend_->regions_in_doubt(), 0U);
  EXPECT_FALSE(IntentOnDisk(0));
  EXPECT_EQ(damage_, (std::vector<uint64_t>{2 << 20}));
  EXPECT_EQ(Read(8192, 4096), -EIO);
  EXPECT_EQ(Read(2 << 20, 4096), -EBADMSG);
}

// The engine sleeps in Wait: there is nothing else that would end it.
TEST_F(ChecksummedBackendTest, DoubtEndsAWait) {
  ASSERT_EQ(Write(0, 4096, 0x28), 0);
  Open();
  for (int i = 0; i < 500 && backend_->regions_in_doubt() > 0; i++) {
    while (!backend_->Arm()) Turn();
    backend_->Wait(-1);
    clock_.now_ms += 10;
    Turn();
  }
  EXPECT_EQ(backend_->regions_in_doubt(), 0U);
}

TEST_F(ChecksummedBackendTest, BlocksThatTheDeviceCannotReadAreBad) {
  ASSERT_EQ(Write(0, 65536, 0x29), 0);
  disk_.FailReads(areas_.data + 8192, ENODATA);
  disk_.FailReads(areas_.data + 20480, EILSEQ);
  EXPECT_EQ(Read(0, 65536), -EBADMSG);
  EXPECT_EQ(damage_, (std::vector<uint64_t>{8192, 20480}));
  EXPECT_EQ(Read(12288, 8192), 0);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  Open();
  EXPECT_EQ(Read(20480, 4096), -EBADMSG) << "after a crash, too";
  ASSERT_EQ(Write(8192, 4096, 0x2a), 0) << "which puts a good sector there";
  ASSERT_EQ(Write(20480, 4096, 0x2a), 0);
  EXPECT_EQ(Read(0, 65536), 0);
  disk_.FailReads(areas_.data + 8192, EIO);
  EXPECT_EQ(Read(0, 65536), -EIO) << "it may be all of the device, and for a moment";
  disk_.FailReads(areas_.data + 8192, 0);
  EXPECT_EQ(Read(0, 65536), 0);
}

TEST_F(ChecksummedBackendTest, DamageIsToldAgainAfterAWhileOrWhenAsked) {
  ASSERT_EQ(Write(0, 65536, 0x2b), 0);
  Damage(8192);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_.size(), 1U);
  Pass(600'000);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_.size(), 2U) << "who was told may have forgotten it";
  backend_->TellAgain(12288, 4096);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_.size(), 2U);
  backend_->TellAgain(0, 65536);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
  EXPECT_EQ(damage_.size(), 3U);
}

TEST_F(ChecksummedBackendTest, TheIntentIsOnTheDeviceBeforeTheFirstWriteOfARegionGoesOn) {
  disk_.Hold(true);
  memset(data_.data(), 0x21, 8192);
  backend_->Submit({.cookie = 1, .op = BackendOp::kWrite, .length_bytes = 4096, .data = data_.data()});
  backend_->Submit(
      {.cookie = 2, .op = BackendOp::kWrite, .offset_bytes = 8192, .length_bytes = 4096, .data = &data_[4096]});
  backend_->Submit(
      {.cookie = 3, .op = BackendOp::kRead, .offset_bytes = 5 << 20, .length_bytes = 4096, .data = &data_[8192]});
  Turns(3);
  EXPECT_EQ(disk_.waiting(), 2U) << "the intent and the read, which waits for nothing";
  uint64_t durable = disk_.durable_writes();
  disk_.Hold(false);
  Turns(10);
  EXPECT_EQ(results_, (std::map<uint64_t, int32_t>{{1, 0}, {2, 0}, {3, 0}}));
  EXPECT_EQ(disk_.durable_writes(), durable + 1) << "one for both";
  EXPECT_TRUE(IntentOnDisk(0));
  EXPECT_FALSE(IntentOnDisk(1));
}

TEST_F(ChecksummedBackendTest, IdleRegionsAreCleaned) {
  ASSERT_EQ(Write(4096, 4096, 0x31), 0);
  ASSERT_EQ(Write(5 << 20, 4096, 0x32), 0);
  EXPECT_EQ(SumOnDisk(4096), kSumUnknown);
  Pass(1500);
  ASSERT_EQ(Write(5 << 20, 4096, 0x33), 0);
  uint64_t flushes = disk_.flushes();
  Pass(1000);
  EXPECT_FALSE(IntentOnDisk(0));
  EXPECT_EQ(SumOnDisk(4096), SumOfValue(0x31));
  EXPECT_EQ(disk_.flushes(), flushes + 1);
  EXPECT_TRUE(IntentOnDisk(1)) << "it was written to a second ago";
  Pass(3000);
  EXPECT_FALSE(IntentOnDisk(1));
  EXPECT_EQ(SumOnDisk(5 << 20), SumOfValue(0x33));
  ASSERT_EQ(Write(4096, 4096, 0x34), 0);
  EXPECT_TRUE(IntentOnDisk(0)) << "and so on";
}

TEST_F(ChecksummedBackendTest, ACleanStopLeavesNothingInDoubt) {
  ASSERT_EQ(Write(4096, 4096, 0x41), 0);
  ASSERT_EQ(Write(9 << 20, 4096, 0x42), 0);
  ASSERT_TRUE(backend_->Close().ok());
  Open();
  EXPECT_EQ(backend_->in_doubt(), 0U);
  EXPECT_EQ(Sums(4096, 4096)[0], SumOfValue(0x41));
  Damage(9 << 20);
  EXPECT_EQ(Read(9 << 20, 4096), -EBADMSG);
}

TEST_F(ChecksummedBackendTest, AfterAnUncleanStopDirtyRegionsAreInDoubtAndOthersAreNot) {
  ASSERT_EQ(Write(0, 4096, 0x51), 0);
  ASSERT_EQ(Write(5 << 20, 4096, 0x52), 0);
  ASSERT_TRUE(backend_->Close().ok());
  Open();
  ASSERT_EQ(Write(0, 4096, 0x53), 0);
  Open();
  EXPECT_EQ(backend_->in_doubt(), 1U);
  EXPECT_EQ(Read(0, 4096), 0) << "its checksum on the device is that of 0x51";
  Damage(5 << 20);
  EXPECT_EQ(Read(5 << 20, 4096), -EBADMSG);
  for (int i = 0; i < 20; i++) Pass(500);
  EXPECT_FALSE(IntentOnDisk(0));
  EXPECT_EQ(SumOnDisk(0), SumOfValue(0x53));
}

TEST_F(ChecksummedBackendTest, BadBlocksStayBadOverARestart) {
  ASSERT_EQ(Write(0, 16384, 0x61), 0);
  ASSERT_EQ(Do({.op = BackendOp::kPoison, .offset_bytes = 4096, .length_bytes = 8192}), 0);
  Open();
  EXPECT_EQ(Read(0, 4096), 0);
  EXPECT_EQ(Read(4096, 4096), -EBADMSG);
  EXPECT_EQ(Read(0, 16384), -EBADMSG);
  EXPECT_EQ(Sums(4096, 4096)[0], kSumUnknown) << "nothing to compare with";
  EXPECT_EQ(damage_, (std::vector<uint64_t>{4096, 8192})) << "who asked may not have told it";
  ASSERT_EQ(Write(4096, 4096, 0x62), 0);
  Open();
  EXPECT_EQ(Read(4096, 4096), 0) << "no false alarm of what was acknowledged";
  EXPECT_EQ(data_[0], 0x62);
  EXPECT_EQ(Read(8192, 4096), -EBADMSG);
}

TEST_F(ChecksummedBackendTest, OverlappingRequestsGoInTheirOrder) {
  ASSERT_EQ(Write(0, 4096, 0), 0);
  disk_.Hold(true);
  std::vector<uint8_t> a(8192, 0x71), b(4096, 0x72), seen(12288);
  backend_->Submit({.cookie = 1, .op = BackendOp::kWrite, .length_bytes = 8192, .data = a.data()});
  backend_->Submit({.cookie = 2, .op = BackendOp::kRead, .length_bytes = 12288, .data = seen.data()});
  backend_->Submit(
      {.cookie = 3, .op = BackendOp::kWrite, .offset_bytes = 4096, .length_bytes = 4096, .data = b.data()});
  backend_->Submit(
      {.cookie = 4, .op = BackendOp::kRead, .offset_bytes = 16384, .length_bytes = 4096, .data = data_.data()});
  Turns(3);
  EXPECT_EQ(disk_.waiting(), 2U) << "1 and 4";
  disk_.Hold(false);
  Turns(20);
  EXPECT_EQ(results_.size(), 5U) << "four and the write before";
  EXPECT_EQ(seen[0], 0x71);
  EXPECT_EQ(seen[4096], 0x71);
  EXPECT_EQ(Read(4096, 4096), 0);
  EXPECT_EQ(data_[0], 0x72);
}

TEST_F(ChecksummedBackendTest, ErrorsOfTheDeviceComeThrough) {
  ASSERT_EQ(Write(0, 8192, 0x81), 0);
  disk_.FailNext(ENOSPC);
  EXPECT_EQ(Write(0, 4096, 0x82), -ENOSPC);
  EXPECT_EQ(Sums(0, 8192), (std::vector<uint32_t>{0, SumOfValue(0x81)})) << "what is there now is anybody's guess";
  disk_.FailNext(EIO);
  EXPECT_EQ(Read(0, 4096), -EIO);
  EXPECT_EQ(Read(0, 4096), 0);
  disk_.FailNext(EIO);  // the intent
  EXPECT_EQ(Write(5 << 20, 4096, 0x83), -EIO);
  EXPECT_EQ(Write(5 << 20, 4096, 0x84), 0);
  EXPECT_TRUE(IntentOnDisk(1));
  disk_.FailNext(EIO);
  EXPECT_EQ(backend_->Close().code(), EIO);
}

TEST_F(ChecksummedBackendTest, LatencyIsThatOfTheDevice) {
  EXPECT_EQ(backend_->TakeLatencyUs(), 0U);
  ASSERT_EQ(Write(0, 4096, 1), 0);
  EXPECT_GT(backend_->TakeLatencyUs(), 0U);
  EXPECT_EQ(backend_->TakeLatencyUs(), 0U);
}

}  // namespace
}  // namespace weft::target
