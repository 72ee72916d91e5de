// SPDX-License-Identifier: MIT
#include "userland/balancer/sysfs.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "userland/balancer/libbpf_log.h"

namespace weft::balancer {
namespace {

TEST(TargetStatTest, ReadsEveryField) {
  Result<TargetCounters> t = ParseTargetStat("1 3 10 20 40960 81920 2 55000\n");
  ASSERT_TRUE(t.ok()) << t.status().message();
  EXPECT_TRUE(t->up);
  EXPECT_EQ(t->inflight, 3u);
  EXPECT_EQ(t->reads, 10u);
  EXPECT_EQ(t->writes, 20u);
  EXPECT_EQ(t->read_bytes, 40960u);
  EXPECT_EQ(t->write_bytes, 81920u);
  EXPECT_EQ(t->errors, 2u);
  EXPECT_EQ(t->ewma_latency_ns, 55000u);
}

TEST(TargetStatTest, IgnoresWhatANewerModuleAppends) {
  EXPECT_EQ(ParseTargetStat("2 0 0 0 0 0 0 18446744073709551615 more")->ewma_latency_ns, UINT64_MAX);
}

TEST(TargetStatTest, RefusesAnythingElse) {
  for (const char* bad : {"", "1", "1 3 10 20 40960 81920 2", "0 3 10 20 40960 81920 2 55000", "3 0 0 0 0 0 0 0",
                          "1 -3 10 20 40960 81920 2 55000", "1 3x 10 20 40960 81920 2 55000",
                          "1 3 10 20 40960 81920 2 18446744073709551616"}) {
    Status status = ParseTargetStat(bad).status();
    EXPECT_EQ(status.code(), EINVAL) << bad;
    EXPECT_NE(status.message().find(bad), std::string::npos);
  }
}

class SysfsTest : public testing::Test {
 protected:
  ~SysfsTest() override { std::filesystem::remove_all(root); }
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::path full = std::filesystem::path(root) / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void WriteTarget(const std::string& dir, const std::string& name, const std::string& stat) const {
    Write(dir + "/name", name + "\n");
    Write(dir + "/stat", stat + "\n");
    Write(dir + "/label", "50 7 1\n");
    Write(dir + "/read_latency", "4096 10\n5120 89\n0 1\n");
    Write(dir + "/write_latency", "");
  }

  std::string root = testing::TempDir() + "sysfs_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  Sysfs sysfs{root};
};

TEST_F(SysfsTest, WithoutTheModule) {
  EXPECT_EQ(sysfs.Balancer().status().code(), ENODEV);
  EXPECT_EQ(sysfs.Targets().status().code(), ENODEV);
}

TEST_F(SysfsTest, BalancerState) {
  Write("balancer/policy", "p2c_latency\n");
  Write("balancer/picks", "12\n");
  Write("balancer/faults", "0\n");
  Result<BalancerState> state = sysfs.Balancer();
  ASSERT_TRUE(state.ok()) << state.status().message();
  EXPECT_EQ(state->policy, "p2c_latency");
  EXPECT_EQ(state->picks, 12u);
  Write("balancer/faults", "many\n");
  EXPECT_EQ(sysfs.Balancer().status().message(), root + "/balancer/faults holds 'many', not a number");
}

TEST_F(SysfsTest, TargetsInOrderOfClusterAndId) {
  Write("balancer/policy", "round_robin\n");
  for (const char* id : {"10", "2"}) {
    WriteTarget(std::string("weft/targets/") + id, std::string("t") + id, "1 0 1 2 3 4 5 6");
  }
  Write("weft/number", "3\n");
  WriteTarget("alpha/targets/1", "t1", "2 0 1 2 3 4 5 6");
  std::filesystem::create_directories(root + "/weft/targets/3");  // on its way in or out
  Result<std::vector<TargetCounters>> targets = sysfs.Targets();
  ASSERT_TRUE(targets.ok()) << targets.status().message();
  ASSERT_EQ(targets->size(), 3u);
  EXPECT_EQ((*targets)[0].cluster, "alpha");
  EXPECT_FALSE((*targets)[0].up);
  EXPECT_EQ((*targets)[1].id, 2u);
  EXPECT_EQ((*targets)[1].name, "t2");
  EXPECT_EQ((*targets)[2].id, 10u);
  EXPECT_EQ((*targets)[1].cluster_number, 3u);
  EXPECT_EQ((*targets)[1].weight, 50u);
  EXPECT_EQ((*targets)[1].zone, 7u);
  EXPECT_EQ((*targets)[1].flags, 1u);
  EXPECT_EQ((*targets)[1].read_latency.PercentileNs(50), 5120u);
  EXPECT_EQ((*targets)[1].write_latency.PercentileNs(50), 0u);
  Write("weft/targets/2/stat", "garbage\n");
  EXPECT_NE(sysfs.Targets().status().message().find("/weft/targets/2/stat: 'garbage'"), std::string::npos);
}

TEST(LatencyCountsTest, Percentiles) {
  Result<LatencyCounts> counts = ParseLatencyCounts("4096 50\n8192 49\n0 1\n");
  ASSERT_TRUE(counts.ok()) << counts.status().message();
  EXPECT_EQ(counts->PercentileNs(0), 4096u);
  EXPECT_EQ(counts->PercentileNs(50), 4096u);
  EXPECT_EQ(counts->PercentileNs(51), 8192u);
  EXPECT_EQ(counts->PercentileNs(99), 8192u);
  EXPECT_EQ(counts->PercentileNs(100), 8192u) << "what has no end is told by the last one that has";
  EXPECT_EQ(LatencyCounts().PercentileNs(99), 0u);
  for (const char* bad : {"4096", "x 1", "1 2 3", "\n", "1 -2"}) {
    EXPECT_EQ(ParseLatencyCounts(bad).status().code(), EINVAL) << bad;
  }
}

TEST(LastLinesTest, KeepsTheEnd) {
  EXPECT_EQ(LastLines("", 3), "");
  EXPECT_EQ(LastLines("a", 3), "\n  a");
  EXPECT_EQ(LastLines("a\nb\n\nc\n", 2), "\n  b\n  c");
}

}  // namespace
}  // namespace weft::balancer
