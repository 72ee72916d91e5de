/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The inside of the pool disk: disk.c (the gendisk), transfer.c (a bio on its way to a chunk's
 * copies), flush.c (making acknowledged writes durable), chunk.c (the map), unflushed.c (writes
 * that a target may lose), open.c (telling the server which chunks are written to), settle.c (when
 * nobody goes by an old map any more), direct.c (block devices that are used without the agent).
 *
 * Order in which a bio takes what it needs: chunk map, slot, tag. What is taken is given back
 * when the agent completes the requests, whatever else waits; each request is sent before the
 * next tag is taken; a transfer that waits for a target or the metadata server holds nothing but
 * its bio. So nobody who holds something waits for somebody who waits for it.
 */
#ifndef _WEFT_DISK_H
#define _WEFT_DISK_H

#include <linux/bio.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "pool.h"

struct weft_pool {
	struct weft_channel *channel;	/* a reference */
	struct gendisk *disk;
	int number;			/* of the disk's name */
	u64 blocks;
	u32 chunk_blocks;
	u32 chunk_shift;		/* log2(chunk_blocks) */

	struct xarray chunks;		/* struct weft_chunk_entry by index */
	struct mutex stale_lock;	/* one MARK_STALE at a time; held over the call */
	struct srcu_struct map_readers;	/* who goes by a map, or fetches one; see settle.c */

	mempool_t transfers;
	atomic_t users;			/* transfers, and ioctls by weft_pool_enter() */
	wait_queue_head_t idle;		/* users became 0 */

	spinlock_t waiting_lock;	/* the next three */
	struct list_head waiting;	/* transfers until retry_work runs */
	unsigned long retry_at;		/* jiffies when it runs, if it is pending */
	struct delayed_work retry_work;

	spinlock_t flush_lock;		/* the next three */
	struct list_head unflushed;	/* weft_chunk_entry.unflushed_node */
	struct bio_list flush_bios;	/* with REQ_PREFLUSH, for the next round */
	bool flushing;			/* a round is running */
	struct work_struct flush_work;
	wait_queue_head_t flush_kick;	/* trying again may help */
	u32 kicks;
	struct work_struct incarnation_work;	/* a target was started anew */

	/* open.c */
	spinlock_t open_lock;		/* the next two */
	struct list_head opening;	/* weft_chunk_entry.open_node */
	struct list_head open;		/* likewise */
	atomic_t closes;		/* CLOSE_CHUNKS that were begun and ended; odd: under way */
	struct work_struct open_work;
	struct delayed_work close_work;
	struct weft_chunk_entry **opening_batch;	/* of the workers */
	struct weft_chunk_entry **closing_batch;
};

extern struct workqueue_struct *weft_transfer_wq;
extern struct workqueue_struct *weft_flush_wq;

int weft_disk_init(void);
void weft_disk_exit(void);

/* transfer.c: READ and WRITE with data, within one chunk. */
void weft_transfer_start(struct weft_pool *pool, struct bio *bio);
/* What waits is tried again. Does not sleep. */
void weft_transfer_retry_now(struct weft_pool *pool);

int weft_transfer_init(void);
void weft_transfer_exit(void);
int weft_transfer_init_pool(struct weft_pool *pool);
void weft_transfer_exit_pool(struct weft_pool *pool);

/* flush.c: takes the bio, true, or nothing has to be flushed before it, false. */
bool weft_flush_start(struct weft_pool *pool, struct bio *bio);
void weft_flush_work(struct work_struct *work);

/*
 * settle.c: waits until no transfer and no fetch of a map that has begun before is under way.
 * -EAGAIN: that takes long. -EINTR.
 */
int weft_pool_settle(struct weft_pool *pool);

/* The pool that the channel serves, until weft_pool_leave(); NULL: it is not mounted. */
struct weft_pool *weft_pool_enter(struct weft_channel *ch);
void weft_pool_leave(struct weft_pool *pool);

/* A target has another incarnation than before: does not sleep. */
void weft_pool_reborn(struct weft_pool *pool);
/* A target or the agent came back, or everything is to fail: does not sleep. */
void weft_pool_kick(struct weft_pool *pool);

#endif
