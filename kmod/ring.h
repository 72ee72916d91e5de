/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One queue of an attachment: the memory of its two rings, which the agent maps, and the
 * kernel's own idea of where it stands in them. The kernel writes what it owns and never reads
 * it back; of what the agent owns it reads the tail of the completion ring and copies each entry
 * once.
 */
#ifndef _WEFT_RING_H
#define _WEFT_RING_H

#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "uapi/weft.h"

struct weft_queue {
	struct weft_ring *ring;		/* vmalloc_user memory, `bytes` long */
	struct weft_sqe *sq;
	const struct weft_cqe *cq;
	u32 entries;
	u64 bytes;
	bool opened;			/* a queue fd names it; the channel's lock */

	spinlock_t lock;		/* production: sq_tail, live */
	u32 sq_tail;
	bool live;			/* requests may be put on it */

	struct mutex complete_lock;	/* consumption: cq_head */
	u32 cq_head;

	wait_queue_head_t wait;		/* the agent, in poll(2) */
};

int weft_queue_init(struct weft_queue *queue, u32 entries);
void weft_queue_free(struct weft_queue *queue);
u64 weft_ring_bytes(u32 entries);

/* queue->lock is held. Never full: an unfinished request owns one of `entries` tags. */
void weft_queue_push(struct weft_queue *queue, const struct weft_sqe *sqe);
/* After a push: wakes the agent when it sleeps. */
void weft_queue_kick(struct weft_queue *queue);
/* The agent has entries to read. */
bool weft_queue_has_work(struct weft_queue *queue);

/*
 * complete_lock is held. How many completions wait; -EINVAL: the agent's tail is beyond all reason.
 * Then each is copied out by _peek and given back to the agent by _advance.
 */
int weft_queue_completions(struct weft_queue *queue);
void weft_queue_peek(struct weft_queue *queue, struct weft_cqe *cqe);
void weft_queue_advance(struct weft_queue *queue);

#endif
