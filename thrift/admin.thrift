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

// One controller that leads to a namespace.
struct NvmePath {
  1: string endpoint     // "rdma 10.0.0.1:4420"
  2: string controller   // "nvme0"
  3: string state        // of the controller: "live", "connecting", ...
  4: string ana_state    // "optimized", ...; empty: the controller does not say
}

// What a namespace says of itself.
struct NvmeTraits {
  1: i32 block_bytes         // logical
  2: i32 atomic_write_bytes  // written as a whole also when its storage node loses power; 0: it does not say
  3: bool write_cache        // volatile
  4: bool fua
}

// Of a target in the pool. DRAINING: gets nothing new, what it has moves away; it may be removed when it
// holds no chunk any more.
enum TargetState { SPARE = 0, ACTIVE = 1, DRAINING = 2 }

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
  11: i64 heartbeat_age_ms  // -1: never, an NVMe-oF target that no client has attended to
  12: i32 queue_depth
  13: i32 load           // 0..1000
  14: TargetState state
  15: i64 stale_bytes    // copies on it that are not in sync
  16: i32 device_latency_us
  17: bool joined        // it knows that it is part of the pool, and serves
  18: optional meta.NvmeNamespace nvme  // of kind nvmeof
  19: list<NvmePath> paths              // of kind nvmeof: as the client with the live session sees them
  20: string data_path   // of kind nvmeof: "agent" or "direct", in force there; empty: no client attends to it
  21: string fence       // of kind nvmeof: what keeps a client out whose session has ended: "reservation", "command" or
                         // "lease" (it is waited for until it has stopped by itself)
  22: optional NvmeTraits traits        // of kind nvmeof: as the client that attends to it sees them
}

struct SessionInfo {
  1: i64 id
  2: string host
  3: i64 age_ms          // since it was opened
  4: i64 renewed_ms      // since it was last renewed
  5: i64 granted_blocks
  6: i64 open_chunks     // that it may be writing to
  7: bool ended          // for its client; others are not let in before it is kept away from NVMe-oF targets
  8: i64 gone_in_ms      // ended: until then requests of it may take effect there
  9: string fence_error  // ended: why the fence command has not kept it away; empty: it has not failed
}

// RESYNC: copies that missed writes. REBUILD: copies of which there are too few. DRAIN, REBALANCE: copies that
// move. SCRUB: verifying. REPAIR: blocks that failed their checksum.
enum TaskKind { RESYNC = 1, REBUILD = 2, DRAIN = 3, REBALANCE = 4, SCRUB = 5, REPAIR = 6 }

// What is going on in the background. Derived from the chunks: survives a crash of any part.
struct TaskInfo {
  1: TaskKind kind
  2: string target       // its name; empty: of the whole pool
  3: i64 done_bytes
  4: i64 total_bytes     // since the task began; grows when more becomes necessary
  5: i64 bytes_per_s     // of the last seconds
  6: i64 eta_s           // -1: not known
  7: string waits_for    // why nothing moves, for people; empty: something does
}

struct PoolSettings {
  1: optional i32 copies              // of new data where its directory does not say otherwise: 1..4
  2: optional i64 resync_bytes_per_s  // of each target, for RESYNC, REBUILD, DRAIN and REBALANCE; 0: no limit
  3: optional i64 scrub_bytes_per_s   // of each target; 0: no limit
  4: optional i32 scrub_interval_s    // between the starts of two scrubs; 0: only when asked for
}

struct PoolStatus {
  1: bool formed
  2: string cluster
  3: binary cluster_uuid
  4: i32 copies
  5: i64 chunk_bytes
  6: i64 pool_blocks     // that can be stored, with the pool's copies
  7: i64 free_blocks
  8: i64 granted_blocks
  9: i64 chunks          // that exist
  10: i64 chunks_degraded  // with a copy that is not in sync, or with too few copies
  11: i64 files
  12: list<TargetInfo> targets
  13: list<SessionInfo> sessions
  14: list<TaskInfo> tasks
  15: PoolSettings settings
  16: i64 chunks_lost    // without a copy in sync
  17: i64 bad_blocks     // failed their checksum and are not repaired yet
  18: i64 scrubbed_s     // wall clock of the end of the last whole scrub, seconds since the epoch; 0: never
}

