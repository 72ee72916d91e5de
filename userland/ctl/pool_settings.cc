// SPDX-License-Identifier: MIT
#include "userland/ctl/pool_settings.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <limits>

#include "kmod/uapi/weft.h"
#include "userland/base/config.h"

namespace weft::ctl {
namespace {

Status ReadCopies(std::string_view text, idl::PoolSettings* settings) {
  int copies = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), copies);
  if (error != std::errc() || end != text.data() + text.size() || copies < 1 || copies > WEFT_COPIES_MAX) {
    return Error(EINVAL, "'{}' is not 1 to {}", text, WEFT_COPIES_MAX);
  }
  settings->__set_copies(copies);
  return {};
}

Result<int64_t> ParseRate(std::string_view text) {
  Result<uint64_t> bytes = ParseBytes(text.ends_with("/s") ? text.substr(0, text.size() - 2) : text);
  if (!bytes.ok() || *bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Error(EINVAL, "'{}' is not a size for each second, such as 100MiB; 0: no limit", text);
  }
  return static_cast<int64_t>(*bytes);
}

Status ReadResyncRate(std::string_view text, idl::PoolSettings* settings) {
  Result<int64_t> rate = ParseRate(text);
  if (rate.ok()) settings->__set_resync_bytes_per_s(*rate);
  return rate.status();
}

Status ReadScrubRate(std::string_view text, idl::PoolSettings* settings) {
  Result<int64_t> rate = ParseRate(text);
  if (rate.ok()) settings->__set_scrub_bytes_per_s(*rate);
  return rate.status();
}

Status ReadScrubInterval(std::string_view text, idl::PoolSettings* settings) {
  Result<int64_t> seconds = ParseDuration(text);
  if (!seconds.ok()) return seconds.status();
  if (*seconds > std::numeric_limits<int32_t>::max()) return Error(EINVAL, "'{}' is longer than 68 years", text);
  settings->__set_scrub_interval_s(static_cast<int32_t>(*seconds));
  return {};
}

struct Key {
  std::string_view name;
  Status (*read)(std::string_view text, idl::PoolSettings* settings);
};
constexpr std::array kKeys = {Key{"copies", ReadCopies}, Key{"resync-rate", ReadResyncRate},
                              Key{"scrub-rate", ReadScrubRate}, Key{"scrub-interval", ReadScrubInterval}};

Status ReadWord(const std::string& word, idl::PoolSettings* settings) {
  size_t equals = word.find('=');
  if (equals == word.npos) return Error(EINVAL, "'{}' is not KEY=VALUE", word);
  std::string_view name = std::string_view(word).substr(0, equals);
  std::string known;
  for (const Key& key : kKeys) {
    if (name == key.name) {
      if (Status s = key.read(std::string_view(word).substr(equals + 1), settings); !s.ok()) return s.Annotate(name);
      return {};
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", key.name);
  }
  return Error(EINVAL, "the pool has no setting '{}'; there are {}", name, known);
}

}  // namespace

Result<int64_t> ParseDuration(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t seconds;
  };
  static constexpr Unit kUnits[] = {{"", 1}, {"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view rest(end, text.data() + text.size() - end);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  for (const Unit& unit : kUnits) {
    bool good = error == std::errc() && number >= 0 && rest == unit.name;
    if (good && number <= std::numeric_limits<int64_t>::max() / 1000 / unit.seconds) return number * unit.seconds;
  }
  return Error(EINVAL, "'{}' is not a duration such as 90s, 15min, 12h or 7d", text);
}

Result<idl::PoolSettings> ParsePoolSettings(std::span<const std::string> words) {
  idl::PoolSettings settings;
  for (const std::string& word : words) {
    if (Status s = ReadWord(word, &settings); !s.ok()) return s;
  }
  return settings;
}

}  // namespace weft::ctl
