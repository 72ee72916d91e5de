/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pool disk: one hidden bio-based gendisk per mount whose address space is the pool's logical
 * blocks. It maps a bio to a chunk and its copies and sends it through the channel.
 */
#ifndef _WEFT_POOL_H
#define _WEFT_POOL_H

#include <linux/blkdev.h>
#include "uapi/weft.h"

struct weft_channel;
struct weft_pool;

struct weft_pool_geometry {
	u64 blocks;			/* of the logical address space */
	u32 chunk_blocks;		/* a power of two */
};

struct weft_pool *weft_pool_create(struct weft_channel *ch, const struct weft_pool_geometry *geo);
void weft_pool_destroy(struct weft_pool *pool);
struct block_device *weft_pool_bdev(struct weft_pool *pool);
/* The cluster's number on this host: for struct weft_place. */
u32 weft_pool_cluster(struct weft_pool *pool);

/*
 * Fetch the map of the chunks under [block, block + blocks) unless it is cached, so that I/O to
 * them needs no upcall. May sleep; call it without folio locks.
 */
int weft_pool_load(struct weft_pool *pool, u64 block, u64 blocks);

/* Changes with every CLOSE_CHUNKS: to be read before space is asked for, for weft_pool_granted(). */
u32 weft_pool_closes(struct weft_pool *pool);
/*
 * The server has granted space in the chunk under `block`, and by that has opened the chunk.
 * Fetches its map. May sleep.
 */
int weft_pool_granted(struct weft_pool *pool, u64 block, u32 closes);

/* Target ids of the in-sync copies under `block`; how many, 0: not cached. Does not sleep. */
u32 weft_pool_targets(struct weft_pool *pool, u64 block, u32 targets[WEFT_COPIES_MAX]);

/*
 * Before UNMOUNT, when nothing is written any more: has the server make copies equal that failed
 * writes may have left different. An error: it could not be told of all. May sleep.
 */
int weft_pool_equalize(struct weft_pool *pool);

/* Make everything acknowledged before durable on all targets. May sleep. */
int weft_pool_flush(struct weft_pool *pool);

#endif
