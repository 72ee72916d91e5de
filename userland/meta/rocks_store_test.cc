// SPDX-License-Identifier: MIT
#include "userland/meta/rocks_store.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "userland/meta/fsck_run.h"
#include "userland/meta/memory_store.h"
#include "userland/meta/test_server.h"
#include "userland/meta/transaction.h"

namespace weft {
namespace {

class RocksStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft_store_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<RocksStore> Open() {
    auto store = RocksStore::Open(folder_, {});
    EXPECT_TRUE(store.ok()) << store.status().message();
    return *std::move(store);
  }
  std::string folder_;
};

std::map<std::string, std::string> All(StoreReader* store) {
  std::map<std::string, std::string> all;
  EXPECT_TRUE(store
                  ->Scan("", "\xff",
                         [&](std::string_view key, std::string_view value) {
                           all.emplace(key, value);
                           return true;
                         })
                  .ok());
  return all;
}

TEST_F(RocksStoreTest, BatchesAreKept) {
  {
    auto store = Open();
    ASSERT_TRUE(store->Commit({{"a", "1"}, {"b", "2"}, {std::string("c\0d", 3), "3"}}).ok());
    ASSERT_TRUE(store->Commit({{"b", std::nullopt}, {"e", ""}}).ok());
  }
  auto store = Open();
  EXPECT_EQ(All(store.get()),
            (std::map<std::string, std::string>{{"a", "1"}, {std::string("c\0d", 3), "3"}, {"e", ""}}));
  std::string value;
  bool found = true;
  ASSERT_TRUE(store->Get("b", &value, &found).ok());
  EXPECT_FALSE(found);
  std::vector<std::string> keys;
  ASSERT_TRUE(store
                  ->Scan("b", "e",
                         [&](std::string_view key, std::string_view) {
                           keys.emplace_back(key);
                           return true;
                         })
                  .ok());
  EXPECT_EQ(keys, (std::vector{std::string("c\0d", 3)}));
}

TEST_F(RocksStoreTest, SnapshotsDoNotMove) {
  auto store = Open();
  ASSERT_TRUE(store->Commit({{"a", "1"}, {"b", "2"}}).ok());
  auto snapshot = store->Snapshot();
  ASSERT_TRUE(snapshot.ok());
  ASSERT_TRUE(store->Commit({{"a", "changed"}, {"b", std::nullopt}, {"c", "3"}}).ok());
  EXPECT_EQ(All(snapshot->get()), (std::map<std::string, std::string>{{"a", "1"}, {"b", "2"}}));
  std::string value;
  bool found = false;
  ASSERT_TRUE((*snapshot)->Get("a", &value, &found).ok());
  EXPECT_EQ(value, "1");
  EXPECT_EQ(All(store.get()), (std::map<std::string, std::string>{{"a", "changed"}, {"c", "3"}}));
}

TEST_F(RocksStoreTest, FsckOfADataFolder) {
  EXPECT_EQ(FsckOffline(folder_, true).status().code(), ENOENT);
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "looking makes nothing";
  {
    auto store = Open();
    ASSERT_TRUE(StateMachine::Open(store.get(), {}, {}).ok());
    EXPECT_EQ(FsckOffline(folder_, true).status().code(), EBUSY);
    ASSERT_TRUE(store->Commit({{key::Orphan(7, 7), ""}}).ok());
  }
  auto report = FsckOffline(folder_, false);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(report->problems.size(), 1U);
  EXPECT_EQ(report->problems[0].kind, "orphan-mark");
  EXPECT_TRUE(FsckOffline(folder_, true)->problems[0].repaired);
  EXPECT_EQ(FsckOffline(folder_, false)->problems_total, 0);
}

TEST_F(RocksStoreTest, SecondOpenIsRefusedClearly) {
  auto store = Open();
  Status status = RocksStore::Open(folder_, {}).status();
  EXPECT_EQ(status.code(), EBUSY) << status.message();
  EXPECT_NE(status.message().find(folder_), std::string::npos);
}

TEST_F(RocksStoreTest, DamageIsReported) {
  {
    auto store = Open();
    ASSERT_TRUE(store->Commit({{"a", std::string(1000, 'x')}}).ok());
    ASSERT_TRUE(store->Commit({{"b", std::string(1000, 'y')}}).ok());
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().extension() != ".log") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(500);
    file << "damage";
  }
  EXPECT_FALSE(RocksStore::Open(folder_, {}).ok());
}

