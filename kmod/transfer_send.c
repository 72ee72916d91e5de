// SPDX-License-Identifier: GPL-2.0
#include <linux/ktime.h>

#include "channel_private.h"
#include "direct.h"
#include "target.h"
#include "transfer.h"

void weft_transfer_release(struct weft_transfer *t)
{
	if (t->slot)
		weft_slot_put(t->slot);
	t->slot = NULL;
	if (t->map_reader >= 0) {
		__acquire(&t->pool->map_readers);	/* for sparse: it was taken elsewhere */
		srcu_up_read(&t->pool->map_readers, t->map_reader);
	}
	t->map_reader = -1;
}

static void copy_in(struct weft_transfer *t)
{
	void *data = t->slot->data;
	struct bvec_iter iter;
	struct bio_vec bvec;

	bio_for_each_segment(bvec, t->bio, iter) {
		memcpy_from_bvec(data, &bvec);
		data += bvec.bv_len;
	}
}

void weft_transfer_copy_out(struct weft_transfer *t)
{
	struct bvec_iter iter, from = t->bio->bi_iter;
	const void *data = t->slot->data;
	struct bio_vec bvec;

	bio_advance_iter(t->bio, &from, t->done);
	from.bi_size = weft_transfer_span(t);
	__bio_for_each_segment(bvec, t->bio, iter, from) {
		memcpy_to_bvec(&bvec, data);
		data += bvec.bv_len;
	}
}

/* Bit mask of the copies to send to; 0: there is none. */
static u32 read_choose(struct weft_transfer *t, u32 lost)
{
	struct weft_io io = {
		.chunk = t->chunk->index,
		.offset = t->offset + t->done,
		.length = weft_transfer_span(t),
		.op = WEFT_OP_READ,
		.cluster = t->pool->channel->number,
	};
	u32 from = weft_chunk_in_sync(&t->map), copies[WEFT_COPIES_MAX];
	u32 i, j;

	if (from & ~lost)	/* else there is nothing better, and the next flush will fail */
		from &= ~lost;
	for (i = 0; i < t->map.chunk.count; i++) {
		bool tried = !(from & BIT(i));

		for (j = 0; j < t->tried_count; j++)
			tried |= t->tried[j] == t->map.targets[i]->id;
		if (tried)
			continue;
		copies[io.nr] = i;
		io.targets[io.nr++] = t->map.targets[i]->id;
	}
	return io.nr ? BIT(copies[weft_balancer_pick_read(&io)]) : 0;
}

bool weft_transfer_choose(struct weft_transfer *t)
{
	u32 lost;

	if (t->map_reader < 0) {
		t->map_reader = srcu_down_read(&t->pool->map_readers);
		__release(&t->pool->map_readers);	/* for sparse: given back elsewhere */
	}
	spin_lock_irq(&t->chunk->lock);
	t->map = t->chunk->map;
	lost = weft_unflushed_lost(t->chunk);
	spin_unlock_irq(&t->chunk->lock);
	if (!weft_transfer_is_write(t))
		t->sent = read_choose(t, lost);
	else
		t->sent = weft_chunk_in_sync(&t->map) ? weft_chunk_written_copies(&t->map) : 0;
	return t->sent;
}

bool weft_transfer_is_doubtful(const struct weft_transfer *t, u32 copy)
{
	return t->incarnations[copy] &&
	       t->incarnations[copy] != weft_target_incarnation(t->map.targets[copy]);
}

static void transfer_done(struct weft_request *request, s32 result)
{
	struct weft_transfer *t = request->owner;
	u32 copy = request->copy;

	t->results[copy] = min(result, 0);
	weft_target_end(t->map.targets[copy], t->pool->channel, t->op, weft_transfer_span(t),
			t->results[copy], ktime_get_ns() - t->start_ns);
	if (atomic_dec_and_test(&t->pending))
		weft_transfer_answered(t);
}

static void transfer_begin(struct weft_transfer *t, u32 copy)
{
	weft_target_begin(t->map.targets[copy]);
	atomic_inc(&t->pending);
}

/* What cannot be dealt with in an interrupt waits for a worker: errors, and slots. */
void weft_transfer_direct_done(struct weft_transfer *t, u32 copy, int error)
{
	u32 i;

	t->results[copy] = error;
	weft_target_end(t->map.targets[copy], t->pool->channel, t->op, weft_transfer_span(t), error,
			ktime_get_ns() - t->start_ns);
	if (!atomic_dec_and_test(&t->pending))
		return;
	for (i = 0; i < t->map.chunk.count; i++)
		if (t->sent & BIT(i) && t->results[i])
			break;
	if (i == t->map.chunk.count && !t->slot)
		weft_transfer_answered(t);
	else
		weft_transfer_judge(t);
}

