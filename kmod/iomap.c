// SPDX-License-Identifier: GPL-2.0
/*
 * From file ranges to pool ranges, for iomap.
 *
 * A write gets its space before the data is accepted, so ENOSPC comes from write(), fallocate() or
 * the page fault. iomap_begin waits for space where that is allowed: never under a folio lock.
 * Readahead, writeback and iomap_page_mkwrite hold folio locks, and only look up.
 */
#include <linux/iomap.h>
#include "fs.h"

static bool iomap_still_valid(struct inode *inode, const struct iomap *iomap)
{
	return iomap->validity_cookie == READ_ONCE(WEFT_I(inode)->extents.sequence);
}

static const struct iomap_folio_ops weft_iomap_folio_ops = {
	.iomap_valid	= iomap_still_valid,
};

static void set_hole(struct iomap *iomap, u64 block, u64 end)
{
	iomap->type = IOMAP_HOLE;
	iomap->addr = IOMAP_NULL_ADDR;
	iomap->offset = block << WEFT_BLOCK_SHIFT;
	iomap->length = (end - block) << WEFT_BLOCK_SHIFT;
}

static void set_extent(struct iomap *iomap, const struct weft_extent_node *extent)
{
	iomap->type = extent->state == WEFT_WRITTEN ? IOMAP_MAPPED : IOMAP_UNWRITTEN;
	iomap->addr = extent->pool_block << WEFT_BLOCK_SHIFT;
	iomap->offset = extent->file_block << WEFT_BLOCK_SHIFT;
	iomap->length = (u64)extent->blocks << WEFT_BLOCK_SHIFT;
}

/* What is at `block`: an extent, or a hole that ends at `end` at the latest. */
static void look_up(struct inode *inode, u64 block, u64 end, struct iomap *iomap)
{
	struct weft_inode *wi = WEFT_I(inode);
	const struct weft_extent_node *extent = weft_extents_find(&wi->extents, block);

	if (!extent || extent->file_block >= end)
		set_hole(iomap, block, end);
	else if (extent->file_block > block)
		set_hole(iomap, block, extent->file_block);
	else
		set_extent(iomap, extent);
	iomap->bdev = weft_pool_bdev(weft_fs_of(inode)->pool);
	iomap->validity_cookie = wi->extents.sequence;
	iomap->folio_ops = &weft_iomap_folio_ops;
}

/*
 * A direct request that must not wait is for one mapping or for none: once a part of it is under way,
 * -EAGAIN for the rest becomes the result of the whole when that part ends, and nobody tries again.
 */
static bool may_map(const struct iomap *iomap, loff_t end, unsigned int flags)
{
	return !(flags & IOMAP_NOWAIT) || !(flags & IOMAP_DIRECT) ||
	       iomap->offset + iomap->length >= end;
}

static int map_range(struct inode *inode, loff_t pos, u64 length, unsigned int flags,
		     struct iomap *iomap)
{
	struct weft_inode *wi = WEFT_I(inode);

	if (WARN_ON_ONCE(!test_bit(WEFT_INODE_LOADED, &wi->flags)))
		return -EIO;
	if (flags & IOMAP_NOWAIT) {
		if (!down_read_trylock(&wi->extents.lock))
			return -EAGAIN;
	} else {
		down_read(&wi->extents.lock);
	}
	look_up(inode, pos >> WEFT_BLOCK_SHIFT, weft_blocks_of(pos + length), iomap);
	up_read(&wi->extents.lock);
	return may_map(iomap, pos + length, flags) ? 0 : -EAGAIN;
}

static int weft_read_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
				 struct iomap *iomap, struct iomap *srcmap)
{
	return map_range(inode, pos, length, flags, iomap);
}

const struct iomap_ops weft_read_iomap_ops = {
	.iomap_begin	= weft_read_iomap_begin,
};

/* A grant becomes an extent, unless somebody else was faster; what is not needed goes back. */
static void fill_hole(struct inode *inode, u64 block, const struct weft_range *range,
		      enum weft_extent_state state)
{
	struct weft_inode *wi = WEFT_I(inode);
	struct weft_extent extent = { .file_block = block, .pool_block = range->pool_block };
	const struct weft_extent_node *next;
	u64 hole = range->blocks;

