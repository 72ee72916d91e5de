// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "chunk.h"
#include "disk.h"
#include "open.h"
#include "target.h"
#include "transfer.h"

static unsigned int chunk_idle_ms = 60000;
module_param(chunk_idle_ms, uint, 0644);
MODULE_PARM_DESC(chunk_idle_ms,
		 "a chunk that was not written to for so long is closed at the metadata server (60000)");

static unsigned long idle_time(void)
{
	return msecs_to_jiffies(READ_ONCE(chunk_idle_ms));
}

/* ---- calls ---- */

static int call_once(struct weft_pool *pool, u32 op, struct weft_chunk_entry **entries, u32 count)
{
	struct weft_chunks_req *args;
	struct weft_call call;
	ssize_t ret;
	u32 i;

	ret = weft_call_begin(pool->channel, &call, op, 0, WEFT_CALL_RESERVED | WEFT_CALL_CHANGES);
	if (ret)
		return ret;
	args = call.args;
	args->count = count;
	for (i = 0; i < count; i++)
		args->indexes[i] = entries[i]->index;
	ret = weft_call_send(&call, struct_size(args, indexes, count));
	weft_call_end(&call);
	return ret > 0 ? -EPROTO : ret;
}

/* ---- opening ---- */

static void start_opening(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	lockdep_assert_held(&entry->lock);
	entry->open = WEFT_OPEN_OPENING;
	spin_lock(&pool->open_lock);
	list_add_tail(&entry->open_node, &pool->opening);
	spin_unlock(&pool->open_lock);
	queue_work(weft_transfer_wq, &pool->open_work);
}

static void entry_opened(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	lockdep_assert_held(&entry->lock);
	entry->open = WEFT_OPEN_OPEN;
	entry->idle_since = jiffies;
	atomic_inc(&pool->channel->open_chunks);
	spin_lock(&pool->open_lock);
	list_add_tail(&entry->open_node, &pool->open);
	/* not one that is pending: it shall not be put off by every chunk that is opened */
	queue_delayed_work(weft_transfer_wq, &pool->close_work, idle_time());
	spin_unlock(&pool->open_lock);
}

static void opening_ended(struct weft_pool *pool, struct weft_chunk_entry *entry, int error)
{
	struct weft_transfer *t, *next;
	LIST_HEAD(waiters);

	spin_lock_irq(&entry->lock);
	if (error)
		entry->open = WEFT_OPEN_CLOSED;
	else
		entry_opened(pool, entry);
	list_splice_init(&entry->open_waiters, &waiters);
	spin_unlock_irq(&entry->lock);
	if (error)
		pr_warn_ratelimited("weft: %s: chunk %llu cannot be opened for writing: error %d of the metadata server\n",
				    pool->channel->cluster, entry->index, error);
	list_for_each_entry_safe(t, next, &waiters, node) {
		list_del_init(&t->node);
		weft_transfer_opened(t, error);
	}
}

static u32 take_opening(struct weft_pool *pool)
{
	struct weft_chunk_entry *entry, *next;
	u32 count = 0;

	spin_lock_irq(&pool->open_lock);
	list_for_each_entry_safe(entry, next, &pool->opening, open_node) {
		if (count == WEFT_CHUNKS_PER_CALL)
			break;
		list_del_init(&entry->open_node);
		pool->opening_batch[count++] = entry;
	}
	spin_unlock_irq(&pool->open_lock);
	return count;
}

static void open_work(struct work_struct *work)
{
	struct weft_pool *pool = container_of(work, struct weft_pool, open_work);
	struct weft_chunk_entry **batch = pool->opening_batch;
	unsigned int noio = memalloc_noio_save();
	u32 i, count;

	while ((count = take_opening(pool))) {
		int error = call_once(pool, WEFT_META_OPEN_CHUNKS, batch, count);
		/* one that is gone must not keep the others from being opened */
		bool alone = error == -ENOENT && count > 1;

		for (i = 0; i < count; i++) {
			if (alone)
				error = call_once(pool, WEFT_META_OPEN_CHUNKS, &batch[i], 1);
			opening_ended(pool, batch[i], error);
		}
	}
	memalloc_noio_restore(noio);
}

