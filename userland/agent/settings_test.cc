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
  EXPECT_TRUE(SpinsForDevices(settings_));
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

TEST_F(SettingsTest, EveryKeyOfNvmeIsRead) {
  Status s = Read(
      "rdma_address = '10.0.0.7'\nnvme_hostnqn = 'nqn.me'\nnvme_hostid = 'id'\nnvme_interface = 'eth1'\n"
      "nvme_address = '10.0.0.8'\nnvme_queues = 4\nnvme_keep_alive_s = 7\nnvme_reconnect_s = 2\n"
      "nvme_ctrl_loss_s = 60\nnvme_fast_io_fail_s = 3\nnvme_tls = true\n");
  ASSERT_TRUE(s.ok()) << s.message();
  EXPECT_EQ(settings_.rdma_address, "10.0.0.7");
  auto host = NvmeHost(settings_);
  ASSERT_TRUE(host.ok()) << host.status().message();
  EXPECT_EQ(host->hostnqn, "nqn.me");
  EXPECT_EQ(host->hostid, "id");
  EXPECT_EQ(host->host_iface, "eth1");
  EXPECT_EQ(host->host_address, "10.0.0.8");
  EXPECT_EQ(host->queues, 4U);
  EXPECT_EQ(host->keep_alive_s, 7U);
  EXPECT_EQ(host->reconnect_s, 2U);
  EXPECT_EQ(host->ctrl_loss_s, 60);
  EXPECT_EQ(host->fast_io_fail_s, 3U);
  EXPECT_TRUE(host->tls);
  EXPECT_EQ(host->dhchap_key, "");
}

TEST_F(SettingsTest, TimesOfNvmeAreInRange) {
  EXPECT_EQ(Read("nvme_keep_alive_s = 0\n").message(),
            path_ + ":1: 'nvme_keep_alive_s' must be a whole number from 1 to 3600");
  EXPECT_EQ(Read("nvme_ctrl_loss_s = -2\n").message(),
            path_ + ":1: 'nvme_ctrl_loss_s' must be a whole number from -1 to 3600");
  EXPECT_EQ(Read("nvme_queues = 1025\n").message(), path_ + ":1: 'nvme_queues' must be a whole number from 0 to 1024");
}

TEST_F(SettingsTest, RequestsFailWhenATargetCountsAsDown) {
  EXPECT_EQ(NvmeHost(settings_)->fast_io_fail_s, 5U);
  for (auto [detect_ms, seconds] :
       {std::pair(100, 1U), std::pair(1000, 1U), std::pair(1001, 2U), std::pair(9000, 9U)}) {
    settings_.detect_ms = detect_ms;
    EXPECT_EQ(NvmeHost(settings_)->fast_io_fail_s, seconds) << detect_ms;
  }
  settings_.nvme_fast_io_fail_s = 0;
  EXPECT_EQ(NvmeHost(settings_)->fast_io_fail_s, 0U) << "for ever";
}

TEST_F(SettingsTest, SecretsOfNvmeAreReadFromFiles) {
  std::ofstream(path_) << "  DHHC-1:00:secret:\r\nmore\n";
  settings_.nvme_key = settings_.nvme_ctrl_key = path_;
  auto host = NvmeHost(settings_);
  ASSERT_TRUE(host.ok()) << host.status().message();
  EXPECT_EQ(host->dhchap_key, "DHHC-1:00:secret:");
  EXPECT_EQ(host->dhchap_ctrl_key, "DHHC-1:00:secret:");
  for (const char* empty : {"", "\n", " \nDHHC-1:00:secret:"}) {
    std::ofstream(path_) << empty;
    Status s = NvmeHost(settings_).status();
    EXPECT_EQ(s.code(), EINVAL);
    EXPECT_EQ(s.message(), "NVMe secret " + path_ + " is empty; `nvme gen-dhchap-key` makes one");
  }
  settings_.nvme_key = "/nonexistent/key";
  EXPECT_EQ(NvmeHost(settings_).status().code(), ENOENT);
  EXPECT_EQ(NvmeHost(settings_).status().message(),
            "NVMe secret /nonexistent/key: ENOENT; `nvme gen-dhchap-key` makes one");
  settings_.nvme_key = "/tmp";
  EXPECT_EQ(NvmeHost(settings_).status().code(), EISDIR);
}

}  // namespace
}  // namespace weft::agent
