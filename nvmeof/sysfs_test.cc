// SPDX-License-Identifier: MIT
#include "nvmeof/sysfs.h"

#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kNqn = "nqn.2026-11.test:one";
constexpr const char* kUuid = "a7548c81-b35c-4fbd-9706-c608a236ce1a";

// A tree as Linux 6.12 shows it.
class SysfsTest : public testing::Test {
 protected:
  SysfsTest() : root_(fs::path(testing::TempDir()) / ("sysfs." + std::to_string(getpid()))), sysfs_(root_) {
    fs::create_directories(root_ / "class/nvme");
  }
  ~SysfsTest() override { fs::remove_all(root_); }

  void Write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  std::string ReadBack(const fs::path& path) {
    std::ifstream file(root_ / path);
    std::string line;
    std::getline(file, line);
    return line;
  }

  fs::path Subsystem(int number, const std::string& nqn) {
    fs::path folder = fs::path("class/nvme-subsystem") / ("nvme-subsys" + std::to_string(number));
    Write(folder / "subsysnqn", nqn);
    Write(folder / "model", "Linux");
    return folder;
  }

  fs::path AddController(const fs::path& subsystem, const std::string& name, const std::string& transport,
                         const std::string& address, const std::string& state = "live") {
    fs::path folder = fs::path("devices") / name;
    Write(folder / "transport", transport);
    Write(folder / "address", address);
    Write(folder / "state", state);
    Write(folder / "hostnqn", "nqn.host");
    Write(folder / "hostid", kUuid);
    fs::create_directory_symlink(root_ / folder, root_ / "class/nvme" / name);
    if (!subsystem.empty()) fs::create_directory_symlink(root_ / folder, root_ / subsystem / name);
    return folder;
  }

  void AddDevice(const fs::path& folder, const std::map<std::string, std::string>& other = {}) {
    std::map<std::string, std::string> attributes = {
        {"dev", "259:1"},
        {"nsid", "1"},
        {"uuid", kUuid},
        {"wwid", std::string("uuid.") + kUuid},
        {"size", "131072"},
        {"ro", "0"},
        {"queue/logical_block_size", "512"},
        {"queue/physical_block_size", "4096"},
        {"queue/atomic_write_max_bytes", "0"},
        {"queue/max_sectors_kb", "1024"},
        {"queue/discard_max_bytes", "2199023255040"},
        {"queue/write_zeroes_max_bytes", "1048576"},
        {"queue/write_cache", "write back"},
        {"queue/fua", "1"},
    };
    for (const auto& [name, value] : other) attributes[name] = value;
    for (const auto& [name, value] : attributes) {
      if (value != "none") Write(folder / name, value);
    }
  }

  void AddPathDevice(const fs::path& folder, const std::string& ana_state) {
    AddDevice(folder, {{"dev", "none"}, {"hidden", "1"}, {"queue/atomic_write_max_bytes", "4096"}});
    if (!ana_state.empty()) Write(folder / "ana_state", ana_state);
  }

  fs::path root_;
  Sysfs sysfs_;
};

TEST_F(SysfsTest, NothingConnected) {
  EXPECT_THAT(*sysfs_.Namespaces(kNqn), IsEmpty());
  EXPECT_THAT(sysfs_.Controllers(kNqn), IsEmpty());
  EXPECT_THAT(sysfs_.AllControllers(), IsEmpty());
  EXPECT_THAT(sysfs_.ControllerNames(), IsEmpty());
}

TEST_F(SysfsTest, MultipathHeadWithTwoPaths) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1");
  fs::path first = AddController(subsystem, "nvme0", "rdma", "traddr=10.66.0.11,trsvcid=4420");
  fs::path second =
      AddController(subsystem, "nvme10", "tcp", "traddr=fd00::1,trsvcid=4421,src_addr=fd00::2", "connecting");
  AddPathDevice(first / "nvme0c0n1", "optimized");
  AddPathDevice(second / "nvme0c10n1", "inaccessible");
  AddPathDevice(second / "nvme0c10n2", "optimized");  // of another namespace

  auto namespaces = sysfs_.Namespaces(kNqn);
  ASSERT_TRUE(namespaces.ok()) << namespaces.status().message();
  ASSERT_THAT(*namespaces, SizeIs(1));
  const Namespace& ns = namespaces->front();
  EXPECT_EQ(ns.device, "/dev/nvme0n1");
  EXPECT_EQ(ns.device_number, makedev(259, 1));
  EXPECT_EQ(ns.nqn, kNqn);
  EXPECT_EQ(ns.nsid, 1u);
  EXPECT_EQ(ns.id.uuid[0], 0xa7);
  EXPECT_EQ(ns.id.uuid[15], 0x1a);
  EXPECT_EQ(ns.id.nguid, (std::array<uint8_t, 16>{}));
  EXPECT_EQ(ns.bytes, 64u << 20);
  EXPECT_EQ(ns.block_bytes, 512u);
  EXPECT_EQ(ns.physical_block_bytes, 4096u);
  EXPECT_EQ(ns.atomic_write_bytes, 4096u);  // of the paths
  EXPECT_EQ(ns.request_bytes_max, 1u << 20);
  EXPECT_EQ(ns.discard_bytes_max, 2199023255040u);
  EXPECT_EQ(ns.write_zeroes_bytes_max, 1048576u);
  EXPECT_TRUE(ns.write_cache);
  EXPECT_TRUE(ns.fua);
  EXPECT_FALSE(ns.read_only);

  ASSERT_THAT(ns.paths, SizeIs(2));
  EXPECT_EQ(ns.paths[0].controller, "nvme0");
  EXPECT_EQ(ns.paths[0].endpoint, (Endpoint{Transport::kRdma, "10.66.0.11", 4420}));
  EXPECT_EQ(ns.paths[0].state, "live");
  EXPECT_EQ(ns.paths[0].ana_state, "optimized");
  EXPECT_TRUE(ns.paths[0].usable());
  EXPECT_EQ(ns.paths[1].controller, "nvme10");
  EXPECT_EQ(ns.paths[1].endpoint, (Endpoint{Transport::kTcp, "fd00::1", 4421}));
  EXPECT_EQ(ns.paths[1].ana_state, "inaccessible");
  EXPECT_FALSE(ns.paths[1].usable());
  EXPECT_TRUE(ns.reachable());
}

