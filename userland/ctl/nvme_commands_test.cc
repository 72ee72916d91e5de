// SPDX-License-Identifier: MIT
//
// NVMe-oF targets on the command line, from the words to what the metadata server is told.
#include <cerrno>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "nvmeof/fake_fabric.h"
#include "nvmeof/fake_reservation.h"
#include "userland/base/uuid.h"
#include "userland/ctl/command_fixture.h"
#include "userland/target/backing.h"

namespace weft::ctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kNqn = "nqn.2026-01.test:store";
constexpr const char* kUri = "nvme+rdma://10.0.0.1:4420/nqn.2026-01.test:store?nsid=1";
constexpr const char* kOther = "nvme+rdma://10.0.1.1:4420/nqn.2026-01.test:store?nsid=1";

// The one fabric of the test, lent to a command.
class LentFabric final : public nvmeof::Fabric {
 public:
  explicit LentFabric(nvmeof::Fabric* fabric) : fabric_(fabric) {}
  Result<std::vector<nvmeof::DiscoveryEntry>> Discover(const nvmeof::Endpoint& endpoint,
                                                       const nvmeof::HostSettings& host) override {
    return fabric_->Discover(endpoint, host);
  }
  Status Connect(const nvmeof::Endpoint& endpoint, const std::string& nqn, const nvmeof::HostSettings& host) override {
    return fabric_->Connect(endpoint, nqn, host);
  }
  Status SetTimeouts(const std::string& nqn, const nvmeof::HostSettings& host) override {
    return fabric_->SetTimeouts(nqn, host);
  }
  Status Disconnect(const std::string& nqn) override { return fabric_->Disconnect(nqn); }
  Result<std::vector<nvmeof::Namespace>> Namespaces(const std::string& nqn) override {
    return fabric_->Namespaces(nqn);
  }
  Result<std::vector<uint32_t>> ActiveNamespaces(const std::string& nqn) override {
    return fabric_->ActiveNamespaces(nqn);
  }
  Status Rescan(const std::string& nqn) override { return fabric_->Rescan(nqn); }

 private:
  nvmeof::Fabric* const fabric_;
};

class NvmeCommandTest : public CommandTest {
 protected:
  NvmeCommandTest() {
    std::filesystem::create_directories(root);
    world.make_fabric = [this] { return std::make_unique<LentFabric>(&fabric_); };
    world.open_reservation = [this](const nvmeof::Namespace&) -> Result<std::unique_ptr<nvmeof::ReservationPort>> {
      return reservations_.PortOf({});
    };
    server.pool.formed = true;
    server.pool.cluster = "lab";
    server.pool.cluster_uuid = std::string(16, 'c');
    server.pool.chunk_bytes = 4 << 20;
    fabric_.AddSubsystem(kNqn, {first_, second_});
    std::ofstream(root + "/n1").close();
    std::filesystem::resize_file(root + "/n1", 32 << 20);
    nvmeof::Namespace ns;
    ns.device = root + "/n1";
    ns.nsid = 1;
    ns.bytes = 32 << 20;
    fabric_.AddNamespace(kNqn, ns);
  }
  void Refused(const std::vector<std::string>& args, const std::string& words) {
    EXPECT_EQ(Run(args), 1) << words;
    EXPECT_THAT(err.str(), HasSubstr(words));
    EXPECT_TRUE(server.calls.empty()) << "the server was told";
  }

  const nvmeof::Endpoint first_{nvmeof::Transport::kRdma, "10.0.0.1", 4420};
  const nvmeof::Endpoint second_{nvmeof::Transport::kRdma, "10.0.1.1", 4420};
  nvmeof::FakeFabric fabric_;
  nvmeof::FakeReservations reservations_;
};

