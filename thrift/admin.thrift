// SPDX-License-Identifier: MIT
//
// The admin service (weftctl and other people's tools) and the service that targets report to.
// Same server, transport and rules as meta.thrift.

include "meta.thrift"

namespace cpp weft.idl

struct Version {
  1: string software     // e.g. "0.1.0"
  2: i32 protocol
  3: i32 protocol_min    // lowest that is still served
}

struct TargetInfo {
  1: i32 id              // 0: not part of the pool
  2: binary uuid
  3: string name
  4: string host
  5: i32 port
  6: i64 capacity_bytes  // data area
  7: i64 used_bytes      // chunks placed on it
  8: i32 weight
  9: string zone
  10: bool up
  11: i64 heartbeat_age_ms
  12: i32 queue_depth
  13: i32 load           // 0..1000
}

struct SessionInfo {
  1: i64 id
  2: string host
  3: i64 age_ms          // since it was opened
  4: i64 renewed_ms      // since it was last renewed
  5: i64 granted_blocks
}

struct PoolStatus {
  1: bool formed
  2: string cluster
  3: binary cluster_uuid
  4: i32 copies
  5: i64 chunk_bytes
  6: i64 pool_blocks
  7: i64 free_blocks
  8: i64 granted_blocks
  9: i64 chunks          // that exist
  10: i64 chunks_degraded  // with a copy that is not in sync
  11: i64 files
  12: list<TargetInfo> targets
  13: list<SessionInfo> sessions
}

struct CreatePoolArgs {
  1: i32 copies             // 1..4; 0: 2 when there are two targets or more, else 1
  2: i64 chunk_bytes        // a power of two, 1 MiB .. 4 GiB; 0: 64 MiB
  3: list<string> targets   // names; empty: all that have registered
}

service AdminService {
  Version version()
  // EEXIST: formed already. ENOENT: no target of that name. EINVAL: names the argument.
  PoolStatus createPool(1: CreatePoolArgs params) throws (1: meta.ServiceError e)
  PoolStatus poolStatus() throws (1: meta.ServiceError e)
  // Ends a session whose client will not come back. ENOENT.
  void evictSession(1: i64 session) throws (1: meta.ServiceError e)
}

struct RegisterTargetArgs {
  1: i32 protocol
  2: string cluster
  3: binary uuid          // 16 bytes, kept in the label of the target's device
  4: string name
  5: string host
  6: i32 port
  7: i64 capacity_bytes   // data area
  8: i32 weight
  9: string zone
  10: binary cluster_uuid // from the label; empty: not yet part of a pool
}

struct TargetReport {
  1: i32 queue_depth      // requests in hand
  2: i32 load             // 0..1000
}

struct TargetOrders {
  1: i32 id               // 0: not part of the pool yet
  2: binary cluster_uuid  // empty: not part of a pool; else to be written to the label
  3: i32 heartbeat_ms     // next report wanted in
}

service TargetService {
  // EINVAL: label belongs to another cluster, capacity smaller than when the pool was formed, ...
  TargetOrders registerTarget(1: RegisterTargetArgs params) throws (1: meta.ServiceError e)
  // ESTALE: server does not know it (any more): register again.
  TargetOrders heartbeat(1: binary uuid, 2: TargetReport report) throws (1: meta.ServiceError e)
}
