// SPDX-License-Identifier: GPL-2.0
/*
 * Write: the data is copied into one slot and sent to every copy that is in sync or resyncing. When
 * all have answered, the write is acknowledged if every copy that is so now (weft_chunk_written(),
 * under the chunk's lock) has taken it. Otherwise
 *
 *   some copies failed    they are marked stale at the metadata server first, then it looks again;
 *   all copies failed     it waits for a target to come back and sends the data again to all;
 *   a target was started  it may have taken the write after that, which its incarnation of before
 *   anew meanwhile        would deny: it sends again to all, unless the write was durable (FUA);
 *   the map has changed   a copy came into it that was not written, it sends again to all;
 *   a target answered     the map is fetched again, then it sends again to all. The target knows a
 *   -ESTALE               higher version of the chunk, or a later session: then it is in vain and
 *                         ends after some tries.
 *
 * So writes that race with a mark-stale of the same chunk are safe whatever the order: one that
 * was sent to the old copies is acknowledged against the new map; what it left on a copy that
 * went stale meanwhile is not read again before a resync. If of two writes one fails at A and
 * one at B, the first to be marked decides: the other one finds its failed copy to be the last
 * in sync, waits, and writes it again.
 *
 * Read: one copy that is in sync; when it fails (-EBADMSG: its checksum does not match) another
 * one, until all have been tried. When one of them was damaged, all are tried again block by block:
 * each may have what the others lack. A copy that answered with an error will do so again: -EIO. One
 * that could not be reached may come back: it waits.
 *
 * A copy whose target was started anew while it had unflushed writes is read only when there is
 * no other one (unflushed.h), and what was read while that happened is read again.
 *
 * No copy is in sync: the map is fetched again, and if that is still so the chunk is lost: -EIO.
 * The metadata server gives up the last copy only when it is told that a target is gone for good.
 *
 * Waiting: a transfer holds nothing but its bio; "again" takes a slot and the data anew (the
 * page may have changed, which is why it goes to all copies again). With `hard` for ever, with
 * `soft` for the grace period.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "target.h"
#include "transfer.h"

#define TRANSFERS_RESERVED	64	/* of each pool, when memory is short */
#define STALE_TRIES		8
#define RETRY_MIN_MS		50
#define RETRY_MAX_MS		2000

static struct kmem_cache *transfer_cache;
struct workqueue_struct *weft_transfer_wq;

static void transfer_end(struct weft_transfer *t, int error)
{
	struct weft_pool *pool = t->pool;
	struct bio *bio = t->bio;

	weft_transfer_release(t);
	if (error && t->entered && t->start_ns && t->map.chunk.count > 1)
		set_bit(WEFT_CHUNK_DIFFERS, &t->chunk->flags);
	weft_open_leave(t);
	mempool_free(t, &pool->transfers);
	if (error == -EAGAIN) {
		bio_wouldblock_error(bio);
	} else {
		bio->bi_status = errno_to_blk_status(error);
		bio_endio(bio);
	}
	weft_pool_leave(pool);
}

/* ---- waiting and trying again ---- */

static void transfer_queue(struct weft_transfer *t, enum weft_transfer_next next)
{
	weft_transfer_release(t);
	t->next = next;
	queue_work(weft_transfer_wq, &t->work);
}

void weft_transfer_judge(struct weft_transfer *t)
{
	t->next = WEFT_TRANSFER_JUDGE;
	queue_work(weft_transfer_wq, &t->work);
}

/* All copies get another chance. */
static void transfer_retry_all(struct weft_transfer *t)
{
	t->tried_count = 0;
	t->unreachable = false;
}

static unsigned long retry_delay(const struct weft_transfer *t)
{
	return msecs_to_jiffies(min(RETRY_MIN_MS << min(t->waits, 10U), RETRY_MAX_MS));
}

/* retry_work runs at the earliest time that any of those who wait asked for. */
static void retry_by(struct weft_pool *pool, unsigned long delay)
{
	unsigned long at = jiffies + delay;

	lockdep_assert_held(&pool->waiting_lock);
	if (queue_delayed_work(weft_transfer_wq, &pool->retry_work, delay)) {
		pool->retry_at = at;
	} else if (time_before(at, pool->retry_at)) {
		pool->retry_at = at;
		mod_delayed_work(weft_transfer_wq, &pool->retry_work, delay);
	}
}

void weft_transfer_retry_now(struct weft_pool *pool)
{
	spin_lock(&pool->waiting_lock);
	pool->retry_at = jiffies;
	mod_delayed_work(weft_transfer_wq, &pool->retry_work, 0);
	spin_unlock(&pool->waiting_lock);
}

