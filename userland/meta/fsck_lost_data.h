// SPDX-License-Identifier: MIT
//
// Which files had data in given blocks of the pool. One thread.
#pragma once

#include <vector>

#include "userland/meta/fsck_scan.h"
#include "userland/meta/space.h"

namespace weft {

// Reports "data-lost" once for each file with data in any of `ranges`.
void FsckNameLostData(FsckScan* scan, uint64_t chunk_blocks, std::vector<BlockRange> ranges);

}  // namespace weft
