// SPDX-License-Identifier: MIT
#include "userland/target/uring_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint64_t kDataStart = 1 << 20;
constexpr uint64_t kCapacity = 15 << 20;
constexpr size_t kMemoryBytes = 4 << 20;

class UringBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/uring-XXXXXX";
    fd_ = mkstemp(pattern.data());
    ASSERT_GE(fd_, 0);
    unlink(pattern.c_str());
    ASSERT_EQ(ftruncate(fd_, kDataStart + kCapacity), 0);
    auto backend = UringBackend::Create(fd_, false, kDataStart, kCapacity);
    if (!backend.ok()) GTEST_SKIP() << backend.status().message();
    backend_ = *std::move(backend);
    memory_ =
        static_cast<uint8_t*>(mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_TRUE(backend_->AddBuffer(memory_, kMemoryBytes / 2).ok());
  }
  void TearDown() override {
    backend_.reset();
    if (memory_) munmap(memory_, kMemoryBytes);
    close(fd_);
  }
  // Sleeps as the engine does.
  void Collect(size_t count) {
    while (results_.size() < count) {
      backend_->Kick();
      std::array<BackendDone, 8> done;
      size_t got = backend_->Poll(done);
      for (size_t i = 0; i < got; i++) results_[done[i].cookie] = done[i].result;
      if (got || !backend_->Arm()) continue;
      auto start = std::chrono::steady_clock::now();
      backend_->Wait(10000);
      ASSERT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(9)) << "no event";
    }
  }
  int32_t Do(BackendRequest request) {
    results_.clear();
    request.cookie = 1;
    backend_->Submit(request);
    Collect(1);
    return results_[1];
  }

  int fd_ = -1;
  uint8_t* memory_ = nullptr;
  std::unique_ptr<UringBackend> backend_;
  std::map<uint64_t, int32_t> results_;
};

TEST_F(UringBackendTest, WritesAndReadsInsideAndOutsideOfRegisteredMemory) {
  for (uint8_t* data : {memory_, memory_ + kMemoryBytes / 2}) {
    memset(data, data == memory_ ? 0x31 : 0x32, 65536);
    EXPECT_EQ(Do({.op = BackendOp::kWrite, .offset_bytes = 8192, .length_bytes = 65536, .data = data}), 0);
    std::vector<uint8_t> raw(65536);
    ASSERT_EQ(pread(fd_, raw.data(), raw.size(), kDataStart + 8192), 65536);
    EXPECT_EQ(memcmp(raw.data(), data, raw.size()), 0);
    memset(data, 0, 65536);
    EXPECT_EQ(Do({.op = BackendOp::kRead, .offset_bytes = 8192, .length_bytes = 65536, .data = data}), 0);
    EXPECT_EQ(memcmp(raw.data(), data, raw.size()), 0);
  }
}

TEST_F(UringBackendTest, FlushDurableDiscardZeroes) {
  memset(memory_, 0x77, 1 << 20);
  EXPECT_EQ(Do({.op = BackendOp::kWrite, .durable = true, .length_bytes = 1 << 20, .data = memory_}), 0);
  EXPECT_EQ(Do({.op = BackendOp::kFlush}), 0);
  EXPECT_EQ(Do({.op = BackendOp::kWriteZeroes, .durable = true, .offset_bytes = 4096, .length_bytes = 8192}), 0);
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 16384, .data = memory_}), 0);
  EXPECT_EQ(memory_[4095], 0x77);
  EXPECT_EQ(memory_[4096], 0);
  EXPECT_EQ(memory_[12287], 0);
  EXPECT_EQ(memory_[12288], 0x77);
  EXPECT_EQ(Do({.op = BackendOp::kDiscard, .length_bytes = 65536}), 0);
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 4096, .data = memory_}), 0);
}

TEST_F(UringBackendTest, ManyAtOnce) {
  constexpr uint32_t kCount = 3000;  // more than the ring has entries
  memset(memory_, 0x11, 4096);
  for (uint32_t i = 0; i < kCount; i++) {
    backend_->Submit({.cookie = i,
                      .op = i % 3 ? BackendOp::kWrite : BackendOp::kRead,
                      .offset_bytes = i % 3000 * 4096ULL,
                      .length_bytes = 4096,
                      .data = memory_ + (i % 3 ? 0 : 4096)});
  }
  Collect(kCount);
  for (auto& [cookie, result] : results_) EXPECT_EQ(result, 0) << cookie;
}

TEST_F(UringBackendTest, WatchedFilesEndTheWaitEachTime) {
  int fds[2] = {eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  bool ready[2] = {false, false};
  for (int i : {0, 1}) backend_->Watch(fds[i], &ready[i]);
  std::array<BackendDone, 8> done;
  for (int round = 0; round < 100; round++) {
    int i = round % 2;
    std::thread other([&] { eventfd_write(fds[i], 1); });
    while (!ready[i]) {
      backend_->Kick();
      EXPECT_EQ(backend_->Poll(done), 0U);
      if (!ready[i] && backend_->Arm()) backend_->Wait(-1);
    }
    EXPECT_FALSE(ready[1 - i]);
    ready[i] = false;
    eventfd_t value;
    EXPECT_EQ(eventfd_read(fds[i], &value), 0);
    other.join();
  }
  for (int fd : fds) close(fd);
}

TEST_F(UringBackendTest, WhatIsNotWatchedAnyMoreIsLeftAlone) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  auto ready = std::make_unique<bool>(false);
  backend_->Watch(fd, ready.get());
  backend_->Kick();
  backend_->StopWatching();
  eventfd_write(fd, 1);
  std::array<BackendDone, 8> done;
  backend_->Wait(-1);  // its readiness has come
  EXPECT_EQ(backend_->Poll(done), 0U);
  EXPECT_FALSE(*ready);
  ready.reset();
  EXPECT_EQ(Do({.op = BackendOp::kFlush}), 0) << "requests go on";
  close(fd);
}

TEST_F(UringBackendTest, AFileThatShrankIsAnError) {
  ASSERT_EQ(ftruncate(fd_, kDataStart + 6000), 0);
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 8192, .data = memory_}), -EIO);
}

TEST_F(UringBackendTest, WhoMayNotSendAnyMoreGoesOnWithNothing) {
  bool may_send = true;
  backend_->SetMaySend([&] { return may_send; });
  ASSERT_EQ(ftruncate(fd_, kDataStart + 6000), 0);  // the answer comes in two parts
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 8192, .data = memory_}), -EIO);
  may_send = false;
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 8192, .data = memory_}), -EHOSTDOWN);
  EXPECT_EQ(Do({.op = BackendOp::kRead, .length_bytes = 4096, .data = memory_}), 0) << "who submits asks by himself";
}

TEST_F(UringBackendTest, NoSpaceIsReported) {
  int full = open("/dev/full", O_RDWR | O_CLOEXEC);
  ASSERT_GE(full, 0);
  auto backend = UringBackend::Create(full, false, 0, kCapacity);
  ASSERT_TRUE(backend.ok());
  backend_ = *std::move(backend);
  EXPECT_EQ(Do({.op = BackendOp::kWrite, .length_bytes = 4096, .data = memory_}), -ENOSPC);
  backend_.reset();
  close(full);
}

}  // namespace
}  // namespace weft::target
