// SPDX-License-Identifier: GPL-2.0
/*
 * Flushing: one round at a time for a pool, serving every bio that arrived before it began. A
 * round takes all chunks with unflushed writes and sends one FLUSH to each target that holds a
 * copy of one. A FLUSH names the incarnation that the target must have; what was written under
 * another one is not covered by it, which counts as a failure.
 *
 * A target that fails the flush may have lost what it had acknowledged. Its copies of those
 * chunks are marked stale, which is enough as long as another copy is left that has been
 * flushed. If it was the last one: when it cannot be reached, the round waits for it like a
 * write does; when it answered with an error, the data may be gone and the callers are told,
 * once (-EIO).
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/sched/mm.h>

#include "channel_private.h"
#include "chunk.h"
#include "disk.h"
#include "target.h"

#define FLUSH_RETRY_MS	1000

struct workqueue_struct *weft_flush_wq;

/* One time that FLUSH goes out to targets; on the worker's stack. */
struct flush_sending {
	struct weft_channel *channel;
	struct list_head targets;	/* weft_target.flush_node */
	atomic_t pending;
	struct completion done;
	u64 start_ns;
};

static void flush_answered(struct flush_sending *sending)
{
	if (atomic_dec_and_test(&sending->pending))
		complete(&sending->done);	/* sending is gone after this */
}

static void flush_done(struct weft_request *request, s32 result)
{
	struct flush_sending *sending = request->owner;
	struct weft_target *target = weft_target_find(sending->channel, request->sqe.target);

	target->flush_error = result;
	weft_target_end(target, sending->channel, WEFT_OP_FLUSH, 0, result,
			ktime_get_ns() - sending->start_ns);
	flush_answered(sending);
}

static void flush_send(struct flush_sending *sending, struct weft_target *target)
{
	struct weft_request *request;

	request = weft_request_take(sending->channel, WEFT_KIND_RESERVED, WEFT_WAIT_ALWAYS);
	if (IS_ERR(request)) {
		target->flush_error = -ECANCELED;
		return;
	}
	request->sqe.op = WEFT_OP_FLUSH;
	request->sqe.target = target->id;
	target->flush_incarnation = weft_target_incarnation(target);
	request->sqe.incarnation = target->flush_incarnation;
	request->done = flush_done;
	request->owner = sending;
	weft_target_begin(target);
	atomic_inc(&sending->pending);
	weft_request_send(request);
}

static void add_targets(struct flush_sending *sending, struct weft_chunk_entry *entry)
{
	u32 i;

	spin_lock_irq(&entry->lock);
	for (i = 0; i < entry->map.chunk.count; i++) {
		struct weft_target *target = entry->map.targets[i];

		if (entry->flushing.copies & BIT(i) && list_empty(&target->flush_node)) {
			target->flush_error = 0;
			list_add_tail(&target->flush_node, &sending->targets);
		}
	}
	spin_unlock_irq(&entry->lock);
}

/* FLUSH to all targets of the chunks' flushing copies; leaves the results in flush_error. */
static void flush_targets(struct weft_pool *pool, struct list_head *chunks)
{
	struct flush_sending sending = {
		.channel = pool->channel,
		.targets = LIST_HEAD_INIT(sending.targets),
		.pending = ATOMIC_INIT(1),
		.done = COMPLETION_INITIALIZER_ONSTACK(sending.done),
		.start_ns = ktime_get_ns(),
	};
	struct weft_chunk_entry *entry;
	struct weft_target *target, *next;

	list_for_each_entry(entry, chunks, flushing_node)
		add_targets(&sending, entry);
	list_for_each_entry_safe(target, next, &sending.targets, flush_node) {
		list_del_init(&target->flush_node);
		flush_send(&sending, target);
	}
	flush_answered(&sending);
	/* TASK_IDLE: waiting for a dead agent is not a hang of the kernel */
	wait_for_completion_state(&sending.done, TASK_IDLE);
}

