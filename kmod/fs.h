/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The VFS half of weft.ko: a file system on iomap whose block device is the pool disk.
 *
 *   super.c    mount, options, statfs, unmount     inode.c   inodes and their attributes
 *   namei.c    changes of the name space           dir.c     reading directories
 *   symlink.c  targets of symbolic links           file.c    what an open file can do
 *   iomap.c    file range -> pool range            extent.c  the extent map of a file
 *   mapping.c  page cache: readahead, writeback    space.c   space granted to this client
 *   range.c    truncate, fallocate                 commit.c  telling the server what was written
 *   orphan.c   inodes without a name               upcall*.c calls to the metadata server
 *   grant.c    a set of granted ranges             ioctl.c   ioctls of files and directories
 *
 * This host's session is the only one that changes the name space, so what was read once stays
 * true: dentries, negative dentries, attributes and extent maps are cached without limit. Leases of
 * the metadata server will bound that; their recall belongs where weft_inode_doubt() is called
 * today. Once a regular file is in memory the kernel is the authority for its size and times; the
 * server follows with commits.
 *
 * Locks, outermost first:
 *
 *   mmap_lock, sb_start_pagefault                 (page faults only)
 *   inode->i_rwsem                                VFS: directory operations, writes, truncate
 *     mapping->invalidate_lock                    truncate and holes against page faults, readahead
 *       weft_inode.load_lock                      an upcall is made under it
 *       folio lock                                no upcall is made under it
 *         weft_inode.extents.lock                 the extent map, disk_size, unmaps
 *           weft_space.lock                       spinlock: grants, windows
 *           weft_committer.lock                   spinlock: who is to be committed
 *           weft_orphans.lock                     spinlock: inodes to be evicted
 *           weft_inode.ioend_lock                 spinlock, irq: writeback that has ended
 *
 * Upcalls: those that a system call makes are killable. What tells the server about file data
 * (COMMIT, truncation, PUNCH, EVICT) and GRANT is sent by workers, which wait as long as the
 * channel does; system calls wait for the workers, killable. So such a call is never left in doubt.
 */
#ifndef _WEFT_FS_H
#define _WEFT_FS_H

#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>
#include <linux/xarray.h>
#include "channel.h"
#include "extent.h"
#include "grant.h"
#include "pool.h"

#define WEFT_SUPER_MAGIC	0x54464557
#define WEFT_GRACE_DEFAULT_S	60
#define WEFT_GRACE_MAX_S	86400
#define WEFT_READAHEAD_BYTES	SZ_1M

struct iomap_ioend;
struct weft_fs;

/* Space in chunks of so many copies. */
struct weft_space_class {
	struct weft_fs *fs;
	u32 copies;
	struct weft_grants grants;
	u64 window_blocks;		/* in windows of inodes */
	u64 refills;			/* how often the refill has ended */
	int error;			/* of the last one */
	struct work_struct refill;
};

/* space.c: what the server has granted and no file uses. */
struct weft_space {
	spinlock_t lock;		/* all of this but chunks, and the windows of inodes */
	struct weft_space_class classes[WEFT_COPIES_MAX];	/* [copies - 1] */
	struct xarray chunks;		/* those granted since the mount: copies by index */
	struct list_head windows;	/* weft_inode.window_link of inodes that have one */
	u32 refill_blocks;		/* asked for at a time */
	wait_queue_head_t wait;		/* a refill has ended */
};

/* commit.c */
struct weft_committer {
	spinlock_t lock;		/* the queue, and the commit_* fields of inodes */
	struct list_head queue;		/* weft_inode.commit_link */
	struct work_struct work;
};

/* orphan.c */
struct weft_orphans {
	spinlock_t lock;		/* the queue */
	struct list_head queue;		/* struct weft_orphan */
	struct mutex evict_mutex;	/* one drain at a time */
	struct work_struct work;
};

#define WEFT_FS_SHUTDOWN	0	/* bit of weft_fs.flags: nothing can be changed any more */

struct weft_fs {
	struct super_block *sb;
	struct weft_channel *channel;
	struct weft_pool *pool;
	char cluster[WEFT_CLUSTER_NAME_MAX];
	u64 root_ino;
	u64 pool_blocks;
	u32 chunk_blocks;
	u32 copies;			/* of the pool */
	bool soft;
	u32 grace_s;
	unsigned long flags;
	struct weft_space space;
	struct weft_committer committer;
	struct weft_orphans orphans;
	struct workqueue_struct *ioend_wq;	/* waits for nothing */
	struct workqueue_struct *commit_wq;	/* waits for the pool and the server */
	struct workqueue_struct *space_wq;	/* waits for commit_wq and the server */
};

#define WEFT_INODE_DOUBT	0	/* a call was killed: ask for the attributes again */
#define WEFT_INODE_LOADED	1	/* the extent map is in memory */
#define WEFT_INODE_TOUCHED	2	/* times or size changed since the last commit began */
#define WEFT_INODE_COMPLETE	3	/* a directory: all its names are in the dentry cache */

enum weft_commit_state {
	WEFT_COMMIT_IDLE,
	WEFT_COMMIT_QUEUED,
	WEFT_COMMIT_RUNNING,
	WEFT_COMMIT_RUNNING_AGAIN,	/* running, and wanted once more */
};

#define WEFT_NO_CUT	U64_MAX

struct weft_inode {
	unsigned long flags;		/* WEFT_INODE_*, atomic bits */
	struct timespec64 btime;	/* constant */
	u32 copies;			/* of new data; read and written without a lock */

	struct mutex load_lock;		/* loading the extent map */
	struct weft_extent_map extents;

