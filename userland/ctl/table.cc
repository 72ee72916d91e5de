// SPDX-License-Identifier: MIT
#include "userland/ctl/table.h"

#include <algorithm>
#include <cassert>

#include <fmt/format.h>

namespace weft::ctl {
namespace {

struct Unit {
  double size;
  const char* name;
};

// The largest unit that the value reaches, else the first.
template <size_t N>
std::string InUnits(double value, const Unit (&units)[N]) {
  const Unit* unit = &units[0];
  for (const Unit& u : units) {
    if (value >= u.size) unit = &u;
  }
  return fmt::format("{:.1f} {}", value / unit->size, unit->name);
}

}  // namespace

void Table::Add(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) {
    if (cell.empty()) cell.assign(1, '-');
  }
  rows_.push_back(std::move(cells));
}

std::string Table::ToString() const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<size_t> widths(columns_.size());
  auto widen = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(titles);
  for (const auto& row : rows_) widen(row);

  std::string text;
  auto print = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      line += columns_[i].align == kRight ? fmt::format("{:>{}}", row[i], widths[i])
                                          : fmt::format("{:<{}}", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  print(titles);
  for (const auto& row : rows_) print(row);
  return text;
}

std::string FormatAge(int64_t ms) {
  static constexpr Unit kUnits[] = {{1e3, "s"}, {60e3, "min"}, {3600e3, "h"}, {86400e3, "d"}};
  return InUnits(static_cast<double>(ms), kUnits);
}

std::string FormatLatency(uint64_t ns) {
  static constexpr Unit kUnits[] = {{1e3, "us"}, {1e6, "ms"}, {1e9, "s"}};
  return InUnits(static_cast<double>(ns), kUnits);
}

}  // namespace weft::ctl
