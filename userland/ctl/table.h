// SPDX-License-Identifier: MIT
//
// A table of text for people: columns as wide as their widest cell, two spaces between, no trailing space.
//   Table table({{"NAME"}, {"SIZE", Table::kRight}});  table.Add({"t1", "4.0 GiB"});  out << table.ToString();
// A value; one thread.
#pragma once

#include <string>
#include <vector>

namespace weft::ctl {

class Table {
 public:
  enum Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // One cell a column; an empty one is shown as "-".
  void Add(std::vector<std::string> cells);
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// 90500 -> "90.5 s", 7200000 -> "2.0 h"; for ages.
std::string FormatAge(int64_t ms);
// 55000 -> "55.0 us"; for latencies.
std::string FormatLatency(uint64_t ns);

}  // namespace weft::ctl
