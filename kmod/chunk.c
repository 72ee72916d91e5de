// SPDX-License-Identifier: GPL-2.0
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "channel.h"
#include "channel_private.h"
#include "chunk.h"
#include "disk.h"
#include "target.h"

#define MARK_TRIES	4	/* with a map that has been fetched again */

/* ---- the map ---- */

u32 weft_chunk_in_sync(const struct weft_chunk_map *map)
{
	u32 i, mask = 0;

	for (i = 0; i < map->chunk.count; i++)
		if (map->chunk.copies[i].state == WEFT_COPY_IN_SYNC)
			mask |= BIT(i);
	return mask;
}

u32 weft_chunk_written_copies(const struct weft_chunk_map *map)
{
	u32 i, mask = 0;

	for (i = 0; i < map->chunk.count; i++)
		if (map->chunk.copies[i].state != WEFT_COPY_STALE)
			mask |= BIT(i);
	return mask;
}

void weft_chunk_read_map(struct weft_chunk_entry *entry, struct weft_chunk_map *map)
{
	spin_lock_irq(&entry->lock);
	*map = entry->map;
	spin_unlock_irq(&entry->lock);
}

int weft_chunk_find(const struct weft_chunk_map *map, const struct weft_chunk_map *from, u32 index)
{
	const struct weft_copy *copy = &from->chunk.copies[index];
	u32 i;

	for (i = 0; i < map->chunk.count; i++)
		if (map->chunk.copies[i].target == copy->target &&
		    map->chunk.copies[i].offset == copy->offset)
			return i;
	return -1;
}

/* Bits of copies of `from` as bits of `map`; only of those that are written there. */
static u32 map_translate(const struct weft_chunk_map *map, const struct weft_chunk_map *from,
			 u32 mask)
{
	u32 i, result = 0;

	for (i = 0; i < from->chunk.count; i++) {
		int at = mask & BIT(i) ? weft_chunk_find(map, from, i) : -1;

		if (at >= 0)
			result |= BIT(at);
	}
	return result & weft_chunk_written_copies(map);
}

/* Takes a map unless it is older. */
static void entry_update(struct weft_chunk_entry *entry, const struct weft_chunk_map *map)
{
	spin_lock_irq(&entry->lock);
	if ((s32)(map->chunk.version - entry->map.chunk.version) >= 0) {
		weft_unflushed_translate(&entry->unflushed, &entry->map, map);
		weft_unflushed_translate(&entry->flushing, &entry->map, map);
		entry->map = *map;
		if (weft_chunk_in_sync(map))
			clear_bit(WEFT_CHUNK_LOST, &entry->flags);
	}
	spin_unlock_irq(&entry->lock);
}

/* ---- what the server answers ---- */

static bool copy_is_valid(const struct weft_pool *pool, const struct weft_copy *copy)
{
	u64 bytes = (u64)pool->chunk_blocks << WEFT_BLOCK_SHIFT;

	return copy->target && copy->state >= WEFT_COPY_IN_SYNC &&
	       copy->state <= WEFT_COPY_RESYNCING && copy->offset % WEFT_BLOCK_BYTES == 0 &&
	       copy->offset <= S64_MAX - bytes;
}

static bool chunk_is_valid(const struct weft_pool *pool, const struct weft_chunk *chunk)
{
	u32 i, j, in_sync = 0;

	if (chunk->index >= DIV_ROUND_UP_ULL(pool->blocks, pool->chunk_blocks))
		return false;
	if (chunk->count > WEFT_CHUNK_COPIES_MAX)
		return false;
	for (i = 0; i < chunk->count; i++) {
		if (!copy_is_valid(pool, &chunk->copies[i]))
			return false;
		/* one copy a target: which is which must be clear from map to map */
		for (j = 0; j < i; j++)
			if (chunk->copies[i].target == chunk->copies[j].target)
				return false;
		in_sync += chunk->copies[i].state == WEFT_COPY_IN_SYNC;
	}
	return in_sync <= WEFT_COPIES_MAX;
}

static int check_chunk(struct weft_pool *pool, const struct weft_chunk *chunk, u64 first, u32 count)
{
	if (chunk->index >= first && chunk->index - first < count && chunk_is_valid(pool, chunk))
		return 0;
	pr_err_ratelimited("weft: %s: the metadata server described chunk %llu (of %u from %llu) in a way that cannot be: %u copies, version %u\n",
			   pool->channel->cluster, chunk->index, count, first, chunk->count,
			   chunk->version);
	return -EPROTO;
}

/* With the targets that it names. May sleep, GFP_NOIO. */
static int make_map(struct weft_pool *pool, const struct weft_chunk *chunk,
		    struct weft_chunk_map *map)
{
	u32 i;