TEST_F(SysfsTest, LeastAtomicWriteOfAllPaths) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1");
  for (int i = 0; i < 2; ++i) {
    std::string name = "nvme" + std::to_string(i);
    fs::path controller = AddController(subsystem, name, "tcp", "traddr=10.0.0.1,trsvcid=4420");
    AddPathDevice(controller / ("nvme0c" + std::to_string(i) + "n1"), "");
  }
  Write("devices/nvme1/nvme0c1n1/queue/atomic_write_max_bytes", "512");
  EXPECT_EQ(sysfs_.Namespaces(kNqn)->front().atomic_write_bytes, 512u);
  Write(subsystem / "nvme0n1/queue/atomic_write_max_bytes", "16384");  // a kernel whose heads have it
  EXPECT_EQ(sysfs_.Namespaces(kNqn)->front().atomic_write_bytes, 16384u);
}

TEST_F(SysfsTest, WithoutAnaEveryPathIsAsGood) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1");
  AddPathDevice(AddController(subsystem, "nvme3", "tcp", "traddr=10.0.0.1,trsvcid=4420") / "nvme0c3n1", "");
  EXPECT_EQ(sysfs_.Namespaces(kNqn)->front().paths.front().ana_state, "optimized");
}

TEST_F(SysfsTest, ControllerWithoutTheNamespaceIsNoPath) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1");
  AddController(subsystem, "nvme3", "tcp", "traddr=10.0.0.1,trsvcid=4420");
  EXPECT_THAT(sysfs_.Namespaces(kNqn)->front().paths, IsEmpty());
  EXPECT_FALSE(sysfs_.Namespaces(kNqn)->front().reachable());
}

TEST_F(SysfsTest, WithoutMultipathADeviceIsOfOneController) {
  fs::path subsystem = Subsystem(0, kNqn);
  for (int i = 4; i < 6; ++i) {
    std::string name = "nvme" + std::to_string(i);
    fs::path controller =
        AddController(subsystem, name, "rdma", "traddr=10.0.0." + std::to_string(i) + ",trsvcid=4420");
    AddDevice(controller / (name + "n1"), {{"queue/atomic_write_max_bytes", "4096"}});
    Write(controller / (name + "n1/ana_state"), i == 4 ? "optimized" : "non-optimized");
  }
  auto namespaces = sysfs_.Namespaces(kNqn);
  ASSERT_THAT(*namespaces, SizeIs(2));
  EXPECT_EQ((*namespaces)[0].device, "/dev/nvme4n1");
  EXPECT_EQ((*namespaces)[0].atomic_write_bytes, 4096u);
  ASSERT_THAT((*namespaces)[0].paths, SizeIs(1));
  EXPECT_EQ((*namespaces)[0].paths[0].endpoint.host, "10.0.0.4");
  EXPECT_EQ((*namespaces)[1].device, "/dev/nvme5n1");
  EXPECT_EQ((*namespaces)[1].paths[0].ana_state, "non-optimized");
}

TEST_F(SysfsTest, OnlyTheSubsystemThatIsAskedFor) {
  fs::path one = Subsystem(0, kNqn);
  fs::path other = Subsystem(1, "nqn.2026-11.test:one-more");
  AddDevice(one / "nvme0n2", {{"nsid", "2"}});
  AddDevice(one / "nvme0n1");
  AddDevice(other / "nvme1n1");
  AddController(one, "nvme0", "tcp", "traddr=10.0.0.1,trsvcid=4420");
  AddController(other, "nvme1", "tcp", "traddr=10.0.0.1,trsvcid=4420");
  AddController({}, "nvme2", "tcp", "traddr=10.0.0.1,trsvcid=4420", "new");  // being connected
  Subsystem(2, "nqn.local");
  AddController("class/nvme-subsystem/nvme-subsys2", "nvme9", "pcie", "0000:01:00.0");

  auto namespaces = sysfs_.Namespaces(kNqn);
  ASSERT_THAT(*namespaces, SizeIs(2));
  EXPECT_EQ((*namespaces)[0].nsid, 1u);
  EXPECT_EQ((*namespaces)[1].nsid, 2u);
  EXPECT_THAT(sysfs_.Controllers(kNqn), SizeIs(1));
  EXPECT_THAT(sysfs_.AllControllers(), SizeIs(2));
  EXPECT_THAT(sysfs_.Controllers("nqn.local"), IsEmpty());
  EXPECT_THAT(sysfs_.Controllers(""), IsEmpty());
  EXPECT_THAT(sysfs_.ControllerNames(), ElementsAre("nvme0", "nvme1", "nvme2", "nvme9"));
}

