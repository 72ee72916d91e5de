// SPDX-License-Identifier: GPL-2.0
/*
 * Truncate and fallocate. Both change the file here at once, under i_rwsem and invalidate_lock;
 * what the server has to know goes to the inode (cut_size, unmaps, dirty extents) and a commit
 * tells it, in that order. Space that the server knew as this file's is free again when it has been
 * told.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include "fs.h"

static bool drop_extents(struct inode *inode, u64 block, u64 end)
{
	struct weft_inode *wi = WEFT_I(inode);
	bool tell;

	tell = weft_extents_drop(&wi->extents, block, end, weft_fs_of(inode), weft_space_give);
	inode->i_blocks = wi->extents.blocks << (WEFT_BLOCK_SHIFT - 9);
	return tell;
}

/* The new end of the file counts for the server too; what is behind a nearer end is unmapped. */
static void move_end(struct inode *inode, loff_t old_size, loff_t size)
{
	struct weft_inode *wi = WEFT_I(inode);
	bool tell = false;

	down_write(&wi->extents.lock);
	if (size <= old_size) {
		tell = drop_extents(inode, weft_blocks_of(size), U64_MAX) || size < wi->told_size;
		if (tell)
			wi->cut_size = min_t(u64, wi->cut_size, size);
	}
	WRITE_ONCE(wi->disk_size, size);
	up_write(&wi->extents.lock);
	__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
	/* The sooner the server knows, the sooner the space can be granted again. */
	if (tell)
		weft_commit_queue(inode);
}

static int truncate_locked(struct inode *inode, loff_t size)
{
	struct weft_inode *wi = WEFT_I(inode);
	loff_t old_size = i_size_read(inode);
	bool did_zero = false;
	int error;

	if (size > old_size)
		error = iomap_zero_range(inode, old_size, size - old_size, &did_zero,
					 &weft_write_iomap_ops);
	else
		error = iomap_truncate_page(inode, size, &did_zero, &weft_write_iomap_ops);
	if (error)
		return error;
	truncate_setsize(inode, size);
	/*
	 * From here on a commit says that the file is `size` long: what is below that must have
	 * been written, or a crash would leave zeroes where there was data, or data where there
	 * were zeroes.
	 */
	if (did_zero || (size > wi->disk_size && old_size != wi->disk_size)) {
		error = filemap_write_and_wait_range(inode->i_mapping, min(wi->disk_size, size),
						     size);
		if (error)
			return error;
	}
	move_end(inode, old_size, size);
	return 0;
}

int weft_truncate(struct inode *inode, loff_t size)
{
	int error = weft_inode_load(inode);

	if (error)
		return error;
	inode_dio_wait(inode);
	filemap_invalidate_lock(inode->i_mapping);
	error = truncate_locked(inode, size);
	filemap_invalidate_unlock(inode->i_mapping);
	return error;
}

/* A write begins behind the end of the file: what is between is to read as zeroes. */
int weft_zero_beyond(struct inode *inode, loff_t from, loff_t to)
{
	int error;

	filemap_invalidate_lock(inode->i_mapping);
	error = iomap_zero_range(inode, from, to - from, NULL, &weft_write_iomap_ops);
	filemap_invalidate_unlock(inode->i_mapping);
	return error;
}

/* Nothing is to be zeroed behind the end of the file: there it reads as zeroes. */
static int zero_inside(struct inode *inode, loff_t from, loff_t to)
{
	to = min(to, i_size_read(inode));
	if (from >= to)
		return 0;
	return iomap_zero_range(inode, from, to - from, NULL, &weft_write_iomap_ops);
}

/* Zeroes the parts of blocks at both ends of the range, and empties the page cache between. */
static int zero_edges(struct inode *inode, loff_t offset, loff_t end)
{
	loff_t first = round_up(offset, WEFT_BLOCK_BYTES);
	loff_t last = round_down(end, WEFT_BLOCK_BYTES);
	int error;

	error = filemap_write_and_wait_range(inode->i_mapping, round_down(offset, PAGE_SIZE),
					     round_up(end, PAGE_SIZE) - 1);
	if (error)
		return error;
	if (first > last)	/* inside one block */
		return zero_inside(inode, offset, end);
	error = zero_inside(inode, offset, first);
	if (!error)
		error = zero_inside(inode, last, end);
	if (!error && last > first)
		truncate_pagecache_range(inode, first, last - 1);
	return error;
}

