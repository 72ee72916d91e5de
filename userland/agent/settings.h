// SPDX-License-Identifier: MIT
//
// What a client host knows of a cluster: /etc/weft/CLUSTER.toml, read by weftd and by mount.weft. The
// command line wins over the file. Values; used during start-up.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"

namespace weft::agent {

struct Settings {
  std::string meta;  // HOST:PORT of the metadata server
  std::string key;   // file with the cluster key
  std::string zone;  // failure domain of this host, as in the targets' settings; empty: none
  std::string log_level = "info";
  int64_t queues = 0;        // threads for block requests; 0: one for each 4 CPUs
  uint64_t pool_bytes = 0;   // the kernel's buffer pool; 0: the kernel's choice
  int64_t depth = 0;         // unfinished requests, a power of two; 0: the kernel's choice
  int64_t spin_us = -1;      // how long an idle queue thread looks for more before it sleeps; -1: the default
  int64_t detect_ms = 5000;  // a target that cannot be reached for this long is down
  int64_t meta_connections = 2;
  // Of NVMe-oF targets: see nvmeof::HostSettings.
  std::string rdma_address;  // of this host, for other targets; empty: the one that a storage node is reached from
  std::string nvme_hostnqn;  // empty: of /etc/nvme/hostnqn
  std::string nvme_hostid;   // empty: of /etc/nvme/hostid
  std::string nvme_interface;
  std::string nvme_address;
  int64_t nvme_queues = 0;
  int64_t nvme_keep_alive_s = 5;
  int64_t nvme_reconnect_s = 1;
  int64_t nvme_ctrl_loss_s = -1;
  int64_t nvme_fast_io_fail_s = -1;  // -1: detect_ms
  std::string nvme_key;              // file with this host's DH-HMAC-CHAP secret; empty: none
  std::string nvme_ctrl_key;         // file with the controllers' secret; empty: they need not prove themselves
  bool nvme_tls = false;
};

std::string DefaultConfigPath(const std::string& cluster);

// Reads every key of `path` into *settings. ENOENT, or EINVAL with file, line and key.
Status ReadSettings(const std::string& path, Settings* settings);

// EINVAL names what is missing or out of range.
Status CheckSettings(const Settings& settings);

// With queues 0 and spin_us -1 resolved for this host.
uint32_t QueueCount(const Settings& settings);
std::chrono::microseconds SpinTime(const Settings& settings);
// Whether queue threads look for the answers of block devices, too: not on a small machine, unless spin_us says so.
bool SpinsForDevices(const Settings& settings);
// How this host connects to NVMe-oF storage nodes. Reads the key files: EINVAL: one is empty; or the errno of
// reading it.
Result<nvmeof::HostSettings> NvmeHost(const Settings& settings);

}  // namespace weft::agent
