// SPDX-License-Identifier: MIT
//
// The command line of mount.weft: what mount(8) gives its helpers, and -o taken apart into what the agent
// needs, what the kernel's weft understands, and what concerns every file system. Values; one thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "userland/base/status.h"

namespace weft {

struct MountOptions {
  std::string cluster;
  std::string directory;
  bool fake = false;     // -f: everything but the mount
  bool verbose = false;  // -v

  // for the agent; empty: not given
  std::string meta;
  std::string key;
  std::string config;

  // for the kernel's weft and for its super block ("ro", "sync"): name and value, empty: a flag
  std::vector<std::pair<std::string, std::string>> filesystem;
  unsigned long flags = 0;  // MS_* of the mount point, and MS_RDONLY
  bool remount = false;
};

// mount.weft CLUSTER DIR [-sfnv] [-o OPTIONS] [-t weft]. EINVAL names the word that is not understood.
Result<MountOptions> ParseMountArguments(const std::vector<std::string>& arguments);
// OPTIONS, separated by commas, on top of *options.
Status ParseMountOptionString(const std::string& text, MountOptions* options);

std::string MountUsage();

}  // namespace weft
