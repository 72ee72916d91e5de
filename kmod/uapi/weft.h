/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * weft.h - the protocol between weft.ko and its agent over /dev/weft.
 *
 * The story
 * ---------
 * The kernel owns every request and every buffer; the agent only moves bytes. An agent
 *
 *   1. opens /dev/weft and issues WEFT_IOC_ATTACH: this file descriptor is the control fd. The answer
 *      names the epoch of this attachment and the geometry of rings and buffer pool. One agent is
 *      attached to a cluster at a time (-EBUSY). While the pages of the buffer pool are still pinned
 *      by the registrations of a dead agent the call waits, killable, WEFT_ATTACH_WAIT_MS at most,
 *      then fails with -EAGAIN;
 *   2. mmaps the buffer pool from the control fd at WEFT_MMAP_POOL and registers it for RDMA once;
 *   3. opens /dev/weft once more per thread and issues WEFT_IOC_QUEUE: a queue fd. It mmaps the rings
 *      of the queue from it at WEFT_MMAP_RING;
 *   4. issues WEFT_IOC_TARGETS (whenever it learns of a change) and, when it can serve,
 *      WEFT_IOC_READY. From here on requests flow. Those that an earlier agent left unfinished come
 *      first, with WEFT_SQE_RESEND.
 *
 * Submission ring (SQ): the kernel produces, the agent consumes. Completion ring (CQ): the agent
 * produces, the kernel consumes inside WEFT_IOC_COMPLETE, one call per batch. The producer writes the
 * entry, then store-releases its tail; the consumer load-acquires the tail and store-releases its
 * head. Indices run freely modulo 2^32; the slot is index & (entries - 1). Neither ring can overflow:
 * there are never more unfinished requests in a channel than a ring has entries.
 *
 * Wake-ups: before it sleeps in poll(2) on the queue fd (POLLIN: SQ not empty) the agent sets
 * WEFT_RING_NEED_WAKEUP in agent_flags, issues a full barrier and looks at sq_tail once more. The
 * kernel wakes the queue only while the flag is set.
 *
 * Trust: every completion is checked. A CQE whose tag names no unfinished request, whose epoch is not
 * this attachment's, whose reserved bytes are not zero or whose result is out of range makes
 * WEFT_IOC_COMPLETE fail with -EINVAL after counting it (sysfs: bad_completions) and logging it once;
 * the request it may have meant stays unfinished.
 *
 * Metadata requests (WEFT_OP_META) name a message slot: `buf` is the offset of the request, a struct
 * weft_meta_req followed by the operation's own struct; the answer goes to buf + WEFT_META_REQ_BYTES
 * and never over the request, so that a request can be sent again. A request changes state at most
 * once: the agent passes (session, meta_slot, meta_seq) to the metadata server, which keeps the answer
 * of the last sequence number of each slot. Result: bytes of the answer, or a negative errno.
 *
 * Negotiation: WEFT_IOC_ATTACH carries the agent's protocol version; the kernel refuses with -EPROTO a
 * major that is not its own. Unknown flags and non-zero reserved fields are refused with -EINVAL.
 *
 * All integers are in host byte order; lengths are in bytes unless a name says blocks. A block is
 * WEFT_BLOCK_BYTES. Times are nanoseconds since the epoch (signed 64 bit).
 *
 * Copies: a write goes to every copy that is in sync or resyncing, a read to one that is in sync. Each
 * block request carries the version of the chunk's map; a target that knows a higher one answers
 * -ESTALE, and the map is fetched again. WEFT_IOC_CHUNKS tells of changes before that happens.
 *
 * Incarnations: a target names itself by a number that changes when writes which it acknowledged and
 * which were not flushed may be lost (its host was started anew). A FLUSH carries the incarnation
 * that the kernel knows (0: none yet); the agent completes it with -ESTALE when the target has another
 * one. Whether the writes were made under it is the kernel's to know.
 *
 * Changes of a chunk's copies take effect for new requests when WEFT_IOC_CHUNKS returns;
 * WEFT_IOC_SETTLE returns when none of those before is under way any more, and no older map on its
 * way to the cache.
 *
 * NVMe-oF targets: the agent lends a hand to a target that runs nothing of ours, but requests for
 * copies that are in sync need not go through it: WEFT_IOC_DEVICE hands the module the block device,
 * and it submits to that. What fails there is sent to the agent, whose answer counts. Requests for a
 * copy that is being made carry WEFT_SQE_RESYNCING: those must go by who makes it. Whatever such a
 * target acknowledges is durable. WEFT_TARGET_LEASED: it cannot refuse a client whose session has
 * ended, so the module uses the device within the lease (WEFT_IOC_LEASE) alone.
 *
 * Open chunks: before the kernel writes to a chunk of several copies it has opened it (a GRANT opens its
 * chunks, OPEN_CHUNKS any). When a client dies, the copies of its open chunks are made equal.
 *
 * Changelog
 *   1.0  first version
 *   2.0  incarnations, open chunks, WEFT_IOC_CHUNKS, copies of files and directories, up to five
 *        copies while one moves
 *   2.1  NVMe-oF targets: WEFT_IOC_SETTLE, WEFT_IOC_DEVICE, WEFT_IOC_LEASE, WEFT_SQE_RESYNCING,
 *        WEFT_TARGET_DURABLE, WEFT_TARGET_LEASED, paths of a target
 */