	/* Under extents.lock */
	loff_t disk_size;		/* data below it is on the targets: what a commit tells */
	loff_t told_size;		/* the server's */
	u64 cut_size;			/* to tell: the file was cut to this; or WEFT_NO_CUT */
	struct list_head unmaps;	/* struct weft_unmap: holes to tell the server */
	u32 unmap_count;

	/* Under weft_space.lock: space that this file's next blocks come from */
	u64 window_block;
	u64 window_blocks;
	u32 window_copies;		/* of its chunk, while window_blocks is not 0 */
	struct list_head window_link;

	/* Under weft_committer.lock; commit_done is also read without */
	enum weft_commit_state commit_state;
	bool commit_ref;		/* the committer holds a reference to the inode */
	u64 commit_wanted;		/* requests so far */
	u64 commit_running;		/* that the running commit serves */
	u64 commit_done;		/* that have been served */
	u64 commit_failed;		/* the last of them that failed, and why */
	int commit_error;
	struct list_head commit_link;

	/* The committer's own, while it runs */
	loff_t staged_size;
	u64 staged_cut;
	struct list_head staged_unmaps;
	int staged_error;

	spinlock_t ioend_lock;		/* ioends; taken in interrupts */
	struct list_head ioends;	/* struct iomap_ioend */
	struct work_struct ioend_work;

	struct inode vfs_inode;
};

static inline struct weft_inode *WEFT_I(const struct inode *inode)
{
	return container_of(inode, struct weft_inode, vfs_inode);
}

static inline struct weft_fs *weft_fs_of(const struct inode *inode)
{
	return inode->i_sb->s_fs_info;
}

static inline bool weft_fs_is_shutdown(const struct weft_fs *fs)
{
	return test_bit(WEFT_FS_SHUTDOWN, &fs->flags);
}

static inline u64 weft_blocks_of(u64 bytes)
{
	return (bytes + WEFT_BLOCK_BYTES - 1) >> WEFT_BLOCK_SHIFT;
}

/* super.c */
int weft_fs_init(void);
void weft_fs_exit(void);
/* What an errno of the server means to the mount; returns the errno for the application. */
int weft_fs_error(struct weft_fs *fs, int error);

/* inode.c */
extern const struct inode_operations weft_special_inode_operations;
int weft_inode_cache_init(void);
void weft_inode_cache_exit(void);
struct inode *weft_inode_alloc(struct super_block *sb);
void weft_inode_free(struct inode *inode);
struct inode *weft_inode_get(struct super_block *sb, const struct weft_attr *attr);
struct inode *weft_inode_create(struct super_block *sb, const struct weft_attr *attr);
void weft_inode_evict(struct inode *inode);
void weft_inode_dirtied(struct inode *inode, int flags);
void weft_inode_touch(struct inode *inode, s64 now_ns);
/* A killed call leaves it open whether the inode was changed: what is cached is asked for again. */
void weft_inode_doubt(struct inode *inode);
int weft_inode_settle(struct inode *inode);
int weft_inode_load(struct inode *inode);
int weft_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		 unsigned int flags);
int weft_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *iattr);

/* namei.c, dir.c, symlink.c, file.c, mapping.c */
extern const struct dentry_operations weft_dentry_operations;
extern const struct inode_operations weft_dir_inode_operations;
extern const struct file_operations weft_dir_operations;
extern const struct inode_operations weft_symlink_inode_operations;
extern const struct inode_operations weft_file_inode_operations;
extern const struct file_operations weft_file_operations;
extern const struct address_space_operations weft_address_space_operations;
void weft_mapping_ioend_work(struct work_struct *work);

/* ioctl.c */
long weft_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* range.c: with i_rwsem held. */
int weft_truncate(struct inode *inode, loff_t size);
int weft_zero_beyond(struct inode *inode, loff_t from, loff_t to);
long weft_fallocate(struct file *file, int mode, loff_t offset, loff_t length);

/* iomap.c */
extern const struct iomap_ops weft_read_iomap_ops;
extern const struct iomap_ops weft_write_iomap_ops;
/* Gives space to the holes of the range; waits for the server where it must. */
int weft_iomap_allocate(struct inode *inode, loff_t pos, u64 length, enum weft_extent_state state);
/* Data of the range has reached the targets. A direct write moves the end of the file only now. */
void weft_iomap_written(struct inode *inode, loff_t pos, u64 length, bool direct);

/* space.c */
void weft_space_init(struct weft_fs *fs);
void weft_space_exit(struct weft_fs *fs);
int weft_space_take(struct weft_inode *wi, u64 file_block, u32 wanted, struct weft_range *range);
void weft_space_give(struct weft_fs *fs, u64 pool_block, u64 blocks);
void weft_space_close_window(struct weft_inode *wi);
u64 weft_space_free_blocks(struct weft_fs *fs);

/* commit.c */
void weft_commit_init(struct weft_fs *fs);
/* Has the commit to tell the server anything that fsync (fdatasync: datasync) promises? */
bool weft_commit_needed(struct weft_inode *wi, bool datasync);
void weft_commit_queue(struct inode *inode);
int weft_commit_wait(struct inode *inode);
void weft_commit_drain(struct weft_fs *fs);
int weft_commit_write_inode(struct inode *inode, struct writeback_control *wbc);

/* A hole that the server has not been told of; kept in weft_inode.unmaps. */
struct weft_unmap {
	struct list_head link;
	u64 file_block;
	u64 blocks;
};

#define WEFT_UNMAPS_MAX	64		/* of a file; then a puncher waits for the commit */

/* orphan.c */
void weft_orphan_init(struct weft_fs *fs);
void weft_orphan_add(struct weft_fs *fs, u64 ino);
void weft_orphan_drain(struct weft_fs *fs);
void weft_orphan_exit(struct weft_fs *fs);

#endif