TEST_F(RocksStoreTest, KillLosesNothingThatWasCommitted) {
  pid_t child = fork();
  if (child == 0) {
    auto store = RocksStore::Open(folder_, {});
    for (int i = 0; i < 100; ++i) {
      if (!(*store)->Commit({{fmt::format("k{:03}", i), "v"}}).ok()) _exit(1);
    }
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(All(Open().get()).size(), 100U);
}

TEST_F(RocksStoreTest, StateMachineRunsOnIt) {
  auto store = Open();
  MetaNow now{1000, 1000};
  idl::Reply created;
  {
    auto machine = StateMachine::Open(store.get(), {}, now);
    ASSERT_TRUE(machine.ok());
    StateMachine& m = **machine;
    m.Begin(now);
    ASSERT_TRUE(m.RegisterTarget(TestServer::TargetArgs("t1", 64 << 20)).ok());
    ASSERT_TRUE(m.CreatePool({}).ok());
    auto session = m.OpenSession(TestServer::ClientArgs("c1"));
    ASSERT_TRUE(session.ok());
    idl::Request request;
    request.seq = 1;
    request.op = op::Create(1, "f", S_IFREG | 0644);
    created = m.Execute(session->id, request);
    ASSERT_EQ(created.error, 0);
    ASSERT_TRUE(m.Commit().ok());
  }
  store.reset();
  store = Open();
  auto machine = StateMachine::Open(store.get(), {}, now);
  ASSERT_TRUE(machine.ok());
  idl::Request request;
  request.op = op::Lookup(1, "f");
  EXPECT_EQ((*machine)->Execute(1, request).attr, created.attr);
}

// A transaction over a store must look like the store with its changes.
TEST(TransactionTest, OverlayAgreesWithACopy) {
  std::mt19937_64 random(11);
  MemoryStore store;
  std::map<std::string, std::string> copy;
  Transaction tx(&store);
  auto key = [&] { return std::string(1, static_cast<char>('a' + random() % 20)); };
  for (int i = 0; i < 5'000; ++i) {
    std::map<std::string, std::string> before = copy;
    tx.Begin();
    for (uint64_t n = random() % 5; n > 0; --n) {
      std::string k = key();
      if (random() % 3 == 0) {
        tx.Delete(k);
        copy.erase(k);
      } else {
        std::string value = std::to_string(random() % 100);
        tx.Put(k, value);
        copy[k] = value;
      }
    }
    if (random() % 4 == 0) {
      tx.Rollback();
      copy = before;
    }
    std::string from = key();
    std::string to = key();
    std::map<std::string, std::string> seen;
    size_t limit = random() % 10;
    tx.Scan(from, to, [&](std::string_view k, std::string_view v) {
      seen.emplace(k, v);
      return seen.size() < limit;
    });
    std::map<std::string, std::string> expected;
    for (auto it = copy.lower_bound(from); it != copy.end() && it->first < to; ++it) {
      expected.insert(*it);
      if (expected.size() >= limit) break;
    }
    ASSERT_EQ(seen, expected) << from << " " << to;
    std::string k = key();
    auto it = copy.find(k);
    ASSERT_EQ(tx.Get(k), it == copy.end() ? std::nullopt : std::optional(it->second));
    if (random() % 10 == 0) {
      ASSERT_TRUE(tx.Commit().ok());
    }
  }
}

}  // namespace
}  // namespace weft
