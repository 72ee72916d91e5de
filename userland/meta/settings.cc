// SPDX-License-Identifier: MIT
#include "userland/meta/settings.h"

#include <unistd.h>

#include <cerrno>
#include <iostream>

#include "userland/base/config.h"

namespace weft {
namespace {

namespace po = boost::program_options;

constexpr int64_t kLeaseMsMin = 1'000;
constexpr int64_t kLeaseMsMax = 3'600'000;
constexpr int64_t kHeartbeatMsMin = 100;
constexpr int64_t kHeartbeatMsMax = 60'000;
constexpr uint64_t kStoreBytesMin = 1 << 20;
constexpr uint64_t kStoreBytesMax = 1ULL << 40;
constexpr size_t kClusterBytesMax = 63;  // WEFT_CLUSTER_NAME_MAX with its NUL

Status ReadFile(const po::variables_map& vm, MetaSettings* s, std::string* listen) {
  Result<Config> config = Config::Load(s->common.config_path);
  if (!config.ok()) return config.status();
  MetaSettings file = *s;
  std::string file_listen = *listen;
  int64_t lease_ms = s->meta.lease_ms;
  int64_t heartbeat_ms = s->meta.targets.heartbeat_ms;
  int64_t down_ms = s->meta.targets.down_ms;
  config->Read("cluster", &file.common.cluster);
  config->Read("log_level", &file.common.log_level);
  config->Read("data", &file.data);
  config->Read("listen", &file_listen);
  config->Read("session.lease_ms", &lease_ms, kLeaseMsMin, kLeaseMsMax);
  config->Read("targets.heartbeat_ms", &heartbeat_ms, kHeartbeatMsMin, kHeartbeatMsMax);
  config->Read("targets.down_ms", &down_ms, kHeartbeatMsMin, kHeartbeatMsMax * 10);
  config->Read("nvmeof.fence_command", &file.fence_command);
  config->ReadBytes("store.cache", &s->rocks.cache_bytes, kStoreBytesMin, kStoreBytesMax);
  config->ReadBytes("store.write_buffer", &s->rocks.write_buffer_bytes, kStoreBytesMin, kStoreBytesMax);
  if (Status status = config->Finish(); !status.ok()) return status;
  if (!Given(vm, "cluster")) s->common.cluster = file.common.cluster;
  if (!Given(vm, "log-level")) s->common.log_level = file.common.log_level;
  if (!Given(vm, "data")) s->data = file.data;
  if (!Given(vm, "listen")) *listen = file_listen;
  if (!Given(vm, "fence-command")) s->fence_command = file.fence_command;
  if (!Given(vm, "lease-ms")) s->meta.lease_ms = static_cast<int>(lease_ms);
  s->meta.targets.heartbeat_ms = static_cast<int>(heartbeat_ms);
  s->meta.targets.down_ms = static_cast<int>(down_ms);
  return {};
}

Status Check(const std::string& listen, MetaSettings* s) {
  Result<Address> address = ParseAddress(listen, kMetaPort);
  if (!address.ok()) return address.status().Annotate("--listen");
  s->listen = *address;
  if (s->data.empty()) return Error(EINVAL, "--data: the folder's name is empty");
  if (s->common.cluster.empty() || s->common.cluster.size() > kClusterBytesMax) {
    return Error(EINVAL, "--cluster '{}': a name has 1 to {} bytes", s->common.cluster, kClusterBytesMax);
  }
  if (s->meta.lease_ms < kLeaseMsMin || s->meta.lease_ms > kLeaseMsMax) {
    return Error(EINVAL, "--lease-ms {}: it takes {} to {}", s->meta.lease_ms, kLeaseMsMin, kLeaseMsMax);
  }
  if (s->meta.targets.down_ms < 2 * s->meta.targets.heartbeat_ms) {
    return Error(EINVAL, "targets.down_ms {} is less than twice targets.heartbeat_ms {}", s->meta.targets.down_ms,
                 s->meta.targets.heartbeat_ms);
  }
  s->meta.cluster = s->common.cluster;
  s->meta.fence_command = !s->fence_command.empty();
  if (s->meta.fence_command && s->fence_command.front() != '/')
    return Error(EINVAL, "--fence-command '{}': give the program's whole path", s->fence_command);
  if (s->meta.fence_command && access(s->fence_command.c_str(), X_OK) != 0)
    return Status::Errno(errno, fmt::format("--fence-command {}", s->fence_command));
  return {};
}

}  // namespace

std::optional<int> ReadMetaSettings(int argc, char** argv, MetaSettings* s) {
  std::string listen = s->listen.ToString();
  po::options_description options("weft-meta: the metadata server of a weftfs cluster");
  options.add_options()("data", po::value(&s->data)->default_value(s->data), "folder of the metadata store")(
      "listen", po::value(&listen)->default_value(listen), "HOST:PORT to serve on")(
      "lease-ms", po::value(&s->meta.lease_ms)->default_value(s->meta.lease_ms),
      "a client that is silent for so long may be replaced")("fence-command", po::value(&s->fence_command),
                                                             "program that keeps hosts away from NVMe-oF targets");
  po::variables_map vm;
  if (auto exit_code = ParseDaemonOptions(argc, argv, "weft-meta", options, &s->common, &vm)) return exit_code;
  Status status = s->common.config_path.empty() ? Status::Ok() : ReadFile(vm, s, &listen);
  if (status.ok()) status = Check(listen, s);
  if (status.ok()) return std::nullopt;
  std::cerr << "weft-meta: " << status.message() << std::endl;
  return 2;
}

}  // namespace weft
