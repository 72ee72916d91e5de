// SPDX-License-Identifier: GPL-2.0
/*
 * Space. The metadata server grants ranges of the pool to this client; files take windows of them
 * and their blocks from the window, so that the blocks of one file lie together although many are
 * written at once. The balancer chooses the grant that a window is cut from: that places the data.
 *
 * A worker fetches more when little is left; who needs space while there is none waits for it, and
 * gets ENOSPC when the server has none and nothing that lies idle here helps.
 */
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/rbtree.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "balancer.h"
#include "upcall.h"

#define WINDOW_BLOCKS_MIN	(SZ_64K >> WEFT_BLOCK_SHIFT)
#define WINDOW_BLOCKS_MAX	(SZ_4M >> WEFT_BLOCK_SHIFT)
#define WINDOW_OF_FILE		8	/* a window is at most this part of the file */
#define REFILL_BLOCKS_MIN	(SZ_4M >> WEFT_BLOCK_SHIFT)
#define REFILL_BLOCKS_MAX	(SZ_256M >> WEFT_BLOCK_SHIFT)
#define REFILL_OF_POOL		64	/* asked for at a time: this part of the pool */
#define REFILL_RANGES_MAX	64
#define LOW_WATER_OF_REFILL	2	/* more is fetched when less than this part is left */
#define OFFERS_LOOKED_AT	64	/* grants looked at for WEFT_PLACE_MAX offers */

struct weft_grant {
	struct rb_node node;
	struct list_head offer;
	u64 pool_block;
	u64 blocks;
};

static struct weft_grant *grant_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct weft_grant, node);
}

static bool grants_join(const struct weft_fs *fs, const struct weft_grant *left,
			const struct weft_grant *right)
{
	return left && right && left->pool_block + left->blocks == right->pool_block &&
	       (right->pool_block & (fs->chunk_blocks - 1));
}

static void grant_remove(struct weft_space *space, struct weft_grant *grant)
{
	rb_erase(&grant->node, &space->tree);
	list_del(&grant->offer);
	kfree(grant);
}

static void grant_absorb_next(struct weft_fs *fs, struct weft_grant *grant)
{
	struct weft_grant *next = grant_of(rb_next(&grant->node));

	if (grants_join(fs, grant, next)) {
		grant->blocks += next->blocks;
		grant_remove(&fs->space, next);
	}
}

static void grant_add(struct weft_fs *fs, struct weft_grant *grant)
{
	struct weft_space *space = &fs->space;
	struct rb_node **link = &space->tree.rb_node;
	struct rb_node *parent = NULL;
	struct weft_grant *prev;

	lockdep_assert_held(&space->lock);
	while (*link) {
		parent = *link;
		if (grant->pool_block < grant_of(parent)->pool_block)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&grant->node, parent, link);
	rb_insert_color(&grant->node, &space->tree);
	list_add_tail(&grant->offer, &space->offers);
	space->free_blocks += grant->blocks;

	grant_absorb_next(fs, grant);
	prev = grant_of(rb_prev(&grant->node));
	if (prev)
		grant_absorb_next(fs, prev);
}

