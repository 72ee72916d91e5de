// SPDX-License-Identifier: MIT
#include "userland/ctl/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <sstream>
#include <string_view>

namespace weft {
namespace {

constexpr int64_t kGraceMaxS = 86'400;

struct FlagOption {
  std::string_view name;
  unsigned long set;
  unsigned long clear;
};

// Of mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS".
constexpr FlagOption kFlagOptions[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME},
    {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"silent", MS_SILENT, 0},
    {"loud", 0, MS_SILENT},
    {"defaults", 0, 0},
};

// For mount(8), fstab and systemd; of no meaning here.
constexpr std::string_view kOthersOptions[] = {"auto",  "noauto", "user",   "nouser", "users",
                                               "owner", "group",  "nofail", "_netdev"};

bool IsForOthers(std::string_view name) {
  return std::ranges::find(kOthersOptions, name) != std::end(kOthersOptions) || name.starts_with("x-") ||
         name.starts_with("X-") || name.starts_with("comment=");
}

Status ApplyFlag(std::string_view name, MountOptions* options, bool* found) {
  for (const FlagOption& flag : kFlagOptions) {
    if (flag.name != name) continue;
    options->flags = (options->flags & ~flag.clear) | flag.set;
    *found = true;
  }
  return {};
}

Status ApplyGrace(const std::string& value, MountOptions* options) {
  int64_t seconds = 0;
  auto [end, err] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (err != std::errc() || end != value.data() + value.size() || seconds < 1 || seconds > kGraceMaxS) {
    return Error(EINVAL, "option grace={}: a number of seconds from 1 to {} is wanted", value, kGraceMaxS);
  }
  options->filesystem.emplace_back("grace", value);
  return {};
}

Status ApplyOption(const std::string& option, MountOptions* options) {
  size_t equals = option.find('=');
  std::string name = option.substr(0, equals);
  bool has_value = equals != std::string::npos;
  std::string value = has_value ? option.substr(equals + 1) : "";

  for (auto [known, field] : {std::pair{"meta", &MountOptions::meta}, std::pair{"key", &MountOptions::key},
                              std::pair{"config", &MountOptions::config}}) {
    if (name != known) continue;
    if (value.empty()) return Error(EINVAL, "option {} needs a value: {}=...", name, name);
    options->*field = value;
    return {};
  }
  if (name == "grace") return ApplyGrace(value, options);
  if (has_value && !IsForOthers(option)) {
    return Error(EINVAL, "option \"{}\" is unknown; see mount.weft --help", option);
  }
  if (name == "soft" || name == "hard") {
    options->filesystem.emplace_back(name, "");
    return {};
  }
  if (name == "remount") {
    options->remount = true;
    return {};
  }
  bool found = IsForOthers(option);
  if (Status s = ApplyFlag(name, options, &found); !s.ok()) return s;
  if (!found) return Error(EINVAL, "option \"{}\" is unknown; see mount.weft --help", option);
  return {};
}

}  // namespace

Status ParseMountOptionString(const std::string& text, MountOptions* options) {
  std::istringstream stream(text);
  std::string option;
  while (std::getline(stream, option, ',')) {
    if (option.empty()) continue;
    if (Status s = ApplyOption(option, options); !s.ok()) return s;
  }
  return {};
}

Result<MountOptions> ParseMountArguments(const std::vector<std::string>& arguments) {
  MountOptions options;
  std::vector<std::string> words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.size() < 2 || argument[0] != '-') {
      words.push_back(argument);
      continue;
    }
    for (size_t j = 1; j < argument.size(); ++j) {
      char letter = argument[j];
      if (letter == 'f') options.fake = true;
      if (letter == 'v') options.verbose = true;
      if (std::string_view("fvns").find(letter) != std::string_view::npos) continue;
      if (letter != 'o' && letter != 't') return Error(EINVAL, "{} is unknown; see mount.weft --help", argument);
      // -oVALUE or -o VALUE
      std::string value = argument.substr(j + 1);
      if (value.empty()) {
        if (++i == arguments.size()) return Error(EINVAL, "-{} needs a value", letter);
        value = arguments[i];
      }
      if (letter == 't' && value != "weft") return Error(EINVAL, "-t {}: this mounts weft only", value);
      if (letter == 'o') {
        if (Status s = ParseMountOptionString(value, &options); !s.ok()) return s;
      }
      break;
    }
  }
  if (words.size() != 2) return Error(EINVAL, "{}", MountUsage());
  options.cluster = words[0];
  options.directory = words[1];
  return options;
}

std::string MountUsage() {
  return "usage: mount.weft CLUSTER DIRECTORY [-fv] [-o OPTIONS]\n"
         "  mounts the weftfs cluster CLUSTER; starts its agent, weftd, when none is running.\n"
         "  Installed as /sbin/mount.weft it serves `mount -t weft CLUSTER DIRECTORY` and /etc/fstab.\n"
         "options:\n"
         "  config=FILE      settings of the cluster (default /etc/weft/CLUSTER.toml, where it exists)\n"
         "  meta=HOST:PORT   metadata server (default: from the settings)\n"
         "  key=FILE         cluster key (default: from the settings)\n"
         "  hard             requests wait until agent and servers are back (default)\n"
         "  soft             requests that have waited for the grace period fail with EIO\n"
         "  grace=SECONDS    the grace period (default 60)\n"
         "and those of mount(8) for every file system: ro, noatime, nosuid, nodev, noexec, ...";
}

}  // namespace weft
