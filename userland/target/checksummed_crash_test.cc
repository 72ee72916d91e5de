// SPDX-License-Identifier: MIT
//
// The power fails between any two things that ChecksummedBackend does, on a device that has written an arbitrary part
// of what it was not asked to flush, sector by sector. Afterwards: no block that was not damaged is an error, damage
// is noticed in every region that is not in doubt, and bad blocks are still bad.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "userland/target/checksummed_backend.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint64_t kCapacity = 3 * kRegionBytes;
constexpr uint64_t kUsedBlocks = 12;  // of each region: so that the same ones are met often
constexpr size_t kSector = 512;

class TestClock final : public rdma::Clock {
 public:
  uint64_t NowMs() const override { return now_ms; }
  uint64_t now_ms = 1000;
};

// A disk with a volatile cache that carries requests out in any order. What is written is fetched from memory at one
// moment, and is on the disk at another: of two writes of the same bytes that are on the way, either may come last,
// with contents that are older than those of the other.
class CacheDisk final : public rdma::BlockBackend {
 public:
  CacheDisk(uint64_t bytes, std::mt19937* random) : seen_(bytes), stable_(bytes), random_(random) {}

  uint64_t capacity_bytes() const override { return seen_.size(); }
  Status AddBuffer(void*, size_t) override { return Status::Ok(); }
  void Submit(const BackendRequest& request) override { queue_.push_back({.request = request}); }
  void Kick() override {}
  size_t Poll(std::span<BackendDone> out) override {
    if (open_) ExecuteOne();
    size_t count = std::min(out.size(), done_.size());
    std::copy_n(done_.begin(), count, out.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<ptrdiff_t>(count));
    return count;
  }
  void Watch(int, bool*) override {}
  bool Arm() override { return queue_.empty() && done_.empty(); }
  void Wait(int) override {}

  void set_open(bool open) { open_ = open; }  // executes as it is polled
  bool busy() const { return !queue_.empty(); }
  void ExecuteOne() {
    if (queue_.empty()) return;
    size_t at = (*random_)() % queue_.size();
    if (queue_[at].Fetch()) return;
    Queued queued = std::move(queue_[at]);
    queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(at));
    Execute(queued);
    done_.push_back({queued.request.cookie, 0});
  }
  // Of what is in its cache, and of what was on the way, any sectors are there afterwards.
  void Crash() {
    for (Queued& queued : queue_) {
      if (queued.request.op == BackendOp::kRead || queued.request.op == BackendOp::kFlush) continue;
      queued.Fetch();
      queued.request.durable = false;
      Execute(queued);
    }
    for (const Cached& write : cache_) {
      for (size_t at = 0; at < write.bytes.size(); at += kSector) {
        if ((*random_)() % 2) memcpy(&stable_[write.offset + at], &write.bytes[at], kSector);
      }
    }
    for (const Cached& write : cache_) memcpy(&seen_[write.offset], &stable_[write.offset], write.bytes.size());
    cache_.clear();
    queue_.clear();
    done_.clear();
  }
  void Corrupt(uint64_t offset) {
    seen_[offset] ^= 1;
    stable_[offset] ^= 1;
  }
  uint8_t byte(uint64_t offset) const { return seen_[offset]; }

 private:
  struct Cached {
    uint64_t offset;
    std::vector<uint8_t> bytes;
  };
  struct Queued {
    BackendRequest request;
    std::vector<uint8_t> fetched = {};
    bool Fetch() {  // false: there is nothing to be fetched, any more
      if (request.op != BackendOp::kWrite || !fetched.empty()) return false;
      fetched.assign(request.data, request.data + request.length_bytes);
      return true;
    }
  };
  void Execute(const Queued& queued) {
    const BackendRequest& request = queued.request;
    uint8_t* at = &seen_[request.offset_bytes];
    switch (request.op) {
      case BackendOp::kRead:
        memcpy(request.data, at, request.length_bytes);
        return;
      case BackendOp::kFlush:
        for (const Cached& write : cache_) memcpy(&stable_[write.offset], write.bytes.data(), write.bytes.size());
        cache_.clear();
        return;
      case BackendOp::kWrite:
        memcpy(at, queued.fetched.data(), request.length_bytes);
        break;
      default:
        memset(at, request.op == BackendOp::kDiscard ? 0xdd : 0, request.length_bytes);
    }
    cache_.push_back({request.offset_bytes, {at, at + request.length_bytes}});
    if (!request.durable) return;
    // Itself, and what it covers.
    memcpy(&stable_[request.offset_bytes], at, request.length_bytes);
    std::erase_if(cache_, [&](const Cached& write) {
      return write.offset >= request.offset_bytes &&
             write.offset + write.bytes.size() <= request.offset_bytes + request.length_bytes;
    });
  }

  std::vector<uint8_t> seen_;
  std::vector<uint8_t> stable_;
  std::vector<Cached> cache_;
  std::vector<Queued> queue_;
  std::vector<BackendDone> done_;
  std::mt19937* random_;
  bool open_ = true;
};

