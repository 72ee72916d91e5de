// SPDX-License-Identifier: GPL-2.0
#include <linux/log2.h>
#include <linux/slab.h>
#include "extent.h"

static struct kmem_cache *extent_cache;

static struct weft_extent_node *extent_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct weft_extent_node, node);
}

static u64 pool_end(const struct weft_extent_node *extent)
{
	return extent->pool_block + extent->blocks;
}

static void map_changed(struct weft_extent_map *map)
{
	lockdep_assert_held_write(&map->lock);
	WRITE_ONCE(map->sequence, map->sequence + 1);
}

/*
 * The map changes in completions of writeback too, which cannot back out; the few bytes are worth
 * waiting for.
 */
static struct weft_extent_node *extent_new(void)
{
	struct weft_extent_node *extent;

	extent = kmem_cache_alloc(extent_cache, GFP_NOFS | __GFP_NOFAIL);
	INIT_LIST_HEAD(&extent->link);
	return extent;
}

static void extent_free(struct weft_extent_map *map, struct weft_extent_node *extent)
{
	rb_erase(&extent->node, &map->tree);
	list_del(&extent->link);
	kmem_cache_free(extent_cache, extent);
}

static void extent_link(struct weft_extent_map *map, struct weft_extent_node *extent)
{
	struct rb_node **link = &map->tree.rb_node;
	struct rb_node *parent = NULL;

	while (*link) {
		parent = *link;
		if (extent->file_block < extent_of(parent)->file_block)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&extent->node, parent, link);
	rb_insert_color(&extent->node, &map->tree);
}

static bool extents_join(const struct weft_extent_map *map, const struct weft_extent_node *left,
			 const struct weft_extent_node *right)
{
	return left->state == right->state && left->flags == right->flags &&
	       !(left->flags & WEFT_COMMITTING) &&
	       weft_extent_end(left) == right->file_block && pool_end(left) == right->pool_block &&
	       (right->pool_block & (map->chunk_blocks - 1));
}

static void extent_absorb_next(struct weft_extent_map *map, struct weft_extent_node *extent)
{
	struct weft_extent_node *next = weft_extents_next(extent);

	if (next && extents_join(map, extent, next)) {
		extent->blocks += next->blocks;
		extent_free(map, next);
	}
}

/* Joins an extent with its neighbours; it may be gone after. */
static void extent_merge(struct weft_extent_map *map, struct weft_extent_node *extent)
{
	struct weft_extent_node *prev = extent_of(rb_prev(&extent->node));

	extent_absorb_next(map, extent);
	if (prev)
		extent_absorb_next(map, prev);
}

/* Cuts an extent in two; the second begins at file block `at`. */
static void extent_split(struct weft_extent_map *map, struct weft_extent_node *extent, u64 at)
{
	struct weft_extent_node *right = extent_new();
	u32 left_blocks = at - extent->file_block;

	right->file_block = at;
	right->pool_block = extent->pool_block + left_blocks;
	right->blocks = extent->blocks - left_blocks;
	right->state = extent->state;
	right->flags = extent->flags;
	extent->blocks = left_blocks;
	extent_link(map, right);
	if (!list_empty(&extent->link))
		list_add(&right->link, &extent->link);
}

/* The first extent of [block, end), cut so that it lies inside; NULL: none. */
static struct weft_extent_node *extent_inside(struct weft_extent_map *map, u64 block, u64 end)
{
	struct weft_extent_node *extent = weft_extents_find(map, block);

	if (!extent || extent->file_block >= end)
		return NULL;
	if (extent->file_block < block) {
		extent_split(map, extent, block);
		extent = weft_extents_next(extent);
	}
	if (weft_extent_end(extent) > end)
		extent_split(map, extent, end);
	return extent;
}

/* A COMMITTING extent stays on its list; it becomes dirty again when the commit ends. */
static void extent_mark_dirty(struct weft_extent_map *map, struct weft_extent_node *extent)
{
	extent->flags |= WEFT_DIRTY;
	if (!(extent->flags & WEFT_COMMITTING))
		list_move_tail(&extent->link, &map->dirty);
}

void weft_extents_init(struct weft_extent_map *map, u32 chunk_blocks)
{
	init_rwsem(&map->lock);
	map->tree = RB_ROOT;
	INIT_LIST_HEAD(&map->dirty);
	INIT_LIST_HEAD(&map->staged);
	INIT_LIST_HEAD(&map->sent);
	map->blocks = 0;
	map->sequence = 0;
	map->chunk_blocks = chunk_blocks;
}

struct weft_extent_node *weft_extents_find(const struct weft_extent_map *map, u64 block)
{
	struct rb_node *node = map->tree.rb_node;
	struct weft_extent_node *found = NULL;

