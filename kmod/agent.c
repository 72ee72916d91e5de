// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "channel_private.h"

#define POOL_BYTES_DEFAULT	(64ULL << 20)
#define DEPTH_DEFAULT		1024U
#define PINNED_POLL_MS		10	/* nothing tells when the last pin of a page goes */
#define COMPLETE_BATCH		64	/* completions between two looks at the scheduler */

static void agent_free(struct kref *refs)
{
	struct weft_agent *agent = container_of(refs, struct weft_agent, refs);
	u32 i;

	synchronize_rcu();	/* request_send_live() looks at channel->live */
	for (i = 0; i < agent->queue_count; i++)
		weft_queue_free(&agent->queues[i]);
	weft_channel_put(agent->channel);
	kvfree(agent);
}

static void agent_put(struct weft_agent *agent)
{
	kref_put(&agent->refs, agent_free);
}

/* Takes over the reference to ch. */
static struct weft_agent *agent_alloc(struct weft_channel *ch, u32 queues)
{
	struct weft_agent *agent = kvzalloc(struct_size(agent, queues, queues), GFP_KERNEL);
	u32 i;

	if (!agent) {
		weft_channel_put(ch);
		return NULL;
	}
	kref_init(&agent->refs);
	agent->channel = ch;
	agent->queue_count = queues;
	for (i = 0; i < queues; i++) {
		if (weft_queue_init(&agent->queues[i], ch->depth)) {
			agent_put(agent);
			return NULL;
		}
	}
	return agent;
}

/* Becomes the channel's agent, once the one before, if it is dying, has closed its control fd. */
static int agent_enter(struct weft_agent *agent, unsigned long deadline)
{
	struct weft_channel *ch = agent->channel;
	struct weft_agent *other;
	bool dying;
	long left;

	for (;;) {
		spin_lock(&ch->lock);
		other = ch->agent;
		dying = other && other->dead;
		if (!other)
			ch->agent = agent;
		spin_unlock(&ch->lock);
		if (!other)
			return 0;
		if (!dying)
			return -EBUSY;
		left = deadline - jiffies;
		if (left <= 0)
			return -EAGAIN;
		left = wait_event_killable_timeout(ch->detached, !READ_ONCE(ch->agent), left);
		if (left < 0)
			return -EINTR;
	}
}

static void agent_leave(struct weft_agent *agent)
{
	struct weft_channel *ch = agent->channel;

	spin_lock(&ch->lock);
	if (!WARN_ON_ONCE(ch->agent != agent))
		ch->agent = NULL;
	spin_unlock(&ch->lock);
	wake_up_all(&ch->detached);
}