class World {
 public:
  explicit World(uint32_t seed) : random_(seed), areas_(AreasFor(kCapacity)), disk_(areas_.data + kCapacity, &random_) {
    Open();
  }

  void Run(int steps) {
    disk_.set_open(false);
    for (int i = 0; i < steps; i++) Step();
  }
  void Crash() {
    disk_.Crash();
    backend_.reset();
    for (auto& [cookie, operation] : under_way_) Ended(operation, false);
    under_way_.clear();
    Open();
  }
  void CleanStop() {
    disk_.set_open(true);
    Drain();
    bool wait = random_() % 2;
    while (wait && backend_->regions_in_doubt() > 0) {
      clock_.now_ms += 10;
      for (int i = 0; i < 64; i++) Poll();
    }
    size_t in_doubt = backend_->regions_in_doubt();
    EXPECT_TRUE(backend_->Close().ok());
    Open();
    EXPECT_EQ(backend_->in_doubt(), in_doubt) << "the rest is known";
  }

  void Check() {
    disk_.set_open(true);
    std::vector<bool> in_doubt;
    for (uint64_t region = 0; region < 3; region++) in_doubt.push_back(InDoubt(region));
    for (uint64_t region = 0; region < 3; region++) {
      for (uint64_t block = 0; block < kUsedBlocks; block++) CheckBlock(region, block, in_doubt[region]);
    }
  }

 private:
  enum class Bad : uint8_t { kNo, kYes, kMaybe };
  struct Block {
    bool written = false;  // something was written, with success: its checksum is known
    bool read = false;     // was in doubt and its checksum was taken anew: known when its region's bit is cleared
    Bad bad = Bad::kNo;
  };
  struct Operation {
    BackendRequest request;
    std::vector<uint8_t> data;
  };

  void Open() {
    disk_.set_open(true);
    auto backend = ChecksummedBackend::Open(&disk_, {.areas = areas_, .capacity_bytes = kCapacity, .clock = &clock_});
    ASSERT_TRUE(backend.ok());
    backend_ = *std::move(backend);
  }
  bool InDoubt(uint64_t region) { return disk_.byte(areas_.intents) >> region & 1; }

