/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A request: one entry of a submission ring, from the time a tag is taken for it until no agent can
 * touch its slot any more. All requests of a channel are one array; the tag is (generation, index).
 *
 * Who owns a request:
 *   FREE       the channel; the tag can be taken.
 *   BUILT      the thread that took it and fills in sqe, slot, done. Nobody else looks at it.
 *   PARKED     the channel keeps it on channel->parked until an agent is ready. If `sent_epoch` is
 *              not 0 a dead agent's registrations may still move data in its slot.
 *   SENT       the agent of attachment `sent_epoch` owns it. Ends by a checked completion (DONE),
 *              by the agent's death (PARKED), by the submitter or the channel giving up
 *              (ABANDONED, FAILING).
 *   DONE       the thread that consumed the completion; it calls done() and frees it.
 *   FAILING    the thread that fails it (abort, soft mount's grace) is telling the submitter. A
 *              completion that comes meanwhile is consumed and remembered in `answered`.
 *   ABANDONED  the submitter knows nothing of it any more, but an agent may still touch the slot.
 *              Ends by its completion, or at the next attachment, when nothing is registered any
 *              more.
 *
 * done() is called exactly once for a request that was sent and not abandoned by
 * weft_request_abandon(), without locks, in a context that may sleep, but it must not wait for
 * anything that needs the agent: it usually runs in one of the agent's own threads. The request
 * is gone when done() returns. The result is the agent's, or -ECANCELED: the channel gave up
 * (umount -f, the grace of a soft mount is over).
 *
 * Locks: channel->lock, then queue->lock, then request->lock. `state`, `answered` and
 * `sent_epoch` need request->lock; being put on or taken off channel->parked needs channel->lock
 * as well.
 */
#ifndef _WEFT_REQUEST_H
#define _WEFT_REQUEST_H

#include <linux/list.h>
#include <linux/spinlock.h>

#include "ids.h"
#include "uapi/weft.h"

struct weft_agent;
struct weft_channel;
struct weft_request;
struct weft_slot;

typedef void (*weft_request_done_fn)(struct weft_request *request, s32 result);

enum weft_request_state {
	WEFT_REQUEST_FREE,
	WEFT_REQUEST_BUILT,
	WEFT_REQUEST_PARKED,
	WEFT_REQUEST_SENT,
	WEFT_REQUEST_DONE,
	WEFT_REQUEST_FAILING,
	WEFT_REQUEST_ABANDONED,
};

struct weft_request {
	spinlock_t lock;		/* state, answered, sent_epoch, generation */
	enum weft_request_state state;
	bool answered;
	u32 sent_epoch;			/* the attachment that saw it last; 0: none */
	u32 index;			/* in channel->requests */
	u32 generation;
	enum weft_kind kind;		/* of the tag */
	struct list_head node;
	unsigned long parked_at;	/* jiffies */
	struct weft_channel *channel;

	/* the submitter's */
	struct weft_sqe sqe;		/* without tag and epoch */
	struct weft_slot *slot;		/* NULL, or a reference that the request keeps */
	weft_request_done_fn done;
	void *owner;
	u32 copy;			/* which of the owner's requests this is */
};

int weft_requests_init(struct weft_channel *ch, u32 depth);
void weft_requests_free(struct weft_channel *ch);

/* BUILT, everything of the submitter's zeroed. ERR_PTR as weft_ids_take(). */
struct weft_request *weft_request_take(struct weft_channel *ch, enum weft_kind kind,
				       enum weft_wait wait);
/* Gives back what was taken and not sent. */
void weft_request_drop(struct weft_request *request);
/* To the agent, or parked. done() may be called before this returns. */
void weft_request_send(struct weft_request *request);

u64 weft_request_tag(const struct weft_request *request);
/*
 * The submitter that sent `tag` gives up. True: done() will not be called. False: done() was
 * called or is being called by another thread.
 */
bool weft_request_abandon(struct weft_channel *ch, u64 tag);

/* A completion of `agent`: checks it and calls done(). -EINVAL: nothing happened. */
int weft_request_complete(struct weft_agent *agent, const struct weft_cqe *cqe);

/* For agent.c and channel.c. */
void weft_requests_strand(struct weft_channel *ch);	/* SENT -> PARKED; channel->lock is held */
void weft_requests_unpark(struct weft_channel *ch, struct weft_agent *agent);	/* likewise */
void weft_requests_forget(struct weft_channel *ch);	/* ends ABANDONED: nothing is registered */
/* Fails all, or those parked since before `since` (jiffies). */
void weft_requests_fail_all(struct weft_channel *ch);
void weft_requests_expire(struct weft_channel *ch, unsigned long since);
u32 weft_requests_inflight(struct weft_channel *ch);

#endif