/* Moves what is unflushed to `chunks`. */
static void collect_chunks(struct weft_pool *pool, struct list_head *chunks)
{
	struct weft_chunk_entry *entry;
	LIST_HEAD(dirty);

	spin_lock_irq(&pool->flush_lock);
	list_splice_init(&pool->unflushed, &dirty);
	while (!list_empty(&dirty)) {
		entry = list_first_entry(&dirty, struct weft_chunk_entry, unflushed_node);
		list_del_init(&entry->unflushed_node);
		spin_unlock_irq(&pool->flush_lock);
		spin_lock_irq(&entry->lock);
		weft_unflushed_move(&entry->flushing, &entry->unflushed, &entry->map);
		spin_unlock_irq(&entry->lock);
		list_add_tail(&entry->flushing_node, chunks);
		spin_lock_irq(&pool->flush_lock);
	}
	spin_unlock_irq(&pool->flush_lock);
}

/* What the last sending has left to do of a chunk. */
struct flush_result {
	struct weft_chunk_map map;
	u32 failed;			/* copies */
	bool unreachable;		/* one of them */
	bool canceled;
};

static void read_result(struct weft_chunk_entry *entry, struct flush_result *result)
{
	u32 i;

	*result = (struct flush_result) {};
	spin_lock_irq(&entry->lock);
	for (i = 0; i < entry->map.chunk.count; i++) {
		const struct weft_target *target = entry->map.targets[i];
		int error = target->flush_error;

		if (!(entry->flushing.copies & BIT(i)))
			continue;
		if (!error && !weft_unflushed_covers(&entry->flushing, &entry->map, i,
						     target->flush_incarnation))
			error = -ESTALE;
		if (!error) {
			entry->flushing.copies &= ~BIT(i);
			continue;
		}
		/* a device tells of an error once: that it flushes again does not bring it back */
		if (error != -EHOSTDOWN && error != -ECANCELED && error != -ESTALE)
			entry->flushing.incarnations[i] = WEFT_INCARNATION_MIXED;
		result->failed |= BIT(i);
		result->unreachable |= error == -EHOSTDOWN;
		result->canceled |= error == -ECANCELED;
	}
	result->map = entry->map;
	spin_unlock_irq(&entry->lock);
}

/* Not durable, and we stop trying: the next flush shall look at it again. */
static void give_back(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	spin_lock_irq(&entry->lock);
	weft_unflushed_move(&entry->unflushed, &entry->flushing, &entry->map);
	spin_lock(&pool->flush_lock);
	if (entry->unflushed.copies && list_empty(&entry->unflushed_node))
		list_add_tail(&entry->unflushed_node, &pool->unflushed);
	spin_unlock(&pool->flush_lock);
	spin_unlock_irq(&entry->lock);
}

static void drop(struct weft_chunk_entry *entry)
{
	spin_lock_irq(&entry->lock);
	entry->flushing.copies = 0;
	spin_unlock_irq(&entry->lock);
}

/*
 * The last copies in sync failed, and each may lack something else: one of them stays, so that
 * what is read is the same from now on.
 */
static int keep_one(struct weft_pool *pool, struct weft_chunk_entry *entry,
		    const struct flush_result *result)
{
	u32 others = result->failed & ~BIT(__ffs(weft_chunk_in_sync(&result->map)));

	return others ? weft_chunk_mark_stale(pool, entry, &result->map, others) : 0;
}

/* 0: done with the chunk. -EAGAIN: send again. -EIO: done, and not durable. */
static int settle_chunk(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	struct flush_result result;
	bool last = false;
	int ret;

	read_result(entry, &result);
	if (!weft_chunk_in_sync(&result.map)) {
		/* all copies were lost, and with them what nobody had flushed */
		drop(entry);
		return -EIO;
	}
	if (!result.failed)
		return 0;
	if (result.canceled) {
		give_back(pool, entry);
		return -EIO;
	}
	ret = weft_chunk_mark_stale(pool, entry, &result.map, result.failed);
	if (ret == -EBUSY) {
		if (result.unreachable)
			return -EAGAIN;
		last = true;
		ret = keep_one(pool, entry, &result);
	}
	if (ret == -ENOENT || (!ret && !last)) {
		/* the copies are not read any more, or no file has the chunk any more */
		drop(entry);
		return 0;
	}
	if (ret == -ESTALE) {		/* the session has ended, and will not come back */
		give_back(pool, entry);
		return -EIO;
	}
	if (ret)
		return -EAGAIN;
	pr_err("weft: %s: the last copies (%#x) of chunk %llu failed a flush: writes that were acknowledged may be lost; look at the logs of its targets\n",
	       pool->channel->cluster, result.failed, entry->index);
	drop(entry);
	return -EIO;
}

