// SPDX-License-Identifier: MIT
#include "userland/meta/settings.h"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace weft {
namespace {

class SettingsTest : public ::testing::Test {
 protected:
  std::optional<int> Read(std::vector<std::string> args, const std::string& file = "") {
    std::string path = testing::TempDir() + "/weft_settings_" + std::to_string(getpid()) + ".toml";
    settings_ = {};
    args.insert(args.begin(), "weft-meta");
    if (!file.empty()) {
      std::ofstream(path) << file;
      args.insert(args.end(), {"--config", path});
    }
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    testing::internal::CaptureStderr();
    auto exit_code = ReadMetaSettings(static_cast<int>(argv.size()), argv.data(), &settings_);
    said_ = testing::internal::GetCapturedStderr();
    unlink(path.c_str());
    return exit_code;
  }
  MetaSettings settings_;
  std::string said_;
};

TEST_F(SettingsTest, DefaultsWork) {
  EXPECT_EQ(Read({}), std::nullopt) << said_;
  EXPECT_EQ(settings_.listen.ToString(), "0.0.0.0:7470");
  EXPECT_EQ(settings_.meta.cluster, "weft");
  EXPECT_EQ(settings_.meta.lease_ms, 30'000);
}

TEST_F(SettingsTest, CommandLineWinsOverTheFile) {
  EXPECT_EQ(Read({"--listen", "127.0.0.1:1", "--cluster", "a"},
                 "cluster = 'b'\ndata = '/x'\nlisten = ':2'\n[session]\nlease_ms = 5000\n[store]\ncache = '1 GiB'\n"),
            std::nullopt)
      << said_;
  EXPECT_EQ(settings_.listen.ToString(), "127.0.0.1:1");
  EXPECT_EQ(settings_.meta.cluster, "a");
  EXPECT_EQ(settings_.data, "/x");
  EXPECT_EQ(settings_.meta.lease_ms, 5000);
  EXPECT_EQ(settings_.rocks.cache_bytes, 1U << 30);
}

TEST_F(SettingsTest, MistakesAreNamed) {
  EXPECT_EQ(Read({"--listen", "nonsense:x"}), 2);
  EXPECT_NE(said_.find("nonsense:x"), std::string::npos) << said_;
  EXPECT_EQ(Read({"--lease-ms", "5"}), 2);
  EXPECT_NE(said_.find("--lease-ms 5"), std::string::npos) << said_;
  EXPECT_EQ(Read({}, "[session]\nlease = 3\n"), 2);
  EXPECT_NE(said_.find("session.lease"), std::string::npos) << said_;
  EXPECT_EQ(Read({}, "[targets]\nheartbeat_ms = 3000\ndown_ms = 4000\n"), 2);
  EXPECT_NE(said_.find("down_ms 4000"), std::string::npos) << said_;
  EXPECT_EQ(Read({"--cluster", std::string(64, 'x')}), 2);
  EXPECT_EQ(Read({"--config", "/does/not/exist"}), 2);
  EXPECT_NE(said_.find("/does/not/exist"), std::string::npos) << said_;
}

}  // namespace
}  // namespace weft
