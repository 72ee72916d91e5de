// SPDX-License-Identifier: MIT
#include "userland/ctl/command.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>

#include <gmock/gmock.h>

#include "userland/ctl/command_fixture.h"

namespace weft::ctl {
namespace {

using testing::HasSubstr;

TEST_F(CommandTest, MistakesOnTheCommandLineExitWith2AndNameThem) {
  const std::pair<std::vector<std::string>, std::string> kMistakes[] = {
      {{}, "which command?"},
      {{"pol"}, "there is no command 'pol'"},
      {{"pool"}, "'pool' must be followed by one of: create, status, set"},
      {{"pool", "crate"}, "'pool crate' is no command"},
      {{"session", "evict"}, "'session evict' needs its argument ID"},
      {{"session", "evict", "1", "2"}, "'2' is one argument too many for 'session evict'"},
      {{"set", "copies"}, "'set copies' needs its arguments N PATH..."},
      {{"set", "copies", "2"}, "'set copies' needs its arguments N PATH..."},
      {{"get", "copies"}, "'get copies' needs its argument PATH..."},
      {{"pool", "set"}, "'pool set' needs its argument KEY=VALUE..."},
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
  EXPECT_EQ(RunJson({"session", "evict", "42"}), Json({{"evicted", 42}, {"gone", true}}));
  EXPECT_EQ(server.evicted, 42);
  EXPECT_FALSE(server.host_is_off);
  EXPECT_EQ(Run({"session", "evict", "--host-is-off", "43"}), 0);
  EXPECT_TRUE(server.host_is_off);
  idl::SessionInfo& session = server.pool.sessions.emplace_back();
  session.id = 44;
  session.ended = true;
  session.gone_in_ms = 12'000;
  session.fence_error = "exit status 3";
  EXPECT_EQ(Run({"session", "evict", "44"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("session 44 is ended; others are let in when NVMe-oF targets can get nothing of it "
                                   "any more, in 12.0 s at most (fence command: exit status 3)"));
  for (const char* bad : {"x", "4x", "0", "99999999999999999999"}) {
    EXPECT_EQ(Run({"session", "evict", bad}), 1);
    EXPECT_THAT(err.str(), HasSubstr(std::string("'") + bad + "' is not the id of a session"));
  }
}

TEST_F(CommandTest, PoolCreateWaitsUntilTheTargetsServe) {
  AddTarget("t1");
  AddTarget("t2", false);
  AddTarget("spare", false).id = 0;
  server.asked = [this] {
    if (now_ms >= 3000) server.pool.targets[1].joined = true;
  };
  EXPECT_EQ(Run({"pool", "create"}), 0) << err.str();
  EXPECT_GE(now_ms, 3000);
  EXPECT_LT(now_ms, 4000);
}

TEST_F(CommandTest, TargetsThatDoNotJoinAreNamedAfterTenSeconds) {
  AddTarget("t1", false);
  AddTarget("t2");
  EXPECT_EQ(Run({"pool", "create"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("t1 into the pool, but after 10 s it does not serve"));
  EXPECT_EQ(now_ms, 10'000);
}

TEST_F(CommandTest, PoolSet) {
  EXPECT_EQ(Run({"pool", "set", "copies=3", "resync-rate=100 MiB", "scrub-rate=0", "scrub-interval=7d"}), 0);
  EXPECT_EQ(server.settings.copies, 3);
  EXPECT_EQ(server.settings.resync_bytes_per_s, 100 << 20);
  EXPECT_EQ(server.settings.scrub_bytes_per_s, 0);
  EXPECT_EQ(server.settings.scrub_interval_s, 7 * 86400);
  EXPECT_EQ(Run({"pool", "set", "resync-rate=2GiB/s"}), 0);
  EXPECT_EQ(server.settings.resync_bytes_per_s, 2ll << 30);
  EXPECT_FALSE(server.settings.__isset.copies) << "what is not named stays";
  EXPECT_FALSE(server.settings.__isset.scrub_bytes_per_s);
}

TEST_F(CommandTest, PoolSetNamesTheWordThatIsWrong) {
  const std::pair<const char*, const char*> kMistakes[] = {
      {"copies", "'copies' is not KEY=VALUE"},
      {"copies=0", "copies: '0' is not 1 to 4"},
      {"copies=5", "copies: '5' is not 1 to 4"},
      {"copies=2x", "'2x'"},
      {"colour=red", "the pool has no setting 'colour'; there are copies, resync-rate"},
      {"resync-rate=fast", "resync-rate: 'fast' is not a size"},
      {"scrub-rate=-1", "scrub-rate: '-1'"},
      {"scrub-interval=1week", "scrub-interval: '1week' is not a duration"},
      {"scrub-interval=100000000d", "scrub-interval"},
  };
  for (const auto& [word, message] : kMistakes) {
    server.settings = {};
    EXPECT_EQ(Run({"pool", "set", "scrub-rate=1", word}), 1) << word;
    EXPECT_THAT(err.str(), HasSubstr(message));
    EXPECT_EQ(server.settings, idl::PoolSettings()) << "nothing was sent";
  }
}

TEST_F(CommandTest, TargetsComeAndGo) {
  AddTarget("t1").used_bytes = 3 << 20;
  EXPECT_EQ(RunJson({"target", "show", "t1"})["used_bytes"], 3 << 20);
  EXPECT_EQ(Run({"target", "show", "t2"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("no target is named 't2'"));
  EXPECT_EQ(Run({"target", "add", "t1"}), 0);
  EXPECT_EQ(Run({"target", "drain", "t1"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("3.0 MiB move away"));
  EXPECT_EQ(Run({"target", "drain", "t1", "--cancel"}), 0);
  EXPECT_EQ(Run({"target", "remove", "t1"}), 0);
  EXPECT_EQ(RunJson({"target", "remove", "--lost", "t1"})["removed"], "t1");
  EXPECT_EQ(server.calls,
            (std::vector<std::string>{"add t1", "drain t1", "cancel drain t1", "remove t1", "remove lost t1"}));
  server.error = Status(EBUSY, "target t1 holds 3 chunks");
  EXPECT_EQ(Run({"target", "remove", "t1"}), 1);
  EXPECT_EQ(err.str(), "weftctl: target t1 holds 3 chunks\n");
}

TEST_F(CommandTest, RemovingTheLastCopySaysSo) {
  server.pool.chunks_lost = 2;
  EXPECT_EQ(Run({"target", "remove", "--lost", "t1"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("2 chunks have no copy in sync any more"));
}

TEST_F(CommandTest, RebalanceAndScrubStartAndStop) {
  for (const char* what : {"rebalance", "scrub"}) {
    EXPECT_EQ(Run({"pool", what}), 0);
    EXPECT_EQ(Run({"pool", what, "--stop"}), 0);
  }
  EXPECT_EQ(server.calls, (std::vector<std::string>{"rebalance", "stop rebalance", "scrub", "stop scrub"}));
}

TEST_F(CommandTest, PoolWaitReturnsWhenNothingMoves) {
  idl::TaskInfo task;
  task.kind = idl::TaskKind::DRAIN;
  task.target = "t1";
  task.done_bytes = 1;
  task.total_bytes = 4;
  task.waits_for = "target t2";
  server.pool.tasks = {task};
  task.kind = idl::TaskKind::SCRUB;
  server.pool.tasks.push_back(task);
  server.pool.chunks = 9;
  server.asked = [this] {
    if (now_ms >= 5000) server.pool.tasks.erase(server.pool.tasks.begin());
    server.asked = now_ms >= 5000 ? [] {} : server.asked;
  };
  EXPECT_EQ(Run({"pool", "wait", "--timeout", "1"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("not at rest after 1.0 s: drain of t1 at 25%, waits for: target t2"));
  EXPECT_EQ(Run({"pool", "wait"}), 0) << err.str();
  EXPECT_GE(now_ms, 5000);
  EXPECT_LT(now_ms, 6000);
  EXPECT_EQ(Run({"pool", "wait", "--timeout", "soon"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("--timeout: 'soon'"));
}

TEST_F(CommandTest, PoolWaitOutlastsARestartOfTheServer) {
  server.pool.chunks_degraded = 1;
  int64_t back_ms = 25'000;
  server.unreachable = [&] { return now_ms >= 2000 && now_ms < back_ms; };
  server.asked = [&] {
    if (now_ms >= back_ms) server.pool.chunks_degraded = 0;
  };
  EXPECT_EQ(Run({"pool", "wait"}), 0) << err.str();
  EXPECT_GE(now_ms, back_ms);
  server.pool.chunks_degraded = 1;
  now_ms = 0;
  back_ms = 1'000'000;
  EXPECT_EQ(Run({"pool", "wait"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("refused"));
  EXPECT_NEAR(static_cast<double>(now_ms), 32'000, 500) << "half a minute without an answer";
  EXPECT_EQ(Run({"pool", "wait"}), 1);
  EXPECT_NEAR(static_cast<double>(now_ms), 32'000, 500) << "it was not there at all";
  now_ms = 0;
  EXPECT_EQ(Run({"pool", "wait", "--timeout", "5"}), 1);
  EXPECT_EQ(now_ms, 5000);
}

TEST_F(CommandTest, PoolWaitForAScrub) {
  idl::TaskInfo task;
  task.kind = idl::TaskKind::SCRUB;
  task.done_bytes = 1;
  task.total_bytes = 2;
  server.pool.tasks = {task};
  EXPECT_EQ(Run({"pool", "wait", "--scrub", "--timeout", "1"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("scrub at 50%"));
  server.asked = [this] {
    if (now_ms >= 3000) server.pool.tasks.clear();
  };
  EXPECT_EQ(Run({"pool", "wait", "--scrub"}), 0) << err.str();
  EXPECT_GE(now_ms, 3000);
}

TEST_F(CommandTest, PoolWaitWaitsForChunksThatLackACopyButNotForLostOnes) {
  server.pool.chunks = 9;
  server.pool.chunks_degraded = 3;
  server.pool.chunks_lost = 1;
  EXPECT_EQ(Run({"pool", "wait", "--timeout", "1"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("2 of 9 chunks are degraded"));
  server.pool.chunks_degraded = 1;
  EXPECT_EQ(Run({"pool", "wait", "--timeout", "0"}), 0) << err.str();
}

TEST_F(CommandTest, CopiesOfFilesAndDirectories) {
  copies["/mnt/a"] = 2;
  EXPECT_EQ(RunJson({"set", "copies", "3", "/mnt/a", "/mnt/b"})["changed"], 2);
  EXPECT_EQ(Run({"get", "copies", "/mnt/a", "/mnt/b"}), 0);
  EXPECT_EQ(out.str(), "3  /mnt/a\n3  /mnt/b\n");
  EXPECT_EQ(RunJson({"get", "copies", "/mnt/a"}), Json::parse(R"([{"path": "/mnt/a", "copies": 3}])"));
  EXPECT_EQ(Run({"set", "copies", "2", "/mnt/a", "/foreign"}), 1);
  EXPECT_EQ(err.str(), "weftctl: /foreign: not weft; 1 were set before it\n");
  EXPECT_EQ(Run({"get", "copies", "/elsewhere"}), 1);
  for (const char* bad : {"0", "5", "two", "2.5"}) {
    EXPECT_EQ(Run({"set", "copies", bad, "/mnt/a"}), 1);
    EXPECT_THAT(err.str(), HasSubstr(std::string("'") + bad + "' copies: it takes 1 to 4"));
  }
}

TEST_F(CommandTest, CopiesOfATree) {
  WriteFile("tree/dir/file", "x");
  std::filesystem::create_symlink("/etc", root + "/tree/link");
  EXPECT_EQ(RunJson({"set", "copies", "-R", "4", root + "/tree"})["changed"], 3);
  EXPECT_EQ(copies, (std::map<std::string, uint32_t>{
                        {root + "/tree", 4}, {root + "/tree/dir", 4}, {root + "/tree/dir/file", 4}}));
  EXPECT_EQ(Run({"set", "copies", "--recursive", "2", root + "/absent"}), 1);
  EXPECT_THAT(err.str(), HasSubstr(root + "/absent"));
}

TEST_F(CommandTest, FilesOfOtherFileSystemsAreRefusedByTheKernel) {
  WriteFile("file", "x");
  EXPECT_EQ(GetFileCopies(root + "/file").status().code(), ENOTTY);
  EXPECT_THAT(SetFileCopies(root + "/file", 2).message(), HasSubstr(root + "/file: not a file or directory of a weft"));
  EXPECT_EQ(GetFileCopies(root + "/absent").status().code(), ENOENT);
}

TEST_F(CommandTest, FsckTellsWhatIsLeft) {
  server.fsck.inodes = 7;
  EXPECT_EQ(Run({"fsck"}), 0);
  EXPECT_EQ(out.str(), "7 inodes, 0 extents, 0 chunks: clean\n");
  idl::FsckProblem problem;
  problem.kind = "link-count";
  problem.message = "inode 5 has 2 links, 1 name";
  problem.repairable = true;
  server.fsck.problems = {problem};
  server.fsck.problems_total = 1;
  EXPECT_EQ(Run({"fsck"}), 4);
  EXPECT_THAT(out.str(), HasSubstr("link-count: inode 5 has 2 links, 1 name (can be repaired)\n"));
  EXPECT_EQ(err.str(), "weftctl: problems that are left: 1; 1 can be repaired with --repair\n");
  server.fsck.problems[0].repaired = true;
  EXPECT_EQ(Run({"fsck", "--repair"}), 0);
  EXPECT_THAT(out.str(), HasSubstr("clean now, 1 repaired"));
  server.fsck.problems_total = 5;
  server.fsck.repaired_total = 3;
  EXPECT_EQ(Run({"fsck", "--repair"}), 4);
  EXPECT_THAT(out.str(), HasSubstr("... and 4 more problems"));
  EXPECT_THAT(out.str(), HasSubstr("problems: 2, 3 repaired"));
  server.fsck.repaired_total = 5;
  EXPECT_EQ(Run({"fsck", "--repair"}), 0) << "those that are not listed are repaired too";
  server.error = Status(EUCLEAN, "the store is damaged");
  EXPECT_EQ(Run({"fsck"}), 1) << "it could not be checked";
  EXPECT_EQ(server.calls,
            (std::vector<std::string>{"fsck", "fsck", "fsck repair", "fsck repair", "fsck repair", "fsck"}));
}

TEST_F(CommandTest, FsckOfADataFolder) {
  EXPECT_EQ(Run({"fsck", "--offline", "--data", "/d"}), 0) << err.str();
  EXPECT_EQ(Run({"fsck", "--offline", "--data=/d", "--repair"}), 0);
  EXPECT_EQ(server.calls, (std::vector<std::string>{"check /d", "repair /d"}));
  EXPECT_EQ(Run({"fsck", "--offline"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("--offline needs --data DIR"));
  EXPECT_EQ(Run({"fsck", "--data", "/d"}), 1);
  EXPECT_THAT(err.str(), HasSubstr("--data is for --offline"));
}

TEST_F(CommandTest, BalancerListWorksWithoutTheModule) {
  Json list = RunJson({"balancer", "list"});
  ASSERT_EQ(list.size(), 5u);
  EXPECT_TRUE(list[0]["active"].is_null());
  LoadModule("mine");
  list = RunJson({"balancer", "list"});
  ASSERT_EQ(list.size(), 6u);
  EXPECT_EQ(list[0]["active"], false);
  EXPECT_EQ(list[5]["name"], "mine");
  EXPECT_EQ(list[5]["active"], true);
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
  EXPECT_THAT(err.str(), HasSubstr("there are round_robin, least_inflight, p2c_latency"));
  EXPECT_EQ(Run({"balancer", "set", "round_robin"}), 0);
  EXPECT_EQ(out.str(), "balancer: round_robin -> round_robin\n");
}

TEST_F(CommandTest, BalancerStats) {
  LoadModule("round_robin");
  EXPECT_EQ(RunJson({"balancer", "stats"}), Json::array());
  WriteFile("weft/targets/1/name", "t1");
  WriteFile("weft/targets/1/stat", "1 2 3 4 5 6 7 8");
  WriteFile("weft/targets/1/label", "100 0 0");
  WriteFile("weft/targets/1/read_latency", "4096 3");
  WriteFile("weft/targets/1/write_latency", "4096 4");
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
