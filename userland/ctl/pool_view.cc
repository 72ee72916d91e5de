// SPDX-License-Identifier: MIT
#include "userland/ctl/pool_view.h"

#include <algorithm>
#include <ctime>
#include <functional>

#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "kmod/uapi/weft.h"
#include "userland/base/address.h"
#include "userland/base/config.h"
#include "userland/base/uuid.h"
#include "userland/ctl/table.h"
#include "userland/ctl/task_view.h"

namespace weft::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string UuidText(const std::string& bytes) {
  Result<Uuid> uuid = UuidFromBytes(bytes);
  return uuid.ok() ? ToString(*uuid) : "";
}

std::string BlocksText(int64_t blocks) { return FormatBytes(static_cast<uint64_t>(blocks) << WEFT_BLOCK_SHIFT); }

std::string Percent(int64_t part, int64_t whole) { return whole > 0 ? fmt::format("{}%", part * 100 / whole) : ""; }

std::string AddressText(const idl::TargetInfo& target) {
  if (target.__isset.nvme && !target.nvme.uris.empty()) return target.nvme.uris.front();
  return Address{target.host, static_cast<uint16_t>(target.port)}.ToString();
}

std::string_view DataPathText(idl::DataPath::type path) {
  return path == idl::DataPath::AGENT ? "agent" : path == idl::DataPath::DIRECT ? "direct" : "auto";
}

std::string FenceText(const std::string& fence) {
  if (fence == "reservation") return "reservation: it refuses clients whose session has ended";
  if (fence == "command") return "command: it takes the host of an ended session out of the subsystem";
  if (fence == "lease") return "lease: an ended session is waited for until nothing of it can arrive any more";
  return fence;
}

std::string TraitsText(const idl::NvmeTraits& traits) {
  std::string cache = "no volatile write cache";
  if (traits.write_cache) cache = fmt::format("a volatile write cache, {} FUA", traits.fua ? "with" : "without");
  std::string atomic = "does not say what it writes atomically";
  if (traits.atomic_write_bytes > 0)
    atomic = fmt::format("writes {} atomically", FormatBytes(traits.atomic_write_bytes));
  return fmt::format("blocks of {}, {}, {}", FormatBytes(traits.block_bytes), cache, atomic);
}

// What is told of the NVMe-oF kind alone.
void AddNvmeLines(const idl::TargetInfo& t, const std::function<void(std::string_view, const std::string&)>& line) {
  for (size_t i = 1; i < t.nvme.uris.size(); ++i) line("", t.nvme.uris[i]);
  line("namespace", fmt::format("{} (uuid {}, nguid {})", t.nvme.nsid, UuidText(t.nvme.uuid), UuidText(t.nvme.nguid)));
  line("data path",
       fmt::format("{}{}", DataPathText(t.nvme.data_path),
                   t.data_path.empty() ? ", no client attends to it" : fmt::format(", now {}", t.data_path)));
  line("fence", FenceText(t.fence));
  if (t.__isset.traits) line("device", TraitsText(t.traits));
  for (const idl::NvmePath& path : t.paths) {
    line("path", fmt::format("{} at {}: {}{}", path.controller, path.endpoint, path.state,
                             path.ana_state.empty() ? "" : fmt::format(", {}", path.ana_state)));
  }
}

Json NvmeJson(const idl::TargetInfo& t) {
  Json paths = Json::array();
  for (const idl::NvmePath& path : t.paths) {
    paths.push_back({{"controller", path.controller},
                     {"endpoint", path.endpoint},
                     {"state", path.state},
                     {"ana_state", path.ana_state}});
  }
  Json json = {{"uris", t.nvme.uris},
               {"nsid", t.nvme.nsid},
               {"uuid", UuidText(t.nvme.uuid)},
               {"nguid", UuidText(t.nvme.nguid)},
               {"data_path", DataPathText(t.nvme.data_path)},
               {"data_path_now", t.data_path},
               {"fence", t.fence},
               {"paths", paths}};
  if (t.__isset.traits) {
    json["block_bytes"] = t.traits.block_bytes;
    json["atomic_write_bytes"] = t.traits.atomic_write_bytes;
    json["write_cache"] = t.traits.write_cache;
    json["fua"] = t.traits.fua;
  }
  return json;
}

// What is wrong with the chunks; empty: nothing.
std::string TroubleText(const idl::PoolStatus& pool) {
  std::vector<std::string> trouble;
  if (pool.chunks_degraded > 0) trouble.push_back(fmt::format("{} degraded", pool.chunks_degraded));
  if (pool.chunks_lost > 0) trouble.push_back(fmt::format("{} LOST", pool.chunks_lost));
  if (pool.bad_blocks > 0) trouble.push_back(fmt::format("{} BAD BLOCKS", pool.bad_blocks));
  if (trouble.empty()) return "";
  std::string text = fmt::format("{}", fmt::join(trouble, ", "));
  if (pool.chunks_lost > 0 || pool.bad_blocks > 0) text += "; `weftctl fsck` names the files";
  return text;
}

