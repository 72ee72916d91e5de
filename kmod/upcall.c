// SPDX-License-Identifier: GPL-2.0
#include <linux/log2.h>
#include "upcall.h"

/* MOUNT and UNMOUNT name no inode. */
#define NO_INODE	0

int weft_upcall_begin(struct weft_fs *fs, struct weft_call *call, u32 op, u64 ino, u32 flags)
{
	int error;

	if ((flags & WEFT_CALL_CHANGES) && weft_fs_is_shutdown(fs))
		return -EIO;
	error = weft_call_begin(fs->channel, call, op, ino, flags);
	if (error)
		return error;
	call->req->now_ns = weft_now_ns();
	return 0;
}

ssize_t weft_upcall_send(struct weft_fs *fs, struct weft_call *call, size_t args_bytes)
{
	ssize_t got = weft_call_send(call, args_bytes);

	if (got < 0)
		return weft_fs_error(fs, got);
	if (got > WEFT_META_REP_BYTES)
		return weft_upcall_bad(fs, call->req->op, "length", got);
	return got;
}

int weft_upcall_bad(struct weft_fs *fs, u32 op, const char *field, u64 value)
{
	pr_err_ratelimited("weft: cluster %s: bad answer to metadata operation %u: %s %llu\n",
			   fs->cluster, op, field, value);
	return -EIO;
}

int weft_upcall_check_bytes(struct weft_fs *fs, u32 op, ssize_t got, size_t wanted)
{
	if (got < 0)
		return got;
	if (got != wanted)
		return weft_upcall_bad(fs, op, "length", got);
	return 0;
}

static int check_mount(struct weft_fs *fs, const struct weft_mount_rep *rep)
{
	if (!rep->session)
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "session", rep->session);
	if (rep->block_bytes != WEFT_BLOCK_BYTES)
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "block_bytes", rep->block_bytes);
	if (!is_power_of_2(rep->chunk_blocks))
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "chunk_blocks", rep->chunk_blocks);
	if (!rep->pool_blocks || rep->pool_blocks > WEFT_FILE_BLOCK_MAX)
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "pool_blocks", rep->pool_blocks);
	if (!rep->root_ino || rep->root.ino != rep->root_ino)
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "root_ino", rep->root_ino);
	if (!rep->copies || rep->copies > WEFT_COPIES_MAX)
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "copies", rep->copies);
	if (!S_ISDIR(rep->root.mode))
		return weft_upcall_bad(fs, WEFT_META_MOUNT, "root.mode", rep->root.mode);
	return weft_upcall_check_attr(fs, WEFT_META_MOUNT, &rep->root);
}

int weft_upcall_mount(struct weft_fs *fs, struct weft_mount_rep *rep)
{
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_MOUNT, NO_INODE, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	error = weft_upcall_check_bytes(fs, WEFT_META_MOUNT, weft_upcall_send(fs, &call, 0),
					sizeof(*rep));
	if (!error)
		memcpy(rep, call.rep, sizeof(*rep));
	weft_call_end(&call);
	return error ? error : check_mount(fs, rep);
}

int weft_upcall_unmount(struct weft_fs *fs)
{
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_UNMOUNT, NO_INODE, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	error = weft_upcall_check_bytes(fs, WEFT_META_UNMOUNT, weft_upcall_send(fs, &call, 0), 0);
	weft_call_end(&call);
	return error;
}

int weft_upcall_statfs(struct weft_fs *fs, struct weft_statfs_rep *rep)
{
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_STATFS, fs->root_ino, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	error = weft_upcall_check_bytes(fs, WEFT_META_STATFS, weft_upcall_send(fs, &call, 0),
					sizeof(*rep));
	if (!error)
		memcpy(rep, call.rep, sizeof(*rep));
	weft_call_end(&call);
	if (!error && rep->free_blocks > rep->blocks)
		error = weft_upcall_bad(fs, WEFT_META_STATFS, "free_blocks", rep->free_blocks);
	return error;
}

static int check_grant(struct weft_fs *fs, const struct weft_range *range)
{
	u64 chunk_mask = fs->chunk_blocks - 1;

	if (!range->blocks || range->blocks > fs->chunk_blocks)
		return weft_upcall_bad(fs, WEFT_META_GRANT, "range.blocks", range->blocks);
	if (range->pool_block >= fs->pool_blocks ||
	    range->blocks > fs->pool_blocks - range->pool_block ||
	    (range->pool_block & chunk_mask) + range->blocks > fs->chunk_blocks)
		return weft_upcall_bad(fs, WEFT_META_GRANT, "range.pool_block", range->pool_block);
	return 0;
}

int weft_upcall_grant(struct weft_fs *fs, u32 copies, u64 blocks, struct weft_range *ranges,
		      u32 max, u32 *count)
{
	struct weft_call call;
	struct weft_grant_req *req;
	struct weft_ranges rep;
	ssize_t got;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_GRANT, fs->root_ino, WEFT_CALL_CHANGES);
	if (error)
		return error;
	req = call.args;
	req->blocks = blocks;
	req->ranges_max = max;
	req->copies = copies;
	got = weft_upcall_send(fs, &call, sizeof(*req));
	if (got >= (ssize_t)sizeof(rep)) {
		memcpy(&rep, call.rep, sizeof(rep));
		if (rep.count && rep.count <= max && got == struct_size(&rep, ranges, rep.count))
			memcpy(ranges, call.rep + sizeof(rep), rep.count * sizeof(*ranges));
		else
			got = weft_upcall_bad(fs, WEFT_META_GRANT, "count", rep.count);
	} else if (got >= 0) {
		got = weft_upcall_bad(fs, WEFT_META_GRANT, "length", got);
	}
	weft_call_end(&call);
	if (got < 0)
		return got;
	for (u32 i = 0; i < rep.count; i++) {
		error = check_grant(fs, &ranges[i]);
		if (error)
			return error;
	}
	*count = rep.count;
	return 0;
}

int weft_upcall_release(struct weft_fs *fs, const struct weft_range *ranges, u32 count,
			bool *in_doubt)
{
	struct weft_ranges *req;
	struct weft_call call;
	int error;

	*in_doubt = false;
	error = weft_upcall_begin(fs, &call, WEFT_META_RELEASE, fs->root_ino, WEFT_CALL_CHANGES);
	if (error)
		return error;
	req = call.args;
	req->count = count;
	memcpy(req->ranges, ranges, count * sizeof(*ranges));
	error = weft_upcall_check_bytes(fs, WEFT_META_RELEASE,
					weft_upcall_send(fs, &call, struct_size(req, ranges, count)),
					0);
	weft_call_end(&call);
	*in_doubt = error;
	return error;
}
