// SPDX-License-Identifier: MIT
#include "userland/agent/settings.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include <boost/algorithm/string/trim.hpp>

#include "kmod/uapi/weft.h"
#include "userland/base/config.h"

namespace weft::agent {
namespace {

constexpr int64_t kSpinMaxUs = 1'000'000;
constexpr std::chrono::microseconds kSpin{1000};  // an application that reads block by block asks again sooner
constexpr int64_t kDetectMinMs = 100;
constexpr int64_t kDetectMaxMs = 600'000;
constexpr int64_t kConnectionsMax = 16;
constexpr int64_t kNvmeQueuesMax = 1024;
constexpr int64_t kNvmeTimeMaxS = 3600;
constexpr uint32_t kCpusPerQueue = 4;
constexpr uint32_t kSmallMachineCpus = 2;  // there a thread that looks for work keeps others from making it

// The first line of the file.
Status ReadSecret(const std::string& path, std::string* secret) {
  errno = 0;
  std::ifstream file(path);
  if (!file || (!std::getline(file, *secret) && errno != 0)) {
    int error = errno != 0 ? errno : EIO;
    return Error(error, "NVMe secret {}: {}; `nvme gen-dhchap-key` makes one", path, strerrorname_np(error));
  }
  boost::algorithm::trim(*secret);
  if (secret->empty()) return Error(EINVAL, "NVMe secret {} is empty; `nvme gen-dhchap-key` makes one", path);
  return {};
}

Status CheckRange(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return {};
  return Error(EINVAL, "{} is {}, not {} to {}", name, value, min, max);
}

}  // namespace

std::string DefaultConfigPath(const std::string& cluster) { return fmt::format("/etc/weft/{}.toml", cluster); }

Status ReadSettings(const std::string& path, Settings* settings) {
  Result<Config> config = Config::Load(path);
  if (!config.ok()) return config.status();
  config->Read("meta", &settings->meta);
  config->Read("key", &settings->key);
  config->Read("zone", &settings->zone);
  config->Read("log_level", &settings->log_level);
  config->Read("queues", &settings->queues, 0, WEFT_QUEUES_MAX);
  config->ReadBytes("pool_bytes", &settings->pool_bytes, 0, WEFT_POOL_BYTES_MAX);
  config->Read("depth", &settings->depth, 0, WEFT_DEPTH_MAX);
  config->Read("spin_us", &settings->spin_us, -1, kSpinMaxUs);
  config->Read("detect_ms", &settings->detect_ms, kDetectMinMs, kDetectMaxMs);
  config->Read("meta_connections", &settings->meta_connections, 1, kConnectionsMax);
  config->Read("rdma_address", &settings->rdma_address);
  config->Read("nvme_hostnqn", &settings->nvme_hostnqn);
  config->Read("nvme_hostid", &settings->nvme_hostid);
  config->Read("nvme_interface", &settings->nvme_interface);
  config->Read("nvme_address", &settings->nvme_address);
  config->Read("nvme_queues", &settings->nvme_queues, 0, kNvmeQueuesMax);
  config->Read("nvme_keep_alive_s", &settings->nvme_keep_alive_s, 1, kNvmeTimeMaxS);
  config->Read("nvme_reconnect_s", &settings->nvme_reconnect_s, 1, kNvmeTimeMaxS);
  config->Read("nvme_ctrl_loss_s", &settings->nvme_ctrl_loss_s, -1, kNvmeTimeMaxS);
  config->Read("nvme_fast_io_fail_s", &settings->nvme_fast_io_fail_s, -1, kNvmeTimeMaxS);
  config->Read("nvme_key", &settings->nvme_key);
  config->Read("nvme_ctrl_key", &settings->nvme_ctrl_key);
  config->Read("nvme_tls", &settings->nvme_tls);
  return config->Finish();
}

Status CheckSettings(const Settings& settings) {
  if (settings.meta.empty()) return Error(EINVAL, "no metadata server is named; give --meta HOST:PORT");
  if (settings.key.empty()) return Error(EINVAL, "no cluster key is named; give --key FILE");
  for (Status s :
       {CheckRange("queues", settings.queues, 0, WEFT_QUEUES_MAX),
        CheckRange("depth", settings.depth, 0, WEFT_DEPTH_MAX), CheckRange("spin_us", settings.spin_us, -1, kSpinMaxUs),
        CheckRange("detect_ms", settings.detect_ms, kDetectMinMs, kDetectMaxMs),
        CheckRange("meta_connections", settings.meta_connections, 1, kConnectionsMax)}) {
    if (!s.ok()) return s;
  }
  if (settings.depth != 0 && !std::has_single_bit(static_cast<uint64_t>(settings.depth))) {
    return Error(EINVAL, "depth {} is no power of two", settings.depth);
  }
  if (settings.pool_bytes != 0 &&
      (settings.pool_bytes < WEFT_POOL_BYTES_MIN || settings.pool_bytes > WEFT_POOL_BYTES_MAX)) {
    return Error(EINVAL, "pool_bytes is {}, not {} to {}", FormatBytes(settings.pool_bytes),
                 FormatBytes(WEFT_POOL_BYTES_MIN), FormatBytes(WEFT_POOL_BYTES_MAX));
  }
  return {};
}

uint32_t QueueCount(const Settings& settings) {
  if (settings.queues > 0) return static_cast<uint32_t>(settings.queues);
  return std::clamp<uint32_t>(std::thread::hardware_concurrency() / kCpusPerQueue, 1, WEFT_QUEUES_MAX);
}

std::chrono::microseconds SpinTime(const Settings& settings) {
  if (settings.spin_us >= 0) return std::chrono::microseconds(settings.spin_us);
  return kSpin;
}

bool SpinsForDevices(const Settings& settings) {
  return settings.spin_us > 0 || std::thread::hardware_concurrency() > kSmallMachineCpus;
}

Result<nvmeof::HostSettings> NvmeHost(const Settings& settings) {
  nvmeof::HostSettings host;
  host.hostnqn = settings.nvme_hostnqn;
  host.hostid = settings.nvme_hostid;
  host.host_iface = settings.nvme_interface;
  host.host_address = settings.nvme_address;
  host.queues = static_cast<uint32_t>(settings.nvme_queues);
  host.keep_alive_s = static_cast<uint32_t>(settings.nvme_keep_alive_s);
  host.reconnect_s = static_cast<uint32_t>(settings.nvme_reconnect_s);
  host.ctrl_loss_s = static_cast<int32_t>(settings.nvme_ctrl_loss_s);
  constexpr int64_t kMsPerSecond = 1000;
  int64_t fail_s = settings.nvme_fast_io_fail_s >= 0 ? settings.nvme_fast_io_fail_s
                                                     : (settings.detect_ms + kMsPerSecond - 1) / kMsPerSecond;
  host.fast_io_fail_s = static_cast<uint32_t>(fail_s);
  host.tls = settings.nvme_tls;
  for (auto [path, secret] :
       {std::pair(&settings.nvme_key, &host.dhchap_key), std::pair(&settings.nvme_ctrl_key, &host.dhchap_ctrl_key)}) {
    if (path->empty()) continue;
    if (Status s = ReadSecret(*path, secret); !s.ok()) return s;
  }
  return host;
}

}  // namespace weft::agent
