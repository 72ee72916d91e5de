// SPDX-License-Identifier: MIT
#include "nvmeof/fabrics_device.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

using testing::HasSubstr;
using testing::Not;

ConnectRequest Request() {
  ConnectRequest request;
  request.endpoint = {Transport::kTcp, "10.0.0.1", 4421};
  request.nqn = "nqn.x";
  request.identity = {"nqn.host", "00000000-0000-4000-8000-000000000001"};
  return request;
}

TEST(ConnectRequestTest, Defaults) {
  EXPECT_EQ(Request().Options(),
            "nqn=nqn.x,transport=tcp,traddr=10.0.0.1,trsvcid=4421,hostnqn=nqn.host,"
            "hostid=00000000-0000-4000-8000-000000000001,keep_alive_tmo=5,reconnect_delay=1,fast_io_fail_tmo=5,"
            "ctrl_loss_tmo=-1");
}

TEST(ConnectRequestTest, Everything) {
  ConnectRequest request = Request();
  request.settings.host_iface = "eth0";
  request.settings.host_address = "10.0.0.9";
  request.settings.queues = 4;
  request.settings.ctrl_loss_s = 0;
  request.settings.dhchap_key = "DHHC-1:a";
  request.settings.dhchap_ctrl_key = "DHHC-1:b";
  request.settings.tls = true;
  EXPECT_THAT(request.Options(), HasSubstr(",host_traddr=10.0.0.9,host_iface=eth0,tls,nr_io_queues=4,"));
  EXPECT_THAT(request.Options(), HasSubstr(",ctrl_loss_tmo=0,dhchap_secret=DHHC-1:a,dhchap_ctrl_secret=DHHC-1:b"));
}

TEST(ConnectRequestTest, WhatIsZeroIsLeftToTheKernel) {
  ConnectRequest request = Request();
  request.settings.keep_alive_s = request.settings.reconnect_s = request.settings.fast_io_fail_s = 0;
  for (const char* name : {"keep_alive", "reconnect", "fast_io", "nr_io", "dhchap", "tls", "host_"}) {
    EXPECT_THAT(request.Options(), Not(HasSubstr(name)));
  }
}

TEST(ConnectRequestTest, DiscoveryNeedsNoKeysAndNoTimeouts) {
  ConnectRequest request = Request();
  request.nqn = kDiscoveryNqn;
  request.settings.dhchap_key = "DHHC-1:a";
  request.settings.tls = true;
  EXPECT_THAT(request.Options(), HasSubstr(",tls"));
  for (const char* name : {"dhchap", "_tmo", "reconnect"}) EXPECT_THAT(request.Options(), Not(HasSubstr(name)));
}

TEST(UnsupportedOptionTest, FindsTheFirst) {
  const char* supported = "instance=-1,cntlid=-1,transport=%s,nqn=%s,tls_key=%d,discovery\n";
  EXPECT_EQ(UnsupportedOption("nqn=nqn.x,transport=rdma", supported), "");
  EXPECT_EQ(UnsupportedOption("nqn=nqn.x,tls,transport=rdma", supported), "tls");
  EXPECT_EQ(UnsupportedOption("nqn=nqn.x,discovery,dhchap_secret=x", supported), "dhchap_secret");
}

TEST(FabricsDeviceTest, ThereIsNone) {
  Status status = FabricsDevice::Open("/nonexistent/nvme-fabrics").status();
  EXPECT_EQ(status.code(), ENODEV);
  EXPECT_THAT(status.message(), HasSubstr("modprobe nvme-rdma"));
}

// A file in the device's place: what is written to it is read back.
TEST(FabricsDeviceTest, AsksAndCreates) {
  std::string path = testing::TempDir() + "/fabrics." + std::to_string(getpid());
  std::ofstream(path) << "instance=-1,cntlid=-1,nqn=%s,transport=%s\n";
  auto device = FabricsDevice::Open(path.c_str());
  ASSERT_TRUE(device.ok());
  EXPECT_TRUE(device->CheckOptions("nqn=nqn.x,transport=tcp").ok());
  Status status = device->CheckOptions("nqn=nqn.x,dhchap_secret=x");
  EXPECT_EQ(status.code(), ENOPROTOOPT);
  EXPECT_THAT(status.message(), HasSubstr("CONFIG_NVME_HOST_AUTH"));
  EXPECT_THAT(device->CheckOptions("tls").message(), HasSubstr("CONFIG_NVME_TCP_TLS"));
  auto controller = device->Create("instance=17,cntlid=1\n");
  ASSERT_TRUE(controller.ok()) << controller.status().message();
  EXPECT_EQ(*controller, "nvme17");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace weft::nvmeof
