// SPDX-License-Identifier: MIT
//
// A block request of the kernel (struct weft_sqe) as a command of the block protocol. Pure functions.
#pragma once

#include <cstddef>

#include "kmod/uapi/weft.h"
#include "rdma/block_initiator.h"
#include "userland/base/status.h"

namespace weft::agent {

// EINVAL names the field that makes no sense; nothing outside the pool can pass.
Status ToBlockCommand(const weft_sqe& sqe, size_t pool_bytes, rdma::BlockCommand* command);

// The same for META: its message slot lies in the pool and its numbers are in range.
Status CheckMetaRequest(const weft_sqe& sqe, size_t pool_bytes);

}  // namespace weft::agent
