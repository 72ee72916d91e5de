// SPDX-License-Identifier: MIT
//
// A target must make progress while the memory of its host is full: writing out dirty pages may depend
// on it. Call once at start; what is not permitted is logged.
#pragma once

namespace weft::target {

// Locks the memory of this process as it is touched, and tells the kernel that this process serves
// writeback (PR_SET_IO_FLUSHER).
void StayResident();

}  // namespace weft::target