void weft_space_give(struct weft_fs *fs, u64 pool_block, u64 blocks)
{
	struct weft_grant *grant = kmalloc(sizeof(*grant), GFP_NOFS | __GFP_NOFAIL);

	grant->pool_block = pool_block;
	grant->blocks = blocks;
	spin_lock(&fs->space.lock);
	grant_add(fs, grant);
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
static void collect_offers(struct weft_fs *fs, struct weft_place *place, struct weft_grant **grants,
			   u64 enough)
{
	u32 chunk_shift = ilog2(fs->chunk_blocks);
	u32 looked_at = 0;
	struct weft_grant *grant;

	list_for_each_entry(grant, &fs->space.offers, offer) {
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
static bool cut_window(struct weft_fs *fs, struct weft_place *place, struct weft_range *range)
{
	struct weft_grant *grants[WEFT_PLACE_MAX];
	struct weft_grant *grant;

	lockdep_assert_held(&fs->space.lock);
	collect_offers(fs, place, grants, place->blocks);
	if (!place->nr)
		collect_offers(fs, place, grants, 1);
	if (!place->nr)
		return false;
	grant = grants[weft_balancer_pick_place(place)];
	range->pool_block = grant->pool_block;
	range->blocks = min_t(u64, grant->blocks, place->blocks);
	if (range->blocks == grant->blocks) {
		grant_remove(&fs->space, grant);
	} else {
		/* The order of the tree stays as it is: only the front of the range goes. */
		grant->pool_block += range->blocks;
		grant->blocks -= range->blocks;
		list_move_tail(&grant->offer, &fs->space.offers);
	}
	return true;
}

static u32 window_blocks(struct weft_inode *wi, u32 wanted)
{
	u64 of_file = (i_size_read(&wi->vfs_inode) >> WEFT_BLOCK_SHIFT) / WINDOW_OF_FILE;

	return max_t(u64, wanted, clamp_t(u64, of_file, WINDOW_BLOCKS_MIN, WINDOW_BLOCKS_MAX));
}

static bool take_from_window(struct weft_inode *wi, u32 wanted, struct weft_range *range)
{
	struct weft_space *space = &weft_fs_of(&wi->vfs_inode)->space;

	if (!wi->window_blocks)
		return false;
	range->pool_block = wi->window_block;
	range->blocks = min_t(u64, wi->window_blocks, wanted);
	wi->window_block += range->blocks;
	wi->window_blocks -= range->blocks;
	if (!wi->window_blocks)
		list_del_init(&wi->window_link);
	space->free_blocks -= range->blocks;
	return true;
}

static bool try_take(struct weft_inode *wi, u64 file_block, u32 wanted, struct weft_range *range)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);
	struct weft_place place = {
		.cluster = weft_pool_cluster(weft_fs_of(&wi->vfs_inode)->pool),
		.ino = wi->vfs_inode.i_ino,
		.file_block = file_block,
		.blocks = window_blocks(wi, wanted),
	};
	struct weft_range window;

	lockdep_assert_held(&fs->space.lock);
	if (take_from_window(wi, wanted, range))
		return true;
	if (!cut_window(fs, &place, &window))
		return false;
	wi->window_block = window.pool_block;
	wi->window_blocks = window.blocks;
	list_add(&wi->window_link, &fs->space.windows);
	return take_from_window(wi, wanted, range);
}

int weft_space_take(struct weft_inode *wi, u64 file_block, u32 wanted, struct weft_range *range)
{
	struct weft_fs *fs = weft_fs_of(&wi->vfs_inode);
	struct weft_space *space = &fs->space;
	bool refilled = false;

	might_sleep();
	for (;;) {
		u64 refills;
		bool low, taken;
		int error;

		spin_lock(&space->lock);
		taken = try_take(wi, file_block, wanted, range);
		low = space->free_blocks < space->refill_blocks / LOW_WATER_OF_REFILL;
		refills = space->refills;
		error = space->error;
		spin_unlock(&space->lock);

		/* A pool that is full is not asked again before somebody really needs space. */
		if (low && !(taken && error))
			queue_work(fs->space_wq, &space->refill);
		if (taken)
			return 0;
		if (refilled && error)
			return error;
		if (wait_event_killable(space->wait, READ_ONCE(space->refills) != refills))
			return -EINTR;
		refilled = true;
	}
}

static void close_window(struct weft_space *space, struct weft_inode *wi, struct weft_fs *fs,
			 struct weft_grant *grant)
{
	lockdep_assert_held(&space->lock);
	grant->pool_block = wi->window_block;
	grant->blocks = wi->window_blocks;
	wi->window_blocks = 0;
	list_del_init(&wi->window_link);
	space->free_blocks -= grant->blocks;	/* grant_add() counts it again */
	grant_add(fs, grant);
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
		close_window(&fs->space, wi, fs, grant);
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
			close_window(space, wi, fs, grant);
		spin_unlock(&space->lock);
		if (!wi) {
			kfree(grant);
			return;
		}
	}
}

u64 weft_space_free_blocks(struct weft_fs *fs)
{
	return READ_ONCE(fs->space.free_blocks);
}

static int fetch_grants(struct weft_fs *fs)
{
	struct weft_range *ranges = kmalloc_array(REFILL_RANGES_MAX, sizeof(*ranges), GFP_NOFS);
	u32 count = 0;
	int error;

	if (!ranges)
		return -ENOMEM;
	error = weft_upcall_grant(fs, fs->space.refill_blocks, ranges, REFILL_RANGES_MAX, &count);
	for (u32 i = 0; i < count; i++) {
		/*
		 * Where the copies are is asked now: neither the balancer nor a write waits for it.
		 */
		if (!error)
			error = weft_pool_load(fs->pool, ranges[i].pool_block, ranges[i].blocks);
		weft_space_give(fs, ranges[i].pool_block, ranges[i].blocks);
	}
	kfree(ranges);
	return error;
}

static int refill(struct weft_fs *fs)
{
	int error = fetch_grants(fs);

	if (error != -ENOSPC)
		return error;
	/* What has been deleted here may not have reached the server. */
	weft_commit_drain(fs);
	weft_orphan_drain(fs);
	close_all_windows(fs);
	error = fetch_grants(fs);
	return error;
}

static void refill_work(struct work_struct *work)
{
	struct weft_fs *fs = container_of(work, struct weft_fs, space.refill);
	int error = refill(fs);

	spin_lock(&fs->space.lock);
	fs->space.error = error;
	WRITE_ONCE(fs->space.refills, fs->space.refills + 1);
	spin_unlock(&fs->space.lock);
	wake_up_all(&fs->space.wait);
}

void weft_space_init(struct weft_fs *fs)
{
	struct weft_space *space = &fs->space;

	spin_lock_init(&space->lock);
	space->tree = RB_ROOT;
	INIT_LIST_HEAD(&space->offers);
	INIT_LIST_HEAD(&space->windows);
	INIT_WORK(&space->refill, refill_work);
	init_waitqueue_head(&space->wait);
	space->refill_blocks = clamp_t(u64, fs->pool_blocks / REFILL_OF_POOL, REFILL_BLOCKS_MIN,
				       REFILL_BLOCKS_MAX);
}

/* The server takes the grants back when the session ends. */
void weft_space_exit(struct weft_fs *fs)
{
	struct weft_grant *grant, *next;

	cancel_work_sync(&fs->space.refill);
	list_for_each_entry_safe(grant, next, &fs->space.offers, offer)
		grant_remove(&fs->space, grant);
}
