// SPDX-License-Identifier: GPL-2.0
#include <linux/slab.h>
#include "grant.h"

static struct weft_grant *grant_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct weft_grant, node);
}

static bool grants_join(const struct weft_grants *grants, const struct weft_grant *left,
			const struct weft_grant *right)
{
	return left && right && left->pool_block + left->blocks == right->pool_block &&
	       (right->pool_block & (grants->chunk_blocks - 1));
}

static void grant_remove(struct weft_grants *grants, struct weft_grant *grant)
{
	rb_erase(&grant->node, &grants->tree);
	list_del(&grant->offer);
	kfree(grant);
}

static void grant_absorb_next(struct weft_grants *grants, struct weft_grant *grant)
{
	struct weft_grant *next = grant_of(rb_next(&grant->node));

	if (grants_join(grants, grant, next)) {
		grant->blocks += next->blocks;
		grant_remove(grants, next);
	}
}

void weft_grants_add(struct weft_grants *grants, struct weft_grant *grant)
{
	struct rb_node **link = &grants->tree.rb_node;
	struct rb_node *parent = NULL;
	struct weft_grant *prev;

	while (*link) {
		parent = *link;
		if (grant->pool_block < grant_of(parent)->pool_block)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&grant->node, parent, link);
	rb_insert_color(&grant->node, &grants->tree);
	list_add_tail(&grant->offer, &grants->offers);
	grants->blocks += grant->blocks;

	grant_absorb_next(grants, grant);
	prev = grant_of(rb_prev(&grant->node));
	if (prev)
		grant_absorb_next(grants, prev);
}

void weft_grants_cut(struct weft_grants *grants, struct weft_grant *grant, u64 blocks,
		     struct weft_range *range)
{
	range->pool_block = grant->pool_block;
	range->blocks = min(grant->blocks, blocks);
	grants->blocks -= range->blocks;
	if (range->blocks == grant->blocks) {
		grant_remove(grants, grant);
		return;
	}
	/* The order of the tree stays as it is: only the front of the range goes. */
	grant->pool_block += range->blocks;
	grant->blocks -= range->blocks;
	list_move_tail(&grant->offer, &grants->offers);
}

void weft_grants_init(struct weft_grants *grants, u32 chunk_blocks)
{
	grants->tree = RB_ROOT;
	INIT_LIST_HEAD(&grants->offers);
	grants->blocks = 0;
	grants->chunk_blocks = chunk_blocks;
}

void weft_grants_free(struct weft_grants *grants)
{
	struct weft_grant *grant, *next;

	list_for_each_entry_safe(grant, next, &grants->offers, offer)
		grant_remove(grants, grant);
	grants->blocks = 0;
}