std::string LimitText(int64_t bytes_per_s) {
  return bytes_per_s > 0 ? fmt::format("at most {}/s of each target", FormatBytes(bytes_per_s)) : "no limit";
}

std::string ScrubText(const idl::PoolStatus& pool) {
  const idl::PoolSettings& settings = pool.settings;
  std::string text = LimitText(settings.scrub_bytes_per_s);
  text += settings.scrub_interval_s > 0 ? fmt::format(", every {}", FormatAge(settings.scrub_interval_s * 1000ll))
                                        : ", only when asked for";
  if (pool.scrubbed_s == 0) return text + "; never done";
  return text + fmt::format("; last ended {:%F %T} UTC", fmt::gmtime(static_cast<std::time_t>(pool.scrubbed_s)));
}

}  // namespace

std::string PoolText(const idl::PoolStatus& pool) {
  std::string text;
  if (!pool.formed) {
    text = fmt::format("cluster {}: no pool yet; form it with `weftctl pool create`\n", pool.cluster);
  } else {
    text += fmt::format("cluster   {} ({})\n", pool.cluster, UuidText(pool.cluster_uuid));
    text += fmt::format("pool      {}, {} free, {} granted to clients\n", BlocksText(pool.pool_blocks),
                        BlocksText(pool.free_blocks), BlocksText(pool.granted_blocks));
    text += fmt::format("chunks    {} of {}, {} of new data\n", pool.chunks, FormatBytes(pool.chunk_bytes),
                        pool.copies == 1 ? "1 copy" : fmt::format("{} copies", pool.copies));
    if (std::string trouble = TroubleText(pool); !trouble.empty()) text += fmt::format("trouble   {}\n", trouble);
    text += fmt::format("files     {}\n", pool.files);
    text += fmt::format("resync    {}\n", LimitText(pool.settings.resync_bytes_per_s));
    text += fmt::format("scrub     {}\n", ScrubText(pool));
  }
  if (!pool.targets.empty()) text += "\n" + TargetsText(pool.targets);
  if (!pool.tasks.empty()) text += "\n" + TasksText(pool.tasks);
  if (!pool.sessions.empty()) text += "\n" + SessionsText(pool.sessions);
  return text;
}

std::string TargetStateText(const idl::TargetInfo& target) {
  std::string text = !target.up ? "down" : target.id == 0 ? "spare" : target.joined ? "up" : "joining";
  if (target.state == idl::TargetState::DRAINING) text += ", draining";
  return text;
}

std::string TargetsText(const std::vector<idl::TargetInfo>& targets) {
  if (targets.empty()) return "no target has registered; start weft-target --meta with this server's address\n";
  Table table({{"ID", Table::kRight},
               {"TARGET"},
               {"ADDRESS"},
               {"STATE"},
               {"ZONE"},
               {"WEIGHT", Table::kRight},
               {"CAPACITY", Table::kRight},
               {"USED", Table::kRight},
               {"USE%", Table::kRight},
               {"STALE", Table::kRight},
               {"QUEUE", Table::kRight},
               {"LOAD", Table::kRight},
               {"HEARTBEAT", Table::kRight}});
  for (const idl::TargetInfo& t : targets) {
    table.Add({t.id != 0 ? std::to_string(t.id) : "", t.name, AddressText(t), TargetStateText(t), t.zone,
               std::to_string(t.weight), FormatBytes(t.capacity_bytes), FormatBytes(t.used_bytes),
               Percent(t.used_bytes, t.capacity_bytes), t.stale_bytes > 0 ? FormatBytes(t.stale_bytes) : "",
               std::to_string(t.queue_depth), fmt::format("{:.1f}%", t.load / 10.0),
               t.heartbeat_age_ms < 0 ? "" : FormatAge(t.heartbeat_age_ms)});
  }
  return table.ToString();
}

std::string SessionEndText(const idl::SessionInfo& session) {
  std::string text =
      fmt::format("NVMe-oF targets can get nothing of it any more, in {} at most", FormatAge(session.gone_in_ms));
  if (!session.fence_error.empty()) text += fmt::format(" (fence command: {})", session.fence_error);
  return text;
}

