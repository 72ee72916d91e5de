/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One attachment of an agent to a channel: its epoch and its queues. Refcounted by the control
 * fd and the queue fds. It is dead as soon as one of them is released; the channel takes the
 * next agent when the control fd is.
 */
#ifndef _WEFT_AGENT_H
#define _WEFT_AGENT_H

#include <linux/kref.h>

#include "ring.h"
#include "uapi/weft.h"

struct weft_channel;

struct weft_agent {
	struct kref refs;
	struct weft_channel *channel;	/* a reference */
	u32 epoch;
	bool ready;			/* channel->lock */
	bool dead;			/* channel->lock; once set it stays */
	u32 queue_count;
	struct weft_queue queues[] __counted_by(queue_count);
};

/*
 * Waits, killable, until the one before is gone and nothing of it is registered any more. Fills
 * in the out fields of args.
 */
struct weft_agent *weft_agent_attach(struct weft_ioc_attach *args);
/* The queue with a reference to the agent: once. -EBUSY, -EINVAL, -ESHUTDOWN. */
int weft_agent_open_queue(struct weft_agent *agent, u32 index, struct weft_queue **queue);
/* Requests flow from here on. */
int weft_agent_ready(struct weft_agent *agent);
/* Consumes the completions of a queue: how many. -EINVAL: some were bad; the others are done. */
int weft_agent_complete(struct weft_agent *agent, struct weft_queue *queue);
bool weft_agent_is_dead(struct weft_agent *agent);

/* An fd is released. */
void weft_agent_release_queue(struct weft_agent *agent);
void weft_agent_release_control(struct weft_agent *agent);

#endif
