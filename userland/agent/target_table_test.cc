// SPDX-License-Identifier: MIT
#include "userland/agent/target_table.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace weft::agent {
namespace {

idl::TargetAddress Target(int32_t id, bool up, const std::string& zone = "") {
  idl::TargetAddress target;
  target.id = id;
  target.uuid = std::string(16, static_cast<char>(id));
  target.name = fmt::format("t{}", id);
  target.host = "10.0.0.1";
  target.port = 7471;
  target.weight = 100;
  target.zone = zone;
  target.up = up;
  target.report_age_ms = -1;
  return target;
}

idl::TargetMap Map(std::vector<idl::TargetAddress> targets) {
  idl::TargetMap map;
  map.version = 1;
  map.targets = std::move(targets);
  return map;
}

class TargetTableTest : public ::testing::Test {
 protected:
  TargetTable table_{[this](const std::vector<weft_target_info>& infos) {
    ++published_;
    infos_ = infos;
    return Status();
  }};
  std::vector<weft_target_info> infos_;
  int published_ = 0;
};

TEST_F(TargetTableTest, HeartbeatsDecideUntilAPathWasTried) {
  table_.SetMap(Map({Target(1, true), Target(2, false)}));
  ASSERT_EQ(infos_.size(), 2u);
  EXPECT_EQ(infos_[0].state, uint32_t{WEFT_TARGET_UP});
  EXPECT_EQ(infos_[1].state, uint32_t{WEFT_TARGET_DOWN});
  table_.SetPath(0, 1, Error(EHOSTDOWN, "away"), 1);
  table_.SetPath(0, 2, {}, 1);
  EXPECT_EQ(infos_[0].state, uint32_t{WEFT_TARGET_DOWN});
  EXPECT_EQ(infos_[1].state, uint32_t{WEFT_TARGET_UP});
}

TEST_F(TargetTableTest, IncarnationIsThatOfTheLastConnection) {
  table_.SetMap(Map({Target(1, true)}));
  EXPECT_EQ(infos_[0].incarnation, 0u);
  table_.SetPath(0, 1, {}, 5);
  EXPECT_EQ(infos_[0].incarnation, 5u);
  table_.SetPath(0, 1, Error(EHOSTDOWN, "away"), 5);
  table_.SetMap(Map({Target(1, true)}));
  EXPECT_EQ(infos_[0].incarnation, 5u) << "known as long as the target is in the map";
  table_.SetPath(0, 1, {}, 6);
  EXPECT_EQ(infos_[0].incarnation, 6u);
}

TEST_F(TargetTableTest, ReportsCarryTheirAge) {
  idl::TargetAddress target = Target(1, true);
  table_.SetMap(Map({target}));
  EXPECT_EQ(infos_[0].flags, 0u);
  target.report_age_ms = 20;
  target.device_latency_us = 300;
  target.queue_depth = -1;
  table_.SetMap(Map({target}));
  EXPECT_EQ(infos_[0].flags, static_cast<uint32_t>(WEFT_TARGET_REPORTED));
  EXPECT_EQ(infos_[0].report_age_ms, 20u);
  EXPECT_EQ(infos_[0].device_latency_us, 300u);
  EXPECT_EQ(infos_[0].queue_depth, 0u);
}

TEST_F(TargetTableTest, EveryQueueNeedsItsPath) {
  table_.SetMap(Map({Target(1, true)}));
  table_.SetPath(0, 1, {}, 1);
  table_.SetPath(1, 1, Error(EHOSTDOWN, "away"), 1);
  EXPECT_EQ(infos_[0].state, uint32_t{WEFT_TARGET_DOWN});
  table_.SetPath(1, 1, {}, 1);
  EXPECT_EQ(infos_[0].state, uint32_t{WEFT_TARGET_UP});
}

TEST_F(TargetTableTest, OnlyChangesArePublished) {
  table_.SetMap(Map({Target(1, true)}));
  table_.SetMap(Map({Target(1, true)}));
  EXPECT_EQ(published_, 1);
  idl::TargetAddress loaded = Target(1, true);
  loaded.load = 5000;
  loaded.queue_depth = 7;
  loaded.report_age_ms = 10;
  table_.SetMap(Map({loaded}));
  EXPECT_EQ(published_, 2);
  EXPECT_EQ(infos_[0].load, 1000u) << "clipped";
  EXPECT_EQ(infos_[0].queue_depth, 7u);
}

TEST_F(TargetTableTest, ZoneNumbersAreStable) {
  table_.SetMap(Map({Target(1, true, "b"), Target(2, true, "a"), Target(3, true, ""), Target(4, true, "b")}));
  uint32_t b = infos_[0].zone, a = infos_[1].zone;
  EXPECT_NE(a, b);
  EXPECT_NE(a, 0u);
  EXPECT_EQ(infos_[2].zone, 0u);
  EXPECT_EQ(infos_[3].zone, b);
  table_.SetMap(Map({Target(2, true, "a")}));
  EXPECT_EQ(infos_[0].zone, a);
}

TEST_F(TargetTableTest, LongNamesAreCutNotOverrun) {
  idl::TargetAddress target = Target(1, true);
  target.name = std::string(100, 'n');
  table_.SetMap(Map({target}));
  EXPECT_EQ(std::string(infos_[0].name), std::string(31, 'n'));
}

TEST_F(TargetTableTest, WaitForPath) {
  using std::chrono::milliseconds;
  EXPECT_TRUE(table_.WaitForPath(milliseconds(0)).ok()) << "no targets, nothing to wait for";
  table_.SetMap(Map({Target(1, true), Target(2, true)}));
  EXPECT_EQ(table_.WaitForPath(milliseconds(1)).code(), ETIMEDOUT);
  table_.SetPath(0, 1, Error(EACCES, "key"), 1);
  EXPECT_EQ(table_.WaitForPath(milliseconds(1)).code(), EACCES) << "the other one was not tried in time";
  table_.SetPath(0, 2, {}, 1);
  EXPECT_TRUE(table_.WaitForPath(milliseconds(0)).ok()) << "one is enough";
}

TEST(EndpointsTest, WhatCannotBeIsRefused) {
  EXPECT_EQ(EndpointsOf(Map({Target(1, true), Target(2, true)}))->size(), 2u);
  auto refused = [](auto change) {
    idl::TargetAddress target = Target(1, true);
    change(&target);
    return EndpointsOf(Map({target, Target(9, true)})).status().message();
  };
  EXPECT_EQ(refused([](idl::TargetAddress* t) { t->id = 0; }), "target map: id 0");
  EXPECT_EQ(refused([](idl::TargetAddress* t) { t->id = 9; }), "target map: id 9");
  EXPECT_EQ(refused([](idl::TargetAddress* t) { t->host = ""; }), "target map: target 1 has no host");
  EXPECT_EQ(refused([](idl::TargetAddress* t) { t->port = 65536; }), "target map: port 65536 of target 1");
  EXPECT_NE(refused([](idl::TargetAddress* t) { t->uuid = "x"; }), "");
}

}  // namespace
}  // namespace weft::agent
