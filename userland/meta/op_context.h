// SPDX-License-Identifier: MIT
//
// What every operation of the state machine is executed with, and the state that operations share.
// State machine thread.
#pragma once

#include <cstdint>

#include "thrift-gen/meta_types.h"
#include "userland/meta/records.h"

namespace weft {

struct OpContext {
  uint64_t session = 0;
  int64_t now_ns = 0;  // client's clock: becomes ctime, mtime, btime
};

// Limits of the name space. Tests lower them.
struct NamespaceLimits {
  uint32_t link_max = 0x7fffffff;  // nlink is an i32 on the wire
};

inline constexpr size_t kNameBytesMax = 255;
inline constexpr size_t kSymlinkBytesMax = 4095;
inline constexpr uint64_t kFileBlocksMax = 1ULL << 51;  // 2^63 bytes
inline constexpr size_t kMetaReplyBytes = 32768;        // WEFT_META_REP_BYTES: what the kernel can take

idl::Attr ToAttr(uint64_t ino, const Inode& inode);
idl::Chunk ToIdl(uint64_t index, const Chunk& chunk);

}  // namespace weft
