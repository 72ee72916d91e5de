/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Open chunks: before the first write to a chunk of several copies the metadata server is told, so
 * that it can make the copies equal should this client die in between. GRANT opens its chunks by
 * itself, OPEN_CHUNKS any; CLOSE_CHUNKS follows when a chunk has been idle: no write under way,
 * nothing unflushed.
 *
 *   CLOSED --a write waits--> OPENING --answer--> OPEN --idle--> CLOSING --answer--> CLOSED
 *                                        CLOSED --GRANT--> OPEN
 *
 * One worker of a pool opens, one closes, each many chunks in one call. A write that waits belongs
 * to the chunk's open_waiters; the worker passes it on. What is closed here may be open at the
 * server, never the other way round.
 *
 * A chunk whose copies a failed write may have left different (WEFT_CHUNK_DIFFERS) is not closed: a
 * session that the server ends makes it equal. One that is ended by UNMOUNT does not, so
 * weft_pool_equalize() comes before.
 */
#ifndef _WEFT_OPEN_H
#define _WEFT_OPEN_H

#include <linux/types.h>

struct weft_chunk_entry;
struct weft_pool;
struct weft_transfer;

enum weft_open_state {
	WEFT_OPEN_CLOSED,
	WEFT_OPEN_OPENING,		/* on pool->opening, or the open worker's */
	WEFT_OPEN_OPEN,			/* on pool->open, or looked at by the close worker */
	WEFT_OPEN_CLOSING,		/* the close worker's */
};

void weft_open_init_entry(struct weft_chunk_entry *entry);
int weft_open_init_pool(struct weft_pool *pool);
/* When there are no transfers any more. */
void weft_open_exit_pool(struct weft_pool *pool);

/*
 * The write may be sent to the copies of t->map. False: not yet; with `wait` it has been put aside
 * and weft_transfer_opened() follows.
 */
bool weft_open_enter(struct weft_transfer *t, bool wait);
/* Ends what weft_open_enter() began, if it did. */
void weft_open_leave(struct weft_transfer *t);

/* GRANT has opened the chunk; `closes` is weft_pool_closes() of before. */
void weft_open_granted(struct weft_pool *pool, struct weft_chunk_entry *entry, u32 closes);

#endif