  void Step() {
    switch (random_() % 8) {
      case 0:
      case 1:
        if (under_way_.size() < 6) SubmitRandom();
        break;
      case 2:
        clock_.now_ms += random_() % 1500;
        for (int i = 0; i < 64; i++) Poll();
        break;
      case 3:
        Poll();
        break;
      default:
        disk_.ExecuteOne();
    }
  }
  void SubmitRandom() {
    constexpr std::array kOps{BackendOp::kWrite,  BackendOp::kWrite,   BackendOp::kWrite,
                              BackendOp::kWrite,  BackendOp::kDiscard, BackendOp::kWriteZeroes,
                              BackendOp::kPoison, BackendOp::kRead,    BackendOp::kFlush};
    uint64_t cookie = next_cookie_++;
    Operation& operation = under_way_[cookie];
    BackendRequest& request = operation.request;
    request.cookie = cookie;
    request.op = kOps[random_() % kOps.size()];
    if (request.op != BackendOp::kFlush) {
      uint64_t block = random_() % kUsedBlocks;
      request.offset_bytes = random_() % 3 * kRegionBytes + block * kBlockBytes;
      request.length_bytes =
          static_cast<uint32_t>((1 + random_() % std::min<uint64_t>(4, kUsedBlocks - block)) * kBlockBytes);
      operation.data.resize(request.length_bytes);
      for (size_t i = 0; i < operation.data.size(); i += kSector) operation.data[i] = static_cast<uint8_t>(random_());
      request.data = operation.data.data();
      request.durable = request.op == BackendOp::kWrite && random_() % 4 == 0;
    }
    for (Block* block : BlocksOf(request)) {
      bool changes = request.op == BackendOp::kPoison ? block->bad == Bad::kNo : block->bad == Bad::kYes;
      if (request.op != BackendOp::kRead && request.op != BackendOp::kFlush && changes) block->bad = Bad::kMaybe;
    }
    backend_->Submit(request);
  }
  std::vector<Block*> BlocksOf(const BackendRequest& request) {
    std::vector<Block*> blocks;
    for (uint64_t at = 0; at < request.length_bytes; at += kBlockBytes) {
      blocks.push_back(&blocks_[(request.offset_bytes + at) / kBlockBytes]);
    }
    return blocks;
  }
  void Poll() {
    std::array<BackendDone, 4> done;
    size_t count = backend_->Poll(done);
    for (size_t i = 0; i < count; i++) {
      auto operation = under_way_.extract(done[i].cookie);
      const BackendRequest& request = operation.mapped().request;
      if (request.op == BackendOp::kRead) {
        auto is_bad = [](const Block* block) { return block->bad != Bad::kNo; };
        if (done[i].result) {
          EXPECT_TRUE(std::ranges::any_of(BlocksOf(request), is_bad)) << done[i].result << " of a good block";
        }
      } else {
        EXPECT_EQ(done[i].result, 0);
        Ended(operation.mapped(), true);
      }
    }
  }
  // Others that touch the same blocks may be under way: then nothing is sure until they end.
  void Ended(const Operation& operation, bool success) {
    const BackendRequest& request = operation.request;
    if (request.op == BackendOp::kRead || request.op == BackendOp::kFlush) return;
    for (Block* block : BlocksOf(request)) {
      block->read = false;
      if (!success) {
        block->written = false;
        continue;
      }
      block->written = request.op == BackendOp::kWrite || request.op == BackendOp::kWriteZeroes;
      bool alone = true;
      for (auto& [cookie, other] : under_way_) {
        if (other.request.op == BackendOp::kRead || other.request.op == BackendOp::kFlush) continue;
        for (Block* same : BlocksOf(other.request)) alone = alone && same != block;
      }
      block->bad = !alone ? Bad::kMaybe : request.op == BackendOp::kPoison ? Bad::kYes : Bad::kNo;
    }
  }
  void Drain() {
    while (!under_way_.empty()) Poll();
  }
  int32_t Read(uint64_t offset) {
    std::vector<uint8_t> data(kBlockBytes);
    backend_->Submit(
        {.op = BackendOp::kRead, .offset_bytes = offset, .length_bytes = kBlockBytes, .data = data.data()});
    for (;;) {
      std::array<BackendDone, 1> done;
      if (backend_->Poll(done)) return done[0].result;
    }
  }
  void CheckBlock(uint64_t region, uint64_t number, bool in_doubt) {
    uint64_t offset = region * kRegionBytes + number * kBlockBytes;
    Block& block = blocks_[offset / kBlockBytes];
    block.written = !in_doubt && (block.written || block.read);
    // Damage must be noticed by the checksum that was kept, before reading takes it anew.
    bool damage = !in_doubt && block.written && block.bad == Bad::kNo && random_() % 4 == 0;
    if (damage) disk_.Corrupt(areas_.data + offset + random_() % kBlockBytes);
    int32_t result = Read(offset);
    block.read = result == 0 && in_doubt;
    if (damage) {
      EXPECT_EQ(result, -EBADMSG) << "damage of block " << number << " in region " << region << " was missed";
      block.bad = Bad::kYes;
    } else if (block.bad == Bad::kNo) {
      EXPECT_EQ(result, 0) << "false alarm: block " << number << " of region " << region
                           << (in_doubt ? " in doubt" : "");
    } else if (block.bad == Bad::kYes) {
      EXPECT_EQ(result, -EBADMSG) << "block " << number << " of region " << region << " was bad";
    } else {
      block.bad = result ? Bad::kYes : Bad::kNo;
    }
  }

