// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "channel_private.h"

int weft_requests_init(struct weft_channel *ch, u32 depth)
{
	u32 i;
	int ret;

	ch->requests = kvcalloc(depth, sizeof(*ch->requests), GFP_KERNEL);
	if (!ch->requests)
		return -ENOMEM;
	ret = weft_ids_init(&ch->tags, depth, depth / 8);
	if (ret) {
		kvfree(ch->requests);
		ch->requests = NULL;
		return ret;
	}
	for (i = 0; i < depth; i++) {
		struct weft_request *request = &ch->requests[i];

		spin_lock_init(&request->lock);
		INIT_LIST_HEAD(&request->node);
		request->index = i;
		request->channel = ch;
	}
	ch->depth = depth;
	return 0;
}

void weft_requests_free(struct weft_channel *ch)
{
	u32 i;

	if (!ch->requests)
		return;
	for (i = 0; i < ch->depth; i++)
		WARN_ON_ONCE(ch->requests[i].state != WEFT_REQUEST_FREE &&
			     ch->requests[i].state != WEFT_REQUEST_ABANDONED);
	weft_ids_free(&ch->tags);
	kvfree(ch->requests);
	ch->requests = NULL;
}

u64 weft_request_tag(const struct weft_request *request)
{
	return (u64)request->generation << 32 | request->index;
}

struct weft_request *weft_request_take(struct weft_channel *ch, enum weft_kind kind,
				       enum weft_wait wait)
{
	struct weft_request *request;
	int id = weft_ids_take(&ch->tags, kind, wait);

	if (id < 0)
		return ERR_PTR(id);
	request = &ch->requests[id];
	spin_lock(&request->lock);
	WARN_ON_ONCE(request->state != WEFT_REQUEST_FREE);
	request->state = WEFT_REQUEST_BUILT;
	request->generation++;
	request->answered = false;
	request->sent_epoch = 0;
	spin_unlock(&request->lock);
	request->kind = kind;
	memset(&request->sqe, 0, sizeof(request->sqe));
	request->slot = NULL;
	request->done = NULL;
	request->owner = NULL;
	request->copy = 0;
	return request;
}

/* The last thing that happens to a request; no agent can touch its slot. */
static void request_free(struct weft_request *request)
{
	struct weft_slot *slot = request->slot;

	request->slot = NULL;
	spin_lock(&request->lock);
	request->state = WEFT_REQUEST_FREE;
	spin_unlock(&request->lock);
	if (slot)
		weft_slot_put(slot);
	weft_ids_put(&request->channel->tags, request->index, request->kind);
}

void weft_request_drop(struct weft_request *request)
{
	WARN_ON_ONCE(request->state != WEFT_REQUEST_BUILT);
	request_free(request);
}

/* BUILT or PARKED -> SENT. queue->lock is held and the queue belongs to the attachment `epoch`. */
static void request_push(struct weft_request *request, struct weft_queue *queue, u32 epoch)
{
	lockdep_assert_held(&queue->lock);
	spin_lock(&request->lock);
	request->state = WEFT_REQUEST_SENT;
	request->sqe.tag = weft_request_tag(request);
	request->sqe.epoch = epoch;
	if (request->sent_epoch)
		request->sqe.flags |= WEFT_SQE_RESEND;
	request->sent_epoch = epoch;
	spin_unlock(&request->lock);
	weft_queue_push(queue, &request->sqe);
}

/* Puts it on a ring when requests flow. */
static bool request_send_live(struct weft_request *request)
{
	struct weft_agent *agent;
	bool sent = false;

	rcu_read_lock();
	agent = rcu_dereference(request->channel->live);
	if (agent) {
		u32 index = raw_smp_processor_id() % agent->queue_count;
		struct weft_queue *queue = &agent->queues[index];

		spin_lock(&queue->lock);
		if (queue->live) {
			request_push(request, queue, agent->epoch);
			sent = true;
		}
		spin_unlock(&queue->lock);
		if (sent)
			weft_queue_kick(queue);
	}
	rcu_read_unlock();
	return sent;
}

/*
 * FAILING: tells the submitter, then frees the request, or leaves it ABANDONED while an agent
 * may touch its slot. The submitter may be freed by done().
 */
