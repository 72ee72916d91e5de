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
    backend_.reset();
    auto backend = ChecksummedBackend::Open(&disk_, {.areas = areas_, .capacity_bytes = kCapacity, .clock = &clock_});
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

TEST_F(ChecksummedBackendTest, UnknownSumsAreTakenFromTheFirstRead) {
  Damage(0);
  EXPECT_EQ(Read(0, 4096), 0);
  EXPECT_NE(Sums(0, 4096)[0], kSumUnknown);
  Damage(1);
  EXPECT_EQ(Read(0, 4096), -EBADMSG);
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
  Pass(5000);
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