#ifndef _UAPI_WEFT_H
#define _UAPI_WEFT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define WEFT_VERSION_MAJOR	2
#define WEFT_VERSION_MINOR	1

#define WEFT_BLOCK_SHIFT	12
#define WEFT_BLOCK_BYTES	(1U << WEFT_BLOCK_SHIFT)

/* Limits */
#define WEFT_CLUSTER_NAME_MAX	64	/* bytes with the final NUL */
#define WEFT_NAME_MAX		255	/* bytes of a directory entry's name */
#define WEFT_SYMLINK_MAX	4095	/* bytes of a symbolic link's target */
#define WEFT_COPIES_MAX		4	/* of a chunk that are in sync */
#define WEFT_CHUNK_COPIES_MAX	5	/* with one that is moving */
#define WEFT_QUEUES_MAX		64
#define WEFT_DEPTH_MAX		4096	/* unfinished requests of a channel */
#define WEFT_IO_BYTES_MAX	(1U << 20)
#define WEFT_META_SLOTS		32	/* message slots = slots of a metadata session */
#define WEFT_META_REQ_BYTES	32768
#define WEFT_META_REP_BYTES	32768
#define WEFT_TARGETS_MAX	1024
#define WEFT_POOL_BYTES_MIN	(8ULL << 20)
#define WEFT_POOL_BYTES_MAX	(4ULL << 30)
#define WEFT_ATTACH_WAIT_MS	10000
#define WEFT_SETTLE_WAIT_MS	1000
#define WEFT_CHUNKS_PER_CALL	256	/* WEFT_IOC_CHUNKS, OPEN_CHUNKS, CLOSE_CHUNKS, GET_CHUNKS */

/* mmap offsets */
#define WEFT_MMAP_POOL		0ULL	/* control fd: pool_bytes, read-write */
#define WEFT_MMAP_RING		0ULL	/* queue fd: ring_bytes, read-write */

struct weft_ioc_attach {
	/* in */
	__u16 version_major;
	__u16 version_minor;
	__u32 flags;			/* must be 0 */
	__u32 queues;			/* 1 .. WEFT_QUEUES_MAX */
	__u32 depth;			/* unfinished requests wanted, a power of two; 0: kernel's choice */
	__u64 pool_bytes;		/* buffer pool wanted; 0: kernel's choice */
	char cluster[WEFT_CLUSTER_NAME_MAX];
	/* out; a channel that outlived its agent keeps depth and pool_bytes */
	__u32 epoch;			/* starts at 1 */
	__u32 depth_granted;		/* also the entries of every ring */
	__u64 pool_bytes_granted;
	__u64 ring_bytes;		/* of one queue: header, SQ and CQ */
	__u64 session;			/* metadata session of the mount, 0: not mounted */
	__u8 client[16];		/* random id of this channel: names the client at the server */
	__u64 reserved[2];
};

struct weft_ioc_queue {
	__s32 control_fd;
	__u32 index;			/* 0 .. queues - 1 */
	__u64 reserved;
};

/* state of the path from this client to a target */
#define WEFT_TARGET_UP		1
#define WEFT_TARGET_DOWN	2