/* Until a target or the agent comes back, or the time is up to look again by itself. */
static void transfer_wait(struct weft_transfer *t, enum weft_transfer_next next)
{
	struct weft_pool *pool = t->pool;
	unsigned long delay;

	weft_transfer_release(t);
	t->next = next;
	weft_transfer_note_failure(t);
	if (!weft_channel_may_retry(pool->channel, t->failed_at)) {
		transfer_end(t, -EIO);
		return;
	}
	delay = retry_delay(t);
	t->waits++;
	spin_lock(&pool->waiting_lock);
	list_add_tail(&t->node, &pool->waiting);
	retry_by(pool, delay);
	spin_unlock(&pool->waiting_lock);
}

static void transfer_retry(struct work_struct *work)
{
	struct weft_pool *pool = container_of(to_delayed_work(work), struct weft_pool, retry_work);
	struct weft_transfer *t, *next;
	LIST_HEAD(waiting);

	spin_lock(&pool->waiting_lock);
	list_splice_init(&pool->waiting, &waiting);
	spin_unlock(&pool->waiting_lock);
	list_for_each_entry_safe(t, next, &waiting, node) {
		list_del_init(&t->node);
		queue_work(weft_transfer_wq, &t->work);
	}
}

/* A target refused the chunk's version or our session. */
static void transfer_stale(struct weft_transfer *t)
{
	if (++t->stale_tries > STALE_TRIES) {
		pr_err_ratelimited("weft: %s: targets refuse chunk %llu version %u as out of date; has this host's session been evicted?\n",
				   t->pool->channel->cluster, t->chunk->index,
				   t->map.chunk.version);
		transfer_end(t, -EIO);
	} else if (t->stale_tries == 1) {
		transfer_queue(t, WEFT_TRANSFER_FETCH_MAP);
	} else {
		transfer_wait(t, WEFT_TRANSFER_FETCH_MAP);
	}
}

static void log_failure(const struct weft_transfer *t, u32 copy, const char *what)
{
	const struct weft_target *target = t->map.targets[copy];

	if (t->waits)
		return;		/* said once */
	pr_warn_ratelimited("weft: %s: target %.*s (id %u) failed a %s of chunk %llu: error %d; %s\n",
			    t->pool->channel->cluster, (int)sizeof(target->info.name),
			    target->info.name, target->id,
			    weft_transfer_is_write(t) ? "write" : "read", t->chunk->index,
			    t->results[copy], what);
}

/* ---- answers ---- */

static void read_failed(struct weft_transfer *t, u32 copy)
{
	u32 left;
	int error = t->results[copy];

	if (error == -ECANCELED) {
		transfer_end(t, -EIO);
		return;
	}
	if (error == -ESTALE) {
		transfer_stale(t);
		return;
	}
	t->unreachable |= error == -EHOSTDOWN;
	t->damaged |= error == -EBADMSG;
	if (t->tried_count == WEFT_CHUNK_COPIES_MAX) {	/* the map changes all the time */
		transfer_retry_all(t);
		transfer_wait(t, WEFT_TRANSFER_SEND);
		return;
	}
	t->tried[t->tried_count++] = t->map.targets[copy]->id;
	left = hweight32(weft_chunk_in_sync(&t->map)) > t->tried_count;
	log_failure(t, copy, left ? "reading another copy" : t->unreachable ?
		    "no copy left, waiting for it to come back" : "no copy left");
	/* whether that is still so is decided when it is sent */
	transfer_queue(t, WEFT_TRANSFER_SEND);
}

static bool transfer_written(struct weft_transfer *t, u32 ok)
{
	bool durable = t->bio->bi_opf & REQ_FUA;

	return weft_chunk_written(t->pool, t->chunk, &t->map, ok, durable ? NULL : t->incarnations);
}

/* A copy may have taken it in a later incarnation than the one that is noted. */
static bool write_is_doubtful(const struct weft_transfer *t, u32 ok)
{
	u32 i;

	if (t->bio->bi_opf & REQ_FUA)	/* durable, whichever it was */
		return false;
	for (i = 0; i < t->map.chunk.count; i++)
		if (ok & BIT(i) && weft_transfer_is_doubtful(t, i))
			return true;
	return false;
}

static void write_answered(struct weft_transfer *t)
{
	u32 i, ok = 0, failed = 0;
	bool stale = false, canceled = false;

	for (i = 0; i < t->map.chunk.count; i++) {
		if (!(t->sent & BIT(i)))
			continue;
		if (!t->results[i])
			ok |= BIT(i);
		else
			failed |= BIT(i);
		stale |= t->results[i] == -ESTALE;
		canceled |= t->results[i] == -ECANCELED;
	}
	if (!canceled && write_is_doubtful(t, ok)) {
		transfer_queue(t, WEFT_TRANSFER_SEND);
	} else if (ok && transfer_written(t, ok)) {
		transfer_end(t, 0);
	} else if (canceled) {
		transfer_end(t, -EIO);
	} else if (stale) {
		transfer_stale(t);
	} else if (!failed) {
		transfer_queue(t, WEFT_TRANSFER_SEND);
	} else {
		log_failure(t, __ffs(failed), ok ? "marking its copy stale" :
			    "no other copy, waiting for it to come back");
		if (ok)
			transfer_queue(t, WEFT_TRANSFER_MARK_STALE);
		else
			transfer_wait(t, WEFT_TRANSFER_SEND);
	}
}

