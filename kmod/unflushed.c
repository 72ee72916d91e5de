// SPDX-License-Identifier: GPL-2.0
#include <linux/sched/mm.h>

#include "channel_private.h"
#include "chunk.h"
#include "disk.h"
#include "target.h"
#include "unflushed.h"

static u64 incarnation_of(const struct weft_unflushed *unflushed, const struct weft_chunk_map *map,
			  u32 copy)
{
	return unflushed->incarnations[copy] ?: READ_ONCE(map->targets[copy]->first_incarnation);
}

bool weft_unflushed_covers(const struct weft_unflushed *unflushed, const struct weft_chunk_map *map,
			   u32 copy, u64 incarnation)
{
	return incarnation_of(unflushed, map, copy) == incarnation;
}

void weft_unflushed_move(struct weft_unflushed *unflushed, struct weft_unflushed *from,
			 const struct weft_chunk_map *map)
{
	u32 i;

	for (i = 0; i < map->chunk.count; i++) {
		u64 incarnation = incarnation_of(from, map, i);

		if (!(from->copies & BIT(i)))
			continue;
		if (unflushed->copies & BIT(i) && incarnation_of(unflushed, map, i) != incarnation)
			incarnation = WEFT_INCARNATION_MIXED;
		unflushed->incarnations[i] = incarnation;
		unflushed->copies |= BIT(i);
	}
	from->copies = 0;
}

void weft_unflushed_translate(struct weft_unflushed *unflushed, const struct weft_chunk_map *from,
			      const struct weft_chunk_map *to)
{
	struct weft_unflushed moved = {};
	u32 i, written = weft_chunk_written_copies(to);

	for (i = 0; i < from->chunk.count; i++) {
		int at = unflushed->copies & BIT(i) ? weft_chunk_find(to, from, i) : -1;

		if (at >= 0 && written & BIT(at)) {
			moved.copies |= BIT(at);
			moved.incarnations[at] = unflushed->incarnations[i];
		}
	}
	*unflushed = moved;
}

static u32 lost_of(const struct weft_chunk_entry *entry, const struct weft_unflushed *unflushed)
{
	u32 i, lost = 0;

	for (i = 0; i < entry->map.chunk.count; i++)
		if (unflushed->copies & BIT(i) &&
		    !weft_unflushed_covers(unflushed, &entry->map, i,
					   weft_target_incarnation(entry->map.targets[i])))
			lost |= BIT(i);
	return lost;
}

u32 weft_unflushed_lost(const struct weft_chunk_entry *entry)
{
	lockdep_assert_held(&entry->lock);
	return lost_of(entry, &entry->unflushed) | lost_of(entry, &entry->flushing);
}

static void settle_lost(struct weft_pool *pool, struct weft_chunk_entry *entry)
{
	struct weft_chunk_map map;
	u32 lost;
	int ret;

	spin_lock_irq(&entry->lock);
	lost = weft_unflushed_lost(entry);
	map = entry->map;
	spin_unlock_irq(&entry->lock);
	if (!lost)
		return;
	/* the last copies: the next flush says so to who waits for it */
	ret = weft_chunk_mark_stale(pool, entry, &map, lost);
	if (ret && ret != -EBUSY)
		pr_warn_ratelimited("weft: %s: chunk %llu: copies %#x lost writes with their target, and marking them stale failed: error %d; the next flush tries again\n",
				    pool->channel->cluster, entry->index, lost, ret);
}

void weft_unflushed_work(struct work_struct *work)
{
	struct weft_pool *pool = container_of(work, struct weft_pool, incarnation_work);
	unsigned int noio = memalloc_noio_save();
	struct weft_chunk_entry *entry;
	unsigned long index;

	xa_for_each(&pool->chunks, index, entry) {
		settle_lost(pool, entry);
		cond_resched();
	}
	memalloc_noio_restore(noio);
}
