// SPDX-License-Identifier: MIT
#include "userland/balancer/sysfs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <tuple>

#include "kmod/uapi/weft.h"

namespace weft::balancer {
namespace {

namespace fs = std::filesystem;

Result<std::string> ReadLine(const fs::path& path) {
  errno = 0;
  std::ifstream file(path);
  std::string line;
  if (!file || (!std::getline(file, line) && !file.eof())) return Status::Errno(errno ? errno : EIO, path.string());
  return line;
}

bool ParseNumber(std::string_view text, uint64_t* value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<uint64_t> ReadNumber(const fs::path& path) {
  Result<std::string> line = ReadLine(path);
  if (!line.ok()) return line.status();
  uint64_t value = 0;
  if (!ParseNumber(*line, &value)) return Error(EINVAL, "{} holds '{}', not a number", path.string(), *line);
  return value;
}

std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  constexpr std::string_view kSpace = " \t\n";
  for (size_t at = line.find_first_not_of(kSpace); at != line.npos; at = line.find_first_not_of(kSpace, at)) {
    size_t end = std::min(line.find_first_of(kSpace, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

std::vector<fs::path> List(const fs::path& dir, std::error_code* error) {
  std::vector<fs::path> paths;
  fs::directory_iterator it(dir, *error);
  for (; !*error && it != fs::directory_iterator(); it.increment(*error)) paths.push_back(it->path());
  return paths;
}

// A target that is unplugged while we look is no error.
bool IsGone(const Status& status) { return status.code() == ENOENT || status.code() == ENODEV; }

}  // namespace

Result<TargetCounters> ParseTargetStat(std::string_view line) {
  TargetCounters target;
  std::vector<std::string_view> words = Words(line);
  uint64_t state = 0;
  const std::array<uint64_t*, 8> fields = {
      &state,         &target.inflight,        &target.reads, &target.writes, &target.read_bytes, &target.write_bytes,
      &target.errors, &target.ewma_latency_ns,
  };
  bool valid = words.size() >= fields.size();
  for (size_t i = 0; valid && i < fields.size(); ++i) valid = ParseNumber(words[i], fields[i]);
  if (!valid || (state != WEFT_TARGET_UP && state != WEFT_TARGET_DOWN)) {
    return Error(EINVAL, "'{}' is not the counters of a target", line);
  }
  target.up = state == WEFT_TARGET_UP;
  return target;
}

Result<BalancerState> Sysfs::Balancer() const {
  fs::path dir = fs::path(root_) / "balancer";
  std::error_code error;
  if (!fs::is_directory(dir, error)) {
    return Error(ENODEV, "{} does not exist: the module is not loaded; run `modprobe weft` (or insmod weft.ko)",
                 dir.string());
  }
  BalancerState state;
  Result<std::string> policy = ReadLine(dir / "policy");
  if (!policy.ok()) return policy.status();
  state.policy = *policy;
  Result<uint64_t> picks = ReadNumber(dir / "picks");
  if (!picks.ok()) return picks.status();
  state.picks = *picks;
  Result<uint64_t> faults = ReadNumber(dir / "faults");
  if (!faults.ok()) return faults.status();
  state.faults = *faults;
  return state;
}

Result<std::vector<TargetCounters>> Sysfs::Targets() const {
  std::error_code error;
  if (!fs::is_directory(root_, error)) {
    return Error(ENODEV, "{} does not exist: the module is not loaded; run `modprobe weft` (or insmod weft.ko)", root_);
  }
  std::vector<TargetCounters> targets;
  for (const fs::path& cluster : List(root_, &error)) {
    std::error_code none;  // what is no cluster has no targets
    for (const fs::path& entry : List(cluster / "targets", &none)) {
      uint64_t id = 0;
      if (!ParseNumber(entry.filename().native(), &id)) continue;
      Result<std::string> line = ReadLine(entry / "stat");
      Result<std::string> name = ReadLine(entry / "name");
      const Status& failed = line.ok() ? name.status() : line.status();
      if (IsGone(failed)) continue;
      if (!failed.ok()) return failed;
      Result<TargetCounters> target = ParseTargetStat(*line);
      if (!target.ok()) return target.status().Annotate((entry / "stat").string());
      target->cluster = cluster.filename();
      target->id = static_cast<uint32_t>(id);
      target->name = *name;
      targets.push_back(*std::move(target));
    }
  }
  if (error) return Status::Errno(error.value(), root_);
  std::ranges::sort(targets, {}, [](const TargetCounters& t) { return std::tie(t.cluster, t.id); });
  return targets;
}

}  // namespace weft::balancer
