// SPDX-License-Identifier: GPL-2.0
/*
 * Inodes that have lost their last name and now their last user: the server may free them. They are
 * collected, for the last reference can go in any context, and a worker tells many in one call.
 */
#include <linux/slab.h>
#include "upcall.h"

struct weft_orphan {
	struct list_head link;
	u64 ino;
};

void weft_orphan_add(struct weft_fs *fs, u64 ino)
{
	struct weft_orphan *orphan = kmalloc(sizeof(*orphan), GFP_NOFS | __GFP_NOFAIL);

	orphan->ino = ino;
	spin_lock(&fs->orphans.lock);
	list_add_tail(&orphan->link, &fs->orphans.queue);
	spin_unlock(&fs->orphans.lock);
	queue_work(fs->space_wq, &fs->orphans.work);
}

static u32 collect(struct weft_orphans *orphans, u64 *inos)
{
	struct weft_orphan *orphan;
	u32 count = 0;

	spin_lock(&orphans->lock);
	list_for_each_entry(orphan, &orphans->queue, link) {
		if (count == WEFT_EVICT_MAX)
			break;
		inos[count++] = orphan->ino;
	}
	spin_unlock(&orphans->lock);
	return count;
}

/* The first `count` are told; others were only added behind them. */
static void forget(struct weft_orphans *orphans, u32 count)
{
	struct weft_orphan *orphan;

	while (count--) {
		spin_lock(&orphans->lock);
		orphan = list_first_entry(&orphans->queue, struct weft_orphan, link);
		list_del(&orphan->link);
		spin_unlock(&orphans->lock);
		kfree(orphan);
	}
}

/*
 * Tells all that were queued. What fails stays queued for the next drain; the server frees orphans
 * that it was never told of when the session ends.
 */
void weft_orphan_drain(struct weft_fs *fs)
{
	struct weft_orphans *orphans = &fs->orphans;
	u64 *inos = kvmalloc_array(WEFT_EVICT_MAX, sizeof(*inos), GFP_NOFS);
	ssize_t told;
	u32 count;

	if (!inos)
		return;
	mutex_lock(&orphans->evict_mutex);
	while ((count = collect(orphans, inos))) {
		told = weft_upcall_evict(fs, inos, count);
		if (told < 0)
			break;
		forget(orphans, told);
	}
	mutex_unlock(&orphans->evict_mutex);
	kvfree(inos);
}

static void orphan_work(struct work_struct *work)
{
	weft_orphan_drain(container_of(work, struct weft_fs, orphans.work));
}

void weft_orphan_init(struct weft_fs *fs)
{
	spin_lock_init(&fs->orphans.lock);
	INIT_LIST_HEAD(&fs->orphans.queue);
	mutex_init(&fs->orphans.evict_mutex);
	INIT_WORK(&fs->orphans.work, orphan_work);
}

/* The session has ended: what is left is the server's to free. */
void weft_orphan_exit(struct weft_fs *fs)
{
	cancel_work_sync(&fs->orphans.work);
	forget(&fs->orphans, list_count_nodes(&fs->orphans.queue));
}