static int settle_chunks(struct weft_pool *pool, struct list_head *chunks)
{
	struct weft_chunk_entry *entry, *next;
	int error = 0, ret;

	list_for_each_entry_safe(entry, next, chunks, flushing_node) {
		ret = settle_chunk(pool, entry);
		if (ret == -EAGAIN)
			continue;
		list_del_init(&entry->flushing_node);
		error = error ?: ret;
	}
	return error;
}

static void give_back_all(struct weft_pool *pool, struct list_head *chunks)
{
	struct weft_chunk_entry *entry, *next;

	list_for_each_entry_safe(entry, next, chunks, flushing_node) {
		list_del_init(&entry->flushing_node);
		give_back(pool, entry);
	}
}

static int flush_round(struct weft_pool *pool)
{
	unsigned long began = jiffies;
	LIST_HEAD(chunks);
	int error = 0, ret;
	u32 kicks;

	collect_chunks(pool, &chunks);
	while (!list_empty(&chunks)) {
		kicks = READ_ONCE(pool->kicks);
		flush_targets(pool, &chunks);
		ret = settle_chunks(pool, &chunks);
		error = error ?: ret;
		if (list_empty(&chunks))
			break;
		if (!weft_channel_may_retry(pool->channel, began)) {
			give_back_all(pool, &chunks);
			return -EIO;
		}
		wait_event_idle_timeout(pool->flush_kick, READ_ONCE(pool->kicks) != kicks,
					msecs_to_jiffies(FLUSH_RETRY_MS));
	}
	return error;
}

/* The bio's data, if it has any, may go now. */
static void bio_flushed(struct weft_pool *pool, struct bio *bio, int error)
{
	if (!error && bio->bi_iter.bi_size) {
		bio->bi_opf &= ~REQ_PREFLUSH;
		weft_transfer_start(pool, bio);
		return;
	}
	bio->bi_status = errno_to_blk_status(error);
	bio_endio(bio);
}

/* What they want durable may have been part of the round that has failed: they share its error. */
static void take_late_bios(struct weft_pool *pool, struct bio_list *bios)
{
	spin_lock_irq(&pool->flush_lock);
	bio_list_merge_init(bios, &pool->flush_bios);
	spin_unlock_irq(&pool->flush_lock);
}

void weft_flush_work(struct work_struct *work)
{
	struct weft_pool *pool = container_of(work, struct weft_pool, flush_work);
	unsigned int noio = memalloc_noio_save();
	struct bio_list bios;
	struct bio *bio;
	int error;

	for (;;) {
		spin_lock_irq(&pool->flush_lock);
		bios = pool->flush_bios;
		bio_list_init(&pool->flush_bios);
		pool->flushing = !bio_list_empty(&bios);
		spin_unlock_irq(&pool->flush_lock);
		if (bio_list_empty(&bios))
			break;
		error = flush_round(pool);
		if (error)
			take_late_bios(pool, &bios);
		while ((bio = bio_list_pop(&bios)))
			bio_flushed(pool, bio, error);
	}
	memalloc_noio_restore(noio);
}

bool weft_flush_start(struct weft_pool *pool, struct bio *bio)
{
	bool needed;

	spin_lock_irq(&pool->flush_lock);
	needed = pool->flushing || !list_empty(&pool->unflushed);
	if (needed) {
		bio_list_add(&pool->flush_bios, bio);
		if (!pool->flushing)
			queue_work(weft_flush_wq, &pool->flush_work);
		pool->flushing = true;
	}
	spin_unlock_irq(&pool->flush_lock);
	return needed;
}
