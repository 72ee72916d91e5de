/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The extent map of one file: which pool blocks hold which file blocks.
 *
 * The whole map of an open file is in memory. It knows more than the metadata server does: space is
 * given to a file when a write is accepted, and the server learns of it with a later commit.
 *
 *   NEW        given by write(); nothing has reached the targets, reads as zeroes. The server is
 *              not told: after a crash of this client the range is a hole again.
 *   UNWRITTEN  preallocated by fallocate(); reads as zeroes. The server is told.
 *   WRITTEN    data has reached the targets.
 *
 *   NEW ----------- data written -----------> WRITTEN
 *   UNWRITTEN ----- data written -----------> WRITTEN
 *   WRITTEN ------- fallocate(ZERO_RANGE) --> UNWRITTEN
 *
 * A commit takes every DIRTY extent through three lists: dirty -> staged (the state that will be
 * told is fixed, then the pool is flushed) -> sent (it is in a message) -> off, and ONSERVER.
 *
 * Everything here wants map->lock held, for writing where the map changes, unless it says
 * otherwise. Nothing here makes an upcall. File and pool addresses and lengths are in blocks of
 * WEFT_BLOCK_BYTES.
 */
#ifndef _WEFT_EXTENT_H
#define _WEFT_EXTENT_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include "uapi/weft.h"

#define WEFT_FILE_BLOCK_MAX	((u64)S64_MAX >> WEFT_BLOCK_SHIFT)

struct weft_fs;

enum weft_extent_state {
	WEFT_NEW,
	WEFT_UNWRITTEN,
	WEFT_WRITTEN,
};

#define WEFT_DIRTY		0x1	/* the server does not know the state */
#define WEFT_ONSERVER		0x2	/* the server knows the mapping */
#define WEFT_COMMITTING		0x4	/* on the staged or sent list: it may know soon */
#define WEFT_TELL_UNWRITTEN	0x8	/* what the running commit says of it */

struct weft_extent_node {
	struct rb_node node;		/* map->tree, by file_block */
	struct list_head link;		/* map->dirty, ->staged, ->sent, or none */
	u64 file_block;
	u64 pool_block;
	u32 blocks;
	u8 state;			/* enum weft_extent_state */
	u8 flags;
};

struct weft_extent_map {
	/*
	 * Innermost but for the spinlocks; taken under folio locks. Allocations below it are
	 * GFP_NOFS.
	 */
	struct rw_semaphore lock;
	struct rb_root tree;
	struct list_head dirty;
	struct list_head staged;
	struct list_head sent;
	u64 blocks;			/* of all extents */
	/*
	 * Rises with every change: tells iomap that a mapping which it keeps over folio locks is
	 * stale. Written under lock, read without.
	 */
	u64 sequence;
	u32 chunk_blocks;		/* extents are not merged over the border of a chunk */
};

void weft_extents_init(struct weft_extent_map *map, u32 chunk_blocks);

/* The first extent that ends behind `block`; NULL: none. */
struct weft_extent_node *weft_extents_find(const struct weft_extent_map *map, u64 block);
struct weft_extent_node *weft_extents_next(const struct weft_extent_node *extent);

static inline u64 weft_extent_end(const struct weft_extent_node *extent)
{
	return extent->file_block + extent->blocks;
}

/* Adds an extent to a hole. Does not fail. */
void weft_extents_insert(struct weft_extent_map *map, const struct weft_extent *range,
			 enum weft_extent_state state, u8 flags);

/*
 * The following change what is mapped of [block, end) and return true when they changed anything.
 */
/* Its data is on the targets. */
bool weft_extents_written(struct weft_extent_map *map, u64 block, u64 end);
/* It is to read as zeroes and to stay allocated. */
bool weft_extents_zero(struct weft_extent_map *map, u64 block, u64 end);
/* It is to stay allocated even if it is never written. */
bool weft_extents_keep(struct weft_extent_map *map, u64 block, u64 end);

/*
 * Unmaps [block, end). Space that the server was never told of goes to `give`; returns true when
 * there was any that it knows or may come to know: it has to be told.
 */
bool weft_extents_drop(struct weft_extent_map *map, u64 block, u64 end, struct weft_fs *fs,
		       void (*give)(struct weft_fs *fs, u64 pool_block, u64 blocks));

/* Commit, in this order. Stage: what is dirty now. Returns true when there is something. */
bool weft_extents_stage(struct weft_extent_map *map);
/* Copies up to `max` staged extents and counts them as sent. */
u32 weft_extents_send(struct weft_extent_map *map, struct weft_extent *out, u32 max);
/* What was sent is to be sent again. */
void weft_extents_unsend(struct weft_extent_map *map);
/* The commit has ended; without success everything of it is dirty again. */
void weft_extents_committed(struct weft_extent_map *map, bool success);

int weft_extents_cache_init(void);
void weft_extents_cache_exit(void);

#endif
