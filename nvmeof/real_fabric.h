// SPDX-License-Identifier: MIT
//
// The Fabric of the kernel that runs here. What it touches is named by a path, so that tests can put a folder in
// its place; everybody else calls MakeRealFabric() of fabric.h. One caller at a time for each object.
#pragma once

#include <memory>
#include <string>

#include "nvmeof/fabric.h"

namespace weft::nvmeof {

struct KernelPaths {
  std::string sysfs = "/sys";
  std::string fabrics = "/dev/nvme-fabrics";
  std::string log = "/dev/kmsg";
  std::string devices = "/dev";
  std::string identity = "/etc/nvme";
};

std::unique_ptr<Fabric> MakeRealFabric(KernelPaths paths);

}  // namespace weft::nvmeof
