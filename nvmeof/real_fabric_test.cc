// SPDX-License-Identifier: MIT
//
// What of the real Fabric needs no kernel: it finds what is connected in a sysfs that the test has made, and the
// device that connects is a file.
#include "nvmeof/real_fabric.h"

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

constexpr const char* kNqn = "nqn.2026-11.test:one";
const Endpoint kEndpoint{Transport::kRdma, "10.0.0.1", 4420};

class RealFabricTest : public testing::Test {
 protected:
  RealFabricTest() : root_(fs::path(testing::TempDir()) / ("fabric." + std::to_string(getpid()))) {
    fs::create_directories(root_);
    Write("etc/hostnqn", "nqn.host");
    Write("etc/hostid", "00000000-0000-4000-8000-000000000001");
    fabric_ = MakeRealFabric({.sysfs = root_ / "sys",
                              .fabrics = root_ / "nvme-fabrics",
                              .log = root_ / "kmsg",
                              .devices = root_ / "dev",
                              .identity = root_ / "etc"});
  }
  ~RealFabricTest() override { fs::remove_all(root_); }

  void Write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  std::string Attribute(const std::string& controller, const std::string& name) {
    std::ifstream file(root_ / "devices" / controller / name);
    std::string line;
    std::getline(file, line);
    return line;
  }
  void AddController(const std::string& name, const Endpoint& endpoint, const std::string& state = "live",
                     const std::string& hostnqn = "nqn.host") {
    fs::path device = fs::path("devices") / name;
    Write(device / "transport", std::string(ToString(endpoint.transport)));
    Write(device / "address", "traddr=" + endpoint.host + ",trsvcid=" + std::to_string(endpoint.port));
    Write(device / "state", state);
    Write(device / "hostnqn", hostnqn);
    Write(device / "hostid", "00000000-0000-4000-8000-000000000001");
    for (const char* file :
         {"reconnect_delay", "ctrl_loss_tmo", "fast_io_fail_tmo", "delete_controller", "rescan_controller"}) {
      Write(device / file, "");
    }
    Write("sys/class/nvme-subsystem/nvme-subsys0/subsysnqn", kNqn);
    fs::create_directories(root_ / "sys/class/nvme");
    fs::create_directory_symlink(root_ / device, root_ / "sys/class/nvme" / name);
    fs::create_directory_symlink(root_ / device, root_ / "sys/class/nvme-subsystem/nvme-subsys0" / name);
  }

  fs::path root_;
  std::unique_ptr<Fabric> fabric_;
};

TEST_F(RealFabricTest, WhatIsConnectedGetsItsTimeouts) {
  AddController("nvme0", {Transport::kTcp, "10.0.0.1", 4420});
  AddController("nvme1", kEndpoint, "connecting");
  HostSettings host;
  host.reconnect_s = 2;
  host.fast_io_fail_s = 7;
  Status status = fabric_->Connect(kEndpoint, kNqn, host);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Attribute("nvme1", "reconnect_delay"), "2");
  EXPECT_EQ(Attribute("nvme1", "ctrl_loss_tmo"), "-1");
  EXPECT_EQ(Attribute("nvme1", "fast_io_fail_tmo"), "7");
  EXPECT_EQ(Attribute("nvme0", "reconnect_delay"), "");
}

TEST_F(RealFabricTest, AddressesAreTheSameInAnyForm) {
  AddController("nvme0", {Transport::kTcp, "fd00:0::1", 4420});
  EXPECT_TRUE(fabric_->Connect({Transport::kTcp, "fd00::1", 4420}, kNqn, {}).ok());
}

TEST_F(RealFabricTest, OthersAreNotTheSameConnection) {
  AddController("nvme0", kEndpoint, "deleting (no IO)");
  AddController("nvme1", kEndpoint, "live", "nqn.other-host");
  AddController("nvme2", {Transport::kRdma, "10.0.0.1", 4421});
  EXPECT_EQ(fabric_->Connect(kEndpoint, kNqn, {}).code(), ENODEV);  // it would connect, but there is no device
}

