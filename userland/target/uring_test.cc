// SPDX-License-Identifier: MIT
//
// A ring that several devices share; what one device does with it: uring_backend_test.cc.
#include "userland/target/uring.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "userland/target/uring_backend.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;

constexpr uint64_t kBytes = 1 << 20;

class UringTest : public ::testing::Test {
 protected:
  struct Disk {
    int fd = -1;
    std::unique_ptr<UringBackend> backend;
  };

  void SetUp() override {
    auto uring = Uring::Create(true);
    if (!uring.ok()) GTEST_SKIP() << uring.status().message();
    uring_ = *std::move(uring);
  }
  void TearDown() override {
    for (Disk& disk : disks_) {
      disk.backend = nullptr;
      close(disk.fd);
    }
  }
  void Insert(size_t index) {
    Disk& disk = disks_[index];
    std::string pattern = testing::TempDir() + "/uring-XXXXXX";
    disk.fd = mkstemp(pattern.data());
    unlink(pattern.c_str());
    ASSERT_EQ(ftruncate(disk.fd, kBytes), 0);
    auto backend = UringBackend::Create(disk.fd, false, 0, kBytes, uring_.get());
    ASSERT_TRUE(backend.ok()) << backend.status().message();
    disk.backend = *std::move(backend);
  }
  void Submit(size_t disk, uint64_t cookie, BackendOp op, uint8_t* data) {
    disks_[disk].backend->Submit({.cookie = cookie, .op = op, .length_bytes = 4096, .data = data});
  }
  // Polls `disk` until it has told of `count`: what was submitted is so by sleeping alone.
  std::vector<uint64_t> Collect(size_t disk, size_t count) {
    std::vector<uint64_t> cookies;
    while (cookies.size() < count) {
      std::array<BackendDone, 4> done;
      size_t got = disks_[disk].backend->Poll(done);
      for (size_t i = 0; i < got; i++) {
        EXPECT_EQ(done[i].result, 0);
        cookies.push_back(done[i].cookie);
      }
      if (got == 0) uring_->Wait(10'000);
    }
    std::ranges::sort(cookies);
    return cookies;
  }

  std::unique_ptr<Uring> uring_;
  std::array<Disk, 3> disks_;
  std::array<std::array<uint8_t, 4096>, 8> memory_{};
};

TEST_F(UringTest, EachDeviceIsToldOfItsOwn) {
  for (size_t i : {0, 1}) Insert(i);
  for (uint8_t i = 0; i < 6; i++) {
    memory_[i].fill(static_cast<uint8_t>(0x10 + i % 2));
    Submit(i % 2, 100U + i, BackendOp::kWrite, memory_[i].data());
  }
  EXPECT_TRUE(uring_->unsubmitted());
  EXPECT_EQ(Collect(1, 3), (std::vector<uint64_t>{101, 103, 105}));
  EXPECT_EQ(Collect(0, 3), (std::vector<uint64_t>{100, 102, 104})) << "reaped by the other, and kept";
  for (int i : {0, 1}) {
    uint8_t byte = 0;
    ASSERT_EQ(pread(disks_[static_cast<size_t>(i)].fd, &byte, 1, 4095), 1);
    EXPECT_EQ(byte, 0x10 + i) << "each wrote its own file";
    EXPECT_TRUE(disks_[static_cast<size_t>(i)].backend->settled());
  }
}

// As a thread does that has a processor to itself.
TEST_F(UringTest, WhoOnlyLooksIsToldAsWell) {
  Insert(0);
  Submit(0, 7, BackendOp::kWrite, memory_[0].data());
  uring_->Kick();
  std::array<BackendDone, 4> done;
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (disks_[0].backend->Poll(done) == 0) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  EXPECT_EQ(done[0].cookie, 7U);
}

TEST_F(UringTest, APlaceThatIsLeftIsTakenByTheNext) {
  for (size_t i : {0, 1}) Insert(i);
  disks_[0].backend = nullptr;
  Insert(2);
  memory_[0].fill(0x55);
  Submit(2, 1, BackendOp::kWrite, memory_[0].data());
  EXPECT_EQ(Collect(2, 1), std::vector<uint64_t>{1});
  uint8_t byte = 0;
  ASSERT_EQ(pread(disks_[2].fd, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 0x55);
  ASSERT_EQ(pread(disks_[0].fd, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 0) << "the file that had the place before";
}

TEST_F(UringTest, ALevelEndsEachWaitUntilItIsGone) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  bool ready = false;
  uring_->WatchLevel(fd, &ready);
  for (int round = 0; round < 3; round++) {
    std::thread other([&] { eventfd_write(fd, 1); });
    for (int i = 0; i < 3; i++) {  // nobody reads it: it stays
      while (!ready) {
        uring_->Wait(-1);
        uring_->Reap();
      }
      ready = false;
    }
    other.join();
    eventfd_t value;
    EXPECT_EQ(eventfd_read(fd, &value), 0);
    uring_->Wait(0);  // what was seen before that
    uring_->Reap();
    ready = false;
    uring_->Wait(20);
    uring_->Reap();
    EXPECT_FALSE(ready) << "it is not readable any more";
  }
  close(fd);
}

TEST_F(UringTest, ADeviceBeyondTheLastIsRefused) {
  Insert(0);
  std::vector<std::unique_ptr<UringBackend>> more;
  Status refused;
  while (refused.ok() && more.size() < 2000) {
    auto backend = UringBackend::Create(disks_[0].fd, false, 0, kBytes, uring_.get());
    refused = backend.status();
    if (backend.ok()) more.push_back(*std::move(backend));
  }
  EXPECT_EQ(more.size(), 1023U);
  EXPECT_EQ(refused.code(), ENOSPC);
  EXPECT_NE(refused.message().find("1024 devices"), std::string::npos) << refused.message();
}

}  // namespace
}  // namespace weft::target
