// SPDX-License-Identifier: MIT
#include "userland/target/plain_backend.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include "rdma/memory_backend.h"
#include "userland/base/block.h"
#include "userland/target/checksum_table.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;

constexpr uint64_t kDataStart = 1 << 20;
constexpr uint64_t kCapacity = 4 << 20;

class PlainBackendTest : public ::testing::Test {
 protected:
  PlainBackendTest() : disk_(kDataStart + kCapacity), data_(3 << 20, 0x5a) { Open({}); }

  void Open(PlainOptions options) {
    options.data_offset = kDataStart;
    options.capacity_bytes = kCapacity;
    backend_ = std::make_unique<PlainBackend>(&disk_, std::move(options));
  }
  void Submit(uint64_t cookie, BackendOp op, uint64_t offset, uint32_t length) {
    backend_->Submit(
        {.cookie = cookie, .op = op, .offset_bytes = offset, .length_bytes = length, .data = data_.data()});
  }
  void Turn() {
    backend_->Kick();
    std::array<BackendDone, 2> done;
    size_t count = backend_->Poll(done);
    for (size_t i = 0; i < count; i++) {
      EXPECT_FALSE(results_.contains(done[i].cookie));
      results_[done[i].cookie] = done[i].result;
    }
  }
  void Until(size_t results) {
    for (int i = 0; i < 100 && results_.size() < results; i++) Turn();
    ASSERT_EQ(results_.size(), results);
  }
  uint32_t SumIn(const std::vector<uint8_t>& sums, size_t block) {
    uint32_t sum;
    memcpy(&sum, sums.data() + block * sizeof sum, sizeof sum);
    return sum;
  }

  rdma::MemoryBackend disk_;
  std::vector<uint8_t> data_;
  std::unique_ptr<PlainBackend> backend_;
  std::map<uint64_t, int32_t> results_;
};

TEST_F(PlainBackendTest, ReadsWhatItWroteBehindTheLabel) {
  Submit(1, BackendOp::kWrite, 8192, 4096);
  Until(1);
  EXPECT_EQ(results_[1], 0);
  EXPECT_EQ(disk_.bytes()[kDataStart + 8192], 0x5a);
  EXPECT_EQ(disk_.bytes()[kDataStart + 8191], 0);
  EXPECT_EQ(disk_.bytes()[kDataStart + 12288], 0);
  std::ranges::fill(data_, 0);
  Submit(2, BackendOp::kRead, 8192, 4096);
  Until(2);
  EXPECT_EQ(results_[2], 0);
  EXPECT_EQ(data_[4095], 0x5a);
  EXPECT_GT(backend_->TakeLatencyUs(), 0u);
  EXPECT_EQ(backend_->TakeLatencyUs(), 0u);
}

TEST_F(PlainBackendTest, WritesAreDurableWhereTheDeviceHasAVolatileCache) {
  Submit(1, BackendOp::kWrite, 0, 4096);
  Until(1);
  EXPECT_EQ(disk_.durable_writes(), 0u);
  Open({.write_cache = true, .translate = {}});
  Submit(2, BackendOp::kWrite, 0, 4096);
  Submit(3, BackendOp::kWriteZeroes, 4096, 4096);
  Until(3);
  EXPECT_EQ(disk_.durable_writes(), 2u);
}

TEST_F(PlainBackendTest, WhatIsDiscardedReadsAsZeroes) {
  disk_.bytes()[kDataStart + 4096] = 7;
  Submit(1, BackendOp::kDiscard, 4096, 4096);
  Until(1);
  EXPECT_EQ(results_[1], 0);
  EXPECT_EQ(disk_.bytes()[kDataStart + 4096], 0);
}

TEST_F(PlainBackendTest, ChecksumsAreThoseOfWhatIsThereNow) {
  constexpr uint32_t kBytes = (2 << 20) + 4096;  // more than it reads at a time
  for (uint64_t i = 0; i < kBytes; i++) disk_.bytes()[kDataStart + 4096 + i] = static_cast<uint8_t>(i / kBlockBytes);
  Submit(1, BackendOp::kChecksums, 4096, kBytes);
  Submit(2, BackendOp::kChecksums, 4096, kBytes);  // waits for the other one's memory
  Until(2);
  EXPECT_EQ(results_[1], 0);
  EXPECT_EQ(results_[2], 0);
  for (size_t block = 0; block < kBytes / kBlockBytes; block++) {
    ASSERT_EQ(SumIn(data_, block), SumOf(disk_.bytes().data() + kDataStart + 4096 + block * kBlockBytes)) << block;
  }
}

TEST_F(PlainBackendTest, AFailureWhileSummingEndsThatRequestAlone) {
  disk_.FailReads(kDataStart + (1 << 20), EIO);
  Submit(1, BackendOp::kChecksums, 0, 2 << 20);
  Submit(2, BackendOp::kChecksums, 2 << 20, 4096);
  Until(2);
  EXPECT_EQ(results_[1], -EIO);
  EXPECT_EQ(results_[2], 0);
}

TEST_F(PlainBackendTest, ErrorsAreTranslated) {
  Open({.write_cache = false, .translate = [](int32_t result) { return result == -EIO ? -EHOSTDOWN : result; }});
  disk_.FailNext(EIO);
  Submit(1, BackendOp::kRead, 0, 4096);
  Until(1);
  EXPECT_EQ(results_[1], -EHOSTDOWN);
}

TEST_F(PlainBackendTest, ABlockCannotBeMarkedBad) {
  Submit(1, BackendOp::kPoison, 0, 4096);
  EXPECT_FALSE(backend_->Arm());
  Until(1);
  EXPECT_EQ(results_[1], -EOPNOTSUPP);
}

}  // namespace
}  // namespace weft::target