static enum weft_kind transfer_kind(const struct weft_transfer *t)
{
	return weft_transfer_is_write(t) ? WEFT_KIND_RESERVED : WEFT_KIND_NORMAL;
}

static void request_fill(struct weft_request *request, struct weft_transfer *t, u32 copy)
{
	request->sqe.op = t->op;
	if (weft_transfer_is_write(t) && t->bio->bi_opf & REQ_FUA)
		request->sqe.flags = WEFT_SQE_FUA;
	if (t->map.chunk.copies[copy].state == WEFT_COPY_RESYNCING)
		request->sqe.flags |= WEFT_SQE_RESYNCING;
	request->sqe.target = t->map.chunk.copies[copy].target;
	request->sqe.length = weft_transfer_span(t);
	request->sqe.offset = t->map.chunk.copies[copy].offset + t->offset + t->done;
	request->sqe.buf = t->slot->offset;
	request->sqe.chunk_version = t->map.chunk.version;
	t->incarnations[copy] = weft_target_incarnation(t->map.targets[copy]);
	weft_slot_get(t->slot);
	request->slot = t->slot;
	request->done = transfer_done;
	request->owner = t;
	request->copy = copy;
}

/* REQ_NOWAIT: all tags or none, before anything is sent. */
static int take_requests(struct weft_transfer *t, struct weft_request *requests[WEFT_CHUNK_COPIES_MAX])
{
	struct weft_channel *ch = t->pool->channel;
	u32 i;

	for (i = 0; i < t->map.chunk.count; i++) {
		requests[i] = NULL;
		if (!(t->sent & ~t->direct & BIT(i)))
			continue;
		requests[i] = weft_request_take(ch, transfer_kind(t), WEFT_WAIT_NONE);
		if (IS_ERR(requests[i]))
			goto drop;
	}
	return 0;
drop:
	while (i--)
		if (requests[i])
			weft_request_drop(requests[i]);
	return -EAGAIN;
}

/* Into t->direct and, with references, `devices`: which copies the module reaches itself. */
static void choose_devices(struct weft_transfer *t, struct weft_device *devices[WEFT_CHUNK_COPIES_MAX])
{
	u32 i;

	t->direct = 0;
	for (i = 0; i < t->map.chunk.count; i++) {
		if (!(t->sent & BIT(i)) || t->by_agent ||
		    t->map.chunk.copies[i].state != WEFT_COPY_IN_SYNC)
			continue;
		devices[i] = weft_direct_get(t->pool->channel, t->map.targets[i]);
		if (devices[i])
			t->direct |= BIT(i);
	}
}

static int take_slot(struct weft_transfer *t, enum weft_wait wait)
{
	struct weft_slot *slot;

	slot = weft_slot_take(&t->pool->channel->buffer, weft_transfer_span(t), transfer_kind(t), wait);
	if (IS_ERR(slot))
		return PTR_ERR(slot);
	t->slot = slot;
	if (weft_transfer_is_write(t))
		copy_in(t);
	return 0;
}

static void send_request(struct weft_transfer *t, u32 copy, struct weft_request *request)
{
	if (!request)
		request = weft_request_take(t->pool->channel, transfer_kind(t), WEFT_WAIT_ALWAYS);
	if (IS_ERR(request)) {
		t->results[copy] = -ECANCELED;
		return;
	}
	request_fill(request, t, copy);
	transfer_begin(t, copy);
	weft_request_send(request);
}

static void send_direct(struct weft_transfer *t, u32 copy, struct weft_device *device)
{
	t->results[copy] = 0;
	t->incarnations[copy] = 0;	/* whatever it acknowledges is durable */
	atomic64_inc(&t->map.targets[copy]->direct);
	transfer_begin(t, copy);
	weft_direct_submit(device, t, copy);
}

int weft_transfer_send(struct weft_transfer *t, enum weft_wait wait)
{
	struct weft_request *requests[WEFT_CHUNK_COPIES_MAX] = {};
	struct weft_device *devices[WEFT_CHUNK_COPIES_MAX] = {};
	u32 i, sent = t->sent, direct, count = t->map.chunk.count;
	int error = 0;

	choose_devices(t, devices);
	direct = t->direct;
	if (sent & ~direct)
		error = take_slot(t, wait);
	if (!error && wait == WEFT_WAIT_NONE)
		error = take_requests(t, requests);
	if (error) {
		for (i = 0; i < count; i++)
			if (devices[i])
				weft_direct_put(devices[i]);
		return error;
	}
	t->start_ns = ktime_get_ns();
	/* until the last one is sent, t is ours */
	atomic_set(&t->pending, 1);
	for (i = 0; i < count; i++) {
		if (direct & BIT(i))
			send_direct(t, i, devices[i]);
		else if (sent & BIT(i))
			send_request(t, i, requests[i]);
	}
	if (atomic_dec_and_test(&t->pending))
		weft_transfer_answered(t);
	return 0;
}