  std::mt19937 random_;
  const Areas areas_;
  TestClock clock_;
  CacheDisk disk_;
  std::unique_ptr<ChecksummedBackend> backend_;
  std::map<uint64_t, Block> blocks_;
  std::map<uint64_t, Operation> under_way_;
  uint64_t next_cookie_ = 1;
};

TEST(ChecksummedCrash, NoFalseAlarmAndNoMissedDamage) {
  for (uint32_t seed = 1; seed <= 150; seed++) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    World world(seed);
    for (int life = 0; life < 8; life++) {
      world.Run(static_cast<int>(random() % 600));
      if (random() % 4) {
        world.Crash();
      } else {
        world.CleanStop();
      }
      world.Check();
      if (testing::Test::HasFailure()) return;
    }
  }
}

// A block that was bad is good when what replaces it is durable and not before: after a crash in between its checksum
// is in doubt, and the sectors of the old contents must not pass for what was written.
TEST(ChecksummedCrash, ABadBlockIsGoodOnlyWithAllOfWhatWasWritten) {
  for (uint32_t seed = 1; seed <= 20; seed++) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const Areas areas = AreasFor(kCapacity);
    CacheDisk disk(areas.data + kCapacity, &random);
    TestClock clock;
    std::unique_ptr<ChecksummedBackend> backend;
    auto open = [&] {
      auto opened = ChecksummedBackend::Open(&disk, {.areas = areas, .capacity_bytes = kCapacity, .clock = &clock});
      ASSERT_TRUE(opened.ok());
      backend = *std::move(opened);
    };
    std::vector<uint8_t> data(kBlockBytes);
    auto run = [&](BackendOp op, bool durable) {
      backend->Submit({.op = op, .durable = durable, .length_bytes = kBlockBytes, .data = data.data()});
      for (;;) {
        std::array<BackendDone, 1> done;
        if (backend->Poll(done)) return done[0].result;
      }
    };
    open();
    std::ranges::fill(data, uint8_t{0x11});
    ASSERT_EQ(run(BackendOp::kWrite, true), 0);
    ASSERT_EQ(run(BackendOp::kPoison, false), 0);
    std::ranges::fill(data, uint8_t{0x22});
    if (seed % 2) {
      ASSERT_EQ(run(BackendOp::kWrite, false), 0);
    } else {  // and anywhere on the way
      disk.set_open(false);
      backend->Submit({.op = BackendOp::kWrite, .length_bytes = kBlockBytes, .data = data.data()});
      for (uint32_t i = 0; i < seed / 2; i++) {
        std::array<BackendDone, 1> done;
        disk.ExecuteOne();
        backend->Poll(done);
      }
      disk.set_open(true);
    }
    disk.Crash();
    open();
    int32_t result = run(BackendOp::kRead, false);
    if (result == 0) {
      EXPECT_TRUE(std::ranges::all_of(data, [](uint8_t byte) { return byte == 0x22; }));
    } else {
      EXPECT_EQ(result, -EBADMSG);
      EXPECT_EQ(seed % 2, 0U) << "what was acknowledged is there";
    }
  }
}

}  // namespace
}  // namespace weft::target