/*
 * A block device says little about why it failed, or whether it will come back. The agent knows, and
 * may get through.
 */
static bool direct_failed(const struct weft_transfer *t)
{
	u32 i;

	for (i = 0; i < t->map.chunk.count; i++)
		if (t->direct & BIT(i) && t->results[i])
			return true;
	return false;
}

void weft_transfer_answered(struct weft_transfer *t)
{
	u32 copy;

	if (direct_failed(t)) {
		t->by_agent = true;
		transfer_queue(t, WEFT_TRANSFER_SEND);
		return;
	}
	if (weft_transfer_is_write(t)) {
		write_answered(t);
		return;
	}
	copy = __ffs(t->sent);
	if (t->results[copy]) {
		read_failed(t, copy);
		return;
	}
	if (weft_transfer_is_doubtful(t, copy)) {
		transfer_queue(t, WEFT_TRANSFER_SEND);
		return;
	}
	if (!t->direct)
		weft_transfer_copy_out(t);
	t->done += weft_transfer_span(t);
	if (t->done == t->length) {
		transfer_end(t, 0);
		return;
	}
	transfer_retry_all(t);
	transfer_queue(t, WEFT_TRANSFER_SEND);
}

/* No copy is in sync. */
static int transfer_lost(struct weft_transfer *t, enum weft_wait wait)
{
	if (wait == WEFT_WAIT_NONE)
		return -EAGAIN;
	if (!t->lost) {
		t->lost = true;
		transfer_queue(t, WEFT_TRANSFER_FETCH_MAP);
		return 0;
	}
	if (!test_and_set_bit(WEFT_CHUNK_LOST, &t->chunk->flags))
		pr_err("weft: %s: chunk %llu has no copy in sync, I/O to it fails; weftctl fsck names the files\n",
		       t->pool->channel->cluster, t->chunk->index);
	return -EIO;
}

/* An error: nothing was sent. What becomes of it is decided elsewhere if there is no error. */
static int transfer_send(struct weft_transfer *t, enum weft_wait wait)
{
	if (weft_transfer_choose(t)) {
		t->lost = false;
		if (!weft_transfer_is_write(t) || weft_open_enter(t, wait != WEFT_WAIT_NONE))
			return weft_transfer_send(t, wait);
		/* or weft_transfer_opened() has it */
		return wait == WEFT_WAIT_NONE ? -EAGAIN : 0;
	}
	if (!weft_chunk_in_sync(&t->map))
		return transfer_lost(t, wait);
	if (t->damaged && !t->by_block && t->length > WEFT_BLOCK_BYTES) {
		t->by_block = true;
		transfer_retry_all(t);
		transfer_queue(t, WEFT_TRANSFER_SEND);
		return 0;
	}
	if (!weft_transfer_is_write(t) && t->tried_count && !t->unreachable)
		return -EIO;
	if (wait == WEFT_WAIT_NONE)
		return -EAGAIN;
	transfer_retry_all(t);
	transfer_wait(t, WEFT_TRANSFER_SEND);
	return 0;
}

void weft_transfer_opened(struct weft_transfer *t, int error)
{
	if (!error) {
		if (!t->waits)
			t->failed_at = 0;
		transfer_queue(t, WEFT_TRANSFER_SEND);
	} else if (error == -ENOENT || error == -ESTALE) {	/* no such chunk; the session has ended */
		transfer_end(t, -EIO);
	} else {
		transfer_wait(t, WEFT_TRANSFER_SEND);
	}
}

static void transfer_mark_stale(struct weft_transfer *t)
{
	u32 i, ok = 0, failed = 0;
	int ret;

	for (i = 0; i < t->map.chunk.count; i++) {
		if (t->sent & BIT(i) && t->results[i])
			failed |= BIT(i);
		else if (t->sent & BIT(i))
			ok |= BIT(i);
	}
	ret = weft_chunk_mark_stale(t->pool, t->chunk, &t->map, failed);
	if (ret == -EBUSY)
		transfer_wait(t, WEFT_TRANSFER_SEND);
	else if (ret == -ESTALE)
		transfer_end(t, -EIO);	/* the session has ended */
	else if (ret)
		transfer_wait(t, WEFT_TRANSFER_MARK_STALE);
	else if (!write_is_doubtful(t, ok) && transfer_written(t, ok))
		transfer_end(t, 0);
	else
		transfer_queue(t, WEFT_TRANSFER_SEND);
}