	*map = (struct weft_chunk_map) { .chunk = *chunk };
	for (i = 0; i < chunk->count; i++) {
		map->targets[i] = weft_target_find_or_create(pool->channel,
							     chunk->copies[i].target);
		if (IS_ERR(map->targets[i]))
			return PTR_ERR(map->targets[i]);
	}
	return 0;
}

/* Into the tree, or into the entry that is there. May sleep, GFP_NOIO. */
static int store_chunk(struct weft_pool *pool, const struct weft_chunk *chunk)
{
	struct weft_chunk_entry *entry, *other;
	struct weft_chunk_map map;
	int ret;

	ret = make_map(pool, chunk, &map);
	if (ret)
		return ret;
	entry = xa_load(&pool->chunks, chunk->index);
	if (entry) {
		entry_update(entry, &map);
		return 0;
	}
	entry = kzalloc(sizeof(*entry), GFP_NOIO);
	if (!entry)
		return -ENOMEM;
	entry->index = chunk->index;
	entry->map = map;
	spin_lock_init(&entry->lock);
	INIT_LIST_HEAD(&entry->unflushed_node);
	INIT_LIST_HEAD(&entry->flushing_node);
	weft_open_init_entry(entry);
	other = xa_cmpxchg(&pool->chunks, chunk->index, NULL, entry, GFP_NOIO);
	if (other) {
		kfree(entry);
		if (xa_is_err(other))
			return xa_err(other);
		entry_update(other, &map);	/* another thread was faster */
	}
	return 0;
}

static int parse_chunks(struct weft_pool *pool, const void *rep, ssize_t bytes, u64 first,
			u32 count)
{
	const struct weft_get_chunks_rep *answer = rep;
	struct weft_chunk chunk;
	u32 i, found;
	int ret;

	if (bytes < (ssize_t)sizeof(*answer))
		return -EPROTO;
	found = READ_ONCE(answer->count);
	if (found > count || bytes < (ssize_t)struct_size(answer, chunks, found))
		return -EPROTO;
	for (i = 0; i < found; i++) {
		/* copied first: the agent may change it */
		memcpy(&chunk, &answer->chunks[i], sizeof(chunk));
		ret = check_chunk(pool, &chunk, first, count);
		if (!ret)
			ret = store_chunk(pool, &chunk);
		if (ret)
			return ret;
	}
	return 0;
}

int weft_chunk_fetch(struct weft_pool *pool, u64 first, u32 count, u32 call_flags)
{
	unsigned int noio = memalloc_noio_save();
	struct weft_get_chunks_req *args;
	struct weft_call call;
	ssize_t ret;
	int reader;

	reader = srcu_down_read(&pool->map_readers);
	count = min(count, WEFT_CHUNKS_PER_CALL);
	ret = weft_call_begin(pool->channel, &call, WEFT_META_GET_CHUNKS, 0, call_flags);
	if (ret)
		goto restore;
	args = call.args;
	args->first = first;
	args->count = count;
	ret = weft_call_send(&call, sizeof(*args));
	if (ret >= 0)
		ret = parse_chunks(pool, call.rep, ret, first, count);
	weft_call_end(&call);
restore:
	srcu_up_read(&pool->map_readers, reader);
	memalloc_noio_restore(noio);
	return ret;
}

int weft_chunk_update(struct weft_pool *pool, const struct weft_chunk *chunks, u32 count)
{
	struct weft_chunk_entry *entry;
	struct weft_chunk_map map;
	u32 i;
	int ret;

	for (i = 0; i < count; i++)
		if (!chunk_is_valid(pool, &chunks[i]))
			return -EINVAL;
	for (i = 0; i < count; i++) {
		/* who needs one that is not cached fetches it */
		entry = xa_load(&pool->chunks, chunks[i].index);
		if (!entry)
			continue;
		ret = make_map(pool, &chunks[i], &map);
		if (ret)
			return ret;
		entry_update(entry, &map);
	}
	return 0;
}

struct weft_chunk_entry *weft_chunk_get(struct weft_pool *pool, u64 index, bool fetch)
{
	struct weft_chunk_entry *entry = xa_load(&pool->chunks, index);
	int ret;

	if (entry)
		return entry;
	if (!fetch)
		return ERR_PTR(-EAGAIN);
	ret = weft_chunk_fetch(pool, index, 1, WEFT_CALL_RESERVED);
	if (ret)
		return ERR_PTR(ret);
	entry = xa_load(&pool->chunks, index);
	if (entry)
		return entry;
	pr_err_ratelimited("weft: %s: chunk %llu is in use but unknown to the metadata server\n",
			   pool->channel->cluster, index);
	return ERR_PTR(-EIO);
}

