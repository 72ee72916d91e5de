/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A transfer: a bio on its way to the copies of one chunk. transfer.c decides what becomes of
 * it, transfer_send.c moves its data and its requests. It has one owner at a time: the thread
 * that sends it, then whoever takes in the last answer, then a worker or pool->waiting.
 */
#ifndef _WEFT_TRANSFER_H
#define _WEFT_TRANSFER_H

#include <linux/bio.h>
#include <linux/jiffies.h>
#include <linux/workqueue.h>

#include "chunk.h"
#include "disk.h"
#include "slot.h"

enum weft_transfer_next {
	WEFT_TRANSFER_SEND,
	WEFT_TRANSFER_MARK_STALE,
	WEFT_TRANSFER_FETCH_MAP,
	WEFT_TRANSFER_JUDGE,		/* what has been answered */
};

struct weft_transfer {
	struct weft_pool *pool;
	struct bio *bio;
	struct weft_chunk_entry *chunk;
	u64 offset;			/* bytes into the chunk */
	u32 length;
	u32 op;				/* WEFT_OP_READ, _WRITE */

	/* since it was sent last */
	struct weft_chunk_map map;
	struct weft_slot *slot;		/* NULL while it waits, and when no copy needs it */
	int map_reader;			/* of pool->map_readers; -1: it uses no map now */
	u64 start_ns;			/* 0: it has not been sent yet */
	u32 sent;			/* bit i: to copy i of map */
	u32 direct;			/* of these: to the target's block device */
	atomic_t pending;		/* answers that are missing */
	int results[WEFT_CHUNK_COPIES_MAX];	/* 0 or -errno */
	u64 incarnations[WEFT_CHUNK_COPIES_MAX];	/* of the targets, as known then */

	/* since the beginning */
	u32 tried[WEFT_CHUNK_COPIES_MAX];	/* READ: ids of targets that failed */
	u32 tried_count;
	bool by_agent;			/* a block device failed it: what the agent says counts */
	bool unreachable;		/* one of them may come back */
	bool damaged;			/* one of them has a block that does not match its checksum */
	bool by_block;			/* READ: one block at a time */
	u32 done;			/* READ by blocks: bytes that the bio has */
	bool entered;			/* WRITE: counted in chunk->writers */
	bool lost;			/* no copy is in sync; the map has been fetched for that */
	u32 stale_tries;
	u32 waits;
	unsigned long failed_at;	/* jiffies, since when it waits to be tried again; 0: it does not */

	enum weft_transfer_next next;	/* what the work does */
	struct work_struct work;
	struct list_head node;		/* pool->waiting, or chunk->open_waiters */
};

static inline bool weft_transfer_is_write(const struct weft_transfer *t)
{
	return t->op == WEFT_OP_WRITE;
}

/* From the first time on that it cannot go on. */
static inline void weft_transfer_note_failure(struct weft_transfer *t)
{
	if (!t->failed_at)
		t->failed_at = jiffies | 1;
}

/* What is sent at once: all of the bio, unless it is read by blocks. */
static inline u32 weft_transfer_span(const struct weft_transfer *t)
{
	return t->by_block ? WEFT_BLOCK_BYTES : t->length;
}

/* transfer_send.c */

/* Into t->map and t->sent: where it is to go now. False: there is no copy to go to. */
bool weft_transfer_choose(struct weft_transfer *t);
/*
 * There it goes; weft_transfer_answered() follows, perhaps before this returns. An error: nothing
 * was sent.
 */
int weft_transfer_send(struct weft_transfer *t, enum weft_wait wait);
/* Slot and map: nothing of it is under way any more. */
void weft_transfer_release(struct weft_transfer *t);
/* A block device has answered. Any context. */
void weft_transfer_direct_done(struct weft_transfer *t, u32 copy, int error);
/*
 * The target of the copy was started anew since it was sent: what was read may be lost, and what was
 * written may have been so before or after.
 */
bool weft_transfer_is_doubtful(const struct weft_transfer *t, u32 copy);
/* The data of a READ into its bio, behind what is done. */
void weft_transfer_copy_out(struct weft_transfer *t);

/* transfer.c: the chunk that the write waited for is open, or why it is not. May sleep. */
void weft_transfer_opened(struct weft_transfer *t, int error);

/*
 * transfer.c: all answers are in. In the agent's context as a rule: must not wait for it. Or in an
 * interrupt, when all of them came from block devices and none is an error.
 */
void weft_transfer_answered(struct weft_transfer *t);
/* The same, by a worker. */
void weft_transfer_judge(struct weft_transfer *t);

#endif