static int punch_hole(struct inode *inode, loff_t offset, loff_t length)
{
	struct weft_inode *wi = WEFT_I(inode);
	loff_t end = offset + length;
	struct weft_unmap *unmap;
	u64 block, end_block;
	bool tell;
	int error;

	error = zero_edges(inode, offset, end);
	if (error)
		return error;
	block = weft_blocks_of(offset);
	end_block = end >> WEFT_BLOCK_SHIFT;
	if (block >= end_block)
		return 0;
	unmap = kmalloc(sizeof(*unmap), GFP_KERNEL);
	if (!unmap)
		return -ENOMEM;
	unmap->file_block = block;
	unmap->blocks = end_block - block;

	down_write(&wi->extents.lock);
	tell = drop_extents(inode, block, end_block);
	if (tell) {
		list_add_tail(&unmap->link, &wi->unmaps);
		wi->unmap_count++;
	}
	up_write(&wi->extents.lock);
	if (!tell) {
		kfree(unmap);
		return 0;
	}
	__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
	weft_commit_queue(inode);
	return 0;
}

static int zero_range(struct inode *inode, loff_t offset, loff_t length)
{
	struct weft_inode *wi = WEFT_I(inode);
	loff_t end = offset + length;
	bool changed;
	int error;

	error = zero_edges(inode, offset, end);
	if (error)
		return error;
	down_write(&wi->extents.lock);
	changed = weft_extents_zero(&wi->extents, weft_blocks_of(offset), end >> WEFT_BLOCK_SHIFT);
	up_write(&wi->extents.lock);
	if (changed)
		__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
	return weft_iomap_allocate(inode, offset, length, WEFT_UNWRITTEN);
}

/*
 * Space that write() got and that has not been written yet is promised to the file from now on too.
 */
static void keep_new(struct inode *inode, loff_t offset, loff_t end)
{
	struct weft_inode *wi = WEFT_I(inode);

	down_write(&wi->extents.lock);
	weft_extents_keep(&wi->extents, offset >> WEFT_BLOCK_SHIFT, weft_blocks_of(end));
	up_write(&wi->extents.lock);
	__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
}

static int preallocate(struct inode *inode, loff_t offset, loff_t length)
{
	int error = weft_iomap_allocate(inode, offset, length, WEFT_UNWRITTEN);

	if (!error)
		keep_new(inode, offset, offset + length);
	return error;
}

static int change_range(struct inode *inode, int mode, loff_t offset, loff_t length)
{
	loff_t size = i_size_read(inode);
	int error;

	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + length > size) {
		size = offset + length;
		error = inode_newsize_ok(inode, size);
		if (error)
			return error;
	}
	switch (mode & FALLOC_FL_MODE_MASK) {
	case FALLOC_FL_ALLOCATE_RANGE:
		error = preallocate(inode, offset, length);
		break;
	case FALLOC_FL_PUNCH_HOLE:
		error = punch_hole(inode, offset, length);
		break;
	case FALLOC_FL_ZERO_RANGE:
		error = zero_range(inode, offset, length);
		break;
	default:
		error = -EOPNOTSUPP;
	}
	if (!error && size > i_size_read(inode))
		error = truncate_locked(inode, size);
	return error;
}

static bool wants_sync(const struct file *file)
{
	return file->f_flags & (__O_SYNC | O_DSYNC) || IS_SYNC(file_inode(file));
}

long weft_fallocate(struct file *file, int mode, loff_t offset, loff_t length)
{
	struct inode *inode = file_inode(file);
	struct weft_inode *wi = WEFT_I(inode);
	long error;

	if (!S_ISREG(inode->i_mode))
		return -EINVAL;
	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	inode_lock(inode);
	/* Direct I/O that is under way can move the end of the file. */
	inode_dio_wait(inode);
	filemap_invalidate_lock(inode->i_mapping);
	error = file_modified(file);
	if (!error)
		error = change_range(inode, mode, offset, length);
	filemap_invalidate_unlock(inode->i_mapping);
	inode_unlock(inode);
	if (error)
		return error;
	if (wants_sync(file))
		return vfs_fsync(file, 1);
	if (READ_ONCE(wi->unmap_count) > WEFT_UNMAPS_MAX)
		return weft_commit_wait(inode);
	return 0;
}
