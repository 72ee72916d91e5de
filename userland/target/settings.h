// SPDX-License-Identifier: MIT
//
// What weft-target is told: defaults, then its configuration file, then its command line. A value.
//
// Configuration file (all keys optional; bytes as "64 MiB" or a number):
//   cluster = "weft"      name = "t1"            backing = "/dev/nvme1n1"   size = "10 GiB"
//   listen = "10.0.0.3"   address = "10.0.0.3"   meta = "10.0.0.1:7470"     key = "/etc/weft/weft.key"
//   zone = "rack1"        weight = 100           log_level = "info"
//   buffers = "64 MiB"    depth = 256            depth_total = 2048         spin_us = 50
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "userland/base/address.h"
#include "userland/base/daemon.h"
#include "userland/base/status.h"

namespace weft::target {

struct Settings {
  DaemonOptions common;
  std::string name;
  std::string backing;
  uint64_t size_bytes = 0;
  bool force = false;
  Address listen;
  std::string address;  // that clients connect to
  Address meta;
  std::string key;
  std::string zone;
  int64_t weight = 100;
  uint64_t buffer_bytes = 64 << 20;
  int64_t depth = 256;
  int64_t depth_total = 2048;
  int64_t spin_us = -1;  // -1: by the number of processors
};

// The exit code when the program is to end now (help, version, a mistake that it has explained).
std::optional<int> ParseSettings(int argc, char** argv, Settings* settings);

}  // namespace weft::target
