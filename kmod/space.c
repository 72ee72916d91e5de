// SPDX-License-Identifier: GPL-2.0
/*
 * Space. The metadata server grants ranges of the pool to this client; files take windows of them
 * and their blocks from the window, so that the blocks of one file lie together although many are
 * written at once. The balancer chooses the grant that a window is cut from: that places the data.
 *
 * A chunk has a number of copies, and a file takes from chunks of the number that it wants: grants
 * are kept in classes, one for each number, and each is refilled by itself.
 *
 * A worker fetches more when little is left; who needs space while there is none waits for it, and
 * gets ENOSPC when the server has none and nothing that lies idle here helps.
 */
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "balancer.h"
#include "upcall.h"

#define WINDOW_BLOCKS_MIN	(SZ_64K >> WEFT_BLOCK_SHIFT)
#define WINDOW_BLOCKS_MAX	(SZ_4M >> WEFT_BLOCK_SHIFT)
#define WINDOW_OF_FILE		8	/* a window is at most this part of the file */
#define REFILL_BLOCKS_MIN	(SZ_4M >> WEFT_BLOCK_SHIFT)
#define REFILL_BLOCKS_MAX	(SZ_256M >> WEFT_BLOCK_SHIFT)
#define REFILL_OF_POOL		64	/* asked for at a time: this part of what can be stored */
#define REFILL_RANGES_MAX	64
#define LOW_WATER_OF_REFILL	2	/* more is fetched when less than this part is left */
#define OFFERS_LOOKED_AT	64	/* grants looked at for WEFT_PLACE_MAX offers */

static struct weft_space_class *class_of(struct weft_fs *fs, u32 copies)
{
	return &fs->space.classes[copies - 1];
}

static u32 inode_copies(struct weft_inode *wi)
{
	return READ_ONCE(wi->copies);
}

static u64 class_blocks(const struct weft_space_class *class)
{
	return class->grants.blocks + class->window_blocks;
}

/*
 * Which class a chunk belongs to is kept until unmount: the blocks of a grant that are in files come
 * back as long as they are not committed, and nobody counts those. A chunk that was emptied and is
 * granted anew, perhaps in another class, replaces what was known.
 */
static void note_class(struct weft_fs *fs, u64 pool_block, u32 copies)
{
	u64 chunk = pool_block >> ilog2(fs->chunk_blocks);

	xa_store(&fs->space.chunks, chunk, xa_mk_value(copies), GFP_NOFS | __GFP_NOFAIL);
}

static struct weft_space_class *class_of_block(struct weft_fs *fs, u64 pool_block)
{
	void *value = xa_load(&fs->space.chunks, pool_block >> ilog2(fs->chunk_blocks));

	/* only what was granted is given */
	return class_of(fs, WARN_ON_ONCE(!value) ? fs->copies : xa_to_value(value));
}

void weft_space_give(struct weft_fs *fs, u64 pool_block, u64 blocks)
{
	struct weft_grant *grant = kmalloc(sizeof(*grant), GFP_NOFS | __GFP_NOFAIL);

	grant->pool_block = pool_block;
	grant->blocks = blocks;
	spin_lock(&fs->space.lock);
	weft_grants_add(&class_of_block(fs, pool_block)->grants, grant);
	spin_unlock(&fs->space.lock);
}

static bool offered_already(const struct weft_place *place, u64 chunk)
{
	for (u32 i = 0; i < place->nr; i++)
		if (place->grants[i].chunk == chunk)
			return true;
	return false;
}

/* Grants of different chunks that hold at least `enough` blocks. */
static void collect_offers(struct weft_fs *fs, struct weft_grants *from, struct weft_place *place,
			   struct weft_grant **grants, u64 enough)
{
	u32 chunk_shift = ilog2(fs->chunk_blocks);
	u32 looked_at = 0;
	struct weft_grant *grant;

	list_for_each_entry(grant, &from->offers, offer) {
		struct weft_place_grant *offer = &place->grants[place->nr];
		u64 chunk = grant->pool_block >> chunk_shift;

		if (place->nr == WEFT_PLACE_MAX || looked_at++ == OFFERS_LOOKED_AT)
			break;
		if (grant->blocks < enough || offered_already(place, chunk))
			continue;
		offer->chunk = chunk;
		offer->blocks = grant->blocks;
		offer->nr_targets = weft_pool_targets(fs->pool, grant->pool_block, offer->targets);
		grants[place->nr++] = grant;
	}
}

/*
 * Cuts up to place->blocks from the grant that the balancer picks. Returns false when there is
 * none.
 */
static bool cut_window(struct weft_fs *fs, struct weft_grants *from, struct weft_place *place,
		       struct weft_range *range)
{
	struct weft_grant *grants[WEFT_PLACE_MAX];

	lockdep_assert_held(&fs->space.lock);
	collect_offers(fs, from, place, grants, place->blocks);
	if (!place->nr)
		collect_offers(fs, from, place, grants, 1);
	if (!place->nr)
		return false;
	weft_grants_cut(from, grants[weft_balancer_pick_place(place)], place->blocks, range);
	return true;
}

