// SPDX-License-Identifier: MIT
//
// What weft-meta can be told: defaults, then the configuration file, then the command line.
//
//   # /etc/weft/meta.toml
//   cluster = "weft"
//   log_level = "info"
//   data = "/var/lib/weft/meta"      # folder of the metadata store
//   listen = "0.0.0.0:7470"
//   [session]
//   lease_ms = 30000                 # a client that is silent for so long may be replaced
//   [nvmeof]
//   fence_command = "/etc/weft/fence"  # keeps the host of an ended session away from NVMe-oF targets; see Fencer
//   [targets]
//   heartbeat_ms = 1000
//   down_ms = 5000                   # a target that is silent for so long is down
//   [store]
//   cache = "64 MiB"
//   write_buffer = "32 MiB"
#pragma once

#include <optional>

#include "userland/base/address.h"
#include "userland/base/daemon.h"
#include "userland/meta/rocks_store.h"
#include "userland/meta/state_machine.h"

namespace weft {

struct MetaSettings {
  DaemonOptions common;
  std::string data = "/var/lib/weft/meta";
  Address listen{"0.0.0.0", kMetaPort};
  std::string fence_command;  // empty: none
  MetaOptions meta;
  RocksOptions rocks;
};

// Fills *settings. Returns the exit code when the program is to end now; mistakes were explained on stderr.
std::optional<int> ReadMetaSettings(int argc, char** argv, MetaSettings* settings);

}  // namespace weft