static int wait_until_unpinned(struct weft_channel *ch, unsigned long deadline)
{
	while (weft_buffer_is_pinned(&ch->buffer)) {
		if (time_after(jiffies, deadline)) {
			pr_warn("weft: %s: the buffer pool is still registered by an agent that is gone; end the process that holds its RDMA devices or io_uring, then start the agent again\n",
				ch->cluster);
			return -EAGAIN;
		}
		if (schedule_timeout_killable(msecs_to_jiffies(PINNED_POLL_MS)) &&
		    fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int agent_begin_epoch(struct weft_agent *agent)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(WEFT_ATTACH_WAIT_MS);
	struct weft_channel *ch = agent->channel;
	int ret;

	ret = agent_enter(agent, deadline);
	if (ret)
		return ret;
	ret = wait_until_unpinned(ch, deadline);
	if (ret) {
		agent_leave(agent);
		return ret;
	}
	spin_lock(&ch->lock);
	agent->epoch = ++ch->epoch;
	ch->clean_epoch = ch->epoch;
	spin_unlock(&ch->lock);
	weft_requests_forget(ch);
	return 0;
}

struct weft_agent *weft_agent_attach(struct weft_ioc_attach *args)
{
	struct weft_channel *ch;
	struct weft_agent *agent;
	int ret;

	mutex_lock(&weft_channels_lock);
	ch = weft_channel_find_or_create(args->cluster, args->depth ?: DEPTH_DEFAULT,
					 args->pool_bytes ?: POOL_BYTES_DEFAULT);
	mutex_unlock(&weft_channels_lock);
	if (IS_ERR(ch))
		return ERR_CAST(ch);
	agent = agent_alloc(ch, args->queues);
	if (!agent)
		return ERR_PTR(-ENOMEM);
	ret = agent_begin_epoch(agent);
	if (ret) {
		agent_put(agent);
		return ERR_PTR(ret);
	}

	args->epoch = agent->epoch;
	args->depth_granted = ch->depth;
	args->pool_bytes_granted = ch->buffer.bytes;
	args->ring_bytes = weft_ring_bytes(ch->depth);
	memcpy(args->client, ch->client, sizeof(args->client));
	spin_lock(&ch->lock);
	args->session = ch->session;
	spin_unlock(&ch->lock);
	return agent;
}

int weft_agent_open_queue(struct weft_agent *agent, u32 index, struct weft_queue **queue)
{
	struct weft_channel *ch = agent->channel;
	int ret = 0;

	if (index >= agent->queue_count)
		return -EINVAL;
	spin_lock(&ch->lock);
	if (agent->dead)
		ret = -ESHUTDOWN;
	else if (agent->queues[index].opened)
		ret = -EBUSY;
	else
		agent->queues[index].opened = true;
	spin_unlock(&ch->lock);
	if (ret)
		return ret;
	kref_get(&agent->refs);
	*queue = &agent->queues[index];
	return 0;
}

int weft_agent_ready(struct weft_agent *agent)
{
	struct weft_channel *ch = agent->channel;
	bool first = false;
	int ret = 0;
	u32 i;

	spin_lock(&ch->lock);
	for (i = 0; i < agent->queue_count; i++)
		if (!agent->queues[i].opened)
			ret = -EINVAL;
	if (agent->dead)
		ret = -ESHUTDOWN;
	if (!ret && !agent->ready) {
		agent->ready = true;
		first = true;
		weft_channel_update_live(ch);
	}
	spin_unlock(&ch->lock);
	if (!first)
		return ret;
	pr_info("weft: %s: agent ready (epoch %u)\n", ch->cluster, agent->epoch);
	weft_channel_kick_pool(ch);
	return 0;
}

static int bad_completion(struct weft_agent *agent, const struct weft_cqe *cqe)
{
	struct weft_channel *ch = agent->channel;

	if (weft_agent_is_dead(agent))
		return -ESHUTDOWN;
	if (atomic64_inc_return(&ch->bad_completions) == 1)
		pr_warn("weft: %s: refused a completion of the agent (tag %llx, epoch %u of %u, result %d): it matches no unfinished request; further ones are only counted in bad_completions\n",
			ch->cluster, cqe->tag, cqe->epoch, agent->epoch, cqe->result);
	return -EINVAL;
}

int weft_agent_complete(struct weft_agent *agent, struct weft_queue *queue)
{
	struct weft_cqe cqe = {};
	int i, count, ret = 0;

	if (weft_agent_is_dead(agent))
		return -ESHUTDOWN;
	if (mutex_lock_killable(&queue->complete_lock))
		return -EINTR;
	count = weft_queue_completions(queue);
	if (count < 0)
		ret = bad_completion(agent, &cqe);
	for (i = 0; i < count; i++) {
		weft_queue_peek(queue, &cqe);
		weft_queue_advance(queue);
		if (weft_request_complete(agent, &cqe))
			ret = bad_completion(agent, &cqe);
		if (i % COMPLETE_BATCH == COMPLETE_BATCH - 1)
			cond_resched();
	}
	mutex_unlock(&queue->complete_lock);
	return ret ?: count;
}

bool weft_agent_is_dead(struct weft_agent *agent)
{
	return READ_ONCE(agent->dead);
}

/* The session goes quiescent: what was sent waits for the next agent. */
static void agent_die(struct weft_agent *agent)
{
	struct weft_channel *ch = agent->channel;
	bool first;
	u32 i;

	spin_lock(&ch->lock);
	first = !agent->dead;
	if (first) {
		WRITE_ONCE(agent->dead, true);
		weft_channel_update_live(ch);
		weft_requests_strand(ch);
		weft_channel_start_grace(ch);
	}
	spin_unlock(&ch->lock);
	if (!first)
		return;
	for (i = 0; i < agent->queue_count; i++)
		wake_up_all(&agent->queues[i].wait);
	if (agent->ready)
		pr_info("weft: %s: agent detached (epoch %u)\n", ch->cluster, agent->epoch);
}

void weft_agent_release_queue(struct weft_agent *agent)
{
	agent_die(agent);
	agent_put(agent);
}

void weft_agent_release_control(struct weft_agent *agent)
{
	agent_die(agent);
	agent_leave(agent);
	agent_put(agent);
}