#define WEFT_TARGET_LOCAL	1	/* flags: in this client's own zone */
#define WEFT_TARGET_REPORTED	2	/* flags: what the target reports of itself has come */
#define WEFT_TARGET_DURABLE	4	/* flags: what it acknowledges is durable, flushed or not */
#define WEFT_TARGET_LEASED	8	/* flags: requests are sent to it within the lease alone */

struct weft_target_info {
	__u32 id;
	__u32 state;			/* WEFT_TARGET_UP, _DOWN */
	__u32 weight;			/* 100 is the norm */
	__u32 zone;			/* 0: none; equal numbers share a failure domain */
	__u32 flags;			/* WEFT_TARGET_LOCAL, _REPORTED, _DURABLE, _LEASED */
	/* reported by the target */
	__u32 queue_depth;		/* requests in hand */
	__u32 load;			/* of one processor, 0..1000 */
	__u32 device_latency_us;	/* average since the report before */
	__u32 report_age_ms;		/* of these three, now */
	/* controllers that lead to it, of an NVMe-oF target; 0: does not apply */
	__u16 paths_usable;		/* now */
	__u16 paths;			/* that are known */
	__u64 incarnation;		/* 0: there has been no connection yet */
	__u64 reserved1;
	char name[32];
};

struct weft_ioc_targets {
	__u64 targets;			/* user address of weft_target_info[count] */
	__u32 count;
	__u32 reserved;
};

/* Maps that have changed. The kernel takes those that it caches and that are newer than its own. */
struct weft_ioc_chunks {
	__u64 chunks;			/* user address of weft_chunk[count] */
	__u32 count;			/* WEFT_CHUNKS_PER_CALL at most */
	__u32 reserved;
};

#define WEFT_DEVICE_FUA		1	/* flags: it has a volatile cache, writes carry FUA */

/*
 * The block device of a target that is used without the agent; from now on, and until it is taken
 * back or the mount ends, also while no agent is attached. -ENOTBLK: fd is none. -EINVAL: the data area
 * does not lie in it.
 */
struct weft_ioc_device {
	__u32 target;
	__s32 fd;			/* opened for reading and writing; -1: takes it back */
	__u64 data_offset;		/* bytes; where the data area begins */
	__u32 flags;			/* WEFT_DEVICE_FUA */
	__u32 reserved;
};

/*
 * Until when no other client takes this one's place: of the session that the agent serves, by this
 * host's CLOCK_BOOTTIME. Each call replaces what the one before said; the end of a mount ends it.
 */
struct weft_ioc_lease {
	__u64 until_ns;			/* 0: there is none */
	__u64 reserved;
};

#define WEFT_IOC_ATTACH		_IOWR('W', 1, struct weft_ioc_attach)
#define WEFT_IOC_QUEUE		_IOW('W', 2, struct weft_ioc_queue)
#define WEFT_IOC_READY		_IO('W', 3)
#define WEFT_IOC_TARGETS	_IOW('W', 4, struct weft_ioc_targets)
#define WEFT_IOC_COMPLETE	_IO('W', 5)	/* queue fd; returns completions consumed */
#define WEFT_IOC_CHUNKS		_IOW('W', 6, struct weft_ioc_chunks)	/* control fd */
/* control fd; waits WEFT_SETTLE_WAIT_MS at most, then -EAGAIN */
#define WEFT_IOC_SETTLE		_IO('W', 7)
#define WEFT_IOC_DEVICE		_IOW('W', 8, struct weft_ioc_device)	/* control fd */
#define WEFT_IOC_LEASE		_IOW('W', 9, struct weft_ioc_lease)	/* control fd */

/*
 * On a file or directory of a weft file system: how many copies its new data gets. A directory hands
 * its number on to what is made in it. What is written already stays as it is. SET needs the owner
 * or CAP_FOWNER; -EINVAL: not 1 .. WEFT_COPIES_MAX.
 */
#define WEFT_IOC_GET_COPIES	_IOR('W', 32, __u32)
#define WEFT_IOC_SET_COPIES	_IOW('W', 33, __u32)

/* ---- rings ---------------------------------------------------------------------------------- */

#define WEFT_RING_NEED_WAKEUP	1U

