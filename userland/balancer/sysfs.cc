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

Result<std::string> ReadAll(const fs::path& path) {
  errno = 0;
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file) return Status::Errno(errno ? errno : EIO, path.string());
  return text;
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

uint64_t LatencyCounts::PercentileNs(uint64_t percent) const {
  uint64_t all = 0;
  for (const Bucket& bucket : buckets_) all += bucket.count;
  if (all == 0) return 0;
  uint64_t wanted = std::max<uint64_t>((all * percent + 99) / 100, 1);
  uint64_t end_ns = 0;
  for (const Bucket& bucket : buckets_) {
    if (bucket.end_ns != 0) end_ns = bucket.end_ns;
    if (bucket.count >= wanted) break;
    wanted -= bucket.count;
  }
  return end_ns;
}

Result<LatencyCounts> ParseLatencyCounts(std::string_view text) {
  std::vector<LatencyCounts::Bucket> buckets;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    std::vector<std::string_view> words = Words(line);
    LatencyCounts::Bucket bucket = {};
    if (words.size() != 2 || !ParseNumber(words[0], &bucket.end_ns) || !ParseNumber(words[1], &bucket.count)) {
      return Error(EINVAL, "'{}' is not a latency and a count", line);
    }
    buckets.push_back(bucket);
  }
  return LatencyCounts(std::move(buckets));
}

namespace {

// "weight zone flags"
Status ParseLabel(std::string_view line, TargetCounters* target) {
  uint64_t numbers[3] = {};
  std::vector<std::string_view> words = Words(line);
  bool valid = words.size() >= std::size(numbers);
  for (size_t i = 0; valid && i < std::size(numbers); ++i) valid = ParseNumber(words[i], &numbers[i]);
  if (!valid) return Error(EINVAL, "'{}' is not weight, zone and flags", line);
  target->weight = static_cast<uint32_t>(numbers[0]);
  target->zone = static_cast<uint32_t>(numbers[1]);
  target->flags = static_cast<uint32_t>(numbers[2]);
  return {};
}

Status ReadLatency(const fs::path& path, LatencyCounts* counts) {
  Result<std::string> text = ReadAll(path);
  if (!text.ok()) return text.status();
  Result<LatencyCounts> parsed = ParseLatencyCounts(*text);
  if (!parsed.ok()) return parsed.status().Annotate(path.string());
  *counts = *std::move(parsed);
  return {};
}

}  // namespace

// Cluster and id are in the path, which the caller knows.
Status Sysfs::ReadTarget(const std::string& dir, TargetCounters* target) const {
  fs::path path = dir;
  Result<std::string> line = ReadLine(path / "stat");
  if (!line.ok()) return line.status();
  Result<TargetCounters> stat = ParseTargetStat(*line);
  if (!stat.ok()) return stat.status().Annotate((path / "stat").string());
  stat->cluster = target->cluster;
  stat->cluster_number = target->cluster_number;
  stat->id = target->id;
  *target = *std::move(stat);
  Result<std::string> name = ReadLine(path / "name");
  if (!name.ok()) return name.status();
  target->name = *name;
  Result<std::string> label = ReadLine(path / "label");
  if (!label.ok()) return label.status();
  if (Status s = ParseLabel(*label, target); !s.ok()) return s.Annotate((path / "label").string());
  if (Status s = ReadLatency(path / "read_latency", &target->read_latency); !s.ok()) return s;
  return ReadLatency(path / "write_latency", &target->write_latency);
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
    Result<uint64_t> number = ReadNumber(cluster / "number");
    for (const fs::path& entry : List(cluster / "targets", &none)) {
      uint64_t id = 0;
      if (!ParseNumber(entry.filename().native(), &id)) continue;
      TargetCounters target;
      target.cluster = cluster.filename();
      target.cluster_number = static_cast<uint32_t>(number.ok() ? *number : 0);
      target.id = static_cast<uint32_t>(id);
      Status read = ReadTarget(entry, &target);
      if (IsGone(read)) continue;
      if (!read.ok()) return read;
      targets.push_back(std::move(target));
    }
  }
  if (error) return Status::Errno(error.value(), root_);
  std::ranges::sort(targets, {}, [](const TargetCounters& t) { return std::tie(t.cluster, t.id); });
  return targets;
}

}  // namespace weft::balancer
