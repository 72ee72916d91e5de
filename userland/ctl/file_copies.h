// SPDX-License-Identifier: MIT
//
// The number of copies that a file's or directory's new data gets, asked of the kernel and set there
// (WEFT_IOC_GET_COPIES, WEFT_IOC_SET_COPIES). Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "userland/base/status.h"

namespace weft::ctl {

// `path` is opened for reading. Errors name it; ENOTTY: it is on no weft file system.
Result<uint32_t> GetFileCopies(const std::string& path);
Status SetFileCopies(const std::string& path, uint32_t copies);

}  // namespace weft::ctl
