// SPDX-License-Identifier: GPL-2.0
/*
 * Nobody at an NVMe-oF target refuses a client whose map is old. So before the copies of a chunk
 * are used in another way, the metadata server wants to know that no request of an older map is
 * under way. Transfers are SRCU readers from the moment that they look at the map until the last
 * answer; so are fetches of maps, whose answers may be older than what WEFT_IOC_CHUNKS has said.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "disk.h"

struct settle {
	struct rcu_head rcu;
	refcount_t refs;		/* who waits, and the callback */
	struct completion done;
};

static void settle_put(struct settle *settle)
{
	if (refcount_dec_and_test(&settle->refs))
		kfree(settle);
}

static void settled(struct rcu_head *rcu)
{
	struct settle *settle = container_of(rcu, struct settle, rcu);

	complete(&settle->done);
	settle_put(settle);
}

int weft_pool_settle(struct weft_pool *pool)
{
	struct settle *settle = kzalloc(sizeof(*settle), GFP_KERNEL);
	long left;

	if (!settle)
		return -ENOMEM;
	refcount_set(&settle->refs, 2);
	init_completion(&settle->done);
	/* not synchronize_srcu(): the agent that waits may be what they wait for */
	call_srcu(&pool->map_readers, &settle->rcu, settled);
	left = wait_for_completion_interruptible_timeout(&settle->done,
							 msecs_to_jiffies(WEFT_SETTLE_WAIT_MS));
	settle_put(settle);
	return left > 0 ? 0 : left ? -EINTR : -EAGAIN;
}
