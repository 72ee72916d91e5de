// SPDX-License-Identifier: MIT
//
// What a client host knows of a cluster: /etc/weft/CLUSTER.toml, read by weftd and by mount.weft. The
// command line wins over the file. Values; used during start-up.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

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
};

std::string DefaultConfigPath(const std::string& cluster);

// Reads every key of `path` into *settings. ENOENT, or EINVAL with file, line and key.
Status ReadSettings(const std::string& path, Settings* settings);

// EINVAL names what is missing or out of range.
Status CheckSettings(const Settings& settings);

// With queues 0 and spin_us -1 resolved for this host.
uint32_t QueueCount(const Settings& settings);
std::chrono::microseconds SpinTime(const Settings& settings);

}  // namespace weft::agent
