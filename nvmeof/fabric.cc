// SPDX-License-Identifier: MIT
#include "nvmeof/fabric.h"

#include <algorithm>

#include <fmt/format.h>

namespace weft::nvmeof {

bool Namespace::reachable() const {
  return std::any_of(paths.begin(), paths.end(), [](const Path& path) { return path.usable(); });
}

std::string Namespace::name() const { return fmt::format("namespace {} of {}", nsid, nqn); }

}  // namespace weft::nvmeof
