// SPDX-License-Identifier: GPL-2.0
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "ids.h"

/* On the stack of the thread that waits; on a list of the set until somebody writes the result. */
struct weft_ids_waiter {
	struct list_head node;
	struct completion done;
	unsigned long since;		/* jiffies */
	u64 ticket;
	int result;			/* the id or -errno */
};

int weft_ids_init(struct weft_ids *ids, u32 count, u32 reserve)
{
	u32 i;

	if (WARN_ON_ONCE(!count || reserve >= count))
		return -EINVAL;
	ids->free = kvmalloc_array(count, sizeof(*ids->free), GFP_KERNEL);
	if (!ids->free)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		ids->free[i] = count - 1 - i;
	ids->free_count = count;
	ids->held_max = count - reserve;
	spin_lock_init(&ids->lock);
	INIT_LIST_HEAD(&ids->waiters[WEFT_KIND_NORMAL]);
	INIT_LIST_HEAD(&ids->waiters[WEFT_KIND_RESERVED]);
	return 0;
}

void weft_ids_free(struct weft_ids *ids)
{
	kvfree(ids->free);
	ids->free = NULL;
}

static bool ids_may_take(const struct weft_ids *ids, enum weft_kind kind)
{
	lockdep_assert_held(&ids->lock);
	return ids->free_count && ids->held[kind] < ids->held_max;
}

static u32 ids_pop(struct weft_ids *ids, enum weft_kind kind)
{
	lockdep_assert_held(&ids->lock);
	ids->held[kind]++;
	return ids->free[--ids->free_count];
}

static void waiter_end(struct weft_ids_waiter *waiter, int result)
{
	list_del_init(&waiter->node);
	waiter->result = result;
	complete(&waiter->done);	/* the waiter is gone after this */
}

static struct weft_ids_waiter *ids_first_waiter(struct weft_ids *ids, enum weft_kind kind)
{
	if (!ids_may_take(ids, kind))
		return NULL;
	return list_first_entry_or_null(&ids->waiters[kind], struct weft_ids_waiter, node);
}

/* Hands free ids to those who wait, the oldest of those who may take first. */
static void ids_serve(struct weft_ids *ids)
{
	for (;;) {
		struct weft_ids_waiter *normal = ids_first_waiter(ids, WEFT_KIND_NORMAL);
		struct weft_ids_waiter *reserved = ids_first_waiter(ids, WEFT_KIND_RESERVED);

		if (reserved && (!normal || reserved->ticket < normal->ticket))
			waiter_end(reserved, ids_pop(ids, WEFT_KIND_RESERVED));
		else if (normal)
			waiter_end(normal, ids_pop(ids, WEFT_KIND_NORMAL));
		else
			return;
	}
}

int weft_ids_take(struct weft_ids *ids, enum weft_kind kind, enum weft_wait wait)
{
	struct weft_ids_waiter waiter;
	int ret;

	spin_lock(&ids->lock);
	if (ids_may_take(ids, kind) && list_empty(&ids->waiters[kind]))
		ret = ids_pop(ids, kind);
	else if (ids->error)
		ret = ids->error;
	else
		ret = -EAGAIN;
	if (ret != -EAGAIN || wait == WEFT_WAIT_NONE) {
		spin_unlock(&ids->lock);
		return ret;
	}
	init_completion(&waiter.done);
	waiter.since = jiffies;
	waiter.ticket = ids->tickets++;
	list_add_tail(&waiter.node, &ids->waiters[kind]);
	spin_unlock(&ids->lock);

	/* TASK_IDLE: waiting for a dead agent is not a hang of the kernel */
	ret = wait_for_completion_state(&waiter.done,
					wait == WEFT_WAIT_KILLABLE ? TASK_KILLABLE : TASK_IDLE);
	if (!ret)
		return waiter.result;

	spin_lock(&ids->lock);
	if (list_empty(&waiter.node)) {
		ret = waiter.result;	/* it came together with the signal */
	} else {
		list_del(&waiter.node);
		ret = -EINTR;
	}
	spin_unlock(&ids->lock);
	return ret;
}

void weft_ids_put(struct weft_ids *ids, u32 id, enum weft_kind kind)
{
	spin_lock(&ids->lock);
	if (!WARN_ON_ONCE(!ids->held[kind]))
		ids->held[kind]--;
	ids->free[ids->free_count++] = id;
	ids_serve(ids);
	spin_unlock(&ids->lock);
}

static void ids_end_waiters(struct weft_ids *ids, unsigned long since, int error)
{
	struct weft_ids_waiter *waiter, *next;
	int kind;

	lockdep_assert_held(&ids->lock);
	for (kind = 0; kind < WEFT_KINDS; kind++)
		list_for_each_entry_safe(waiter, next, &ids->waiters[kind], node)
			if (time_before_eq(waiter->since, since))
				waiter_end(waiter, error);
}

void weft_ids_set_error(struct weft_ids *ids, int error)
{
	spin_lock(&ids->lock);
	ids->error = error;
	if (error)
		ids_end_waiters(ids, jiffies, error);
	spin_unlock(&ids->lock);
}

void weft_ids_expire(struct weft_ids *ids, unsigned long since, int error)
{
	spin_lock(&ids->lock);
	ids_end_waiters(ids, since, error);
	spin_unlock(&ids->lock);
}
