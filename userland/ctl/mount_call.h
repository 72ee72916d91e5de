// SPDX-License-Identifier: MIT
//
// The system calls that mount: the fsopen(2) family, whose messages of the file system are handed to the
// user, or mount(2) where the kernel or its policy has no fsopen.
#pragma once

#include "userland/base/status.h"
#include "userland/ctl/mount_options.h"

namespace weft {

// The error carries the kernel's errno; its message is what the file system said, if it said something.
Status CallMount(const MountOptions& options);

}  // namespace weft
