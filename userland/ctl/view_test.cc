// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "userland/base/uuid.h"
#include "userland/ctl/balancer_view.h"
#include "userland/ctl/pool_view.h"
#include "userland/ctl/table.h"
#include "userland/ctl/task_view.h"

namespace weft::ctl {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(TableTest, ColumnsLineUp) {
  Table table({{"NAME"}, {"SIZE", Table::kRight}, {"ZONE"}});
  table.Add({"t1", "4", ""});
  table.Add({"target-2", "12345", "rack1"});
  EXPECT_EQ(table.ToString(),
            "NAME       SIZE  ZONE\n"
            "t1            4  -\n"
            "target-2  12345  rack1\n");
}

TEST(TableTest, Units) {
  EXPECT_EQ(FormatAge(0), "0.0 s");
  EXPECT_EQ(FormatAge(59'900), "59.9 s");
  EXPECT_EQ(FormatAge(90'000), "1.5 min");
  EXPECT_EQ(FormatAge(3 * 86'400'000ll), "3.0 d");
  EXPECT_EQ(FormatLatency(55'000), "55.0 us");
  EXPECT_EQ(FormatLatency(1'500'000), "1.5 ms");
}

idl::PoolStatus TwoTargets() {
  idl::PoolStatus pool;
  pool.formed = true;
  pool.cluster = "weft";
  pool.cluster_uuid = ToBytes(*ParseUuid("00112233-4455-6677-8899-aabbccddeeff"));
  pool.copies = 2;
  pool.chunk_bytes = 64 << 20;
  pool.pool_blocks = 262144;
  pool.free_blocks = 131072;
  pool.granted_blocks = 4096;
  pool.chunks = 8;
  pool.files = 3000;
  for (int i = 1; i <= 2; ++i) {
    idl::TargetInfo t;
    t.id = i - 1;  // the first is not part of the pool
    t.name = "t" + std::to_string(i);
    t.host = "10.0.0." + std::to_string(i);
    t.port = 7471;
    t.capacity_bytes = 1ll << 30;
    t.used_bytes = 1ll << 28;
    t.weight = 100;
    t.up = i == 2;
    t.joined = i == 2;
    t.load = 125;
    pool.targets.push_back(t);
  }
  idl::SessionInfo session;
  session.id = 7;
  session.host = "client1";
  session.age_ms = 61'000;
  session.granted_blocks = 4096;
  pool.sessions.push_back(session);
  return pool;
}

TEST(PoolViewTest, Text) {
  EXPECT_EQ(
      PoolText(TwoTargets()),
      "cluster   weft (00112233-4455-6677-8899-aabbccddeeff)\n"
      "pool      1.0 GiB, 512.0 MiB free, 16.0 MiB granted to clients\n"
      "chunks    8 of 64.0 MiB, 2 copies of new data\n"
      "files     3000\n"
      "resync    no limit\n"
      "scrub     no limit, only when asked for; never done\n"
      "\n"
      "ID  TARGET  ADDRESS        STATE  ZONE  WEIGHT  CAPACITY       USED  USE%  STALE  QUEUE   LOAD  HEARTBEAT\n"
      " -  t1      10.0.0.1:7471  down   -        100   1.0 GiB  256.0 MiB   25%      -      0  12.5%      0.0 s\n"
      " 1  t2      10.0.0.2:7471  up     -        100   1.0 GiB  256.0 MiB   25%      -      0  12.5%      0.0 s\n"
      "\n"
      "SESSION  HOST         AGE  RENEWED   GRANTED  OPEN CHUNKS\n"
      "      7  client1  1.0 min    0.0 s  16.0 MiB            0\n");
}

TEST(PoolViewTest, TextNamesWhatIsWrong) {
  idl::PoolStatus pool = TwoTargets();
  pool.chunks_degraded = 3;
  EXPECT_THAT(PoolText(pool), HasSubstr("trouble   3 degraded\n"));
  pool.chunks_lost = 1;
  pool.bad_blocks = 7;
  EXPECT_THAT(PoolText(pool),
              HasSubstr("trouble   3 degraded, 1 LOST, 7 BAD BLOCKS; `weftctl fsck` names the files\n"));
  pool.targets[1].stale_bytes = 64 << 20;
  EXPECT_THAT(PoolText(pool), HasSubstr("25%  64.0 MiB"));
  EXPECT_THAT(PoolText(idl::PoolStatus()), HasSubstr("no pool yet; form it with `weftctl pool create`"));
  EXPECT_THAT(TargetsText({}), HasSubstr("no target has registered"));
  EXPECT_THAT(SessionsText({}), HasSubstr("no client"));
}

TEST(PoolViewTest, Settings) {
  idl::PoolStatus pool = TwoTargets();
  pool.settings.resync_bytes_per_s = 100 << 20;
  pool.settings.scrub_bytes_per_s = 50 << 20;
  pool.settings.scrub_interval_s = 7 * 86400;
  pool.scrubbed_s = 1'700'000'000;
  EXPECT_THAT(PoolText(pool), HasSubstr("resync    at most 100.0 MiB/s of each target\n"
                                        "scrub     at most 50.0 MiB/s of each target, every 7.0 d; last ended "
                                        "2023-11-14 22:13:20 UTC\n"));
}

TEST(PoolViewTest, StatesOfATarget) {
  idl::TargetInfo t;
  EXPECT_EQ(TargetStateText(t), "down");
  t.up = true;
  EXPECT_EQ(TargetStateText(t), "spare");
  t.id = 1;
  EXPECT_EQ(TargetStateText(t), "joining");
  t.joined = true;
  EXPECT_EQ(TargetStateText(t), "up");
  t.state = idl::TargetState::DRAINING;
  EXPECT_EQ(TargetStateText(t), "up, draining");
  t.up = false;
  EXPECT_EQ(TargetStateText(t), "down, draining");
  EXPECT_EQ(TargetJson(t)["state"], "draining");
  EXPECT_THAT(TargetText(t), HasSubstr("\nstate             down, draining\n"));
}

idl::TargetInfo NvmeTarget() {
  idl::TargetInfo t = TwoTargets().targets[1];
  t.uuid = ToBytes(*ParseUuid("00112233-4455-6677-8899-aabbccddeeff"));
  t.host = "10.0.0.77";
  idl::NvmeNamespace nvme;
  nvme.uris = {"nvme+rdma://10.0.0.1:4420/nqn.x?nsid=7", "nvme+rdma://10.0.1.1:4420/nqn.x?nsid=7"};
  nvme.nsid = 7;
  nvme.uuid = std::string(16, '\x11');
  nvme.nguid = std::string(16, '\x22');
  nvme.data_path = idl::DataPath::DIRECT;
  t.__set_nvme(nvme);
  t.data_path = "agent";
  t.paths.resize(2);
  t.paths[0].controller = "nvme3";
  t.paths[0].endpoint = "rdma 10.0.0.1:4420";
  t.paths[0].state = "live";
  t.paths[0].ana_state = "optimized";
  t.paths[1].controller = "nvme4";
  t.paths[1].endpoint = "rdma 10.0.1.1:4420";
  t.paths[1].state = "connecting";
  t.fence = "lease";
  idl::NvmeTraits traits;
  traits.block_bytes = 512;
  traits.atomic_write_bytes = 4096;
  traits.write_cache = traits.fua = true;
  t.__set_traits(traits);
  return t;
}

TEST(PoolViewTest, AnNvmeTarget) {
  idl::TargetInfo t = NvmeTarget();
  EXPECT_THAT(TargetText(t), HasSubstr("address           nvme+rdma://10.0.0.1:4420/nqn.x?nsid=7\n"
                                       "                  nvme+rdma://10.0.1.1:4420/nqn.x?nsid=7\n"
                                       "namespace         7 (uuid 11111111-1111-1111-1111-111111111111, nguid "
                                       "22222222-2222-2222-2222-222222222222)\n"
                                       "data path         direct, now agent\n"
                                       "fence             lease: an ended session is waited for until nothing of it "
                                       "can arrive any more\n"
                                       "device            blocks of 512 B, a volatile write cache, with FUA, writes "
                                       "4.0 KiB atomically\n"
                                       "path              nvme3 at rdma 10.0.0.1:4420: live, optimized\n"
                                       "path              nvme4 at rdma 10.0.1.1:4420: connecting\n"
                                       "state             up\n"));
  EXPECT_THAT(TargetsText({t}), HasSubstr("  nvme+rdma://10.0.0.1:4420/nqn.x?nsid=7  "));
  nlohmann::ordered_json json = TargetJson(t);
  EXPECT_EQ(json["kind"], "nvmeof");
  EXPECT_EQ(json["host"], "10.0.0.77") << "of its gateway";
  EXPECT_EQ(json["nvme"]["uris"].size(), 2U);
  EXPECT_EQ(json["nvme"]["nsid"], 7);
  EXPECT_EQ(json["nvme"]["uuid"], "11111111-1111-1111-1111-111111111111");
  EXPECT_EQ(json["nvme"]["nguid"], "22222222-2222-2222-2222-222222222222");
  EXPECT_EQ(json["nvme"]["data_path"], "direct");
  EXPECT_EQ(json["nvme"]["data_path_now"], "agent");
  EXPECT_EQ(json["nvme"]["fence"], "lease");
  EXPECT_EQ(json["nvme"]["atomic_write_bytes"], 4096);
  EXPECT_EQ(json["nvme"]["write_cache"], true);
  EXPECT_EQ(json["nvme"]["paths"][1]["controller"], "nvme4");
  EXPECT_EQ(json["nvme"]["paths"][1]["state"], "connecting");
  t.traits.write_cache = t.traits.fua = false;
  t.traits.atomic_write_bytes = 0;
  EXPECT_THAT(TargetText(t), HasSubstr("no volatile write cache, does not say what it writes atomically\n"));
  t.__isset.traits = false;
  EXPECT_THAT(TargetText(t), Not(HasSubstr("device  ")));
  nlohmann::ordered_json other = TargetJson(TwoTargets().targets[1]);
  EXPECT_EQ(other["kind"], "rdma");
  EXPECT_FALSE(other.contains("nvme"));
}

TEST(PoolViewTest, AnNvmeTargetThatNoClientHasAttendedTo) {
  idl::TargetInfo t = NvmeTarget();
  t.up = t.joined = false;
  t.host = "";
  t.nvme.data_path = idl::DataPath::AUTO;
  t.paths.clear();
  t.data_path = "";
  t.heartbeat_age_ms = -1;
  std::string text = TargetText(t);
  EXPECT_THAT(text, HasSubstr("data path         auto, no client attends to it\nfence             lease: "));
  EXPECT_THAT(text, HasSubstr("last heartbeat    never\n"));
  EXPECT_THAT(TargetsText({t}), testing::EndsWith("12.5%          -\n"));
  nlohmann::ordered_json json = TargetJson(t);
  EXPECT_EQ(json["nvme"]["data_path_now"], "");
  EXPECT_EQ(json["nvme"]["paths"], nlohmann::ordered_json::array());
}

TEST(TaskViewTest, Progress) {
  EXPECT_EQ(ProgressBar(0, 10), "[--------------------]   0%");
  EXPECT_EQ(ProgressBar(5, 10), "[##########----------]  50%");
  EXPECT_EQ(ProgressBar(9999, 10000), "[###################-]  99%") << "100 % is for what is done";
  EXPECT_EQ(ProgressBar(10, 10), "[####################] 100%");
  EXPECT_EQ(ProgressBar(0, 0), "[####################] 100%");
  EXPECT_EQ(ProgressBar(INT64_MAX / 2, INT64_MAX), "[##########----------]  50%") << "does not overflow";
  EXPECT_EQ(ProgressBar(-5, 10), "[--------------------]   0%");
}

TEST(TaskViewTest, TasksInTheStatus) {
  idl::PoolStatus pool = TwoTargets();
  idl::TaskInfo& resync = pool.tasks.emplace_back();
  resync.kind = idl::TaskKind::RESYNC;
  resync.target = "t2";
  resync.done_bytes = 1 << 30;
  resync.total_bytes = 2ll << 30;
  resync.bytes_per_s = 64 << 20;
  resync.eta_s = 16;
  idl::TaskInfo& drain = pool.tasks.emplace_back();
  drain.kind = idl::TaskKind::DRAIN;
  drain.target = "t1";
  drain.total_bytes = 1 << 20;
  drain.eta_s = -1;
  drain.waits_for = "a target with room in another zone";
  EXPECT_THAT(
      PoolText(pool),
      HasSubstr("\n"
                "TASK    TARGET  PROGRESS                        DONE       OF        RATE    LEFT  WAITS FOR\n"
                "resync  t2      [##########----------]  50%  1.0 GiB  2.0 GiB  64.0 MiB/s  16.0 s  -\n"
                "drain   t1      [--------------------]   0%      0 B  1.0 MiB           -       -  a target with room "
                "in another zone\n"));
  EXPECT_EQ(PoolJson(pool)["tasks"][0]["kind"], "resync");
  EXPECT_EQ(PoolJson(pool)["tasks"][1]["waits_for"], "a target with room in another zone");
}

TEST(PoolViewTest, Json) {
  nlohmann::ordered_json json = PoolJson(TwoTargets());
  EXPECT_EQ(json["cluster_uuid"], "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(json["pool_blocks"], 262144);
  EXPECT_EQ(json["targets"][1]["name"], "t2");
  EXPECT_EQ(json["targets"][1]["up"], true);
  EXPECT_EQ(json["sessions"][0]["id"], 7);
  EXPECT_EQ(PoolJson(idl::PoolStatus())["targets"], nlohmann::ordered_json::array());
}

TEST(BalancerViewTest, MarksThePolicyInForce) {
  EXPECT_THAT(PoliciesText("p2c_latency"), HasSubstr("\n*  p2c_latency"));
  EXPECT_THAT(PoliciesText("mine"), HasSubstr("\n*  mine"));
  EXPECT_THAT(PoliciesText(std::nullopt), testing::Not(HasSubstr("*")));
}

TEST(BalancerViewTest, Counters) {
  balancer::TargetCounters t{.cluster = "weft",
                             .id = 1,
                             .name = "t1",
                             .up = true,
                             .inflight = 2,
                             .reads = 10,
                             .writes = 20,
                             .read_bytes = 40960,
                             .write_bytes = 2 << 20,
                             .errors = 0,
                             .ewma_latency_ns = 55'000,
                             .read_latency = balancer::LatencyCounts({{65'536, 99}, {131'072, 1}}),
                             .write_latency = {}};
  EXPECT_EQ(CountersText({t}),
            "CLUSTER  ID  TARGET  STATE  INFLIGHT  READS  WRITES      READ  WRITTEN  ERRORS  READ p50      p99  WRITE "
            "p50  p99\n"
            "weft      1  t1      up            2     10      20  40.0 KiB  2.0 MiB       0   65.5 us  65.5 us         "
            " -    -\n");
  EXPECT_EQ(CountersJson({t})[0]["ewma_latency_ns"], 55'000);
  EXPECT_THAT(CountersText({}), HasSubstr("no cluster is mounted"));
}

}  // namespace
}  // namespace weft::ctl