bool weft_open_enter(struct weft_transfer *t, bool wait)
{
	struct weft_chunk_entry *entry = t->chunk;
	bool may;

	spin_lock_irq(&entry->lock);
	/* while there are writers an open chunk stays open */
	may = t->map.chunk.count == 1 || entry->open == WEFT_OPEN_OPEN;
	if (may && !t->entered) {
		t->entered = true;
		entry->writers++;
	}
	if (!may && wait) {
		/* a soft mount's grace is over when that of the call is */
		weft_transfer_note_failure(t);
		weft_transfer_release(t);
		list_add_tail(&t->node, &entry->open_waiters);
		if (entry->open == WEFT_OPEN_CLOSED)
			start_opening(t->pool, entry);
	}
	spin_unlock_irq(&entry->lock);
	return may;
}

void weft_open_leave(struct weft_transfer *t)
{
	struct weft_chunk_entry *entry = t->chunk;
	unsigned long flags;

	if (!t->entered)
		return;
	t->entered = false;
	spin_lock_irqsave(&entry->lock, flags);
	entry->writers--;
	entry->idle_since = jiffies;
	spin_unlock_irqrestore(&entry->lock, flags);
}

void weft_open_granted(struct weft_pool *pool, struct weft_chunk_entry *entry, u32 closes)
{
	spin_lock_irq(&entry->lock);
	/* a CLOSE that was under way meanwhile may have come after the GRANT */
	if (entry->open == WEFT_OPEN_CLOSED && !(closes & 1) &&
	    closes == atomic_read(&pool->closes))
		entry_opened(pool, entry);
	spin_unlock_irq(&entry->lock);
}

/* ---- closing ---- */

static bool is_idle(const struct weft_chunk_entry *entry)
{
	lockdep_assert_held(&entry->lock);
	return !entry->writers && !entry->unflushed.copies && !entry->flushing.copies &&
		!test_bit(WEFT_CHUNK_DIFFERS, &entry->flags) &&
		time_after_eq(jiffies, entry->idle_since + idle_time());
}

/* Idle ones become CLOSING, into closing_batch; returns how many. */
static u32 take_idle(struct weft_pool *pool)
{
	struct weft_chunk_entry *entry, *next;
	LIST_HEAD(open);
	u32 count = 0;

	spin_lock_irq(&pool->open_lock);
	list_splice_init(&pool->open, &open);
	spin_unlock_irq(&pool->open_lock);
	list_for_each_entry_safe(entry, next, &open, open_node) {
		spin_lock_irq(&entry->lock);
		if (count < WEFT_CHUNKS_PER_CALL && is_idle(entry)) {
			entry->open = WEFT_OPEN_CLOSING;
			list_del_init(&entry->open_node);
			pool->closing_batch[count++] = entry;
		}
		spin_unlock_irq(&entry->lock);
	}
	spin_lock_irq(&pool->open_lock);
	list_splice(&open, &pool->open);
	spin_unlock_irq(&pool->open_lock);
	return count;
}

static void closing_ended(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	atomic_dec(&pool->channel->open_chunks);
	spin_lock_irq(&entry->lock);
	entry->open = WEFT_OPEN_CLOSED;
	if (!list_empty(&entry->open_waiters))
		start_opening(pool, entry);
	spin_unlock_irq(&entry->lock);
}

/* One that is gone, or a call that failed: it may be open at the server, which does no harm. */
static void close_batch(struct weft_pool *pool, u32 count)
{
	struct weft_chunk_entry **batch = pool->closing_batch;
	int error;
	u32 i;

	atomic_inc(&pool->closes);	/* odd: under way */
	error = call_once(pool, WEFT_META_CLOSE_CHUNKS, batch, count);
	for (i = 0; error == -ENOENT && count > 1 && i < count; i++)
		call_once(pool, WEFT_META_CLOSE_CHUNKS, &batch[i], 1);
	atomic_inc(&pool->closes);
	if (error && error != -ENOENT)
		pr_warn_ratelimited("weft: %s: closing %u idle chunks failed: error %d of the metadata server; should this host die, their copies are made equal without need\n",
				    pool->channel->cluster, count, error);
	for (i = 0; i < count; i++)
		closing_ended(pool, batch[i]);
}

