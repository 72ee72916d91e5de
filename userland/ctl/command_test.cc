// SPDX-License-Identifier: MIT
#include "userland/ctl/command.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace weft::ctl {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

// What the fake server was asked, and what it answers.
struct FakeServer {
  Address address;  // that the last command used
  Status error;
  idl::PoolStatus pool;
  idl::CreatePoolArgs created;
  int64_t evicted = 0;
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
    return server_->pool;
  }
  Status EvictSession(int64_t session) override {
    server_->evicted = session;
    return server_->error;
  }

 private:
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
  std::ostringstream out, err;
  FakeServer server;
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
              .balancer_dir = root + "/chosen"};
};

TEST_F(CommandTest, MistakesOnTheCommandLineExitWith2AndNameThem) {
  const std::pair<std::vector<std::string>, std::string> kMistakes[] = {
      {{}, "which command?"},
      {{"pol"}, "there is no command 'pol'"},
      {{"pool"}, "'pool' must be followed by one of: create, status"},
      {{"pool", "crate"}, "'pool crate' is no command"},
      {{"session", "evict"}, "'session evict' needs its argument ID"},
      {{"session", "evict", "1", "2"}, "'2' is one argument too many for 'session evict'"},
      {{"pool", "status", "now"}, "'now' is one argument too many"},
      {{"pool", "status", "--copies", "2"}, "--copies"},
      {{"pool", "create", "--copies", "two"}, "'two'"},
      {{"pool", "status", "--jso"}, "--jso"},
      {{"--meta"}, "--meta"},
      {{"--meta", "host:99999", "pool", "status"}, "--meta: 'host:99999'"},
  };
  for (const auto& [args, message] : kMistakes) {
    EXPECT_EQ(Run(args), 2) << message;
    EXPECT_THAT(err.str(), HasSubstr(message));
    EXPECT_EQ(out.str(), "");
  }
}

TEST_F(CommandTest, HelpAndVersion) {
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("balancer set POLICY"));
  EXPECT_EQ(Run({"pool", "create", "-h"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("--chunk-size SIZE"));
  EXPECT_EQ(Run({"key", "generate", "--help"}), 0) << "help needs no argument";
  EXPECT_EQ(Run({"--version"}), 0);
  EXPECT_EQ(out.str(), "weftctl 0.1.0\n");
}

TEST_F(CommandTest, TheServersAddress) {
  EXPECT_EQ(Run({"pool", "status"}), 0);
  EXPECT_EQ(server.address.ToString(), "127.0.0.1:7470");
  WriteFile("lab.toml", "meta = 'from.file'\nkey = '/k'");
  EXPECT_EQ(Run({"--cluster", "lab", "pool", "status"}), 0);
  EXPECT_EQ(server.address.ToString(), "from.file:7470");
  WriteFile("weft.toml", "mete = 'h'");
  EXPECT_EQ(Run({"pool", "status"}), 2);
  EXPECT_THAT(err.str(), HasSubstr("weft.toml:1: 'mete' is not a setting"));
  world.meta = "from.env:1";
  EXPECT_EQ(Run({"pool", "status"}), 0);
  EXPECT_EQ(server.address.ToString(), "from.env:1");
  EXPECT_EQ(Run({"pool", "status", "--meta", "[fe80::1]"}), 0);
  EXPECT_EQ(server.address.ToString(), "[fe80::1]:7470");
  world.meta = "host:99999";
  EXPECT_EQ(Run({"pool", "status"}), 2);
  EXPECT_THAT(err.str(), HasSubstr("WEFT_META: 'host:99999'"));
}

TEST_F(CommandTest, PoolCreatePassesItsOptions) {
  EXPECT_EQ(Run({"pool", "create", "--copies", "3", "--target", "t1", "--chunk-size", "128MiB", "--target", "t2"}), 0);
  EXPECT_EQ(server.created.copies, 3);
  EXPECT_EQ(server.created.chunk_bytes, 128 << 20);
  EXPECT_EQ(server.created.targets, (std::vector<std::string>{"t1", "t2"}));
  EXPECT_EQ(Run({"pool", "create"}), 0);
  EXPECT_EQ(server.created, idl::CreatePoolArgs());
}

TEST_F(CommandTest, PoolCreateRefusesValuesThatCannotBe) {
  for (const char* size : {"3MiB", "512KiB", "8GiB", "0", "big"}) {
    EXPECT_EQ(Run({"pool", "create", "--chunk-size", size}), 1);
    EXPECT_THAT(err.str(), HasSubstr("--chunk-size"));
    EXPECT_THAT(err.str(), HasSubstr(size));
  }
  for (const char* copies : {"0", "5", "-1"}) {
    EXPECT_EQ(Run({"pool", "create", std::string("--copies=") + copies}), 1);
    EXPECT_THAT(err.str(), HasSubstr("is not 1 to 4"));
  }
}

TEST_F(CommandTest, ErrorsOfTheServerReachTheUser) {
  server.error = Status(EEXIST, "cluster weft has a pool already");
  EXPECT_EQ(Run({"--json", "pool", "create"}), 1);
  EXPECT_EQ(err.str(), "weftctl: cluster weft has a pool already\n");
  EXPECT_EQ(out.str(), "");
}

TEST_F(CommandTest, ListsInJson) {
  server.pool.targets.resize(2);
  server.pool.sessions.resize(1);
  EXPECT_EQ(RunJson({"target", "list"}).size(), 2u);
  EXPECT_EQ(RunJson({"session", "list"}).size(), 1u);
  EXPECT_EQ(RunJson({"pool", "status"})["targets"].size(), 2u);
}

TEST_F(CommandTest, SessionEvict) {
  EXPECT_EQ(RunJson({"session", "evict", "42"}), Json({{"evicted", 42}}));
  EXPECT_EQ(server.evicted, 42);
  for (const char* bad : {"x", "4x", "0", "99999999999999999999"}) {
    EXPECT_EQ(Run({"session", "evict", bad}), 1);
    EXPECT_THAT(err.str(), HasSubstr(std::string("'") + bad + "' is not the id of a session"));
  }
}

TEST_F(CommandTest, BalancerListWorksWithoutTheModule) {
  Json list = RunJson({"balancer", "list"});
  ASSERT_EQ(list.size(), 2u);
  EXPECT_TRUE(list[0]["active"].is_null());
  LoadModule("mine");
  list = RunJson({"balancer", "list"});
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0]["active"], false);
  EXPECT_EQ(list[2]["name"], "mine");
  EXPECT_EQ(list[2]["active"], true);
}

