// SPDX-License-Identifier: MIT
//
// The metadata service: what an agent asks on behalf of the kernel.
//
// Rules of this IDL: every field has its unit; ids are never reused; new fields are optional; a server
// names in Version the lowest protocol that it still serves.
//
// Transport: TCP, TFramedTransport, TCompactProtocol, multiplexed ("meta", "admin", "target").
// Times are nanoseconds since the epoch; a block is 4096 bytes; errors are Linux errno values (> 0).

namespace cpp weft.idl

const i32 PROTOCOL_VERSION = 2
const i32 PROTOCOL_VERSION_MIN = 2

// A request that this service cannot carry out at all (as opposed to an errno of one operation).
exception ServiceError {
  1: i32 code        // errno: ESTALE (session unknown or ended), EBUSY, EINVAL, ...
  2: string message  // names the thing, the value and the remedy
}

struct Attr {
  1: i64 ino
  2: i64 size       // bytes
  3: i64 blocks     // allocated blocks
  4: i64 atime_ns
  5: i64 mtime_ns
  6: i64 ctime_ns
  7: i64 btime_ns
  8: i32 mode       // type and permissions, as st_mode
  9: i32 nlink
  10: i32 uid
  11: i32 gid
  12: i32 rdev
  13: i32 copies    // of new data of this file, or of what is made in this directory
}

// Bits of SetAttr.valid and Commit.valid; the same as WEFT_SET_* of kmod/uapi/weft.h.
const i32 SET_MODE = 0x001
const i32 SET_UID = 0x002
const i32 SET_GID = 0x004
const i32 SET_SIZE = 0x008
const i32 SET_ATIME = 0x010
const i32 SET_MTIME = 0x020
const i32 SET_CTIME = 0x040
const i32 SET_COPIES = 0x080

struct Extent {
  1: i64 file_block
  2: i64 pool_block
  3: i32 blocks
  4: bool unwritten  // allocated, reads as zeroes
}

struct Range {       // of the pool
  1: i64 pool_block
  2: i64 blocks
}

enum CopyState { IN_SYNC = 1, STALE = 2, RESYNCING = 3 }

struct Copy {
  1: i32 target
  2: CopyState state
  3: i64 offset      // bytes into the target's data area
}

struct Chunk {
  1: i64 index
  2: i32 version     // unsigned; of the pool's map when this chunk was changed last: no two chunks share one
  3: list<Copy> copies
}

struct Dirent {
  1: i64 ino
  2: i64 cookie      // > 0, rising in the order of READDIR, stable for the life of the entry
  3: i8 type         // DT_*
  4: binary name
}

struct StatFs {
  1: i64 blocks
  2: i64 free_blocks
  3: i64 granted_blocks  // granted to the asking session, not committed
  4: i64 files
}

// ---- operations: one struct each, one union for the state machine ---------------------------

struct StatFsOp {}
struct LookupOp { 1: i64 parent, 2: binary name }
struct GetAttrOp { 1: i64 ino }
struct SetAttrOp {
  1: i64 ino
  2: i32 valid       // SET_*
  3: i32 mode
  4: i32 uid
  5: i32 gid
  6: i64 size        // a smaller size frees the blocks beyond it
  7: i64 atime_ns
  8: i64 mtime_ns
  9: i64 ctime_ns
  10: i32 copies     // 1..4; EINVAL for what is neither a file nor a directory
}
struct CreateOp {
  1: i64 parent
  2: binary name
  3: i32 mode        // with type
  4: i32 uid
  5: i32 gid
  6: i32 rdev
  7: binary target   // symbolic links only
}
struct RemoveOp { 1: i64 parent, 2: binary name, 3: bool directory }
struct RenameOp {
  1: i64 old_parent
  2: binary old_name
  3: i64 new_parent
  4: binary new_name
  5: bool noreplace
  6: bool exchange
}
struct LinkOp { 1: i64 ino, 2: i64 parent, 3: binary name }
struct ReadLinkOp { 1: i64 ino }
struct ReadDirOp { 1: i64 ino, 2: i64 cookie, 3: i32 bytes_max }  // bytes_max counts weft_dirent as in the uapi
struct GetExtentsOp { 1: i64 ino, 2: i64 file_block, 3: i32 count_max }
struct FileCommit {
  1: i64 ino
  2: i32 valid       // SET_SIZE, SET_ATIME, SET_MTIME, SET_CTIME
  3: i64 size
  4: i64 atime_ns
  5: i64 mtime_ns
  6: i64 ctime_ns
  7: list<Extent> extents
}
struct CommitOp { 1: list<FileCommit> files }
struct PunchOp { 1: i64 ino, 2: i64 file_block, 3: i64 blocks }
struct EvictOp { 1: list<i64> inos }
struct GrantOp { 1: i64 blocks, 2: i32 ranges_max, 3: i32 copies }  // copies 0: the pool's
struct ReleaseOp { 1: list<Range> ranges }
struct GetChunksOp { 1: i64 first, 2: i32 count }
struct MarkStaleOp { 1: i64 index, 2: i32 version, 3: i32 copy_mask }
// This session may write to the chunks from now on: when it dies without closing them, their copies are made
// equal before they are read again. A grant opens its chunks by itself. ENOENT: no such chunk.
struct OpenChunksOp { 1: list<i64> indexes }
// It does not any more: every write to them has reached all copies that are in sync.
struct CloseChunksOp { 1: list<i64> indexes }

