// SPDX-License-Identifier: GPL-2.0
#include <linux/idr.h>
#include <linux/log2.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "chunk.h"
#include "direct.h"
#include "disk.h"
#include "target.h"

#define BLOCK_SECTOR_SHIFT	(WEFT_BLOCK_SHIFT - SECTOR_SHIFT)

static DEFINE_IDA(disk_numbers);

static void disk_submit_bio(struct bio *bio)
{
	struct weft_pool *pool = bio->bi_bdev->bd_disk->private_data;

	/* chunk_sectors and the size of a slot hold only for who asks */
	bio = bio_split_to_limits(bio);
	if (!bio)
		return;
	if (bio->bi_opf & REQ_PREFLUSH) {
		if (weft_flush_start(pool, bio))
			return;
		bio->bi_opf &= ~REQ_PREFLUSH;
	}
	if (bio->bi_iter.bi_size)
		weft_transfer_start(pool, bio);
	else
		bio_endio(bio);
}

static const struct block_device_operations disk_fops = {
	.owner		= THIS_MODULE,
	.submit_bio	= disk_submit_bio,
};

static struct gendisk *disk_alloc(struct weft_pool *pool)
{
	struct queue_limits limits = {
		.features		= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_NOWAIT,
		.logical_block_size	= WEFT_BLOCK_BYTES,
		.physical_block_size	= WEFT_BLOCK_BYTES,
		.io_min			= WEFT_BLOCK_BYTES,
		.io_opt			= WEFT_IO_BYTES_MAX,
		.max_hw_sectors		= WEFT_IO_BYTES_MAX >> SECTOR_SHIFT,
		.chunk_sectors		= pool->chunk_blocks << BLOCK_SECTOR_SHIFT,
		/* data is copied: its place in memory and the number of its pieces do not matter */
		.max_segments		= USHRT_MAX,
		.max_segment_size	= UINT_MAX,
		.dma_alignment		= 3,
	};
	struct gendisk *disk = blk_alloc_disk(&limits, NUMA_NO_NODE);

	if (IS_ERR(disk))
		return disk;
	disk->flags |= GENHD_FL_HIDDEN | GENHD_FL_NO_PART;
	disk->fops = &disk_fops;
	disk->private_data = pool;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "weft%d", pool->number);
	set_capacity(disk, pool->blocks << BLOCK_SECTOR_SHIFT);
	return disk;
}

static int check_geometry(const struct weft_pool_geometry *geo)
{
	u64 chunk_bytes = (u64)geo->chunk_blocks << WEFT_BLOCK_SHIFT;

	if (!is_power_of_2(geo->chunk_blocks) || chunk_bytes < WEFT_IO_BYTES_MAX ||
	    chunk_bytes >> SECTOR_SHIFT > UINT_MAX)
		return -EINVAL;
	if (!geo->blocks || geo->blocks > S64_MAX >> WEFT_BLOCK_SHIFT)
		return -EINVAL;
	return 0;
}

static void pool_publish(struct weft_pool *pool, struct weft_pool *value)
{
	struct weft_channel *ch = pool->channel;

	spin_lock(&ch->lock);
	WARN_ON_ONCE(!ch->pool == !value);
	ch->pool = value;
	spin_unlock(&ch->lock);
}

struct weft_pool *weft_pool_create(struct weft_channel *ch, const struct weft_pool_geometry *geo)
{
	struct weft_pool *pool;
	int ret = check_geometry(geo);