struct CreatePoolArgs {
  1: i32 copies             // 1..4; 0: 2 when there are two targets or more, else 1
  2: i64 chunk_bytes        // a power of two, 1 MiB .. 4 GiB; 0: 64 MiB
  3: list<string> targets   // names; empty: all that have registered
}

// A finding of fsck. What it names depends on the kind; empty or 0: does not apply.
struct FsckProblem {
  1: string kind         // "orphan-dirent", "lost-blocks", ...: stable, for programs
  2: string message      // for people: names the thing and what was or can be done
  3: bool repaired       // by this run
  4: bool repairable
  5: i64 ino
  6: string path         // of the file that lost data
  7: i64 chunk
}

struct FsckArgs {
  1: bool repair
}

struct FsckReport {
  1: list<FsckProblem> problems  // at most FSCK_PROBLEMS_MAX
  2: i64 problems_total
  3: i64 inodes          // that were looked at
  4: i64 extents
  5: i64 chunks
  6: i64 repaired_total  // of problems_total, by this run
}

const i32 FSCK_PROBLEMS_MAX = 4096

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
  11: i64 instance        // random, of this process
  12: optional meta.NvmeNamespace nvme  // of kind nvmeof: makes the target known; host is empty and port 0
}

enum JobKind { COPY = 1, REPAIR = 2, RELEASE = 3, SCRUB = 4 }

struct JobProgress {
  1: JobKind kind
  2: i64 chunk
  3: i32 version
  4: i64 done_bytes
}

struct TargetReport {
  1: i32 queue_depth      // requests in hand
  2: i32 load             // 0..1000
  3: i32 device_latency_us  // average since the last report; 0: there were no requests
  4: list<JobProgress> jobs
  5: list<NvmePath> paths   // of kind nvmeof
  6: string data_path       // of kind nvmeof: as in TargetInfo
  7: bool reserved          // of kind nvmeof: a reservation keeps out who has not registered, ended sessions among them
  8: optional NvmeTraits traits  // of kind nvmeof
}

struct TargetOrders {
  1: i32 id               // 0: not part of the pool yet
  2: binary cluster_uuid  // empty: not part of a pool; else to be written to the label
  3: i32 heartbeat_ms     // next report wanted in
  4: i64 chunk_bytes      // of the pool: the data area is cut into places of this size; 0: none yet
}

// A copy of the same chunk on another target.
struct Peer {
  1: i32 id
  2: binary uuid
  3: string name
  4: string host
  5: i32 port
  6: i64 offset           // of its place in the data area there, bytes
}

// Blocks that one Job, JobResult, Mismatch or Damage names; what has more says so in several.
const i32 BLOCKS_PER_ITEM = 4096

// What a target is to do with one of its places. Named by (kind, chunk, version, attempt): what is wanted again after
// it ended gets another attempt.
//   COPY     all of the place is read from a peer (the next one when that fails), block by block what no
//            client has written there since the job came. Every READ carries `version`: it makes the peer refuse
//            clients whose map is older.
//   REPAIR   the same for `blocks`, which failed their checksum here and have not been written since.
//   RELEASE  the place is no copy any more: older versions are refused, its contents may be discarded.
//   SCRUB    all of it is read and verified, and its checksums are compared with those of the peers.
struct Job {
  1: JobKind kind
  2: i64 chunk
  3: i32 version
  4: i64 offset           // of the place, bytes
  5: i64 bytes
  6: list<Peer> peers
  7: list<i64> blocks     // REPAIR: numbers inside the place, at most BLOCKS_PER_ITEM
  8: i32 attempt
}

struct Jobs {
  1: i64 version          // of the list
  2: list<Job> jobs       // all that the target is to work at now: what is missing was called off
  3: i64 resync_bytes_per_s
  4: i64 scrub_bytes_per_s
}

struct Mismatch {
  1: i32 peer             // id of its target
  2: list<i64> blocks     // whose checksums differ, twice in the same way
}