union Operation {
  1: StatFsOp statfs
  2: LookupOp lookup
  3: GetAttrOp getattr
  4: SetAttrOp setattr
  5: CreateOp create
  6: RemoveOp remove
  7: RenameOp rename
  8: LinkOp link
  9: ReadLinkOp readlink
  10: ReadDirOp readdir
  11: GetExtentsOp get_extents
  12: CommitOp commit
  13: PunchOp punch
  14: EvictOp evict
  15: GrantOp grant
  16: ReleaseOp release
  17: GetChunksOp get_chunks
  18: MarkStaleOp mark_stale
  19: OpenChunksOp open_chunks
  20: CloseChunksOp close_chunks
}

struct Request {
  1: i32 slot        // 0 .. SESSION_SLOTS - 1
  2: i64 seq         // > 0: executed at most once per (session, slot, seq); 0: changes nothing
  3: i64 now_ns      // client's clock: the time that the operation records
  4: Operation op
}

// What the operation answers with; fields are set as the operation says.
struct Reply {
  1: i32 error                        // errno, 0: success
  2: optional Attr attr               // lookup, getattr, setattr, create, remove, rename, link, punch
  3: optional binary target           // readlink
  4: optional list<Dirent> entries    // readdir
  5: optional bool eof                // readdir, get_extents
  6: optional list<Extent> extents    // get_extents
  7: optional list<Range> ranges      // grant
  8: optional list<Chunk> chunks      // get_chunks, mark_stale (one)
  9: optional StatFs statfs
}

const i32 SESSION_SLOTS = 32

// ---- sessions ---------------------------------------------------------------------------------

// How clients reach a target of kind nvmeof. DIRECT: the kernel module submits to the block device itself. AGENT: weftd
// does, from the channel's buffers. AUTO: DIRECT where the namespace is visible, which is the default.
enum DataPath { AUTO = 0, AGENT = 1, DIRECT = 2 }

// A namespace of an NVMe-oF subsystem. The storage node runs nothing of ours: the client with the live session connects
// it, and lends its hand as the target's gateway.
struct NvmeNamespace {
  1: list<string> uris   // one for each path; nvmeof/uri.h
  2: binary uuid         // 16 bytes each, as the namespace identifies itself; zero: it does not
  3: binary nguid
  4: i32 nsid
  5: DataPath data_path
}

struct TargetAddress {
  1: i32 id
  2: binary uuid      // 16 bytes
  3: string name
  4: string host      // address on the RDMA network; empty: NVMe-oF, and no client attends to it
  5: i32 port
  6: i32 weight       // 100 is the norm
  7: string zone      // empty: none
  8: bool up          // heartbeats arrive
  9: i32 queue_depth  // reported by the target: requests in hand
  10: i32 load        // reported by the target: of one processor, 0..1000
  11: i32 device_latency_us  // reported by the target: average of its device's requests since the last report
  12: i32 report_age_ms      // of these three, when this was sent; -1: never reported
  13: optional NvmeNamespace nvme  // of kind nvmeof
  14: bool leased     // it cannot refuse a client whose session has ended: to be used within the lease alone
}

struct TargetMap {
  1: i64 version
  2: list<TargetAddress> targets
}

struct OpenSessionArgs {
  1: i32 protocol     // PROTOCOL_VERSION
  2: string cluster   // name; refused when it is not this server's
  3: binary client    // 16 bytes, random per client: opening again with the same id gives the same session,
                      // and makes the copies equal that an earlier mount of this client may have been writing to
  4: string host      // for people
  5: string hostnqn   // what this host is to NVMe-oF storage nodes; empty: it does not use them
  6: i32 nvme_drain_ms  // so long after its lease the last requests that it sent to NVMe-oF targets may take effect
}

struct Session {
  1: i64 id           // rises with every session: also the fencing epoch at the targets
  2: i64 root_ino
  3: i64 pool_blocks  // limit of the logical address space; how much can be stored is StatFs'
  4: i32 chunk_blocks
  5: i32 copies       // of the pool: what the root directory starts with
  6: binary cluster_uuid
  7: i32 lease_ms     // renew (nextEvents) within this time
  8: i64 fence_below  // sessions with a smaller id must be fenced at the targets before any write
  9: Attr root
  10: TargetMap targets
  11: i64 chunks_version  // of the pool's map: to ask nextEvents with
}

struct Events {
  1: optional TargetMap targets       // when its version is newer than the one asked with
  2: optional list<Chunk> chunks      // changed since chunks_version, by rising version; at most CHUNKS_PER_EVENT
  3: i64 chunks_version               // to ask with next
}

const i32 CHUNKS_PER_EVENT = 256

service MetaService {
  // EBUSY: another session is alive (this version serves one client at a time; the message names it).
  Session openSession(1: OpenSessionArgs params) throws (1: ServiceError e)

  // After an agent restarted: the same session, unchanged. ESTALE: ended or unknown.
  Session reclaimSession(1: i64 session) throws (1: ServiceError e)

  // Frees grants and orphans. Ending one that is gone already succeeds.
  void closeSession(1: i64 session) throws (1: ServiceError e)

  // Executes in order; the requests of one call may share one commit. ESTALE: session is gone.
  list<Reply> execute(1: i64 session, 2: list<Request> requests) throws (1: ServiceError e)

  // Renews the lease; returns at once when the target map is newer than `targets_version` or a chunk has
  // changed since `chunks_version`, otherwise after wait_ms (at most a third of lease_ms).
  Events nextEvents(1: i64 session, 2: i64 targets_version, 3: i32 wait_ms, 4: i64 chunks_version)
    throws (1: ServiceError e)

  // No request of this session that goes by an older map than `version` (Events.chunks_version) is under way, or will
  // be. To be said again now and then: a server that is started anew has forgotten it.
  void chunksSettled(1: i64 session, 2: i64 version) throws (1: ServiceError e)
}
