// SPDX-License-Identifier: MIT
//
// What a peer may send: every bound of the Thrift connections in one place. A frame that claims more is
// refused before memory is taken for it.
#pragma once

#include <cstdint>

namespace weft {

inline constexpr int32_t kFrameBytesMax = 4 << 20;      // one call or one reply
inline constexpr int32_t kStringBytesMax = 1 << 16;     // names, symbolic links, messages
inline constexpr int32_t kContainerItemsMax = 4096;     // requests, extents, directory entries, inodes
inline constexpr uint32_t kFrameStepBytes = 64 << 10;   // a frame's buffer grows as its bytes arrive
inline constexpr uint32_t kFrameKeepBytes = 256 << 10;  // a larger buffer is given back after the message
inline constexpr int kConnectionsMax = 4 * 1024;        // of one server; a thread each, and 3 of every target
inline constexpr int kListenBacklog = 128;

inline constexpr int kFirstFrameMs = 10'000;  // a new connection must say something within this time
inline constexpr int kTransferMs = 30'000;    // a message that has begun must be complete within this time
inline constexpr int kConnectMs = 5'000;
inline constexpr int kReplyMs = 30'000;

// TCP keepalive: a peer that vanished is noticed after idle + probes * interval seconds.
inline constexpr int kKeepaliveIdleS = 10;
inline constexpr int kKeepaliveIntervalS = 5;
inline constexpr int kKeepaliveProbes = 4;

}  // namespace weft
