// SPDX-License-Identifier: MIT
//
// For tests: weftctl in a world of fakes.
#pragma once

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "userland/ctl/command.h"

namespace weft::ctl {

// What the fake server was asked, and what it answers.
struct FakeServer {
  Address address;  // that the last command used
  Status error;
  idl::PoolStatus pool;
  idl::CreatePoolArgs created;
  idl::PoolSettings settings;
  idl::FsckReport fsck;
  idl::RegisterTargetArgs announced;
  idl::RegisterTargetArgs checked;
  Status refusal;  // of CheckNvmeTarget
  int64_t evicted = 0;
  bool host_is_off = false;
  std::vector<std::string> calls;       // of the other calls that change something
  std::function<void()> asked = [] {};  // with every PoolStatus
  std::function<bool()> unreachable = [] { return false; };
};

class FakeAdmin : public Admin {
 public:
  explicit FakeAdmin(FakeServer* server) : server_(server) {}
  Result<idl::Version> Version() override {
    if (!server_->error.ok()) return server_->error;
    idl::Version version;
    version.software = "9.8.7";
    version.protocol = 3;
    version.protocol_min = 1;
    return version;
  }
  Result<idl::PoolStatus> CreatePool(const idl::CreatePoolArgs& args) override {
    server_->created = args;
    return PoolStatus();
  }
  Result<idl::PoolStatus> PoolStatus() override {
    if (!server_->error.ok()) return server_->error;
    if (server_->unreachable()) return Status(ECONNREFUSED, "refused");
    server_->asked();
    return server_->pool;
  }
  Result<idl::PoolStatus> SetPool(const idl::PoolSettings& settings) override {
    server_->settings = settings;
    return PoolStatus();
  }
  Result<idl::PoolStatus> AddTarget(const std::string& name) override { return Note("add " + name); }
  Status CheckNvmeTarget(const idl::RegisterTargetArgs& args) override {
    server_->checked = args;
    return server_->refusal;
  }
  Result<idl::PoolStatus> AddNvmeTarget(const idl::RegisterTargetArgs& args) override {
    server_->announced = args;
    if (server_->error.ok() &&
        std::ranges::find(server_->pool.targets, args.uuid, &idl::TargetInfo::uuid) == server_->pool.targets.end()) {
      idl::TargetInfo& target = server_->pool.targets.emplace_back();
      target.id = server_->pool.formed ? static_cast<int>(server_->pool.targets.size()) : 0;
      target.name = args.name;
      target.uuid = args.uuid;
      target.zone = args.zone;
      target.weight = args.weight;
      target.__set_nvme(args.nvme);
    }
    return Note("add nvme " + args.name);
  }
  Result<idl::PoolStatus> SetDataPath(const std::string& name, idl::DataPath::type path) override {
    return Note(fmt::format("path {} {}", name, static_cast<int>(path)));
  }
  Result<idl::PoolStatus> DrainTarget(const std::string& name, bool cancel) override {
    return Note((cancel ? "cancel drain " : "drain ") + name);
  }
  Result<idl::PoolStatus> RemoveTarget(const std::string& name, bool lost) override {
    return Note((lost ? "remove lost " : "remove ") + name);
  }
  Result<idl::PoolStatus> Rebalance(bool stop) override { return Note(stop ? "stop rebalance" : "rebalance"); }
  Result<idl::PoolStatus> Scrub(bool stop) override { return Note(stop ? "stop scrub" : "scrub"); }
  Result<idl::FsckReport> Fsck(const idl::FsckArgs& args) override {
    server_->calls.push_back(args.repair ? "fsck repair" : "fsck");
    if (!server_->error.ok()) return server_->error;
    return server_->fsck;
  }
  Status EvictSession(int64_t session, bool host_is_off) override {
    server_->evicted = session;
    server_->host_is_off = host_is_off;
    return server_->error;
  }

 private:
  Result<idl::PoolStatus> Note(std::string call) {
    server_->calls.push_back(std::move(call));
    return PoolStatus();
  }
  FakeServer* server_;
};

// A host whose kernel refuses every policy.
class RefusingHost : public balancer::BpfHost {
 public:
  Status Lock() override { return {}; }
  Result<std::unique_ptr<balancer::Program>> Load(std::span<const std::byte>, const std::string& name) override {
    return Status(EINVAL, "balancer policy " + name + ": refused\n  R1 invalid mem access");
  }
  Result<std::unique_ptr<balancer::Link>> Attach(const balancer::Program&) override { return Status(EBUSY, "fake"); }
  Result<std::unique_ptr<balancer::Link>> OpenPinned() override { return Status(ENOENT, "fake"); }
  Status Unpin() override { return {}; }
};

class CommandTest : public testing::Test {
 protected:
  using Json = nlohmann::json;

  ~CommandTest() override { std::filesystem::remove_all(root); }

  int Run(std::vector<std::string> args) {
    out.str("");
    err.str("");
    return RunWeftctl(args, world);
  }
  Json RunJson(std::vector<std::string> args) {
    args.insert(args.begin(), "--json");
    EXPECT_EQ(Run(args), 0) << err.str();
    return Json::parse(out.str());
  }
  void WriteFile(const std::string& path, const std::string& text) const {
    std::filesystem::path full = std::filesystem::path(root) / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text << "\n";
  }
  void LoadModule(const std::string& policy) const {
    WriteFile("balancer/policy", policy);
    WriteFile("balancer/picks", "5");
    WriteFile("balancer/faults", "1");
  }

  std::string root =
      testing::TempDir() + "command_test_" + testing::UnitTest::GetInstance()->current_test_info()->name();
  idl::TargetInfo& AddTarget(const std::string& name, bool joined = true) {
    idl::TargetInfo& target = server.pool.targets.emplace_back();
    target.id = static_cast<int>(server.pool.targets.size());
    target.name = name;
    target.up = true;
    target.joined = joined;
    return target;
  }

  std::ostringstream out, err;
  FakeServer server;
  int64_t now_ms = 0;
  std::map<std::string, uint32_t> copies;  // of files, by path
  World world{.out = out,
              .err = err,
              .meta = "",
              .settings_dir = root,
              .make_admin =
                  [this](const Address& address) {
                    server.address = address;
                    return std::make_unique<FakeAdmin>(&server);
                  },
              .make_bpf_host = [] { return std::make_unique<RefusingHost>(); },
              .sysfs = balancer::Sysfs(root),
              .balancer_dir = root + "/chosen",
              .get_copies = [this](const std::string& path) -> Result<uint32_t> {
                if (!copies.contains(path)) return Error(ENOTTY, "{}: not weft", path);
                return copies[path];
              },
              .set_copies = [this](const std::string& path, uint32_t n) -> Status {
                if (path.ends_with("foreign")) return Error(ENOTTY, "{}: not weft", path);
                copies[path] = n;
                return {};
              },
              .fsck_offline = [this](const std::string& data, bool repair) -> Result<idl::FsckReport> {
                server.calls.push_back((repair ? "repair " : "check ") + data);
                return server.fsck;
              },
              .clock = {.now_ms = [this] { return now_ms; }, .sleep = [this](int64_t ms) { now_ms += ms; }}};
};

}  // namespace weft::ctl