	lockdep_assert_held(&map->lock);
	while (node) {
		struct weft_extent_node *extent = extent_of(node);

		if (weft_extent_end(extent) > block) {
			found = extent;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found;
}

struct weft_extent_node *weft_extents_next(const struct weft_extent_node *extent)
{
	return extent_of(rb_next(&extent->node));
}

void weft_extents_insert(struct weft_extent_map *map, const struct weft_extent *range,
			 enum weft_extent_state state, u8 flags)
{
	struct weft_extent_node *extent = extent_new();

	map_changed(map);
	extent->file_block = range->file_block;
	extent->pool_block = range->pool_block;
	extent->blocks = range->blocks;
	extent->state = state;
	extent->flags = flags;
	extent_link(map, extent);
	map->blocks += extent->blocks;
	if (flags & WEFT_DIRTY)
		extent_mark_dirty(map, extent);
	extent_merge(map, extent);
}

#define FROM(state)	BIT(state)

/* Extents of [block, end) in one of the states `from` go to the state `to`. */
static bool extents_change(struct weft_extent_map *map, u64 block, u64 end, unsigned int from,
			   enum weft_extent_state to)
{
	struct weft_extent_node *extent;
	bool changed = false;

	while (block < end) {
		extent = weft_extents_find(map, block);
		if (!extent || extent->file_block >= end)
			break;
		if (!(from & FROM(extent->state))) {
			block = weft_extent_end(extent);
			continue;
		}
		map_changed(map);
		changed = true;
		extent = extent_inside(map, block, end);
		block = weft_extent_end(extent);
		extent->state = to;
		extent_mark_dirty(map, extent);
		extent_merge(map, extent);
	}
	return changed;
}

bool weft_extents_written(struct weft_extent_map *map, u64 block, u64 end)
{
	return extents_change(map, block, end, FROM(WEFT_NEW) | FROM(WEFT_UNWRITTEN), WEFT_WRITTEN);
}

bool weft_extents_zero(struct weft_extent_map *map, u64 block, u64 end)
{
	return extents_change(map, block, end, FROM(WEFT_NEW) | FROM(WEFT_WRITTEN), WEFT_UNWRITTEN);
}

bool weft_extents_keep(struct weft_extent_map *map, u64 block, u64 end)
{
	return extents_change(map, block, end, FROM(WEFT_NEW), WEFT_UNWRITTEN);
}

bool weft_extents_drop(struct weft_extent_map *map, u64 block, u64 end, struct weft_fs *fs,
		       void (*give)(struct weft_fs *fs, u64 pool_block, u64 blocks))
{
	struct weft_extent_node *extent;
	bool tell = false;

	while ((extent = extent_inside(map, block, end))) {
		map_changed(map);
		if (extent->flags & (WEFT_ONSERVER | WEFT_COMMITTING))
			tell = true;
		else
			give(fs, extent->pool_block, extent->blocks);
		map->blocks -= extent->blocks;
		extent_free(map, extent);
	}
	return tell;
}

bool weft_extents_stage(struct weft_extent_map *map)
{
	struct weft_extent_node *extent;

	lockdep_assert_held_write(&map->lock);
	list_for_each_entry(extent, &map->dirty, link) {
		extent->flags &= ~(WEFT_DIRTY | WEFT_TELL_UNWRITTEN);
		extent->flags |= WEFT_COMMITTING;
		if (extent->state == WEFT_UNWRITTEN)
			extent->flags |= WEFT_TELL_UNWRITTEN;
	}
	list_splice_tail_init(&map->dirty, &map->staged);
	return !list_empty(&map->staged);
}

u32 weft_extents_send(struct weft_extent_map *map, struct weft_extent *out, u32 max)
{
	struct weft_extent_node *extent, *next;
	u32 count = 0;

	lockdep_assert_held_write(&map->lock);
	list_for_each_entry_safe(extent, next, &map->staged, link) {
		if (count == max)
			break;
		out[count++] = (struct weft_extent){
			.file_block = extent->file_block,
			.pool_block = extent->pool_block,
			.blocks = extent->blocks,
			.flags = extent->flags & WEFT_TELL_UNWRITTEN ? WEFT_EXTENT_UNWRITTEN : 0,
		};
		list_move_tail(&extent->link, &map->sent);
	}
	return count;
}

void weft_extents_unsend(struct weft_extent_map *map)
{
	lockdep_assert_held_write(&map->lock);
	list_splice_init(&map->sent, &map->staged);
}

void weft_extents_committed(struct weft_extent_map *map, bool success)
{
	struct weft_extent_node *extent;

	lockdep_assert_held_write(&map->lock);
	list_splice_tail_init(&map->staged, &map->sent);
	while ((extent = list_first_entry_or_null(&map->sent, struct weft_extent_node, link))) {
		list_del_init(&extent->link);
		extent->flags &= ~(WEFT_COMMITTING | WEFT_TELL_UNWRITTEN);
		if (success)
			extent->flags |= WEFT_ONSERVER;
		else
			extent->flags |= WEFT_DIRTY;
		if (extent->flags & WEFT_DIRTY)
			extent_mark_dirty(map, extent);
		extent_merge(map, extent);
	}
}

int weft_extents_cache_init(void)
{
	extent_cache = KMEM_CACHE(weft_extent_node, SLAB_RECLAIM_ACCOUNT);
	return extent_cache ? 0 : -ENOMEM;
}

void weft_extents_cache_exit(void)
{
	kmem_cache_destroy(extent_cache);
}