void weft_chunks_free(struct weft_pool *pool)
{
	struct weft_chunk_entry *entry;
	unsigned long index;

	xa_for_each(&pool->chunks, index, entry)
		kfree(entry);
	xa_destroy(&pool->chunks);
}

/* ---- writes and stale copies ---- */

static void note_unflushed(struct weft_pool *pool, struct weft_chunk_entry *entry,
			   const struct weft_chunk_map *sent, u32 ok, const u64 *incarnations)
{
	struct weft_unflushed written = {};
	u32 i;

	lockdep_assert_held(&entry->lock);
	for (i = 0; i < sent->chunk.count; i++)
		if (ok & BIT(i) && !weft_target_is_durable(sent->targets[i]))
			written.copies |= BIT(i);
	memcpy(written.incarnations, incarnations, sizeof(written.incarnations));
	weft_unflushed_translate(&written, sent, &entry->map);
	if (!written.copies)
		return;
	weft_unflushed_move(&entry->unflushed, &written, &entry->map);
	spin_lock(&pool->flush_lock);
	if (list_empty(&entry->unflushed_node))
		list_add_tail(&entry->unflushed_node, &pool->unflushed);
	spin_unlock(&pool->flush_lock);
}

bool weft_chunk_written(struct weft_pool *pool, struct weft_chunk_entry *entry,
			const struct weft_chunk_map *sent, u32 ok, const u64 *incarnations)
{
	u32 have;
	unsigned long flags;
	bool all;

	spin_lock_irqsave(&entry->lock, flags);
	have = map_translate(&entry->map, sent, ok);
	all = have & weft_chunk_in_sync(&entry->map) &&
		have == weft_chunk_written_copies(&entry->map);
	if (incarnations)
		note_unflushed(pool, entry, sent, ok, incarnations);
	spin_unlock_irqrestore(&entry->lock, flags);
	return all;
}

static int call_mark_stale(struct weft_pool *pool, const struct weft_chunk *chunk, u32 copies)
{
	struct weft_mark_stale_req *args;
	struct weft_chunk answer;
	struct weft_call call;
	ssize_t ret;

	ret = weft_call_begin(pool->channel, &call, WEFT_META_MARK_STALE, 0,
			      WEFT_CALL_RESERVED | WEFT_CALL_CHANGES);
	if (ret)
		return ret;
	args = call.args;
	args->index = chunk->index;
	args->version = chunk->version;
	args->copy_mask = copies;
	ret = weft_call_send(&call, sizeof(*args));
	if (ret >= (ssize_t)sizeof(answer)) {
		memcpy(&answer, call.rep, sizeof(answer));
		ret = check_chunk(pool, &answer, chunk->index, 1);
		if (!ret)
			ret = store_chunk(pool, &answer);
	} else if (ret >= 0) {
		ret = -EPROTO;
	}
	weft_call_end(&call);
	return ret;
}

static void note_marked(struct weft_pool *pool, struct weft_chunk_entry *entry, u32 copies)
{
	atomic64_add(hweight32(copies), &pool->channel->stale_marks);
	pr_warn_ratelimited("weft: %s: chunk %llu: copies %#x marked stale\n",
			    pool->channel->cluster, entry->index, copies);
}

static int mark_stale_locked(struct weft_pool *pool, struct weft_chunk_entry *entry,
			     const struct weft_chunk_map *seen, u32 failed)
{
	struct weft_chunk_map now;
	int tries, ret;
	u32 copies, in_sync;

	lockdep_assert_held(&pool->stale_lock);
	for (tries = 0; tries < MARK_TRIES; tries++) {
		weft_chunk_read_map(entry, &now);
		copies = map_translate(&now, seen, failed);
		if (!copies)
			return 0;	/* somebody else has done it */
		in_sync = weft_chunk_in_sync(&now);
		if ((copies & in_sync) == in_sync)
			return -EBUSY;
		ret = call_mark_stale(pool, &now.chunk, copies);
		if (ret == -ESTALE || ret == -EBUSY)	/* our map is old */
			ret = weft_chunk_fetch(pool, entry->index, 1, WEFT_CALL_RESERVED);
		else if (!ret)
			note_marked(pool, entry, copies);
		if (ret)
			return ret;
	}
	return -EAGAIN;
}

int weft_chunk_mark_stale(struct weft_pool *pool, struct weft_chunk_entry *entry,
			  const struct weft_chunk_map *seen, u32 failed)
{
	unsigned int noio = memalloc_noio_save();
	int ret;

	/* killable: waiting for a dead agent is not a hang of the kernel */
	if (mutex_lock_killable(&pool->stale_lock)) {
		ret = -EINTR;
		goto restore;
	}
	ret = mark_stale_locked(pool, entry, seen, failed);
	mutex_unlock(&pool->stale_lock);
restore:
	memalloc_noio_restore(noio);
	return ret;
}