/* First page of a queue's mapping. Each index is written by one side only and has its own cache line. */
struct weft_ring {
	__u32 sq_head;			/* agent */
	__u8 pad0[60];
	__u32 sq_tail;			/* kernel */
	__u8 pad1[60];
	__u32 cq_head;			/* kernel */
	__u8 pad2[60];
	__u32 cq_tail;			/* agent */
	__u8 pad3[60];
	__u32 agent_flags;		/* agent: WEFT_RING_NEED_WAKEUP */
	__u8 pad4[60];
	__u32 entries;			/* kernel, constant */
	__u32 sq_offset;		/* bytes from the start of the mapping */
	__u32 cq_offset;
	__u32 reserved;
};

enum {
	WEFT_OP_READ = 1,		/* target -> slot */
	WEFT_OP_WRITE = 2,		/* slot -> target */
	WEFT_OP_FLUSH = 3,		/* everything acknowledged before is durable after */
	WEFT_OP_DISCARD = 4,		/* contents undefined after */
	WEFT_OP_WRITE_ZEROES = 5,
	WEFT_OP_META = 16,
};

#define WEFT_SQE_RESEND		0x01	/* may have been executed, in part or whole */
#define WEFT_SQE_FUA		0x02	/* durable before it is completed */
#define WEFT_SQE_RESYNCING	0x04	/* WRITE: the copy is being made */

struct weft_sqe {
	__u64 tag;			/* echoed in the CQE */
	__u32 epoch;
	__u8 op;			/* WEFT_OP_* */
	__u8 flags;			/* WEFT_SQE_* */
	__u16 reserved0;
	__u32 target;			/* id of the target; 0 for META */
	__u32 length;			/* data: a multiple of WEFT_BLOCK_BYTES; META: bytes of request */
	__u64 offset;			/* bytes from the start of the target's data area */
	__u64 buf;			/* bytes from the start of the buffer pool */
	__u32 chunk_version;		/* checked by the target */
	__u32 meta_slot;		/* 0 .. WEFT_META_SLOTS - 1 */
	__u64 meta_seq;			/* 0: an operation that changes nothing and needs no slot */
	__u64 incarnation;		/* FLUSH: that the target must have, 0: any; others: 0 */
};

struct weft_cqe {
	__u64 tag;
	__u32 epoch;
	/*
	 * READ, WRITE, WRITE_ZEROES, DISCARD: `length` of the SQE. FLUSH: 0. META: bytes of the answer.
	 * Or -errno; of a block request: -EHOSTDOWN (target not reachable for longer than the agent's
	 * detection time), -ESTALE (target refused epoch or chunk version, or has another incarnation),
	 * -ENOSPC (no space behind the target), -EBADMSG (READ: a block does not match its checksum), -EIO
	 * (anything else).
	 */
	__s32 result;
	__u64 reserved[2];
};

/* ---- metadata operations -------------------------------------------------------------------- */

enum {
	WEFT_META_MOUNT = 1,
	WEFT_META_UNMOUNT = 2,
	WEFT_META_STATFS = 3,
	WEFT_META_LOOKUP = 4,
	WEFT_META_GETATTR = 5,
	WEFT_META_SETATTR = 6,
	WEFT_META_CREATE = 7,
	WEFT_META_REMOVE = 8,
	WEFT_META_RENAME = 9,
	WEFT_META_LINK = 10,
	WEFT_META_READLINK = 11,
	WEFT_META_READDIR = 12,
	WEFT_META_GET_EXTENTS = 13,
	WEFT_META_COMMIT = 14,
	WEFT_META_PUNCH = 15,
	WEFT_META_EVICT = 16,
	WEFT_META_GRANT = 17,
	WEFT_META_RELEASE = 18,
	WEFT_META_GET_CHUNKS = 19,
	WEFT_META_MARK_STALE = 20,
	WEFT_META_OPEN_CHUNKS = 21,
	WEFT_META_CLOSE_CHUNKS = 22,
};

/* Start of every request; the operation's struct follows at once, names and arrays after that. */
struct weft_meta_req {
	__u32 op;			/* WEFT_META_* */
	__u32 length;			/* bytes, this struct included */
	__u64 ino;			/* the inode, or the parent directory */
	__s64 now_ns;			/* client's clock: becomes ctime, mtime, btime where they change */
	__u64 reserved;
};

