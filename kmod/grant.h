/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A set of grants: ranges of the pool that this client may use and no file uses yet. Neighbours
 * within a chunk are merged. Under its owner's lock (weft_space.lock).
 */
#ifndef _WEFT_GRANT_H
#define _WEFT_GRANT_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include "uapi/weft.h"

struct weft_grant {
	struct rb_node node;
	struct list_head offer;
	u64 pool_block;
	u64 blocks;
};

struct weft_grants {
	struct rb_root tree;		/* by pool_block */
	struct list_head offers;	/* the same, in the order in which they are offered */
	u64 blocks;			/* of all of them */
	u32 chunk_blocks;
};

void weft_grants_init(struct weft_grants *grants, u32 chunk_blocks);
void weft_grants_free(struct weft_grants *grants);
/* Takes over `grant`, which came from kmalloc(). */
void weft_grants_add(struct weft_grants *grants, struct weft_grant *grant);
/* The first blocks of one of its grants, which may be gone after. */
void weft_grants_cut(struct weft_grants *grants, struct weft_grant *grant, u64 blocks,
		     struct weft_range *range);

#endif
