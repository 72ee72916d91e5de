// SPDX-License-Identifier: MIT
#include "userland/ctl/simulate_view.h"

#include <nlohmann/json.hpp>

#include "userland/ctl/table.h"

namespace weft::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? "" : fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string LatencyTable(const std::vector<balancer::SimulationResult>& results) {
  Table table({{"POLICY"},
               {"READS/S", Table::kRight},
               {"MEAN", Table::kRight},
               {"p50", Table::kRight},
               {"p90", Table::kRight},
               {"p99", Table::kRight},
               {"MAX", Table::kRight},
               {"FAULTS", Table::kRight}});
  for (const balancer::SimulationResult& r : results) {
    table.Add({r.policy, fmt::format("{:.0f}", r.reads_per_s), FormatLatency(r.mean_ns), FormatLatency(r.p50_ns),
               FormatLatency(r.p90_ns), FormatLatency(r.p99_ns), FormatLatency(r.max_ns), std::to_string(r.faults)});
  }
  return table.ToString();
}

std::string LoadTable(const std::vector<balancer::SimulationResult>& results) {
  Table table({{"POLICY"},
               {"TARGET"},
               {"READS", Table::kRight},
               {"SHARE", Table::kRight},
               {"BUSY", Table::kRight},
               {"PLACED", Table::kRight}});
  for (const balancer::SimulationResult& r : results) {
    uint64_t placed = 0;
    for (const balancer::SimulatedTarget& t : r.targets) placed += t.placed_blocks;
    for (const balancer::SimulatedTarget& t : r.targets) {
      table.Add({r.policy, t.name, std::to_string(t.reads), Share(t.reads, r.reads),
                 fmt::format("{:.0f}%", 100 * t.busy), Share(t.placed_blocks, placed)});
    }
  }
  return table.ToString();
}

}  // namespace

std::string TraceText(const balancer::Trace& trace, uint32_t depth) {
  std::string text = fmt::format("{} reads, {} at most in flight; {} requests came back, {} placements\n",
                                 trace.reads.size(), depth, trace.dones.size(), trace.places.size());
  if (trace.dropped > 0) text += fmt::format("{} records of the trace were lost when it was made\n", trace.dropped);
  if (!trace.complete) text += "the trace has no end: it was cut off\n";
  return text + "\n";
}

std::string SimulationText(const std::vector<balancer::SimulationResult>& results) {
  return LatencyTable(results) + "\n" + LoadTable(results);
}

Json SimulationJson(const balancer::Trace& trace, uint32_t depth,
                    const std::vector<balancer::SimulationResult>& results) {
  Json list = Json::array();
  for (const balancer::SimulationResult& r : results) {
    Json targets = Json::array();
    for (const balancer::SimulatedTarget& t : r.targets) {
      targets.push_back({{"name", t.name}, {"reads", t.reads}, {"placed_blocks", t.placed_blocks}, {"busy", t.busy}});
    }
    list.push_back({{"policy", r.policy},
                    {"reads", r.reads},
                    {"places", r.places},
                    {"faults", r.faults},
                    {"reads_per_s", r.reads_per_s},
                    {"mean_ns", r.mean_ns},
                    {"p50_ns", r.p50_ns},
                    {"p90_ns", r.p90_ns},
                    {"p99_ns", r.p99_ns},
                    {"max_ns", r.max_ns},
                    {"targets", std::move(targets)}});
  }
  return {{"trace",
           {{"reads", trace.reads.size()},
            {"depth", depth},
            {"requests", trace.dones.size()},
            {"places", trace.places.size()},
            {"dropped", trace.dropped},
            {"complete", trace.complete}}},
          {"policies", std::move(list)}};
}

}  // namespace weft::ctl
