/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A bounded set of small integers (tags, slots) that are taken and put back, with waiting in
 * order of arrival. Two kinds of taker share a set; neither may hold all of it, so that each
 * always makes progress however busy the other is: WEFT_KIND_RESERVED is what memory reclaim
 * waits for (writes, commits), WEFT_KIND_NORMAL is everything else.
 *
 * Any thread may call these; takers that wait must be able to sleep.
 */
#ifndef _WEFT_IDS_H
#define _WEFT_IDS_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>

enum weft_kind {
	WEFT_KIND_NORMAL,
	WEFT_KIND_RESERVED,
	WEFT_KINDS
};

enum weft_wait {
	WEFT_WAIT_NONE,			/* -EAGAIN when there is none */
	WEFT_WAIT_KILLABLE,		/* -EINTR after a fatal signal */
	WEFT_WAIT_ALWAYS
};

struct weft_ids {
	spinlock_t lock;		/* everything below; nothing else is taken under it */
	u32 *free;			/* a stack: the id put back last is warm in the cache */
	u32 free_count;
	u32 held[WEFT_KINDS];
	u32 held_max;			/* of one kind */
	u64 tickets;			/* order of arrival across the two lists */
	struct list_head waiters[WEFT_KINDS];
	int error;			/* what takers get instead of waiting, 0: they wait */
};

int weft_ids_init(struct weft_ids *ids, u32 count, u32 reserve);
void weft_ids_free(struct weft_ids *ids);

/* An id, or -EAGAIN, -EINTR (see weft_wait), or what weft_ids_set_error() or _expire() said. */
int weft_ids_take(struct weft_ids *ids, enum weft_kind kind, enum weft_wait wait);
void weft_ids_put(struct weft_ids *ids, u32 id, enum weft_kind kind);

/* Ends all waiting, now and until it is set to 0. */
void weft_ids_set_error(struct weft_ids *ids, int error);
/* Ends the waiting of those who began before `since` (jiffies). */
void weft_ids_expire(struct weft_ids *ids, unsigned long since, int error);

#endif
