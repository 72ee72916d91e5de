// SPDX-License-Identifier: GPL-2.0
#include "upcall.h"

#define COMMIT_BYTES_MAX	(WEFT_META_REQ_BYTES - sizeof(struct weft_meta_req))

static_assert(struct_size_t(struct weft_evict_req, inos, WEFT_EVICT_MAX) <= COMMIT_BYTES_MAX);

static int check_extent(struct weft_fs *fs, const struct weft_extent *extent, u64 behind)
{
	if (extent->file_block + extent->blocks <= behind ||
	    extent->file_block > WEFT_FILE_BLOCK_MAX)
		return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "extent.file_block",
				       extent->file_block);
	if (!extent->blocks || extent->blocks > WEFT_FILE_BLOCK_MAX - extent->file_block)
		return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "extent.blocks", extent->blocks);
	if (extent->pool_block >= fs->pool_blocks ||
	    extent->blocks > fs->pool_blocks - extent->pool_block)
		return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "extent.pool_block",
				       extent->pool_block);
	if (extent->flags & ~WEFT_EXTENT_UNWRITTEN)
		return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "extent.flags", extent->flags);
	return 0;
}

/* Sorted, without overlaps, all of them behind file_block. */
static int check_extents(struct weft_fs *fs, const struct weft_extent *extents, u32 count,
			 u64 file_block)
{
	for (u32 i = 0; i < count; i++) {
		int error = check_extent(fs, &extents[i], file_block);

		if (error)
			return error;
		if (i && extents[i].file_block < file_block)
			return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "order of extent",
					       extents[i].file_block);
		file_block = extents[i].file_block + extents[i].blocks;
	}
	return 0;
}

ssize_t weft_upcall_get_extents(struct inode *inode, u64 file_block, struct weft_extent *extents,
				u32 max, bool *eof)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_get_extents_req *req;
	struct weft_get_extents_rep rep;
	struct weft_call call;
	ssize_t got;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_GET_EXTENTS, inode->i_ino,
				  WEFT_CALL_KILLABLE);
	if (error)
		return error;
	req = call.args;
	req->file_block = file_block;
	req->count_max = max;
	got = weft_upcall_send(fs, &call, sizeof(*req));
	if (got >= (ssize_t)sizeof(rep)) {
		memcpy(&rep, call.rep, sizeof(rep));
		if (rep.count <= max && got == struct_size(&rep, extents, rep.count))
			memcpy(extents, call.rep + sizeof(rep), rep.count * sizeof(*extents));
		else
			got = weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "count", rep.count);
	} else if (got >= 0) {
		got = weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "length", got);
	}
	weft_call_end(&call);
	if (got < 0)
		return got;
	if (rep.eof > 1 || (!rep.count && !rep.eof))
		return weft_upcall_bad(fs, WEFT_META_GET_EXTENTS, "eof", rep.eof);
	error = check_extents(fs, extents, rep.count, file_block);
	if (error)
		return error;
	*eof = rep.eof;
	return rep.count;
}

int weft_upcall_cut(struct inode *inode, u64 size)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_setattr_req *req;
	struct weft_attr attr;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_SETATTR, inode->i_ino,
				  WEFT_CALL_CHANGES | WEFT_CALL_RESERVED);
	if (error)
		return error;
	req = call.args;
	req->valid = WEFT_SET_SIZE;
	req->size = size;
	return weft_upcall_attr_reply(fs, &call, sizeof(*req), &attr);
}

int weft_upcall_punch(struct inode *inode, u64 file_block, u64 blocks)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_punch_req *req;
	struct weft_attr attr;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_PUNCH, inode->i_ino,
				  WEFT_CALL_CHANGES | WEFT_CALL_RESERVED);
	if (error)
		return error;
	req = call.args;
	req->file_block = file_block;
	req->blocks = blocks;
	return weft_upcall_attr_reply(fs, &call, sizeof(*req), &attr);
}

ssize_t weft_upcall_evict(struct weft_fs *fs, const u64 *inos, u32 count)
{
	struct weft_evict_req *req;
	struct weft_call call;
	ssize_t got;
	int error;

	count = min(count, WEFT_EVICT_MAX);
	error = weft_upcall_begin(fs, &call, WEFT_META_EVICT, fs->root_ino,
				  WEFT_CALL_CHANGES | WEFT_CALL_RESERVED);
	if (error)
		return error;
	req = call.args;
	req->count = count;
	memcpy(req->inos, inos, count * sizeof(*inos));
	got = weft_upcall_send(fs, &call, struct_size(req, inos, count));
	error = weft_upcall_check_bytes(fs, WEFT_META_EVICT, got, 0);
	weft_call_end(&call);
	return error ? error : count;
}

int weft_upcall_commit_begin(struct weft_upcall_commit *message, struct weft_fs *fs)
{
	int error;

	message->fs = fs;
	message->req = NULL;
	error = weft_upcall_begin(fs, &message->call, WEFT_META_COMMIT, fs->root_ino,
				  WEFT_CALL_CHANGES | WEFT_CALL_RESERVED);
	if (error)
		return error;
	message->req = message->call.args;
	message->bytes = sizeof(*message->req);
	return 0;
}

struct weft_commit *weft_upcall_commit_file(struct weft_upcall_commit *message, u32 *room)
{
	struct weft_commit *file = message->call.args + message->bytes;
	size_t left = COMMIT_BYTES_MAX - message->bytes;

	if (left < sizeof(*file) + sizeof(struct weft_extent))
		return NULL;
	message->bytes += sizeof(*file);
	message->req->count++;
	memset(file, 0, sizeof(*file));
	*room = (left - sizeof(*file)) / sizeof(struct weft_extent);
	return file;
}

void weft_upcall_commit_extents(struct weft_upcall_commit *message, u32 count)
{
	message->bytes += count * sizeof(struct weft_extent);
}

int weft_upcall_commit_send(struct weft_upcall_commit *message)
{
	ssize_t got = weft_upcall_send(message->fs, &message->call, message->bytes);
	int error = weft_upcall_check_bytes(message->fs, WEFT_META_COMMIT, got, 0);

	weft_call_end(&message->call);
	message->req = NULL;
	return error;
}