struct weft_attr {
	__u64 ino;
	__u64 size;
	__u64 blocks;			/* WEFT_BLOCK_BYTES each */
	__s64 atime_ns;
	__s64 mtime_ns;
	__s64 ctime_ns;
	__s64 btime_ns;
	__u32 mode;			/* type and permissions */
	__u32 nlink;
	__u32 uid;
	__u32 gid;
	__u32 rdev;			/* as new_encode_dev() */
	__u32 copies;			/* files, directories: 1 .. WEFT_COPIES_MAX */
};

/* MOUNT: no struct in. Opens the session (idempotent by the channel's client id). */
struct weft_mount_rep {
	__u64 session;
	__u64 root_ino;
	__u64 pool_blocks;		/* of the logical address space; STATFS says what can be stored */
	__u32 block_bytes;		/* WEFT_BLOCK_BYTES */
	__u32 chunk_blocks;		/* a power of two */
	__u32 copies;			/* default for new chunks */
	__u32 reserved;
	__u8 cluster_uuid[16];
	struct weft_attr root;
};

/*
 * UNMOUNT: nothing in, nothing out. Ends the session: frees its grants and orphans, closes its chunks as
 * they are.
 */

struct weft_statfs_rep {
	__u64 blocks;
	__u64 free_blocks;		/* without what is granted to clients */
	__u64 granted_blocks;		/* granted to this client and not committed */
	__u64 files;
};

/* LOOKUP: ino = parent, then the name (name_bytes, no NUL). Out: weft_attr. */
struct weft_lookup_req {
	__u32 name_bytes;
	__u32 reserved;
};

/* GETATTR: nothing but ino. Out: weft_attr. */

#define WEFT_SET_MODE		0x001
#define WEFT_SET_UID		0x002
#define WEFT_SET_GID		0x004
#define WEFT_SET_SIZE		0x008	/* frees blocks beyond the new size */
#define WEFT_SET_ATIME		0x010
#define WEFT_SET_MTIME		0x020
#define WEFT_SET_CTIME		0x040
#define WEFT_SET_COPIES		0x080

struct weft_setattr_req {
	__u32 valid;			/* WEFT_SET_* */
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u64 size;
	__s64 atime_ns;
	__s64 mtime_ns;
	__s64 ctime_ns;
	__u32 copies;
	__u32 reserved;
};
/* Out: weft_attr. */

/* CREATE: ino = parent; then name, then the symlink's target. Files, directories, links, nodes. */
struct weft_create_req {
	__u32 mode;			/* with type */
	__u32 uid;
	__u32 gid;
	__u32 rdev;
	__u32 name_bytes;
	__u32 target_bytes;		/* symlink only */
};
/* Out: weft_attr. */

#define WEFT_REMOVE_DIR		1	/* rmdir: -ENOTDIR, -ENOTEMPTY; without it unlink: -EISDIR */

/*
 * REMOVE: ino = parent, then the name. Out: weft_attr of the victim (nlink after). An inode that lost
 * its last name becomes an orphan of the session until EVICT.
 */
struct weft_remove_req {
	__u32 flags;
	__u32 name_bytes;
};

#define WEFT_RENAME_NOREPLACE	1
#define WEFT_RENAME_EXCHANGE	2

/* RENAME: ino = old parent; then old name, new name. */
struct weft_rename_req {
	__u64 new_parent;
	__u32 flags;
	__u32 old_bytes;
	__u32 new_bytes;
	__u32 reserved;
};
/* Out: weft_attr of the inode that was replaced (nlink after), ino 0: none. */

/* LINK: ino = the inode; then the name. Out: weft_attr. */
struct weft_link_req {
	__u64 parent;
	__u32 name_bytes;
	__u32 reserved;
};

/* READLINK: nothing but ino. Out: the bytes of the target, no NUL. */

/* READDIR: ino = directory. `.` and `..` are the kernel's own. */
struct weft_readdir_req {
	__u64 cookie;			/* 0: from the start; else the last one seen */
	__u32 bytes_max;
	__u32 reserved;
};

struct weft_readdir_rep {
	__u32 count;
	__u32 eof;
};

