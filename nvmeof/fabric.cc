// SPDX-License-Identifier: MIT
#include "nvmeof/fabric.h"

#include <algorithm>

namespace weft::nvmeof {

bool Namespace::reachable() const {
  return std::any_of(paths.begin(), paths.end(), [](const Path& path) { return path.usable(); });
}

}  // namespace weft::nvmeof
