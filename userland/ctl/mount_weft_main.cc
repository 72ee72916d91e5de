// SPDX-License-Identifier: MIT
//
// mount.weft: mounts a cluster; see MountUsage. Exit codes as mount(8) wants them.
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "userland/agent/settings.h"
#include "userland/base/daemon.h"
#include "userland/base/key.h"
#include "userland/ctl/mount_agent.h"
#include "userland/ctl/mount_call.h"
#include "userland/ctl/mount_check.h"
#include "userland/ctl/mount_options.h"

namespace weft {
namespace {

constexpr int kExitUsage = 1;
constexpr int kExitFailure = 32;

void Say(const std::string& text) { std::cerr << "mount.weft: " << text << std::endl; }

// The cluster's settings on this host, with those of -o over them.
Result<agent::Settings> FindSettings(const MountOptions& options) {
  agent::Settings settings;
  std::string path = options.config.empty() ? agent::DefaultConfigPath(options.cluster) : options.config;
  if (!options.config.empty() || std::filesystem::exists(path)) {
    if (Status s = agent::ReadSettings(path, &settings); !s.ok()) return s;
  }
  if (!options.meta.empty()) settings.meta = options.meta;
  if (!options.key.empty()) settings.key = options.key;
  return settings;
}

Status EnsureAgent(const MountOptions& options, const agent::Settings& settings) {
  if (AgentIsAttached(options.cluster)) {
    if (options.verbose) Say("an agent is attached");
    return {};
  }
  if (settings.meta.empty() || settings.key.empty()) {
    return Error(ENOENT, "cluster \"{}\" is unknown on this host: write {}, or give -o meta=HOST:PORT,key=FILE",
                 options.cluster, agent::DefaultConfigPath(options.cluster));
  }
  if (auto key = LoadClusterKey(settings.key); !key.ok()) return key.status();
  if (options.verbose) Say("starting weftd");
  // Absolute: weftd runs in the root directory.
  auto absolute = [](const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path).string();
  };
  return StartAgent({.cluster = options.cluster,
                     .config = absolute(options.config),
                     .meta = options.meta,
                     .key = absolute(options.key)});
}

// The kernel's error in words; what the agent wrote meanwhile says more.
Status Explain(const Status& status, const MountOptions& options, int64_t log_offset) {
  std::string text = status.message();
  switch (status.code()) {
    case EBUSY:
      text += fmt::format(" (cluster \"{}\" is mounted already, here or by another client)", options.cluster);
      break;
    case EKEYREJECTED:
      text += " (the targets refuse the cluster key of this host)";
      break;
    case ENOENT:
      text += fmt::format(" (no agent has attached for cluster \"{}\")", options.cluster);
      break;
    default:
      break;
  }
  std::string complaints = AgentComplaints(options.cluster, log_offset);
  if (!complaints.empty()) text += "\n" + complaints;
  return Error(status.code(), "{}", text);
}

Status Mount(const MountOptions& options) {
  if (Status s = CheckMountPoint(options.directory); !s.ok()) return s;
  if (options.remount) return options.fake ? Status() : CallMount(options);
  Result<agent::Settings> settings = FindSettings(options);
  if (!settings.ok()) return settings.status();
  if (Status s = EnsureModule(); !s.ok()) return s;
  if (!settings->meta.empty()) {
    if (Status s = CheckMetadataServer(options.cluster, settings->meta); !s.ok()) return s;
  }
  if (Status s = EnsureAgent(options, *settings); !s.ok()) return s;
  if (options.fake) return {};
  int64_t log_offset = AgentLogBytes(options.cluster);
  Status s = CallMount(options);
  return s.ok() ? s : Explain(s, options, log_offset);
}

int Main(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      std::cout << MountUsage() << std::endl;
      return 0;
    }
    if (argument == "--version" || argument == "-V") {
      std::cout << "mount.weft " << kSoftwareVersion << std::endl;
      return 0;
    }
  }
  Result<MountOptions> options = ParseMountArguments(arguments);
  if (!options.ok()) {
    Say(options.status().message());
    return kExitUsage;
  }
  if (geteuid() != 0) {
    Say("only root can mount");
    return kExitUsage;
  }
  if (Status s = Mount(*options); !s.ok()) {
    Say(fmt::format("{} on {}: {}", options->cluster, options->directory, s.message()));
    return kExitFailure;
  }
  return 0;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(std::vector<std::string>(argv + 1, argv + argc)); }