struct weft_dirent {			/* padded to 8 bytes behind the name */
	__u64 ino;
	__u64 cookie;			/* stable for the life of the entry, > 0, rising */
	__u16 name_bytes;
	__u8 type;			/* DT_* */
	__u8 reserved[5];
	char name[];
};

#define WEFT_EXTENT_UNWRITTEN	1	/* allocated, reads as zeroes */

struct weft_extent {
	__u64 file_block;
	__u64 pool_block;
	__u32 blocks;
	__u32 flags;			/* WEFT_EXTENT_* */
};

struct weft_get_extents_req {
	__u64 file_block;		/* first extent that ends behind this */
	__u32 count_max;
	__u32 reserved;
};

struct weft_get_extents_rep {
	__u32 count;
	__u32 eof;
	struct weft_extent extents[];
};

/*
 * COMMIT: several files in one call, all or nothing. weft_commit_req, then `count` times a weft_commit
 * followed by its extents. An extent must lie in the session's grants, or be mapped at the same place
 * of the same inode already (then its flags are replaced). -EINVAL names a range that is neither.
 * An inode that is gone is skipped; ranges it named stay granted.
 */
struct weft_commit_req {
	__u32 count;
	__u32 reserved;
};

struct weft_commit {
	__u64 ino;
	__u64 size;			/* with WEFT_SET_SIZE; never frees blocks here */
	__s64 atime_ns;
	__s64 mtime_ns;
	__s64 ctime_ns;
	__u32 valid;			/* WEFT_SET_SIZE, _ATIME, _MTIME, _CTIME */
	__u32 extents;
};
/* Out: nothing. */

/* PUNCH: unmaps blocks of ino and frees them. Out: weft_attr. */
struct weft_punch_req {
	__u64 file_block;
	__u64 blocks;
};

/* EVICT: the client holds no reference to these orphans any more; frees them. Out: nothing. */
struct weft_evict_req {
	__u32 count;
	__u32 reserved;
	__u64 inos[];
};

/* Ranges of the pool: GRANT's answer, RELEASE's request. */
struct weft_range {
	__u64 pool_block;
	__u64 blocks;
};

/*
 * GRANT: lends free space in chunks of so many copies, and opens those chunks. -ENOSPC when not one
 * block is free. A range never crosses a chunk.
 */
struct weft_grant_req {
	__u64 blocks;			/* wanted; fewer or somewhat more may come */
	__u32 ranges_max;
	__u32 copies;			/* 1 .. WEFT_COPIES_MAX */
};

struct weft_ranges {
	__u32 count;
	__u32 reserved;
	struct weft_range ranges[];
};
/* GRANT out: weft_ranges. RELEASE in: weft_ranges, out: nothing. */

enum {
	WEFT_COPY_IN_SYNC = 1,
	WEFT_COPY_STALE = 2,		/* neither read nor written */
	WEFT_COPY_RESYNCING = 3,	/* written, not read */
};

struct weft_copy {
	__u32 target;
	__u32 state;			/* WEFT_COPY_* */
	__u64 offset;			/* bytes into the target's data area */
};

struct weft_chunk {
	__u64 index;
	__u32 version;
	__u32 count;			/* copies; 0: all were lost */
	struct weft_copy copies[WEFT_CHUNK_COPIES_MAX];
};

/* GET_CHUNKS: those that exist among [first, first + count). */
struct weft_get_chunks_req {
	__u64 first;
	__u32 count;
	__u32 reserved;
};

struct weft_get_chunks_rep {
	__u32 count;
	__u32 reserved;
	struct weft_chunk chunks[];
};

/*
 * MARK_STALE: this client failed to write these copies (bit i: copy i). Out: the weft_chunk as it is
 * now, version raised. -EBUSY: it would leave no copy in sync. -ESTALE: the client's map is old and
 * bits may mean other copies. Already stale: success.
 */
struct weft_mark_stale_req {
	__u64 index;
	__u32 version;			/* that the client knew */
	__u32 copy_mask;
};

/* OPEN_CHUNKS, CLOSE_CHUNKS: see the story. -ENOENT: one of them does not exist. Out: nothing. */
struct weft_chunks_req {
	__u32 count;			/* WEFT_CHUNKS_PER_CALL at most */
	__u32 reserved;
	__u64 indexes[];
};

#endif /* _UAPI_WEFT_H */
