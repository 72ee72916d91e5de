// SPDX-License-Identifier: MIT
#include "userland/ctl/pool_view.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "kmod/uapi/weft.h"
#include "userland/base/address.h"
#include "userland/base/config.h"
#include "userland/base/uuid.h"
#include "userland/ctl/table.h"

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
  return Address{target.host, static_cast<uint16_t>(target.port)}.ToString();
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
    text += fmt::format("chunks    {} of {}, {} each{}\n", pool.chunks, FormatBytes(pool.chunk_bytes),
                        pool.copies == 1 ? "1 copy" : fmt::format("{} copies", pool.copies),
                        pool.chunks_degraded > 0 ? fmt::format(", {} with a stale copy", pool.chunks_degraded) : "");
    text += fmt::format("files     {}\n", pool.files);
  }
  if (!pool.targets.empty()) text += "\n" + TargetsText(pool.targets);
  if (!pool.sessions.empty()) text += "\n" + SessionsText(pool.sessions);
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
               {"QUEUE", Table::kRight},
               {"LOAD", Table::kRight},
               {"HEARTBEAT", Table::kRight}});
  for (const idl::TargetInfo& t : targets) {
    table.Add({t.id != 0 ? std::to_string(t.id) : "", t.name, AddressText(t), t.up ? "up" : "down", t.zone,
               std::to_string(t.weight), FormatBytes(t.capacity_bytes), FormatBytes(t.used_bytes),
               Percent(t.used_bytes, t.capacity_bytes), std::to_string(t.queue_depth),
               fmt::format("{:.1f}%", t.load / 10.0), FormatAge(t.heartbeat_age_ms)});
  }
  return table.ToString();
}

std::string SessionsText(const std::vector<idl::SessionInfo>& sessions) {
  if (sessions.empty()) return "no client has the cluster mounted\n";
  Table table({{"SESSION", Table::kRight},
               {"HOST"},
               {"AGE", Table::kRight},
               {"RENEWED", Table::kRight},
               {"GRANTED", Table::kRight}});
  for (const idl::SessionInfo& s : sessions) {
    table.Add(
        {std::to_string(s.id), s.host, FormatAge(s.age_ms), FormatAge(s.renewed_ms), BlocksText(s.granted_blocks)});
  }
  return table.ToString();
}

Json TargetsJson(const std::vector<idl::TargetInfo>& targets) {
  Json list = Json::array();
  for (const idl::TargetInfo& t : targets) {
    list.push_back({{"id", t.id},
                    {"uuid", UuidText(t.uuid)},
                    {"name", t.name},
                    {"host", t.host},
                    {"port", t.port},
                    {"up", t.up},
                    {"zone", t.zone},
                    {"weight", t.weight},
                    {"capacity_bytes", t.capacity_bytes},
                    {"used_bytes", t.used_bytes},
                    {"queue_depth", t.queue_depth},
                    {"load", t.load},
                    {"heartbeat_age_ms", t.heartbeat_age_ms}});
  }
  return list;
}

Json SessionsJson(const std::vector<idl::SessionInfo>& sessions) {
  Json list = Json::array();
  for (const idl::SessionInfo& s : sessions) {
    list.push_back({{"id", s.id},
                    {"host", s.host},
                    {"age_ms", s.age_ms},
                    {"renewed_ms", s.renewed_ms},
                    {"granted_blocks", s.granted_blocks}});
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
          {"files", pool.files},
          {"targets", TargetsJson(pool.targets)},
          {"sessions", SessionsJson(pool.sessions)}};
}

}  // namespace weft::ctl