TEST_F(NvmeCommandTest, ANamespaceIsAdded) {
  WriteFile("weft.toml", "nvme_hostnqn = 'nqn.2026-01.test:me'\nnvme_keep_alive_s = 7");
  Json added = RunJson(
      {"target", "add", kUri, kOther, "--name", "n1", "--zone", "r1", "--weight", "30", "--data-path", "agent"});
  EXPECT_EQ(added["kind"], "nvmeof");
  EXPECT_EQ(added["name"], "n1");
  EXPECT_THAT(server.calls, ElementsAre("add nvme n1"));
  const idl::RegisterTargetArgs& told = server.announced;
  EXPECT_EQ(told.cluster, "lab");
  EXPECT_EQ(told.cluster_uuid, server.pool.cluster_uuid);
  EXPECT_EQ(told.zone, "r1");
  EXPECT_EQ(told.weight, 30);
  EXPECT_EQ(told.nvme.data_path, idl::DataPath::AGENT);
  EXPECT_EQ(told.nvme.uris.size(), 2U);
  auto host = fabric_.settings(first_, kNqn);
  ASSERT_TRUE(host);
  EXPECT_EQ(host->hostnqn, "nqn.2026-01.test:me") << "as weftd of this host connects";
  EXPECT_EQ(host->keep_alive_s, 7U);
  auto label = target::Backing::Open({.path = root + "/n1", .create = false, .layout = target::Layout::kPlain});
  ASSERT_TRUE(label.ok()) << label.status().message();
  EXPECT_EQ(ToBytes((*label)->uuid()), told.uuid);
}

TEST_F(NvmeCommandTest, WhatComesNextIsSaid) {
  EXPECT_EQ(Run({"target", "add", "--name", "n1", kUri}), 0) << err.str();
  EXPECT_EQ(out.str(), "target n1 is part of the pool; `weftctl pool rebalance` moves data to it\n");
  server.pool.targets.clear();
  server.pool.formed = false;
  EXPECT_EQ(Run({"target", "add", "--name", "n1", kUri}), 0) << err.str();
  EXPECT_EQ(out.str(), "target n1 is known; `weftctl pool create` takes it into the pool\n");
}

TEST_F(NvmeCommandTest, AddedAgainWhatIsNotSaidStays) {
  ASSERT_EQ(Run({"target", "add", kUri, "--name", "n1", "--zone", "r1", "--weight", "30", "--data-path", "agent"}), 0)
      << err.str();
  ASSERT_EQ(Run({"target", "add", kUri, kOther}), 0) << err.str();
  EXPECT_EQ(server.announced.nvme.uris.size(), 2U);
  EXPECT_EQ(server.announced.name, "n1");
  EXPECT_EQ(server.announced.zone, "r1");
  EXPECT_EQ(server.announced.weight, 30);
  EXPECT_EQ(server.announced.nvme.data_path, idl::DataPath::AGENT);
  ASSERT_EQ(Run({"target", "add", kUri, "--zone", "", "--weight", "100", "--data-path", "auto"}), 0) << err.str();
  EXPECT_EQ(server.announced.zone, "");
  EXPECT_EQ(server.announced.weight, 100);
  EXPECT_EQ(server.announced.nvme.data_path, idl::DataPath::AUTO);
}

TEST_F(NvmeCommandTest, MistakesLeaveTheNamespaceAlone) {
  Refused({"target", "add", kUri, "--data-path", "fast"}, "data path 'fast' is none of auto, agent, direct");
  Refused({"target", "add", kUri, "t1"}, "'t1'");
  Refused({"target", "add", "nvme+fc://10.0.0.1/nqn.x"}, "nvme+fc://");
  for (const char* weight : {"0", "-1", "10001", "4294967396"})
    Refused({"target", "add", kUri, std::string("--weight=") + weight}, std::string("--weight: ") + weight);
  WriteFile("weft.toml", "nvme_key = '" + root + "/absent'");
  Refused({"target", "add", kUri}, root + "/absent");
  EXPECT_TRUE(fabric_.calls().empty()) << "nothing was connected";
}

TEST_F(NvmeCommandTest, WhatTheStorageNodeSaysReachesTheUser) {
  fabric_.AllowOnly(kNqn, {"nqn.2026-01.test:other"});
  Refused({"target", "add", kUri}, kNqn);
  Refused({"target", "add", "nvme+rdma://10.0.0.9/nqn.2026-01.test:store"}, "10.0.0.9:4420");
}

TEST_F(NvmeCommandTest, WhatTheServerSaysReachesTheUser) {
  server.error = Status(ECONNREFUSED, "no server");
  Refused({"target", "add", kUri}, "no server");
  EXPECT_TRUE(fabric_.calls().empty()) << "whose cluster it is to be is not known";
}