static u32 window_blocks(struct weft_inode *wi, u32 wanted)
{
	u64 of_file = (i_size_read(&wi->vfs_inode) >> WEFT_BLOCK_SHIFT) / WINDOW_OF_FILE;

	return max_t(u64, wanted, clamp_t(u64, of_file, WINDOW_BLOCKS_MIN, WINDOW_BLOCKS_MAX));
}

static bool take_from_window(struct weft_inode *wi, u32 wanted, struct weft_range *range)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);

	if (!wi->window_blocks)
		return false;
	range->pool_block = wi->window_block;
	range->blocks = min_t(u64, wi->window_blocks, wanted);
	wi->window_block += range->blocks;
	wi->window_blocks -= range->blocks;
	class_of(fs, wi->window_copies)->window_blocks -= range->blocks;
	if (!wi->window_blocks)
		list_del_init(&wi->window_link);
	return true;
}

static bool try_take(struct weft_inode *wi, struct weft_space_class *class, u64 file_block,
		     u32 wanted, struct weft_range *range)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);
	struct weft_place place = {
		.cluster = weft_pool_cluster(fs->pool),
		.ino = wi->vfs_inode.i_ino,
		.file_block = file_block,
		.blocks = window_blocks(wi, wanted),
	};
	struct weft_range window;

	lockdep_assert_held(&fs->space.lock);
	if (take_from_window(wi, wanted, range))
		return true;
	if (!cut_window(fs, &class->grants, &place, &window))
		return false;
	wi->window_block = window.pool_block;
	wi->window_blocks = window.blocks;
	wi->window_copies = class->copies;
	class->window_blocks += window.blocks;
	list_add(&wi->window_link, &fs->space.windows);
	return take_from_window(wi, wanted, range);
}

int weft_space_take(struct weft_inode *wi, u64 file_block, u32 wanted, struct weft_range *range)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);
	struct weft_space_class *class = class_of(fs, inode_copies(wi));
	struct weft_space *space = &fs->space;
	bool refilled = false;

	might_sleep();
	/* the window was cut before the file was to have another number of copies */
	if (READ_ONCE(wi->window_blocks) && READ_ONCE(wi->window_copies) != class->copies)
		weft_space_close_window(wi);
	for (;;) {
		u64 refills;
		bool low, taken;
		int error;

		spin_lock(&space->lock);
		taken = try_take(wi, class, file_block, wanted, range);
		low = class_blocks(class) < space->refill_blocks / LOW_WATER_OF_REFILL;
		refills = class->refills;
		error = class->error;
		spin_unlock(&space->lock);

		/* A pool that is full is not asked again before somebody really needs space. */
		if (low && !(taken && error))
			queue_work(fs->space_wq, &class->refill);
		if (taken)
			return 0;
		if (refilled && error)
			return error;
		if (wait_event_killable(space->wait, READ_ONCE(class->refills) != refills))
			return -EINTR;
		refilled = true;
	}
}

static void close_window(struct weft_inode *wi, struct weft_fs *fs, struct weft_grant *grant)
{
	struct weft_space_class *class = class_of(fs, wi->window_copies);

	lockdep_assert_held(&fs->space.lock);
	grant->pool_block = wi->window_block;
	grant->blocks = wi->window_blocks;
	class->window_blocks -= wi->window_blocks;
	wi->window_blocks = 0;
	list_del_init(&wi->window_link);
	weft_grants_add(&class->grants, grant);
}

void weft_space_close_window(struct weft_inode *wi)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);
	struct weft_grant *grant;

	if (!READ_ONCE(wi->window_blocks))
		return;
	grant = kmalloc(sizeof(*grant), GFP_NOFS | __GFP_NOFAIL);
	spin_lock(&fs->space.lock);
	if (wi->window_blocks) {
		close_window(wi, fs, grant);
		grant = NULL;
	}
	spin_unlock(&fs->space.lock);
	kfree(grant);
}

/* Nobody should get ENOSPC for space that another file only holds in its window. */
static void close_all_windows(struct weft_fs *fs)
{
	struct weft_space *space = &fs->space;
	struct weft_inode *wi;

	for (;;) {
		struct weft_grant *grant = kmalloc(sizeof(*grant), GFP_NOFS | __GFP_NOFAIL);

		spin_lock(&space->lock);
		wi = list_first_entry_or_null(&space->windows, struct weft_inode, window_link);
		if (wi)
			close_window(wi, fs, grant);
		spin_unlock(&space->lock);
		if (!wi) {
			kfree(grant);
			return;
		}
	}
}

u64 weft_space_free_blocks(struct weft_fs *fs)
{
	u64 blocks = 0;

	spin_lock(&fs->space.lock);
	for (u32 copies = 1; copies <= WEFT_COPIES_MAX; copies++)
		blocks += class_blocks(class_of(fs, copies));
	spin_unlock(&fs->space.lock);
	return blocks;
}