static void transfer_work(struct work_struct *work)
{
	struct weft_transfer *t = container_of(work, struct weft_transfer, work);
	int ret = 0;

	if (weft_channel_is_aborted(t->pool->channel)) {
		transfer_end(t, -EIO);
		return;
	}
	switch (t->next) {
	case WEFT_TRANSFER_JUDGE:
		weft_transfer_answered(t);
		return;
	case WEFT_TRANSFER_MARK_STALE:
		transfer_mark_stale(t);
		return;
	case WEFT_TRANSFER_FETCH_MAP:
		ret = weft_chunk_fetch(t->pool, t->chunk->index, 1, WEFT_CALL_RESERVED);
		if (ret == -ESTALE) {		/* the session has ended */
			transfer_end(t, -EIO);
			return;
		}
		if (ret) {
			transfer_wait(t, WEFT_TRANSFER_FETCH_MAP);
			return;
		}
		break;
	case WEFT_TRANSFER_SEND:
		break;
	}
	ret = transfer_send(t, WEFT_WAIT_ALWAYS);
	if (ret)
		transfer_end(t, ret);
}

static struct weft_transfer *transfer_alloc(struct weft_pool *pool, struct bio *bio, gfp_t gfp)
{
	struct weft_transfer *t = mempool_alloc(&pool->transfers, gfp);

	if (!t)
		return NULL;
	memset(t, 0, sizeof(*t));
	t->pool = pool;
	t->bio = bio;
	t->map_reader = -1;
	t->length = bio->bi_iter.bi_size;
	t->op = bio_op(bio) == REQ_OP_WRITE ? WEFT_OP_WRITE : WEFT_OP_READ;
	INIT_WORK(&t->work, transfer_work);
	INIT_LIST_HEAD(&t->node);
	atomic_inc(&pool->users);
	return t;
}

void weft_transfer_start(struct weft_pool *pool, struct bio *bio)
{
	bool nowait = bio->bi_opf & REQ_NOWAIT;
	u64 block = bio->bi_iter.bi_sector >> (WEFT_BLOCK_SHIFT - SECTOR_SHIFT);
	enum weft_wait wait = WEFT_WAIT_ALWAYS;
	struct weft_transfer *t;
	int ret;

	t = transfer_alloc(pool, bio, nowait ? GFP_NOWAIT : GFP_NOIO);
	if (!t) {
		bio_wouldblock_error(bio);
		return;
	}
	if (nowait)
		wait = WEFT_WAIT_NONE;
	else if (!weft_transfer_is_write(t))
		wait = WEFT_WAIT_KILLABLE;
	t->offset = (block & (pool->chunk_blocks - 1)) << WEFT_BLOCK_SHIFT;
	t->chunk = weft_chunk_get(pool, block >> pool->chunk_shift, !nowait);
	ret = IS_ERR(t->chunk) ? PTR_ERR(t->chunk) : transfer_send(t, wait);
	if (ret)
		transfer_end(t, ret == -EAGAIN ? ret : -EIO);
}

int weft_transfer_init_pool(struct weft_pool *pool)
{
	int ret;

	init_waitqueue_head(&pool->idle);
	spin_lock_init(&pool->waiting_lock);
	INIT_LIST_HEAD(&pool->waiting);
	INIT_DELAYED_WORK(&pool->retry_work, transfer_retry);
	ret = init_srcu_struct(&pool->map_readers);
	if (ret)
		return ret;
	ret = mempool_init_slab_pool(&pool->transfers, TRANSFERS_RESERVED, transfer_cache);
	if (ret)
		cleanup_srcu_struct(&pool->map_readers);
	return ret;
}

/* All bios have ended, but the last ones may just be leaving weft_pool_leave(). */
void weft_transfer_exit_pool(struct weft_pool *pool)
{
	wait_event(pool->idle, !atomic_read(&pool->users));
	synchronize_rcu();
	cancel_delayed_work_sync(&pool->retry_work);
	mempool_exit(&pool->transfers);
	srcu_barrier(&pool->map_readers);	/* of WEFT_IOC_SETTLE that were given up */
	cleanup_srcu_struct(&pool->map_readers);
}

int weft_transfer_init(void)
{
	transfer_cache = KMEM_CACHE(weft_transfer, 0);
	if (!transfer_cache)
		return -ENOMEM;
	weft_transfer_wq = alloc_workqueue("weft-transfer", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (weft_transfer_wq)
		return 0;
	kmem_cache_destroy(transfer_cache);
	return -ENOMEM;
}

void weft_transfer_exit(void)
{
	destroy_workqueue(weft_transfer_wq);
	kmem_cache_destroy(transfer_cache);
}