static void close_work(struct work_struct *work)
{
	struct weft_pool *pool = container_of(to_delayed_work(work), struct weft_pool, close_work);
	unsigned int noio = memalloc_noio_save();
	u32 count;

	while ((count = take_idle(pool)))
		close_batch(pool, count);
	spin_lock_irq(&pool->open_lock);
	if (!list_empty(&pool->open))
		queue_delayed_work(weft_transfer_wq, &pool->close_work, idle_time() / 2 + 1);
	spin_unlock_irq(&pool->open_lock);
	memalloc_noio_restore(noio);
}

/* ---- the end of the session ---- */

static u32 copies_up(const struct weft_chunk_map *map)
{
	u32 i, mask = 0;

	for (i = 0; i < map->chunk.count; i++)
		if (READ_ONCE(map->targets[i]->info.state) == WEFT_TARGET_UP)
			mask |= BIT(i);
	return mask;
}

/*
 * One copy stays, the others are made equal to it. -EHOSTDOWN: none that could stay is in reach, and a
 * stale one that is would be worth nothing.
 */
static int equalize(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	struct weft_chunk_map map;
	u32 in_sync, good, others;

	spin_lock_irq(&entry->lock);
	map = entry->map;
	in_sync = weft_chunk_in_sync(&map);
	good = in_sync & copies_up(&map) & ~weft_unflushed_lost(entry);
	spin_unlock_irq(&entry->lock);
	if (!in_sync)
		return 0;		/* there is nothing to make equal */
	if (!good)
		return -EHOSTDOWN;
	others = weft_chunk_written_copies(&map) & ~BIT(__ffs(good));
	return others ? weft_chunk_mark_stale(pool, entry, &map, others) : 0;
}

int weft_pool_equalize(struct weft_pool *pool)
{
	struct weft_chunk_entry *entry;
	unsigned long index;
	int error = 0, ret;

	xa_for_each(&pool->chunks, index, entry) {
		if (!test_bit(WEFT_CHUNK_DIFFERS, &entry->flags))
			continue;
		ret = equalize(pool, entry);
		if (!ret || ret == -ENOENT)	/* no file has it any more */
			clear_bit(WEFT_CHUNK_DIFFERS, &entry->flags);
		else
			error = error ?: ret;
	}
	return error;
}

/* ---- making and freeing ---- */

void weft_open_init_entry(struct weft_chunk_entry *entry)
{
	INIT_LIST_HEAD(&entry->open_waiters);
	INIT_LIST_HEAD(&entry->open_node);
}

int weft_open_init_pool(struct weft_pool *pool)
{
	spin_lock_init(&pool->open_lock);
	INIT_LIST_HEAD(&pool->opening);
	INIT_LIST_HEAD(&pool->open);
	atomic_set(&pool->closes, 0);
	INIT_WORK(&pool->open_work, open_work);
	INIT_DELAYED_WORK(&pool->close_work, close_work);
	pool->opening_batch = kcalloc(2 * WEFT_CHUNKS_PER_CALL, sizeof(*pool->opening_batch),
				      GFP_KERNEL);
	if (!pool->opening_batch)
		return -ENOMEM;
	pool->closing_batch = pool->opening_batch + WEFT_CHUNKS_PER_CALL;
	return 0;
}

void weft_open_exit_pool(struct weft_pool *pool)
{
	struct weft_chunk_entry *entry;

	cancel_work_sync(&pool->open_work);
	cancel_delayed_work_sync(&pool->close_work);
	list_for_each_entry(entry, &pool->open, open_node)
		atomic_dec(&pool->channel->open_chunks);
	kfree(pool->opening_batch);
}