TEST_F(NvmeCommandTest, TheServerIsAskedBeforeAnythingIsWritten) {
  server.refusal = Status(EEXIST, "another target is named 't1'; choose another --name");
  Refused({"target", "add", kUri, "--name", "t1", "--zone", "r1"},
          "another target is named 't1'; choose another --name");
  EXPECT_EQ(server.checked.name, "t1");
  EXPECT_EQ(server.checked.zone, "r1");
  auto label = target::Backing::Open({.path = root + "/n1", .create = false, .layout = target::Layout::kPlain});
  EXPECT_EQ(label.status().code(), ENOENT) << label.status().message();
}

TEST_F(NvmeCommandTest, OptionsOfTheKindAreRefusedForTheOther) {
  AddTarget("t1");
  for (std::vector<std::string> option : std::vector<std::vector<std::string>>{
           {"--name", "n"}, {"--zone", "z"}, {"--weight", "50"}, {"--data-path", "agent"}, {"--force"}}) {
    std::vector<std::string> args = {"target", "add", "t1"};
    args.insert(args.end(), option.begin(), option.end());
    Refused(args, option[0] + " is for NVMe-oF targets");
  }
  Refused({"target", "add", "t1", "t2"}, "'t2' is one argument too many");
}

TEST_F(NvmeCommandTest, TheDataPathIsSet) {
  AddTarget("n1");
  EXPECT_EQ(Run({"target", "set", "n1", "--data-path", "direct"}), 0) << err.str();
  EXPECT_EQ(out.str(), "target n1: data path direct\n");
  EXPECT_EQ(RunJson({"target", "set", "n1", "--data-path", "auto"})["name"], "n1");
  EXPECT_THAT(server.calls, ElementsAre("path n1 2", "path n1 0"));
  server.calls.clear();
  Refused({"target", "set", "n1", "--data-path", "fast"}, "'fast'");
  EXPECT_EQ(Run({"target", "set", "n1"}), 2);
  EXPECT_THAT(err.str(), HasSubstr("data-path"));
  server.error = Status(EINVAL, "target 'n1' is a weft-target");
  EXPECT_EQ(Run({"target", "set", "n1", "--data-path", "agent"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("is a weft-target"));
}

TEST_F(NvmeCommandTest, DiscoveryShowsWhatCanBeAdded) {
  EXPECT_EQ(Run({"nvme", "discover", "10.0.0.1"}), 0) << err.str();
  EXPECT_EQ(out.str(),
            "KIND       URI\n"
            "discovery  nvme+rdma://10.0.0.1:4420/nqn.2014-08.org.nvmexpress.discovery\n"
            "nvm        nvme+rdma://10.0.0.1:4420/nqn.2026-01.test:store\n");
  EXPECT_THAT(fabric_.calls(), ElementsAre("discover rdma 10.0.0.1:4420"));
  Json json = RunJson({"nvme", "discover", "10.0.0.1:4420"});
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json[1], Json({{"kind", "nvm"}, {"uri", std::string("nvme+rdma://10.0.0.1:4420/") + kNqn}, {"nqn", kNqn}}));
}

TEST_F(NvmeCommandTest, DiscoveryOverTcpHasAPortOfItsOwn) {
  fabric_.AddSubsystem("nqn.2026-01.test:tcp", {{nvmeof::Transport::kTcp, "10.0.0.2", 8009}});
  EXPECT_EQ(Run({"nvme", "discover", "10.0.0.2", "--transport", "tcp"}), 0) << err.str();
  EXPECT_THAT(out.str(), HasSubstr("nvme+tcp://10.0.0.2:8009/nqn.2026-01.test:tcp"));
  EXPECT_EQ(Run({"nvme", "discover", "10.0.0.2", "--transport", "fc"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("transport 'fc' is neither rdma nor tcp"));
  EXPECT_EQ(Run({"nvme", "discover", "10.0.0.2:99999"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("10.0.0.2:99999"));
  EXPECT_EQ(Run({"nvme", "discover", "10.0.0.2:5"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("10.0.0.2:5"));
}

}  // namespace
}  // namespace weft::ctl