struct JobResult {
  1: JobKind kind
  2: i64 chunk
  3: i32 version
  4: i64 offset
  5: i32 error            // errno; 0: done. ESTALE: a peer knows a higher version
  6: string message
  7: list<i64> bad_blocks // COPY, REPAIR: that no peer could read
  8: list<Mismatch> mismatches  // SCRUB
  9: i32 attempt          // of the job
}

// Blocks of a place that failed their checksum.
struct Damage {
  1: i64 offset           // of the place, bytes
  2: list<i64> blocks     // inside the place, at most BLOCKS_PER_ITEM
}

service AdminService {
  Version version()
  // EEXIST: formed already. ENOENT: no target of that name. EINVAL: names the argument.
  PoolStatus createPool(1: CreatePoolArgs params) throws (1: meta.ServiceError e)
  PoolStatus poolStatus() throws (1: meta.ServiceError e)
  // Fields that are set are changed, under load.
  PoolStatus setPool(1: PoolSettings settings) throws (1: meta.ServiceError e)
  // Ends a session whose client will not come back. host_is_off: at once; else SessionInfo.ended may come first. ENOENT.
  void evictSession(1: i64 session, 2: bool host_is_off) throws (1: meta.ServiceError e)

  // A target that has registered becomes part of the pool. ENOENT, EEXIST: it is already.
  PoolStatus addTarget(1: string name) throws (1: meta.ServiceError e)
  // Makes a target of kind nvmeof known (params.nvme is set, host and port are not), or says anew where it is. It becomes
  // part of the pool when there is one. Errors as of registerTarget. only_check: nothing is changed, but whatever would
  // be refused is; for who has not written the label yet.
  PoolStatus addNvmeTarget(1: RegisterTargetArgs params, 2: bool only_check) throws (1: meta.ServiceError e)
  // Of a target of kind nvmeof. EINVAL: it is none.
  PoolStatus setDataPath(1: string name, 2: meta.DataPath path) throws (1: meta.ServiceError e)
  // Moves everything away, or (cancel) no longer does. ENOSPC: the other targets cannot take it.
  PoolStatus drainTarget(1: string name, 2: bool cancel) throws (1: meta.ServiceError e)
  // EBUSY: it still holds chunks: drain it first. lost: it will not come back; what it held is rebuilt from
  // other copies. EBUSY then: it is up.
  PoolStatus removeTarget(1: string name, 2: bool lost) throws (1: meta.ServiceError e)
  // Evens out how full the targets are, or (stop) no longer does.
  PoolStatus rebalance(1: bool stop) throws (1: meta.ServiceError e)
  // Verifies every copy, from the start of the pool, or (stop) no longer does.
  PoolStatus scrub(1: bool stop) throws (1: meta.ServiceError e)
  // Metadata against chunk maps, grants and targets, of one moment; serves on meanwhile.
  FsckReport fsck(1: FsckArgs params) throws (1: meta.ServiceError e)
}

service TargetService {
  // EINVAL: label belongs to another cluster, capacity smaller than when the pool was formed, ...
  TargetOrders registerTarget(1: RegisterTargetArgs params) throws (1: meta.ServiceError e)
  // ESTALE: server does not know it (any more), or another instance: register again.
  TargetOrders heartbeat(1: binary uuid, 2: TargetReport report, 3: i64 instance) throws (1: meta.ServiceError e)
  // Returns at once when the list is newer than `version`, otherwise after wait_ms. ESTALE as above. Orders may
  // have changed too: a heartbeat is due when this returns early.
  Jobs nextJobs(1: binary uuid, 2: i64 instance, 3: i64 version, 4: i32 wait_ms) throws (1: meta.ServiceError e)
  // Results of jobs that have been called off meanwhile are ignored.
  void finishJobs(1: binary uuid, 2: i64 instance, 3: list<JobResult> results) throws (1: meta.ServiceError e)
  void reportDamage(1: binary uuid, 2: i64 instance, 3: list<Damage> damages) throws (1: meta.ServiceError e)
}