static void request_fail(struct weft_request *request)
{
	struct weft_channel *ch = request->channel;
	bool quiet;

	request->done(request, -ECANCELED);
	spin_lock(&ch->lock);
	spin_lock(&request->lock);
	quiet = request->answered || request->sent_epoch < ch->clean_epoch;
	if (!quiet)
		request->state = WEFT_REQUEST_ABANDONED;
	spin_unlock(&request->lock);
	spin_unlock(&ch->lock);
	if (quiet)
		request_free(request);
}

static void request_park(struct weft_request *request)
{
	struct weft_channel *ch = request->channel;

	lockdep_assert_held(&ch->lock);
	lockdep_assert_held(&request->lock);
	request->state = WEFT_REQUEST_PARKED;
	request->parked_at = jiffies;
	list_add_tail(&request->node, &ch->parked);
	ch->parked_count++;
}

void weft_request_send(struct weft_request *request)
{
	struct weft_channel *ch = request->channel;

	WARN_ON_ONCE(request->state != WEFT_REQUEST_BUILT);
	while (!request_send_live(request)) {
		bool aborted, parked = false;

		spin_lock(&ch->lock);
		spin_lock(&request->lock);
		aborted = ch->aborted;
		if (aborted) {
			request->state = WEFT_REQUEST_FAILING;
		} else if (!rcu_access_pointer(ch->live)) {
			request_park(request);
			weft_channel_start_grace(ch);
			parked = true;
		}
		spin_unlock(&request->lock);
		spin_unlock(&ch->lock);
		if (aborted)
			request_fail(request);
		if (aborted || parked)
			return;
		/* an agent became ready in between */
	}
}

static void request_unpark(struct weft_request *request)
{
	struct weft_channel *ch = request->channel;

	lockdep_assert_held(&ch->lock);
	list_del_init(&request->node);
	ch->parked_count--;
}

bool weft_request_abandon(struct weft_channel *ch, u64 tag)
{
	struct weft_request *request = &ch->requests[(u32)tag];
	bool abandoned = false, quiet = false;

	spin_lock(&ch->lock);
	spin_lock(&request->lock);
	if (request->generation == tag >> 32) {
		if (request->state == WEFT_REQUEST_PARKED) {
			request_unpark(request);
			quiet = request->sent_epoch < ch->clean_epoch;
			abandoned = true;
		} else if (request->state == WEFT_REQUEST_SENT) {
			abandoned = true;
		}
		if (abandoned)
			request->state = quiet ? WEFT_REQUEST_DONE : WEFT_REQUEST_ABANDONED;
	}
	spin_unlock(&request->lock);
	spin_unlock(&ch->lock);
	if (quiet)
		request_free(request);
	return abandoned;
}

static bool result_is_valid(const struct weft_sqe *sqe, s32 result)
{
	if (result < 0)
		return result >= -MAX_ERRNO;
	switch (sqe->op) {
	case WEFT_OP_META:
		return result <= WEFT_META_REP_BYTES;
	case WEFT_OP_FLUSH:
		return result == 0;
	default:
		return result == sqe->length;
	}
}

static bool completion_is_valid(const struct weft_request *request, const struct weft_agent *agent,
				const struct weft_cqe *cqe)
{
	lockdep_assert_held(&request->lock);
	if (request->generation != cqe->tag >> 32 || request->sent_epoch != agent->epoch ||
	    request->answered)
		return false;
	if (request->state != WEFT_REQUEST_SENT && request->state != WEFT_REQUEST_FAILING &&
	    request->state != WEFT_REQUEST_ABANDONED)
		return false;
	return cqe->epoch == agent->epoch && !cqe->reserved[0] && !cqe->reserved[1] &&
		result_is_valid(&request->sqe, cqe->result);
}

/* -ECANCELED is what the channel itself says; an agent has few words for a block request. */
static s32 result_of(const struct weft_request *request, s32 result)
{
	if (result >= 0 || request->sqe.op == WEFT_OP_META)
		return result;
	switch (result) {
	case -EHOSTDOWN:
	case -ESTALE:
	case -ENOSPC:
	case -EBADMSG:
		return result;
	default:
		return -EIO;
	}
}

