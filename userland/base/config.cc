// SPDX-License-Identifier: MIT
#include "userland/base/config.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

namespace weft {

Result<Config> Config::Load(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status::Errno(errno, path);
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) return Error(EIO, "{}: cannot be read", path);
  return Parse(text.str(), path);
}

Result<Config> Config::Parse(std::string_view text, const std::string& name) {
  Config config;
  config.name_ = name;
  try {
    config.table_ = toml::parse(text, name);
  } catch (const toml::parse_error& e) {
    return Error(EINVAL, "{}:{}: {}", name, e.source().begin.line, e.description());
  }
  return config;
}

const toml::node* Config::Find(std::string_view key) {
  known_.emplace(key);
  return table_.at_path(key).node();
}

void Config::Fail(const toml::node* node, std::string_view key, std::string_view what) {
  if (error_.ok()) error_ = Error(EINVAL, "{}:{}: '{}' {}", name_, node->source().begin.line, key, what);
}

void Config::Read(std::string_view key, std::string* out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (auto v = node->value_exact<std::string>()) {
    *out = *v;
  } else {
    Fail(node, key, "must be a string");
  }
}

void Config::Read(std::string_view key, bool* out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (auto v = node->value_exact<bool>()) {
    *out = *v;
  } else {
    Fail(node, key, "must be true or false");
  }
}

void Config::Read(std::string_view key, int64_t* out, int64_t min, int64_t max) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  auto v = node->value_exact<int64_t>();
  if (!v || *v < min || *v > max) {
    Fail(node, key, fmt::format("must be a whole number from {} to {}", min, max));
    return;
  }
  *out = *v;
}

void Config::Read(std::string_view key, std::vector<std::string>* out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  std::vector<std::string> values;
  const toml::array* array = node->as_array();
  if (array == nullptr) return Fail(node, key, "must be a list of strings");
  for (const toml::node& item : *array) {
    auto v = item.value_exact<std::string>();
    if (!v) return Fail(node, key, "must be a list of strings");
    values.push_back(*v);
  }
  *out = std::move(values);
}

void Config::ReadBytes(std::string_view key, uint64_t* out, uint64_t min, uint64_t max) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  Result<uint64_t> bytes = Error(EINVAL, "not a size");
  if (auto n = node->value_exact<int64_t>()) {
    if (*n >= 0) bytes = static_cast<uint64_t>(*n);
  } else if (auto s = node->value_exact<std::string>()) {
    bytes = ParseBytes(*s);
  }
  if (!bytes.ok() || *bytes < min || *bytes > max) {
    Fail(node, key,
         fmt::format("must be a size from {} to {}, such as \"64 MiB\"", FormatBytes(min), FormatBytes(max)));
    return;
  }
  *out = *bytes;
}

Status Config::Finish() {
  if (!error_.ok()) return error_;
  // Every leaf must have been asked for; a table is fine when something below it was.
  std::function<void(const toml::table&, const std::string&)> check = [&](const toml::table& table,
                                                                          const std::string& prefix) {
    for (const auto& [k, node] : table) {
      std::string key = prefix + std::string(k.str());
      if (known_.contains(key)) continue;
      if (const toml::table* below = node.as_table()) {
        check(*below, key + ".");
      } else {
        Fail(&node, key, "is not a setting of this program");
      }
    }
  };
  check(table_, "");
  return error_;
}

Result<uint64_t> ParseBytes(std::string_view text) {
  uint64_t number = 0;
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, text.data() + text.size() - end);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  static constexpr std::string_view kUnits = "KMGTP";
  int shift = 0;
  if (err == std::errc() && !unit.empty() && unit != "B") {
    size_t i = kUnits.find(unit.front());
    std::string_view rest = unit.substr(1);
    if (i == std::string_view::npos || !(rest.empty() || rest == "iB")) {
      err = std::errc::invalid_argument;
    } else {
      shift = 10 * static_cast<int>(i + 1);
    }
  }
  if (err != std::errc() || (number << shift) >> shift != number) {
    return Error(EINVAL, "'{}' is not a size such as 4096, 64KiB or 2 GiB", text);
  }
  return number << shift;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit < std::size(kUnits) - 1) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace weft
