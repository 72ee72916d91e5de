// SPDX-License-Identifier: MIT
#include "userland/ctl/task_view.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "userland/base/config.h"
#include "userland/ctl/table.h"

namespace weft::ctl {
namespace {

constexpr int kBarCells = 20;

// 100 only when all is done.
int PercentDone(int64_t done, int64_t total) {
  if (total <= 0 || done >= total) return 100;
  double share = static_cast<double>(std::max<int64_t>(done, 0)) / static_cast<double>(total);
  return std::min(static_cast<int>(share * 100), 99);
}

std::string Bytes(int64_t bytes) { return FormatBytes(static_cast<uint64_t>(std::max<int64_t>(bytes, 0))); }

std::string Rate(const idl::TaskInfo& task) {
  return task.bytes_per_s > 0 ? Bytes(task.bytes_per_s) + "/s" : std::string();
}

std::string TimeLeft(const idl::TaskInfo& task) {
  return task.eta_s >= 0 && task.waits_for.empty() ? FormatAge(task.eta_s * 1000) : std::string();
}

}  // namespace

std::string TaskName(idl::TaskKind::type kind) {
  auto it = idl::_TaskKind_VALUES_TO_NAMES.find(kind);
  if (it == idl::_TaskKind_VALUES_TO_NAMES.end()) return fmt::format("task-{}", static_cast<int>(kind));
  std::string name = it->second;
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

std::string ProgressBar(int64_t done, int64_t total) {
  int percent = PercentDone(done, total);
  int filled = percent * kBarCells / 100;
  return fmt::format("[{}{}] {:>3}%", std::string(filled, '#'), std::string(kBarCells - filled, '-'), percent);
}

std::string TasksText(const std::vector<idl::TaskInfo>& tasks) {
  if (tasks.empty()) return "";
  Table table({{"TASK"},
               {"TARGET"},
               {"PROGRESS"},
               {"DONE", Table::kRight},
               {"OF", Table::kRight},
               {"RATE", Table::kRight},
               {"LEFT", Table::kRight},
               {"WAITS FOR"}});
  for (const idl::TaskInfo& task : tasks) {
    table.Add({TaskName(task.kind), task.target, ProgressBar(task.done_bytes, task.total_bytes), Bytes(task.done_bytes),
               Bytes(task.total_bytes), Rate(task), TimeLeft(task), task.waits_for});
  }
  return table.ToString();
}

std::string TaskLine(const idl::TaskInfo& task) {
  std::string line = TaskName(task.kind);
  if (!task.target.empty()) line += " of " + task.target;
  line += fmt::format(" at {}%", PercentDone(task.done_bytes, task.total_bytes));
  if (!task.waits_for.empty()) line += fmt::format(", waits for: {}", task.waits_for);
  return line;
}

nlohmann::ordered_json TasksJson(const std::vector<idl::TaskInfo>& tasks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const idl::TaskInfo& task : tasks) {
    list.push_back({{"kind", TaskName(task.kind)},
                    {"target", task.target},
                    {"done_bytes", task.done_bytes},
                    {"total_bytes", task.total_bytes},
                    {"bytes_per_s", task.bytes_per_s},
                    {"eta_s", task.eta_s},
                    {"waits_for", task.waits_for}});
  }
  return list;
}

}  // namespace weft::ctl