	if (ret)
		return ERR_PTR(ret);
	pool = kzalloc(sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return ERR_PTR(-ENOMEM);
	pool->channel = ch;
	pool->blocks = geo->blocks;
	pool->chunk_blocks = geo->chunk_blocks;
	pool->chunk_shift = ilog2(geo->chunk_blocks);
	xa_init(&pool->chunks);
	mutex_init(&pool->stale_lock);
	spin_lock_init(&pool->flush_lock);
	INIT_LIST_HEAD(&pool->unflushed);
	bio_list_init(&pool->flush_bios);
	INIT_WORK(&pool->flush_work, weft_flush_work);
	init_waitqueue_head(&pool->flush_kick);
	INIT_WORK(&pool->incarnation_work, weft_unflushed_work);

	ret = weft_open_init_pool(pool);
	if (ret)
		goto free_pool;
	ret = weft_transfer_init_pool(pool);
	if (ret)
		goto exit_open;
	pool->number = ida_alloc(&disk_numbers, GFP_KERNEL);
	if (pool->number < 0) {
		ret = pool->number;
		goto exit_transfers;
	}
	pool->disk = disk_alloc(pool);
	if (IS_ERR(pool->disk)) {
		ret = PTR_ERR(pool->disk);
		goto free_number;
	}
	/* needed although it is hidden: sets BD_HAS_SUBMIT_BIO */
	ret = add_disk(pool->disk);
	if (ret)
		goto put_disk;
	weft_channel_hold(ch);
	pool_publish(pool, pool);
	return pool;

put_disk:
	put_disk(pool->disk);
free_number:
	ida_free(&disk_numbers, pool->number);
exit_transfers:
	weft_transfer_exit_pool(pool);
exit_open:
	weft_open_exit_pool(pool);
free_pool:
	kfree(pool);
	return ERR_PTR(ret);
}

void weft_pool_destroy(struct weft_pool *pool)
{
	del_gendisk(pool->disk);
	cancel_work_sync(&pool->flush_work);
	pool_publish(pool, NULL);
	weft_transfer_exit_pool(pool);
	cancel_work_sync(&pool->incarnation_work);
	weft_open_exit_pool(pool);
	weft_direct_drop_all(pool->channel);
	weft_chunks_free(pool);
	put_disk(pool->disk);
	ida_free(&disk_numbers, pool->number);
	weft_channel_put(pool->channel);
	kfree(pool);
}

struct block_device *weft_pool_bdev(struct weft_pool *pool)
{
	return pool->disk->part0;
}

u32 weft_pool_cluster(struct weft_pool *pool)
{
	return pool->channel->number;
}

int weft_pool_load(struct weft_pool *pool, u64 block, u64 blocks)
{
	u64 index, last;
	int ret;

	if (!blocks || block >= pool->blocks || blocks > pool->blocks - block)
		return -EINVAL;
	last = (block + blocks - 1) >> pool->chunk_shift;
	for (index = block >> pool->chunk_shift; index <= last; index++) {
		if (xa_load(&pool->chunks, index))
			continue;
		ret = weft_chunk_fetch(pool, index, min(last - index + 1, (u64)U32_MAX),
				       WEFT_CALL_KILLABLE);
		if (ret)
			return ret;
		if (!xa_load(&pool->chunks, index))
			return -EUCLEAN;	/* in use, but the server knows no such chunk */
	}
	return 0;
}

u32 weft_pool_closes(struct weft_pool *pool)
{
	return atomic_read(&pool->closes);
}

int weft_pool_granted(struct weft_pool *pool, u64 block, u32 closes)
{
	u64 index = block >> pool->chunk_shift;
	struct weft_chunk_entry *entry;
	int ret;

	/* also when it is cached: it may be the map of a chunk that was emptied and deleted */
	ret = weft_chunk_fetch(pool, index, 1, WEFT_CALL_RESERVED);
	if (ret)
		return ret;
	entry = xa_load(&pool->chunks, index);
	if (!entry)
		return -EUCLEAN;	/* granted, but the server knows no such chunk */
	weft_open_granted(pool, entry, closes);
	return 0;
}

u32 weft_pool_targets(struct weft_pool *pool, u64 block, u32 targets[WEFT_COPIES_MAX])
{
	struct weft_chunk_entry *entry = weft_chunk_get(pool, block >> pool->chunk_shift, false);
	struct weft_chunk_map map;
	u32 i, in_sync, count = 0;

	if (IS_ERR(entry))
		return 0;
	weft_chunk_read_map(entry, &map);
	in_sync = weft_chunk_in_sync(&map);
	for (i = 0; i < map.chunk.count; i++)
		if (in_sync & BIT(i))
			targets[count++] = map.chunk.copies[i].target;
	return count;
}

int weft_pool_flush(struct weft_pool *pool)
{
	return blkdev_issue_flush(pool->disk->part0);
}

struct weft_pool *weft_pool_enter(struct weft_channel *ch)
{
	struct weft_pool *pool;

	spin_lock(&ch->lock);
	pool = ch->pool;
	if (pool)
		atomic_inc(&pool->users);
	spin_unlock(&ch->lock);
	return pool;
}

void weft_pool_leave(struct weft_pool *pool)
{
	/* weft_transfer_exit_pool() frees the pool a grace period after the last one */
	rcu_read_lock();
	if (atomic_dec_and_test(&pool->users))
		wake_up(&pool->idle);
	rcu_read_unlock();
}

void weft_pool_reborn(struct weft_pool *pool)
{
	queue_work(weft_transfer_wq, &pool->incarnation_work);
}

void weft_pool_kick(struct weft_pool *pool)
{
	weft_transfer_retry_now(pool);
	WRITE_ONCE(pool->kicks, pool->kicks + 1);
	wake_up(&pool->flush_kick);
}

int weft_disk_init(void)
{
	int ret = weft_transfer_init();

	if (ret)
		return ret;
	ret = weft_direct_init();
	if (ret)
		goto exit_transfers;
	weft_flush_wq = alloc_workqueue("weft-flush", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (weft_flush_wq)
		return 0;
	ret = -ENOMEM;
	weft_direct_exit();
exit_transfers:
	weft_transfer_exit();
	return ret;
}

void weft_disk_exit(void)
{
	destroy_workqueue(weft_flush_wq);
	weft_direct_exit();
	weft_transfer_exit();
	ida_destroy(&disk_numbers);
}
