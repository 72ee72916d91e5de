/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The chunk map: where the copies of each chunk are and which of them are in sync. Entries come
 * from the metadata server when they are first needed and stay until the pool disk is destroyed;
 * what is in them changes when a copy goes stale, the map is fetched again or the agent tells of a
 * change, and never to a lower version.
 *
 * Each entry also knows which copies hold acknowledged writes that have not been flushed
 * (`unflushed`) or are just being flushed (`flushing`), see unflushed.h. An entry with unflushed
 * writes is on pool->unflushed. Whether the chunk is open is open.h's.
 *
 * Locks: chunk->lock, then pool->flush_lock or pool->open_lock. pool->stale_lock is held over an
 * upcall.
 */
#ifndef _WEFT_CHUNK_H
#define _WEFT_CHUNK_H

#include <linux/list.h>
#include <linux/spinlock.h>

#include "open.h"
#include "uapi/weft.h"
#include "unflushed.h"

struct weft_pool;
struct weft_target;

/* Bits of weft_chunk_entry.flags */
#define WEFT_CHUNK_LOST		0	/* it has been logged as lost */
#define WEFT_CHUNK_DIFFERS	1	/* a write failed that some copies may have taken */

/* The copies at one moment. */
struct weft_chunk_map {
	struct weft_chunk chunk;
	struct weft_target *targets[WEFT_CHUNK_COPIES_MAX];
};

struct weft_chunk_entry {
	u64 index;
	unsigned long flags;		/* WEFT_CHUNK_*, atomic bits */
	spinlock_t lock;		/* the rest but the nodes */
	struct weft_chunk_map map;
	struct weft_unflushed unflushed;
	struct weft_unflushed flushing;
	enum weft_open_state open;
	u32 writers;			/* transfers that have entered */
	unsigned long idle_since;	/* jiffies */
	struct list_head open_waiters;	/* weft_transfer.node, until it is open */
	struct list_head open_node;	/* see weft_open_state; under pool->open_lock */
	struct list_head unflushed_node;	/* pool->unflushed, under pool->flush_lock */
	struct list_head flushing_node;	/* the flush worker's */
};

/* The entry, fetched when it is not cached and `fetch` is set (then it may sleep). ERR_PTR. */
struct weft_chunk_entry *weft_chunk_get(struct weft_pool *pool, u64 index, bool fetch);
/* Fetches the map of up to so many chunks, again or for the first time. call_flags: WEFT_CALL_*. */
int weft_chunk_fetch(struct weft_pool *pool, u64 first, u32 count, u32 call_flags);
void weft_chunks_free(struct weft_pool *pool);

/* The copy of `map` that is copy `index` of `from`; -1: it has gone. */
int weft_chunk_find(const struct weft_chunk_map *map, const struct weft_chunk_map *from, u32 index);
void weft_chunk_read_map(struct weft_chunk_entry *entry, struct weft_chunk_map *map);
/* Bit mask of the copies that are read: in sync. */
u32 weft_chunk_in_sync(const struct weft_chunk_map *map);
/* Of those that are written: in sync or resyncing. */
u32 weft_chunk_written_copies(const struct weft_chunk_map *map);

/* Takes of these maps (WEFT_IOC_CHUNKS) those that are cached here and newer. -EINVAL: none. */
int weft_chunk_update(struct weft_pool *pool, const struct weft_chunk *chunks, u32 count);

/*
 * The copies `ok` of `sent` (bit masks) have taken a write. True: all copies that are to be written
 * now have it and one of them is in sync, it may be acknowledged. False: a copy came into the map
 * that was not written. `incarnations` of the targets when it was sent: a flush will make it
 * durable; NULL: it is so already.
 */
bool weft_chunk_written(struct weft_pool *pool, struct weft_chunk_entry *entry,
			const struct weft_chunk_map *sent, u32 ok, const u64 *incarnations);

/*
 * Tells the metadata server that the copies `failed` of `seen` lack data. 0: none of them is read
 * or written any more. -EBUSY: no copy in sync would be left. -ESTALE: the session has ended. Or
 * what the call said.
 */
int weft_chunk_mark_stale(struct weft_pool *pool, struct weft_chunk_entry *entry,
			  const struct weft_chunk_map *seen, u32 failed);

#endif