TEST_F(CommandTest, BalancerShow) {
  EXPECT_EQ(Run({"balancer", "show"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("the module is not loaded"));
  LoadModule("p2c_latency");
  EXPECT_EQ(RunJson({"balancer", "show"}), Json({{"policy", "p2c_latency"}, {"picks", 5}, {"faults", 1}}));
}

TEST_F(CommandTest, BalancerSetTellsWhatTheVerifierSaid) {
  LoadModule("round_robin");
  EXPECT_EQ(Run({"balancer", "set", "p2c_latency"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("R1 invalid mem access"));
  EXPECT_EQ(Run({"balancer", "set", "fastest"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("there are round_robin, p2c_latency"));
  EXPECT_EQ(Run({"balancer", "set", "round_robin"}), 0);
  EXPECT_EQ(out.str(), "balancer: round_robin -> round_robin\n");
}

TEST_F(CommandTest, BalancerStats) {
  LoadModule("round_robin");
  EXPECT_EQ(RunJson({"balancer", "stats"}), Json::array());
  WriteFile("weft/targets/1/name", "t1");
  WriteFile("weft/targets/1/stat", "1 2 3 4 5 6 7 8");
  Json stats = RunJson({"balancer", "stats"});
  EXPECT_EQ(stats[0]["cluster"], "weft");
  EXPECT_EQ(stats[0]["write_bytes"], 6);
}

TEST_F(CommandTest, KeysAreMadeOnceAndNeverShown) {
  std::filesystem::create_directories(root);
  std::string file = root + "/key";
  Json made = RunJson({"key", "generate", file});
  EXPECT_EQ(RunJson({"key", "show", file}), made);
  std::string key;
  std::getline(std::ifstream(file), key);
  EXPECT_EQ(key.size(), 64u);
  EXPECT_EQ(out.str().find(key), std::string::npos);
  EXPECT_EQ(Run({"key", "generate", file}), 1);
  EXPECT_THAT(err.str(), HasSubstr(file));
  EXPECT_EQ(Run({"key", "show", file + "x"}), 1);
}

TEST_F(CommandTest, VersionOfTheServer) {
  EXPECT_EQ(RunJson({"version"})["server"]["software"], "9.8.7");
  server.error = Status(ECONNREFUSED, "no");
  EXPECT_TRUE(RunJson({"version"})["server"].is_null());
  EXPECT_EQ(Run({"version", "--meta", "h:1"}), 1) << "a server was named, so it matters";
}

TEST_F(CommandTest, OutputThatCannotBeWrittenIsAnError) {
  out.setstate(std::ios::badbit);
  EXPECT_EQ(Run({"pool", "status"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("could not be written"));
}

}  // namespace
}  // namespace weft::ctl
