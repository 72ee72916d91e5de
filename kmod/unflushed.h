/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Acknowledged writes that have not been flushed, and the incarnations of the targets that took
 * them. A target with another incarnation has lost what it had not made durable: its copy must not
 * be read, and a FLUSH that succeeds there says nothing of it.
 *
 * The incarnation of a write is the one that was known when it was sent. It may have been executed
 * in a later one, never in an earlier one; when that is known by the time it is answered it is sent
 * again. So a copy may be given up without need, but not be trusted wrongly. 0: none was known;
 * then it was the first one.
 */
#ifndef _WEFT_UNFLUSHED_H
#define _WEFT_UNFLUSHED_H

#include <linux/types.h>
#include "uapi/weft.h"

struct weft_chunk_entry;
struct weft_chunk_map;
struct weft_pool;
struct weft_target;
struct work_struct;

#define WEFT_INCARNATION_MIXED	U64_MAX	/* several: no FLUSH covers them */

/* Copies of a chunk, under its lock. */
struct weft_unflushed {
	u8 copies;			/* bit i: copy i of the chunk's map as it is */
	u64 incarnations[WEFT_CHUNK_COPIES_MAX];	/* of those */
};

/* Adds those of `from`, and empties it. Both are of this map. */
void weft_unflushed_move(struct weft_unflushed *unflushed, struct weft_unflushed *from,
			 const struct weft_chunk_map *map);
/* The map changes; copies that are not written any more have nothing to flush. */
void weft_unflushed_translate(struct weft_unflushed *unflushed, const struct weft_chunk_map *from,
			      const struct weft_chunk_map *to);
/* A FLUSH of the copy under `incarnation` made its writes durable. */
bool weft_unflushed_covers(const struct weft_unflushed *unflushed, const struct weft_chunk_map *map,
			   u32 copy, u64 incarnation);
/* Bit mask of the copies that have lost writes. The chunk's lock is held. */
u32 weft_unflushed_lost(const struct weft_chunk_entry *entry);

/* pool->incarnation_work: marks stale what a target that was started anew has lost. */
void weft_unflushed_work(struct work_struct *work);

#endif
