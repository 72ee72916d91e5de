// SPDX-License-Identifier: MIT
#include "nvmeof/host.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

// as nvme gen-dhchap-key made them: -m 0, 1 and 3
constexpr const char* kKey0 = "DHHC-1:00:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK:";
constexpr const char* kKey1 = "DHHC-1:01:gR1LPM+or2MqX/YFhWH+vxCyA5Rph1muKpFyu08jU8h6dZVT:";
constexpr const char* kKey3 =
    "DHHC-1:03:r3/+cG6H30phqw3Yt4/8c4eayjVzV4OiPXBa5DLX91FoSnF9GDPz2TyIHKjCaaBjMHwME06vFfNRccOUkHKuQmm8VM0=:";

class IdentifyHostTest : public testing::Test {
 protected:
  IdentifyHostTest() : folder_(fs::path(testing::TempDir()) / ("nvme." + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~IdentifyHostTest() override { fs::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }

  fs::path folder_;
};

TEST_F(IdentifyHostTest, FromTheFiles) {
  Write("hostnqn", "  nqn.2014-08.org.nvmexpress:uuid:1 \n");
  Write("hostid", "A7548C81-b35c-4fbd-9706-c608a236ce1a\n");
  auto identity = IdentifyHost({}, folder_);
  ASSERT_TRUE(identity.ok()) << identity.status().message();
  EXPECT_EQ(identity->hostnqn, "nqn.2014-08.org.nvmexpress:uuid:1");
  EXPECT_EQ(identity->hostid, "a7548c81-b35c-4fbd-9706-c608a236ce1a");
}

TEST_F(IdentifyHostTest, SettingsGoFirst) {
  HostSettings host;
  host.hostnqn = "nqn.mine";
  host.hostid = "00000000-0000-4000-8000-000000000001";
  auto identity = IdentifyHost(host, folder_);
  ASSERT_TRUE(identity.ok()) << identity.status().message();
  EXPECT_EQ(identity->hostnqn, host.hostnqn);
  EXPECT_EQ(identity->hostid, host.hostid);
}

TEST_F(IdentifyHostTest, MissingFilesHaveARemedy) {
  Status status = IdentifyHost({}, folder_).status();
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr("`nvme gen-hostnqn > " + folder_.string() + "/hostnqn`"));
  Write("hostnqn", "nqn.x\n");
  status = IdentifyHost({}, folder_).status();
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr("`uuidgen > " + folder_.string() + "/hostid`"));
  Write("hostnqn", "\n");
  EXPECT_EQ(IdentifyHost({}, folder_).status().code(), ENOENT);
}

TEST_F(IdentifyHostTest, RefusesWhatIsNoIdentity) {
  HostSettings host;
  host.hostnqn = "host,tls";
  host.hostid = "00000000-0000-4000-8000-000000000001";
  EXPECT_THAT(IdentifyHost(host, folder_).status().message(), HasSubstr("'host,tls' is not an NQN"));
  host.hostnqn = "nqn.x";
  host.hostid = "17";
  EXPECT_THAT(IdentifyHost(host, folder_).status().message(), HasSubstr("'17' is not a UUID"));
}

TEST(DhchapKeyTest, Accepts) {
  for (const char* key : {kKey0, kKey1, kKey3}) {
    EXPECT_TRUE(CheckDhchapKey("dhchap_key", key).ok()) << CheckDhchapKey("dhchap_key", key).message();
  }
}

TEST(DhchapKeyTest, RefusesAndKeepsTheSecret) {
  const std::pair<std::string, const char*> kWrong[] = {
      {"", "does not begin"},
      {"secret", "does not begin"},
      {"DHHC-1:", "hash is not"},
      {"DHHC-1:04:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK:", "hash is not"},
      {"DHHC-1:0x:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK:", "hash is not"},
      {"DHHC-1:00:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK", "does not end with a colon"},
      {"DHHC-1:00::", "not base64"},
      {"DHHC-1:00:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5z,:", "not base64"},
      {"DHHC-1:00:abcd:", "3 bytes"},
      {"DHHC-1:03:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK:", "hash 03 does not go with 36 bytes"},
      {"DHHC-1:00:Nnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zL:", "checksum"},
      {"DHHC-1:00:Mnssn6edarPX+VbfoUMUfvMPr6qWTEYaJRk7/r+iRLSzd5zK:", "checksum"},
      {"DHHC-1:00:" + std::string(300, 'A') + ":", "too long"},
  };
  for (const auto& [key, why] : kWrong) {
    Status status = CheckDhchapKey("dhchap_key", key);
    EXPECT_EQ(status.code(), EINVAL) << key;
    EXPECT_THAT(status.message(), HasSubstr(why));
    EXPECT_THAT(status.message(), HasSubstr("dhchap_key is not"));
    EXPECT_THAT(status.message(), HasSubstr("nvme gen-dhchap-key"));
    if (key.size() > 20) {
      EXPECT_THAT(status.message(), Not(HasSubstr(key.substr(10))));
    }
  }
}

TEST(CheckSettingsTest, Refuses) {
  EXPECT_TRUE(CheckSettings({}, Transport::kRdma).ok());
  HostSettings host;
  host.dhchap_ctrl_key = kKey0;
  EXPECT_THAT(CheckSettings(host, Transport::kTcp).message(), HasSubstr("without dhchap_key"));
  host.dhchap_key = kKey1;
  EXPECT_TRUE(CheckSettings(host, Transport::kTcp).ok());

  host = {};
  host.tls = true;
  EXPECT_TRUE(CheckSettings(host, Transport::kTcp).ok());
  EXPECT_EQ(CheckSettings(host, Transport::kRdma).code(), ENOPROTOOPT);

  host = {};
  host.host_iface = "lo";
  EXPECT_TRUE(CheckSettings(host, Transport::kTcp).ok());
  EXPECT_EQ(CheckSettings(host, Transport::kRdma).code(), ENOPROTOOPT);
  host.host_iface = "nosuch0";
  EXPECT_THAT(CheckSettings(host, Transport::kTcp).message(), HasSubstr("'nosuch0' does not exist"));

  host = {};
  host.host_address = "10.0.0.1";
  EXPECT_TRUE(CheckSettings(host, Transport::kRdma).ok());
  host.host_address = "10.0.0.1,tls";
  EXPECT_EQ(CheckSettings(host, Transport::kRdma).code(), EINVAL);
}

TEST(Host, ARequestMayTakeEffectUntilItsPathIsGivenUp) {
  using std::chrono::milliseconds;
  std::string sysfs = testing::TempDir() + "host_test_sysfs";
  std::string folder = sysfs + "/module/nvme_core/parameters";
  std::filesystem::remove_all(sysfs);
  HostSettings host;
  host.keep_alive_s = 4;
  EXPECT_EQ(DrainTime(host, sysfs), milliseconds(35'000)) << "the kernel's 30 s where the module is not loaded";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/io_timeout") << "2\n";
  EXPECT_EQ(DrainTime(host, sysfs), milliseconds(11'000)) << "the keep-alive finds it later";
  std::ofstream(folder + "/io_timeout") << "8\n";
  EXPECT_EQ(DrainTime(host, sysfs), milliseconds(13'000));
  host.fast_io_fail_s = 0;
  EXPECT_EQ(DrainTime(host, sysfs), milliseconds::max()) << "it waits for ever";
  host.ctrl_loss_s = 60;
  EXPECT_EQ(DrainTime(host, sysfs), milliseconds(68'000));
  std::filesystem::remove_all(sysfs);
}

}  // namespace
}  // namespace weft::nvmeof