TEST_F(RealFabricTest, ConnectsAndSetsTimeouts) {
  AddController("nvme4", {Transport::kTcp, "10.0.0.2", 4420});
  // the device's answer: the test's file keeps what is behind the options
  std::string answer =
      "nqn=%s,transport=%s,traddr=%s,trsvcid=%s,hostnqn=%s,hostid=%s,keep_alive_tmo=%d,"
      "reconnect_delay=%d,fast_io_fail_tmo=%d,ctrl_loss_tmo=%d";
  Write("nvme-fabrics", answer + std::string(300, ',') + "instance=4,cntlid=1");
  Status status = fabric_->Connect(kEndpoint, kNqn, {});
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Attribute("nvme4", "fast_io_fail_tmo"), "5");
  std::ifstream file(root_ / "nvme-fabrics");
  std::string line;
  std::getline(file, line);
  EXPECT_THAT(line, HasSubstr("nqn=nqn.2026-11.test:one,transport=rdma,traddr=10.0.0.1,trsvcid=4420,hostnqn=nqn.host"));
}

TEST_F(RealFabricTest, DisconnectsAndRescansAllControllers) {
  AddController("nvme0", kEndpoint);
  AddController("nvme1", {Transport::kTcp, "10.0.0.1", 4420});
  EXPECT_TRUE(fabric_->Rescan(kNqn).ok());
  EXPECT_TRUE(fabric_->Disconnect("nqn.other").ok());
  EXPECT_TRUE(fabric_->Disconnect("").ok());
  for (const char* name : {"nvme0", "nvme1"}) {
    EXPECT_EQ(Attribute(name, "rescan_controller"), "1");
    EXPECT_EQ(Attribute(name, "delete_controller"), "");
  }
  EXPECT_TRUE(fabric_->Disconnect(kNqn).ok());
  for (const char* name : {"nvme0", "nvme1"}) EXPECT_EQ(Attribute(name, "delete_controller"), "1");
}

TEST_F(RealFabricTest, TimeoutsAreForAllControllers) {
  AddController("nvme0", kEndpoint);
  AddController("nvme1", {Transport::kTcp, "10.0.0.1", 4420}, "connecting", "nqn.other-host");
  HostSettings host;
  host.fast_io_fail_s = 7;
  EXPECT_TRUE(fabric_->SetTimeouts(kNqn, host).ok());
  for (const char* name : {"nvme0", "nvme1"}) EXPECT_EQ(Attribute(name, "fast_io_fail_tmo"), "7");
}

TEST_F(RealFabricTest, NamespacesAreAskedOfALiveController) {
  EXPECT_EQ(fabric_->ActiveNamespaces(kNqn).status().code(), EHOSTDOWN);
  AddController("nvme0", {Transport::kTcp, "10.0.0.1", 4420}, "connecting");
  EXPECT_EQ(fabric_->ActiveNamespaces(kNqn).status().code(), EHOSTDOWN);
  AddController("nvme1", kEndpoint);
  EXPECT_THAT(fabric_->ActiveNamespaces(kNqn).status().message(), HasSubstr("dev/nvme1"));
  Write("dev/nvme1", "");  // of a file that is no controller nothing is believed
  Status status = fabric_->ActiveNamespaces(kNqn).status();
  EXPECT_EQ(status.code(), ENOTTY) << status.message();
}

TEST_F(RealFabricTest, NothingIsAskedOfTheKernelThatIsWrong) {
  EXPECT_EQ(fabric_->Connect(kEndpoint, "disk", {}).code(), EINVAL);
  HostSettings host;
  host.dhchap_key = "secret";
  EXPECT_EQ(fabric_->Connect(kEndpoint, kNqn, host).code(), EINVAL);
  host = {};
  host.tls = true;
  EXPECT_EQ(fabric_->Connect(kEndpoint, kNqn, host).code(), ENOPROTOOPT);
  fs::remove(root_ / "etc/hostnqn");
  EXPECT_EQ(fabric_->Connect(kEndpoint, kNqn, {}).code(), ENOENT);
  EXPECT_EQ(fabric_->Discover(kEndpoint, {}).status().code(), ENOENT);
}

TEST_F(RealFabricTest, NameWithoutAnAddress) {
  Status status = fabric_->Connect({Transport::kRdma, "no-such-host.invalid", 4420}, kNqn, {});
  EXPECT_EQ(status.code(), EHOSTUNREACH);
  EXPECT_THAT(status.message(), HasSubstr("'no-such-host.invalid'"));
}

}  // namespace
}  // namespace weft::nvmeof
