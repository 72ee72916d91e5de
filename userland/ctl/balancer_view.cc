// SPDX-License-Identifier: MIT
#include "userland/ctl/balancer_view.h"

#include <nlohmann/json.hpp>

#include "userland/balancer/policies.h"
#include "userland/base/config.h"
#include "userland/ctl/table.h"

namespace weft::ctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kNotOurs = "(a BPF object that does not ship with weftfs)";

}  // namespace

std::string PoliciesText(const std::optional<std::string>& active) {
  Table table({{""}, {"POLICY"}, {"WHAT IT DOES"}});
  auto mark = [&](std::string_view name) { return active == name ? "*" : " "; };
  for (const balancer::Policy& policy : balancer::ShippedPolicies()) {
    table.Add({mark(policy.name), std::string(policy.name), std::string(policy.summary)});
  }
  if (active && balancer::FindPolicy(*active) == nullptr) table.Add({"*", *active, kNotOurs});
  return table.ToString();
}

Json PoliciesJson(const std::optional<std::string>& active) {
  Json list = Json::array();
  auto add = [&](std::string_view name, std::string_view summary, bool builtin, bool shipped) {
    Json is_active = nullptr;
    if (active) is_active = *active == name;
    list.push_back(
        {{"name", name}, {"summary", summary}, {"builtin", builtin}, {"shipped", shipped}, {"active", is_active}});
  };
  for (const balancer::Policy& policy : balancer::ShippedPolicies()) {
    add(policy.name, policy.summary, policy.object == nullptr, true);
  }
  if (active && balancer::FindPolicy(*active) == nullptr) add(*active, "", false, false);
  return list;
}

std::string StateText(const balancer::BalancerState& state) {
  return fmt::format("policy  {}\npicks   {}\nfaults  {}\n", state.policy, state.picks, state.faults);
}

Json StateJson(const balancer::BalancerState& state) {
  return {{"policy", state.policy}, {"picks", state.picks}, {"faults", state.faults}};
}

std::string CountersText(const std::vector<balancer::TargetCounters>& targets) {
  if (targets.empty()) return "no cluster is mounted on this host, so there are no targets to count\n";
  Table table({{"CLUSTER"},
               {"ID", Table::kRight},
               {"TARGET"},
               {"STATE"},
               {"INFLIGHT", Table::kRight},
               {"READS", Table::kRight},
               {"WRITES", Table::kRight},
               {"READ", Table::kRight},
               {"WRITTEN", Table::kRight},
               {"ERRORS", Table::kRight},
               {"READ p50", Table::kRight},
               {"p99", Table::kRight},
               {"WRITE p50", Table::kRight},
               {"p99", Table::kRight}});
  auto percentile = [](const balancer::LatencyCounts& counts, uint64_t percent) {
    uint64_t ns = counts.PercentileNs(percent);
    return ns > 0 ? FormatLatency(ns) : "";
  };
  for (const balancer::TargetCounters& t : targets) {
    table.Add({t.cluster, std::to_string(t.id), t.name, t.up ? "up" : "down", std::to_string(t.inflight),
               std::to_string(t.reads), std::to_string(t.writes), FormatBytes(t.read_bytes), FormatBytes(t.write_bytes),
               std::to_string(t.errors), percentile(t.read_latency, 50), percentile(t.read_latency, 99),
               percentile(t.write_latency, 50), percentile(t.write_latency, 99)});
  }
  return table.ToString();
}

Json CountersJson(const std::vector<balancer::TargetCounters>& targets) {
  Json list = Json::array();
  for (const balancer::TargetCounters& t : targets) {
    list.push_back({{"cluster", t.cluster},
                    {"id", t.id},
                    {"name", t.name},
                    {"up", t.up},
                    {"inflight", t.inflight},
                    {"reads", t.reads},
                    {"writes", t.writes},
                    {"read_bytes", t.read_bytes},
                    {"write_bytes", t.write_bytes},
                    {"errors", t.errors},
                    {"weight", t.weight},
                    {"zone", t.zone},
                    {"ewma_latency_ns", t.ewma_latency_ns},
                    {"read_p50_ns", t.read_latency.PercentileNs(50)},
                    {"read_p99_ns", t.read_latency.PercentileNs(99)},
                    {"write_p50_ns", t.write_latency.PercentileNs(50)},
                    {"write_p99_ns", t.write_latency.PercentileNs(99)}});
  }
  return list;
}

}  // namespace weft::ctl