TEST_F(SysfsTest, NguidShownAsUuidIsNoUuid) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1", {{"nguid", kUuid}, {"wwid", "eui.a7548c81b35c4fbd9706c608a236ce1a"}});
  auto namespaces = sysfs_.Namespaces(kNqn);
  EXPECT_EQ(namespaces->front().id.nguid[0], 0xa7);
  EXPECT_EQ(namespaces->front().id.uuid, (std::array<uint8_t, 16>{}));
}

TEST_F(SysfsTest, NamespaceWithoutIds) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1", {{"uuid", "none"}, {"wwid", "nvme.0000-61-62-00000001"}});
  EXPECT_TRUE(sysfs_.Namespaces(kNqn)->front().id.none());
}

TEST_F(SysfsTest, OlderKernelsAndPoorerDevices) {
  fs::path subsystem = Subsystem(0, kNqn);
  AddDevice(subsystem / "nvme0n1", {{"queue/atomic_write_max_bytes", "none"},
                                    {"queue/discard_max_bytes", "0"},
                                    {"queue/write_zeroes_max_bytes", "0"},
                                    {"queue/write_cache", "write through"},
                                    {"queue/fua", "0"},
                                    {"ro", "1"},
                                    {"queue/max_sectors_kb", "2147483647"}});
  const Namespace ns = sysfs_.Namespaces(kNqn)->front();
  EXPECT_EQ(ns.atomic_write_bytes, 0u);
  EXPECT_EQ(ns.discard_bytes_max, 0u);
  EXPECT_EQ(ns.write_zeroes_bytes_max, 0u);
  EXPECT_FALSE(ns.write_cache);
  EXPECT_FALSE(ns.fua);
  EXPECT_TRUE(ns.read_only);
  EXPECT_EQ(ns.request_bytes_max, UINT32_MAX);
}

TEST_F(SysfsTest, WhatIsGoingAwayIsLeftOut) {
  fs::path subsystem = Subsystem(0, kNqn);
  for (const char* missing : {"dev", "nsid", "size", "queue/logical_block_size"}) {
    AddDevice(subsystem / "nvme0n1", {{missing, "none"}});
    EXPECT_THAT(*sysfs_.Namespaces(kNqn), IsEmpty()) << missing;
    fs::remove_all(root_ / subsystem / "nvme0n1");
  }
  fs::create_directory_symlink(root_ / "devices/gone", root_ / subsystem / "nvme7");
  EXPECT_THAT(sysfs_.Controllers(kNqn), IsEmpty());
}

TEST_F(SysfsTest, WrongAttributesAreNamed) {
  fs::path subsystem = Subsystem(0, kNqn);
  const std::pair<const char*, const char*> kWrong[] = {
      {"size", "many"}, {"nsid", "1x"}, {"dev", "259"}, {"uuid", "x"}, {"queue/fua", "-1"}};
  for (const auto& [name, value] : kWrong) {
    AddDevice(subsystem / "nvme0n1", {{name, value}});
    auto namespaces = sysfs_.Namespaces(kNqn);
    ASSERT_FALSE(namespaces.ok()) << name;
    EXPECT_EQ(namespaces.status().code(), EPROTO);
    EXPECT_THAT(namespaces.status().message(), HasSubstr(std::string("nvme0n1/") + name + " is '" + value + "'"));
  }
}

TEST_F(SysfsTest, SetsAttributes) {
  AddController(Subsystem(0, kNqn), "nvme0", "tcp", "traddr=10.0.0.1,trsvcid=4420");
  Write("devices/nvme0/fast_io_fail_tmo", "off");
  EXPECT_TRUE(sysfs_.Set("nvme0", "fast_io_fail_tmo", "5\n").ok());
  EXPECT_EQ(ReadBack("devices/nvme0/fast_io_fail_tmo"), "5");
  Status status = sysfs_.Set("nvme1", "fast_io_fail_tmo", "5");
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr("nvme1/fast_io_fail_tmo"));
}

TEST_F(SysfsTest, Modules) {
  fs::create_directories(root_ / "module/nvme_tcp");
  EXPECT_TRUE(sysfs_.HasModule("nvme_tcp"));
  EXPECT_FALSE(sysfs_.HasModule("nvme_rdma"));
}

}  // namespace
}  // namespace weft::nvmeof