std::string SessionsText(const std::vector<idl::SessionInfo>& sessions) {
  if (sessions.empty()) return "no client has the cluster mounted\n";
  Table table({{"SESSION", Table::kRight},
               {"HOST"},
               {"AGE", Table::kRight},
               {"RENEWED", Table::kRight},
               {"GRANTED", Table::kRight},
               {"OPEN CHUNKS", Table::kRight}});
  for (const idl::SessionInfo& s : sessions) {
    table.Add({std::to_string(s.id), s.host, FormatAge(s.age_ms), FormatAge(s.renewed_ms), BlocksText(s.granted_blocks),
               std::to_string(s.open_chunks)});
  }
  std::string text = table.ToString();
  for (const idl::SessionInfo& s : sessions) {
    if (s.ended) text += fmt::format("session {} has ended; others are let in when {}\n", s.id, SessionEndText(s));
  }
  return text;
}

std::string TargetText(const idl::TargetInfo& t) {
  std::string text;
  auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<16}  {}\n", name, value.empty() ? "-" : value);
  };
  line("target", t.name);
  line("id", t.id != 0 ? std::to_string(t.id) : "");
  line("uuid", UuidText(t.uuid));
  line("address", AddressText(t));
  if (t.__isset.nvme) AddNvmeLines(t, line);
  line("state", TargetStateText(t));
  line("zone", t.zone);
  line("weight", std::to_string(t.weight));
  line("capacity", FormatBytes(t.capacity_bytes));
  line("used", FormatBytes(t.used_bytes));
  line("stale", FormatBytes(t.stale_bytes));
  line("queue depth", std::to_string(t.queue_depth));
  line("load", fmt::format("{:.1f}%", t.load / 10.0));
  line("device latency", FormatLatency(static_cast<uint64_t>(t.device_latency_us) * 1000));
  line("last heartbeat", t.heartbeat_age_ms < 0 ? "never" : FormatAge(t.heartbeat_age_ms) + " ago");
  return text;
}

Json TargetJson(const idl::TargetInfo& t) {
  static constexpr std::string_view kStates[] = {"spare", "active", "draining"};
  auto state = static_cast<size_t>(t.state);
  Json json = {{"id", t.id},
               {"uuid", UuidText(t.uuid)},
               {"name", t.name},
               {"kind", t.__isset.nvme ? "nvmeof" : "rdma"},
               {"host", t.host},
               {"port", t.port},
               {"up", t.up},
               {"joined", t.joined},
               {"state", state < std::size(kStates) ? kStates[state] : "unknown"},
               {"zone", t.zone},
               {"weight", t.weight},
               {"capacity_bytes", t.capacity_bytes},
               {"used_bytes", t.used_bytes},
               {"stale_bytes", t.stale_bytes},
               {"queue_depth", t.queue_depth},
               {"load", t.load},
               {"device_latency_us", t.device_latency_us},
               {"heartbeat_age_ms", t.heartbeat_age_ms}};
  if (t.__isset.nvme) json["nvme"] = NvmeJson(t);
  return json;
}

Json TargetsJson(const std::vector<idl::TargetInfo>& targets) {
  Json list = Json::array();
  for (const idl::TargetInfo& t : targets) list.push_back(TargetJson(t));
  return list;
}

Json SessionsJson(const std::vector<idl::SessionInfo>& sessions) {
  Json list = Json::array();
  for (const idl::SessionInfo& s : sessions) {
    list.push_back({{"id", s.id},
                    {"host", s.host},
                    {"age_ms", s.age_ms},
                    {"renewed_ms", s.renewed_ms},
                    {"granted_blocks", s.granted_blocks},
                    {"open_chunks", s.open_chunks},
                    {"ended", s.ended},
                    {"gone_in_ms", s.gone_in_ms},
                    {"fence_error", s.fence_error}});
  }
  return list;
}

Json PoolJson(const idl::PoolStatus& pool) {
  return {{"formed", pool.formed},
          {"cluster", pool.cluster},
          {"cluster_uuid", UuidText(pool.cluster_uuid)},
          {"copies", pool.copies},
          {"chunk_bytes", pool.chunk_bytes},
          {"pool_blocks", pool.pool_blocks},
          {"free_blocks", pool.free_blocks},
          {"granted_blocks", pool.granted_blocks},
          {"chunks", pool.chunks},
          {"chunks_degraded", pool.chunks_degraded},
          {"chunks_lost", pool.chunks_lost},
          {"bad_blocks", pool.bad_blocks},
          {"files", pool.files},
          {"resync_bytes_per_s", pool.settings.resync_bytes_per_s},
          {"scrub_bytes_per_s", pool.settings.scrub_bytes_per_s},
          {"scrub_interval_s", pool.settings.scrub_interval_s},
          {"scrubbed_s", pool.scrubbed_s},
          {"tasks", TasksJson(pool.tasks)},
          {"targets", TargetsJson(pool.targets)},
          {"sessions", SessionsJson(pool.sessions)}};
}

}  // namespace weft::ctl
