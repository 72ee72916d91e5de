/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls to the metadata server, one function per operation.
 *
 * Answers come through memory that the agent can write, from a server that may be wrong: each is
 * copied first and then checked field by field. A caller gets checked values, -EIO for an answer
 * that makes no sense (the log names the field), or the errno of the server. All of them may sleep.
 *
 * -EINTR: the caller was killed; whether the operation was executed is unknown
 * (weft_inode_doubt()).
 */
#ifndef _WEFT_UPCALL_H
#define _WEFT_UPCALL_H

#include "fs.h"

/* upcall.c: the frame of a call, session and pool. */
int weft_upcall_begin(struct weft_fs *fs, struct weft_call *call, u32 op, u64 ino, u32 flags);
ssize_t weft_upcall_send(struct weft_fs *fs, struct weft_call *call, size_t args_bytes);
int weft_upcall_bad(struct weft_fs *fs, u32 op, const char *field, u64 value);
int weft_upcall_check_bytes(struct weft_fs *fs, u32 op, ssize_t got, size_t wanted);

int weft_upcall_mount(struct weft_fs *fs, struct weft_mount_rep *rep);
int weft_upcall_unmount(struct weft_fs *fs);
int weft_upcall_statfs(struct weft_fs *fs, struct weft_statfs_rep *rep);
/* In chunks of so many copies. Sets *count to the ranges granted, 1 .. max. */
int weft_upcall_grant(struct weft_fs *fs, u32 copies, u64 blocks, struct weft_range *ranges,
		      u32 max, u32 *count);
/* *in_doubt: it failed, but the server may have executed it. */
int weft_upcall_release(struct weft_fs *fs, const struct weft_range *ranges, u32 count,
			bool *in_doubt);

/* upcall_attr.c */
int weft_upcall_check_attr(struct weft_fs *fs, u32 op, const struct weft_attr *attr);
ssize_t weft_upcall_attr_reply(struct weft_fs *fs, struct weft_call *call, size_t args_bytes,
			       struct weft_attr *attr);
int weft_upcall_getattr(struct inode *inode, struct weft_attr *attr);
/* Mode, owner, times and copies; now_ns is the ctime unless valid has WEFT_SET_CTIME. */
int weft_upcall_setattr(struct inode *inode, const struct weft_setattr_req *set, s64 now_ns,
			struct weft_attr *attr);

/* upcall_name.c: `now_ns` is what the server records. */
int weft_upcall_lookup(struct inode *dir, const struct qstr *name, struct weft_attr *attr);
int weft_upcall_create(struct inode *dir, const struct qstr *name, const char *target, s64 now_ns,
		       const struct weft_create_req *create, struct weft_attr *attr);
int weft_upcall_remove(struct inode *dir, const struct qstr *name, u32 flags, s64 now_ns,
		       struct weft_attr *attr);
/* attr->ino is 0 when nothing was replaced. */
int weft_upcall_rename(struct inode *old_dir, const struct qstr *old_name, struct inode *new_dir,
		       const struct qstr *new_name, u32 flags, s64 now_ns, struct weft_attr *attr);
int weft_upcall_link(struct inode *inode, struct inode *dir, const struct qstr *name, s64 now_ns,
		     struct weft_attr *attr);
/* The target as a string of its own, to be freed by kfree(). */
char *weft_upcall_readlink(struct inode *inode);
/*
 * Copies the raw entries behind `cookie` to buf (WEFT_META_REP_BYTES). Returns their bytes; each is
 * checked by weft_upcall_dirent() when it is looked at.
 */
ssize_t weft_upcall_readdir(struct inode *dir, u64 cookie, void *buf, u32 *count, bool *eof);
/* The bytes that the entry at `entry` takes of `bytes`, or -EIO. */
ssize_t weft_upcall_dirent(struct inode *dir, const struct weft_dirent *entry, size_t bytes,
			   u64 cookie);

/* upcall_data.c: made by workers (but get_extents), not killable, may use reserved slots. */
/* Extents of the file from file_block on. Returns how many, at most max. */
ssize_t weft_upcall_get_extents(struct inode *inode, u64 file_block, struct weft_extent *extents,
				u32 max, bool *eof);
int weft_upcall_cut(struct inode *inode, u64 size);
int weft_upcall_punch(struct inode *inode, u64 file_block, u64 blocks);
/* Evicts as many of the inos as one call takes; returns how many. */
ssize_t weft_upcall_evict(struct weft_fs *fs, const u64 *inos, u32 count);

#define WEFT_EVICT_MAX		1024
#define WEFT_EXTENTS_MAX	\
	((WEFT_META_REP_BYTES - sizeof(struct weft_get_extents_rep)) / sizeof(struct weft_extent))

/* A COMMIT message being filled. */
struct weft_upcall_commit {
	struct weft_call call;
	struct weft_fs *fs;
	struct weft_commit_req *req;	/* NULL: not begun */
	size_t bytes;			/* of args so far */
};

int weft_upcall_commit_begin(struct weft_upcall_commit *message, struct weft_fs *fs);
/* Room for a file with `extents` extents at least; NULL: the message is full. */
struct weft_commit *weft_upcall_commit_file(struct weft_upcall_commit *message, u32 *room);
void weft_upcall_commit_extents(struct weft_upcall_commit *message, u32 count);
int weft_upcall_commit_send(struct weft_upcall_commit *message);

static inline s64 weft_now_ns(void)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	return timespec64_to_ns(&now);
}

#endif