	down_write(&wi->extents.lock);
	next = weft_extents_find(&wi->extents, block);
	if (next)
		hole = next->file_block > block ? min(hole, next->file_block - block) : 0;
	if (hole) {
		extent.blocks = hole;
		weft_extents_insert(&wi->extents, &extent, state,
				    state == WEFT_UNWRITTEN ? WEFT_DIRTY : 0);
		inode->i_blocks = wi->extents.blocks << (WEFT_BLOCK_SHIFT - 9);
	}
	up_write(&wi->extents.lock);
	if (hole < range->blocks)
		weft_space_give(weft_fs_of(inode), range->pool_block + hole, range->blocks - hole);
}

/* Gives space to a hole at `block`, at most `blocks` of it, maybe less. */
static int allocate_some(struct inode *inode, u64 block, u64 blocks, enum weft_extent_state state)
{
	u32 wanted = min_t(u64, blocks, weft_fs_of(inode)->chunk_blocks);
	struct weft_range range;
	int error;

	error = weft_space_take(WEFT_I(inode), block, wanted, &range);
	if (error)
		return error;
	fill_hole(inode, block, &range, state);
	return 0;
}

int weft_iomap_allocate(struct inode *inode, loff_t pos, u64 length, enum weft_extent_state state)
{
	u64 end = pos + length;

	while (pos < end) {
		struct iomap iomap = { };
		int error = map_range(inode, pos, end - pos, 0, &iomap);

		if (error)
			return error;
		if (iomap.type == IOMAP_HOLE)
			error = allocate_some(inode, iomap.offset >> WEFT_BLOCK_SHIFT,
					      iomap.length >> WEFT_BLOCK_SHIFT, state);
		else
			pos = iomap.offset + iomap.length;
		if (error)
			return error;
	}
	return 0;
}

/* The next write may move the end of the file, or is to blocks that are not committed. */
static bool needs_commit(struct inode *inode, loff_t pos, loff_t length)
{
	return pos + length > i_size_read(inode) || weft_commit_needed(WEFT_I(inode), true);
}

static int weft_write_iomap_begin(struct inode *inode, loff_t pos, loff_t length,
				  unsigned int flags, struct iomap *iomap, struct iomap *srcmap)
{
	for (;;) {
		int error = map_range(inode, pos, length, flags, iomap);

		if (error)
			return error;
		if (iomap->type != IOMAP_HOLE || !(flags & IOMAP_WRITE))
			break;
		/* The fault is taken again, and allocates first. */
		if (flags & (IOMAP_NOWAIT | IOMAP_FAULT))
			return -EAGAIN;
		error = allocate_some(inode, iomap->offset >> WEFT_BLOCK_SHIFT,
				      iomap->length >> WEFT_BLOCK_SHIFT, WEFT_NEW);
		if (error)
			return error;
	}
	if ((flags & IOMAP_DIRECT) && needs_commit(inode, pos, length))
		iomap->flags |= IOMAP_F_DIRTY;
	return 0;
}

const struct iomap_ops weft_write_iomap_ops = {
	.iomap_begin	= weft_write_iomap_begin,
};

void weft_iomap_written(struct inode *inode, loff_t pos, u64 length, bool direct)
{
	struct weft_inode *wi = WEFT_I(inode);
	loff_t end = pos + length;
	bool changed;

	if (!length)
		return;
	down_write(&wi->extents.lock);
	changed = weft_extents_written(&wi->extents, pos >> WEFT_BLOCK_SHIFT, weft_blocks_of(end));
	/* Who sees the new size must find the extents written. */
	if (direct && end > i_size_read(inode))
		i_size_write(inode, end);
	/* A truncation may have been faster. */
	end = min(end, i_size_read(inode));
	if (end > wi->disk_size) {
		WRITE_ONCE(wi->disk_size, end);
		changed = true;
	}
	up_write(&wi->extents.lock);
	if (changed)
		__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
}
