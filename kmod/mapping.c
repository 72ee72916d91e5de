// SPDX-License-Identifier: GPL-2.0
/*
 * The page cache: readahead and writeback.
 *
 * Writeback of blocks that were never written, or that moves the end of the file on disk, ends in a
 * worker: the extents become WRITTEN before the folios lose their writeback mark, so that who waits
 * for the folios (fsync, truncate) finds the map up to date.
 */
#include <linux/blkdev.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/writeback.h>
#include "fs.h"

static int weft_read_folio(struct file *file, struct folio *folio)
{
	return iomap_read_folio(folio, &weft_read_iomap_ops);
}

static void weft_readahead(struct readahead_control *control)
{
	iomap_readahead(control, &weft_read_iomap_ops);
}

/*
 * Everything dirty has its space. A hole can be met where a folio is larger than what was written
 * of it: such blocks hold zeroes, and iomap skips them.
 */
static int map_blocks(struct iomap_writepage_ctx *context, struct inode *inode, loff_t offset,
		      unsigned int length)
{
	struct iomap *iomap = &context->iomap;

	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	if (offset >= iomap->offset && offset < iomap->offset + iomap->length &&
	    iomap->validity_cookie == READ_ONCE(WEFT_I(inode)->extents.sequence))
		return 0;
	return weft_read_iomap_ops.iomap_begin(inode, offset, length, 0, iomap, NULL);
}

static void end_ioend(struct iomap_ioend *ioend)
{
	int error = blk_status_to_errno(ioend->io_bio.bi_status);

	if (!error)
		weft_iomap_written(ioend->io_inode, ioend->io_offset, ioend->io_size, false);
	iomap_finish_ioends(ioend, error);
}

void weft_mapping_ioend_work(struct work_struct *work)
{
	struct weft_inode *wi = container_of(work, struct weft_inode, ioend_work);
	struct iomap_ioend *ioend;
	unsigned int nofs;
	LIST_HEAD(ended);

	spin_lock_irq(&wi->ioend_lock);
	list_replace_init(&wi->ioends, &ended);
	spin_unlock_irq(&wi->ioend_lock);

	nofs = memalloc_nofs_save();
	iomap_sort_ioends(&ended);
	while ((ioend = list_first_entry_or_null(&ended, struct iomap_ioend, io_list))) {
		list_del_init(&ioend->io_list);
		iomap_ioend_try_merge(ioend, &ended);
		end_ioend(ioend);
		cond_resched();
	}
	memalloc_nofs_restore(nofs);
}

static void ioend_queue(struct bio *bio)
{
	struct iomap_ioend *ioend = iomap_ioend_from_bio(bio);
	struct weft_inode *wi = WEFT_I(ioend->io_inode);
	unsigned long flags;

	spin_lock_irqsave(&wi->ioend_lock, flags);
	if (list_empty(&wi->ioends))
		queue_work(weft_fs_of(ioend->io_inode)->ioend_wq, &wi->ioend_work);
	list_add_tail(&ioend->io_list, &wi->ioends);
	spin_unlock_irqrestore(&wi->ioend_lock, flags);
}

static int prepare_ioend(struct iomap_ioend *ioend, int status)
{
	struct weft_inode *wi = WEFT_I(ioend->io_inode);

	if (ioend->io_type == IOMAP_UNWRITTEN ||
	    ioend->io_offset + ioend->io_size > READ_ONCE(wi->disk_size))
		ioend->io_bio.bi_end_io = ioend_queue;
	return status;
}

static const struct iomap_writeback_ops weft_writeback_ops = {
	.map_blocks	= map_blocks,
	.prepare_ioend	= prepare_ioend,
};

static int weft_writepages(struct address_space *mapping, struct writeback_control *wbc)
{
	struct iomap_writepage_ctx context = { };

	return iomap_writepages(mapping, wbc, &context, &weft_writeback_ops);
}

const struct address_space_operations weft_address_space_operations = {
	.read_folio		= weft_read_folio,
	.readahead		= weft_readahead,
	.writepages		= weft_writepages,
	.dirty_folio		= iomap_dirty_folio,
	.release_folio		= iomap_release_folio,
	.invalidate_folio	= iomap_invalidate_folio,
	.migrate_folio		= filemap_migrate_folio,
	.is_partially_uptodate	= iomap_is_partially_uptodate,
	.error_remove_folio	= generic_error_remove_folio,
};