int weft_request_complete(struct weft_agent *agent, const struct weft_cqe *cqe)
{
	struct weft_channel *ch = agent->channel;
	enum weft_request_state was;
	struct weft_request *request;

	if ((u32)cqe->tag >= ch->depth)
		return -EINVAL;
	request = &ch->requests[(u32)cqe->tag];
	spin_lock(&request->lock);
	if (!completion_is_valid(request, agent, cqe)) {
		spin_unlock(&request->lock);
		return -EINVAL;
	}
	was = request->state;
	if (was == WEFT_REQUEST_FAILING)
		request->answered = true;
	else
		request->state = WEFT_REQUEST_DONE;
	spin_unlock(&request->lock);

	if (was == WEFT_REQUEST_SENT)
		request->done(request, result_of(request, cqe->result));
	if (was != WEFT_REQUEST_FAILING)
		request_free(request);
	return 0;
}

void weft_requests_strand(struct weft_channel *ch)
{
	u32 i;

	lockdep_assert_held(&ch->lock);
	for (i = 0; i < ch->depth; i++) {
		struct weft_request *request = &ch->requests[i];

		spin_lock(&request->lock);
		if (request->state == WEFT_REQUEST_SENT)
			request_park(request);
		spin_unlock(&request->lock);
	}
}

void weft_requests_unpark(struct weft_channel *ch, struct weft_agent *agent)
{
	struct weft_request *request, *next;
	u32 turn = 0;

	lockdep_assert_held(&ch->lock);
	list_for_each_entry_safe(request, next, &ch->parked, node) {
		struct weft_queue *queue = &agent->queues[turn++ % agent->queue_count];

		request_unpark(request);
		spin_lock(&queue->lock);
		request_push(request, queue, agent->epoch);
		spin_unlock(&queue->lock);
	}
}

void weft_requests_forget(struct weft_channel *ch)
{
	u32 i;

	for (i = 0; i < ch->depth; i++) {
		struct weft_request *request = &ch->requests[i];
		bool abandoned;

		spin_lock(&request->lock);
		abandoned = request->state == WEFT_REQUEST_ABANDONED;
		if (abandoned)
			request->state = WEFT_REQUEST_DONE;
		spin_unlock(&request->lock);
		if (abandoned)
			request_free(request);
	}
}

/* PARKED or SENT -> FAILING, on the list `failed`. */
static void request_take_failed(struct weft_request *request, struct list_head *failed)
{
	lockdep_assert_held(&request->channel->lock);
	spin_lock(&request->lock);
	if (request->state == WEFT_REQUEST_PARKED)
		request_unpark(request);
	if (request->state == WEFT_REQUEST_PARKED || request->state == WEFT_REQUEST_SENT) {
		request->state = WEFT_REQUEST_FAILING;
		list_add_tail(&request->node, failed);
	}
	spin_unlock(&request->lock);
}

static void requests_fail(struct list_head *failed)
{
	struct weft_request *request, *next;

	list_for_each_entry_safe(request, next, failed, node) {
		list_del_init(&request->node);
		request_fail(request);
	}
}

void weft_requests_fail_all(struct weft_channel *ch)
{
	LIST_HEAD(failed);
	u32 i;

	spin_lock(&ch->lock);
	for (i = 0; i < ch->depth; i++)
		request_take_failed(&ch->requests[i], &failed);
	spin_unlock(&ch->lock);
	requests_fail(&failed);
}

void weft_requests_expire(struct weft_channel *ch, unsigned long since)
{
	struct weft_request *request, *next;
	LIST_HEAD(failed);

	spin_lock(&ch->lock);
	list_for_each_entry_safe(request, next, &ch->parked, node) {
		if (time_after(request->parked_at, since))
			break;
		request_take_failed(request, &failed);
	}
	spin_unlock(&ch->lock);
	requests_fail(&failed);
}

u32 weft_requests_inflight(struct weft_channel *ch)
{
	u32 i, count = 0;

	for (i = 0; i < ch->depth; i++) {
		enum weft_request_state state = READ_ONCE(ch->requests[i].state);

		count += state == WEFT_REQUEST_SENT || state == WEFT_REQUEST_ABANDONED;
	}
	return count;
}