static int fetch_grants(struct weft_space_class *class, struct weft_range *ranges)
{
	struct weft_fs *fs = class->fs;
	u32 closes = weft_pool_closes(fs->pool), count = 0;
	u64 chunk = U64_MAX;
	int error;

	error = weft_upcall_grant(fs, class->copies, fs->space.refill_blocks, ranges,
				  REFILL_RANGES_MAX, &count);
	for (u32 i = 0; i < count; i++) {
		/*
		 * Where the copies are is asked now: neither the balancer nor a write waits for it.
		 */
		if (!error && chunk != ranges[i].pool_block >> ilog2(fs->chunk_blocks))
			error = weft_pool_granted(fs->pool, ranges[i].pool_block, closes);
		chunk = ranges[i].pool_block >> ilog2(fs->chunk_blocks);
		note_class(fs, ranges[i].pool_block, class->copies);
		weft_space_give(fs, ranges[i].pool_block, ranges[i].blocks);
	}
	return error;
}

/* Takes what lies in grants of other classes; returns how many ranges. */
static u32 take_others(struct weft_space_class *class, struct weft_range *ranges)
{
	struct weft_fs *fs = class->fs;
	u32 count = 0;

	spin_lock(&fs->space.lock);
	for (u32 copies = 1; copies <= WEFT_COPIES_MAX; copies++) {
		struct weft_grants *grants = &class_of(fs, copies)->grants;
		struct weft_grant *grant, *next;

		if (copies == class->copies)
			continue;
		list_for_each_entry_safe(grant, next, &grants->offers, offer) {
			if (count == REFILL_RANGES_MAX)
				break;
			weft_grants_cut(grants, grant, grant->blocks, &ranges[count++]);
		}
	}
	spin_unlock(&fs->space.lock);
	return count;
}

/* Another class may hold what this one could have: its chunks, once empty, make room for others. */
static int release_others(struct weft_space_class *class, struct weft_range *ranges)
{
	u32 i, count = take_others(class, ranges);
	bool in_doubt;
	int error;

	if (!count)
		return -ENOSPC;
	error = weft_upcall_release(class->fs, ranges, count, &in_doubt);
	/* in doubt they may be another client's or file's by now: the session's end frees them */
	if (error && !in_doubt)
		for (i = 0; i < count; i++)
			weft_space_give(class->fs, ranges[i].pool_block, ranges[i].blocks);
	return error;
}

/* How much at a time follows from what the pool can store now; targets come and go. */
static void size_refill(struct weft_fs *fs)
{
	struct weft_statfs_rep stat;

	if (weft_upcall_statfs(fs, &stat))
		return;		/* as it was: the grant will say what is wrong */
	WRITE_ONCE(fs->space.refill_blocks, clamp_t(u64, stat.blocks / REFILL_OF_POOL,
						    REFILL_BLOCKS_MIN, REFILL_BLOCKS_MAX));
}

static int refill(struct weft_space_class *class)
{
	struct weft_range *ranges = kmalloc_array(REFILL_RANGES_MAX, sizeof(*ranges), GFP_NOFS);
	struct weft_fs *fs = class->fs;
	int error;

	if (!ranges)
		return -ENOMEM;
	size_refill(fs);
	error = fetch_grants(class, ranges);
	if (error == -ENOSPC) {
		/* What has been deleted here may not have reached the server. */
		weft_commit_drain(fs);
		weft_orphan_drain(fs);
		close_all_windows(fs);
		error = fetch_grants(class, ranges);
	}
	if (error == -ENOSPC && !release_others(class, ranges))
		error = fetch_grants(class, ranges);
	kfree(ranges);
	return error;
}

static void refill_work(struct work_struct *work)
{
	struct weft_space_class *class = container_of(work, struct weft_space_class, refill);
	struct weft_space *space = &class->fs->space;
	int error = refill(class);

	spin_lock(&space->lock);
	class->error = error;
	WRITE_ONCE(class->refills, class->refills + 1);
	spin_unlock(&space->lock);
	wake_up_all(&space->wait);
}

void weft_space_init(struct weft_fs *fs)
{
	struct weft_space *space = &fs->space;

	spin_lock_init(&space->lock);
	INIT_LIST_HEAD(&space->windows);
	xa_init(&space->chunks);
	init_waitqueue_head(&space->wait);
	space->refill_blocks = REFILL_BLOCKS_MIN;
	for (u32 copies = 1; copies <= WEFT_COPIES_MAX; copies++) {
		struct weft_space_class *class = class_of(fs, copies);

		class->fs = fs;
		class->copies = copies;
		weft_grants_init(&class->grants, fs->chunk_blocks);
		INIT_WORK(&class->refill, refill_work);
	}
}

/* The server takes the grants back when the session ends. */
void weft_space_exit(struct weft_fs *fs)
{
	/* a refill looks at the grants of all classes */
	for (u32 copies = 1; copies <= WEFT_COPIES_MAX; copies++)
		cancel_work_sync(&class_of(fs, copies)->refill);
	for (u32 copies = 1; copies <= WEFT_COPIES_MAX; copies++)
		weft_grants_free(&class_of(fs, copies)->grants);
	xa_destroy(&fs->space.chunks);
}
