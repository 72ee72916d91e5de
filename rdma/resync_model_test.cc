// SPDX-License-Identifier: MIT
//
// The resync protocol (ARCHITECTURE.md) over two Places, with messages and storage of random delay: clients write
// with maps of three ages while a copy is made. When all is quiet both copies hold what was acknowledged.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "rdma/places_fixture.h"

namespace weft::rdma {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 128;  // of the only place
constexpr uint64_t kRegion = 8;    // blocks that are copied at a time
constexpr uint32_t kBothInSync = 1;
constexpr uint32_t kOneStale = 2;
constexpr uint32_t kResyncing = 3;
constexpr uint64_t kResyncAt = 300;
constexpr uint64_t kWritesEnd = 900;

class ResyncModel {
 public:
  explicit ResyncModel(uint32_t seed) : random_(seed) {
    for (uint64_t b = 0; b < kBlocks; b++) {
      source_.data[b] = acknowledged_[b] = next_value_++;
      copy_.data[b] = next_value_++;
    }
    source_.floors.floors[0] = kOneStale;
    copy_.floors.floors[0] = kBothInSync;
  }

  void Run() {
    At(kResyncAt, [this] { map_version_ = kResyncing; });
    At(kResyncAt + Delay(), [this] { StartJob(); });
    // Once each, as a later write would cover up what went wrong with an earlier one.
    for (uint64_t block = 0; block < kBlocks; block++) {
      At(random_() % kWritesEnd, [this, block] { WriteBlock(block); });
    }
    while (!events_.empty()) {
      auto event = events_.extract(events_.begin());
      now_ = event.key();
      event.mapped()();
      Serve(&source_);
      Serve(&copy_);
    }
  }

  void Check() const {
    EXPECT_TRUE(copied_) << "the job has not ended";
    EXPECT_TRUE(busy_.empty()) << busy_.size() << " writes were never acknowledged";
    for (uint64_t b = 0; b < kBlocks; b++) {
      EXPECT_EQ(source_.data.at(b), acknowledged_.at(b)) << "block " << b << " of the source";
      EXPECT_EQ(copy_.data.at(b), acknowledged_.at(b)) << "block " << b << " of the copy";
    }
  }

 private:
  struct Command {
    Access access;
    std::function<void()> execute;
    std::function<void(bool served)> answer;
  };
  struct Site {
    MapFloorStore floors;
    Places places{&floors, kBlocks* kBlock, kBlocks* kBlock};
    std::map<uint64_t, uint64_t> data;  // a value for each block
    std::map<uint64_t, Command> commands;
  };

  void At(uint64_t time, std::function<void()> f) { events_.emplace(time, std::move(f)); }
  // Mostly short; a connection that breaks costs more.
  uint64_t Delay() { return 1 + random_() % (random_() % 8 ? 10 : 400); }

  void Send(Site* site, Command command) {
    At(now_ + Delay(), [this, site, command = std::move(command)] {
      uint64_t id = next_id_++;
      site->commands[id] = command;
      Try(site, id);
    });
  }
  void Try(Site* site, uint64_t id) {
    int error = 0;
    switch (site->places.Enter(site->commands[id].access, id, &error)) {
      case Places::Verdict::kWait:
        return;
      case Places::Verdict::kRefuse:
        ASSERT_EQ(error, ESTALE);
        site->commands.extract(id).mapped().answer(false);
        return;
      case Places::Verdict::kGo:
        At(now_ + Delay(), [this, site, id] {
          Command command = std::move(site->commands.extract(id).mapped());
          command.execute();
          site->places.Leave(command.access, true);
          At(now_ + Delay(), [command] { command.answer(true); });
        });
    }
  }
  void Serve(Site* site) {
    for (uint64_t id; site->places.NextReady(&id);) Try(site, id);
  }

  // ---- clients
  struct Write {
    uint64_t block;
    uint64_t value;
    uint32_t version;
    int answers;
    bool refused;
  };
  void WriteBlock(uint64_t block) {
    busy_[block] = {.block = block, .value = next_value_++, .version = 0, .answers = 0, .refused = false};
    // Whoever has not asked for long has an old map, also one from before the copy went stale.
    bool old = random_() % 4 == 0;
    SendWrite(block, old ? (random_() % 2 ? kBothInSync : kOneStale) : map_version_);
  }
  void SendWrite(uint64_t block, uint32_t version) {
    busy_[block].refused = false;
    busy_[block].version = version;
    std::vector<Site*> sites{&source_};
    if (version != kOneStale) sites.push_back(&copy_);
    busy_[block].answers = static_cast<int>(sites.size());
    uint64_t value = busy_[block].value;
    for (Site* site : sites) {
      Send(site, {.access = {.range = {block * kBlock, kBlock}, .writes = true, .version = version},
                  .execute = [site, block, value] { site->data[block] = value; },
                  .answer = [this, block](bool served) { OnAnswer(block, served); }});
    }
  }
  void OnAnswer(uint64_t block, bool served) {
    Write& write = busy_[block];
    write.refused = write.refused || !served;
    if (--write.answers > 0) return;
    if (write.refused && (write.version == kResyncing || random_() % 2)) {
      SendWrite(block, map_version_);
      return;
    }
    // Refused and not sent again: the client has died. The source does not have it, so the copy must not.
    if (!write.refused) acknowledged_[block] = write.value;
    busy_.erase(block);
  }

  // ---- the copy's target
  void StartJob() {
    ASSERT_TRUE(copy_.places.Track(0, kResyncing, Places::Since::kRaise).ok());
    CopyNext();
    CopyNext();
  }
  void CopyNext() {
    if (next_region_ == kBlocks) {
      copied_ = ++ended_ == 2;
      return;
    }
    BlockRange range{next_region_ * kBlock, kRegion * kBlock};
    next_region_ += kRegion;
    copy_.places.Lock(range, [this, range] {
      auto read = std::make_shared<std::map<uint64_t, uint64_t>>();
      Send(&source_, {.access = {.range = range, .writes = false, .version = kResyncing},
                      .execute = [this, read] { *read = source_.data; },
                      .answer =
                          [this, read, range](bool served) {
                            ASSERT_TRUE(served);
                            At(now_ + Delay(), [this, read, range] { Store(*read, range); });
                          }});
    });
  }
  void Store(const std::map<uint64_t, uint64_t>& read, BlockRange range) {
    std::map<uint64_t, uint64_t> values;
    for (uint64_t at = range.offset; at < range.offset + range.length; at += kBlock) {
      if (!copy_.places.Written(at)) values[at / kBlock] = read.at(at / kBlock);
    }
    At(now_ + Delay(), [this, values, range] {
      for (auto [block, value] : values) copy_.data[block] = value;
      copy_.places.Unlock(range);
      CopyNext();
    });
  }

  std::mt19937 random_;
  uint64_t now_ = 0;
  std::multimap<uint64_t, std::function<void()>> events_;
  Site source_;
  Site copy_;
  uint32_t map_version_ = kOneStale;  // at the metadata server
  std::map<uint64_t, Write> busy_;
  std::map<uint64_t, uint64_t> acknowledged_;
  uint64_t next_value_ = 1;
  uint64_t next_id_ = 1;
  uint64_t next_region_ = 0;
  int ended_ = 0;
  bool copied_ = false;
};

TEST(ResyncModel, CopiesAreEqualInAnyOrderOfEvents) {
  for (uint32_t seed = 1; seed <= 500; seed++) {
    ResyncModel model(seed);
    model.Run();
    model.Check();
    if (testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace weft::rdma
