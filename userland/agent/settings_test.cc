// SPDX-License-Identifier: MIT
#include "userland/agent/settings.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace weft::agent {
namespace {

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() {
    char name[] = "/tmp/weft-settings-XXXXXX";
    int fd = mkstemp(name);
    EXPECT_GE(fd, 0);
    close(fd);
    path_ = name;
  }
  ~SettingsTest() override { std::filesystem::remove(path_); }

  Status Read(const std::string& text) {
    std::ofstream(path_) << text;
    return ReadSettings(path_, &settings_);
  }

  std::string path_;
  Settings settings_;
};

TEST_F(SettingsTest, EveryKeyIsRead) {
  Status s = Read(
      "meta = '10.0.0.1:7470'\nkey = '/k'\nzone = 'r1'\nlog_level = 'debug'\nqueues = 3\npool_bytes = '128 MiB'\ndepth "
      "= 256\n"
      "spin_us = 7\ndetect_ms = 900\nmeta_connections = 4\n");
  ASSERT_TRUE(s.ok()) << s.message();
  EXPECT_EQ(settings_.meta, "10.0.0.1:7470");
  EXPECT_EQ(settings_.key, "/k");
  EXPECT_EQ(settings_.zone, "r1");
  EXPECT_EQ(settings_.log_level, "debug");
  EXPECT_EQ(settings_.queues, 3);
  EXPECT_EQ(settings_.pool_bytes, 128u << 20);
  EXPECT_EQ(settings_.depth, 256);
  EXPECT_EQ(SpinTime(settings_).count(), 7);
  EXPECT_EQ(settings_.detect_ms, 900);
  EXPECT_EQ(settings_.meta_connections, 4);
  EXPECT_TRUE(CheckSettings(settings_).ok());
  EXPECT_EQ(QueueCount(settings_), 3u);
}

TEST_F(SettingsTest, MistakesNameFileLineAndKey) {
  EXPECT_EQ(Read("meta = 'a:1'\nspin = 3\n").message(), path_ + ":2: 'spin' is not a setting of this program");
  EXPECT_EQ(Read("queues = 65\n").message(), path_ + ":1: 'queues' must be a whole number from 0 to 64");
  EXPECT_EQ(ReadSettings("/nonexistent/weft.toml", &settings_).code(), ENOENT);
}

TEST_F(SettingsTest, WhatIsMissingOrOutOfRangeIsNamed) {
  EXPECT_EQ(CheckSettings(settings_).message(), "no metadata server is named; give --meta HOST:PORT");
  settings_.meta = "a:1";
  EXPECT_EQ(CheckSettings(settings_).message(), "no cluster key is named; give --key FILE");
  settings_.key = "/k";
  EXPECT_TRUE(CheckSettings(settings_).ok());
  settings_.depth = 100;
  EXPECT_EQ(CheckSettings(settings_).message(), "depth 100 is no power of two");
  settings_.depth = 64;
  settings_.pool_bytes = 4096;
  EXPECT_EQ(CheckSettings(settings_).message(), "pool_bytes is 4.0 KiB, not 8.0 MiB to 4.0 GiB");
  settings_.pool_bytes = 0;
  settings_.detect_ms = 1;
  EXPECT_EQ(CheckSettings(settings_).message(), "detect_ms is 1, not 100 to 600000");
}

TEST_F(SettingsTest, AtLeastOneQueue) { EXPECT_GE(QueueCount(settings_), 1u); }

}  // namespace
}  // namespace weft::agent
