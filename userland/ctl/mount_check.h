// SPDX-License-Identifier: MIT
//
// What can be known to be wrong before the kernel is asked to mount: errors that name their cause now
// instead of a mount that waits for ever.
#pragma once

#include <string>

#include "userland/base/status.h"

namespace weft {

// The metadata server answers, serves this cluster, and has a pool.
Status CheckMetadataServer(const std::string& cluster, const std::string& meta);

// `directory` is one.
Status CheckMountPoint(const std::string& directory);

}  // namespace weft
