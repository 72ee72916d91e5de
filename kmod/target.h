/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module knows of a target: what the agent told of it and what it has counted itself. A
 * target that was named once stays until its channel is freed, so a pointer to it needs no
 * reference. Counters may be updated from any context.
 */
#ifndef _WEFT_TARGET_H
#define _WEFT_TARGET_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kobject.h>
#include <linux/list.h>

#include "balancer.h"
#include "histogram.h"
#include "uapi/weft.h"

struct weft_channel;
struct weft_device;

struct weft_target {
	u32 id;
	struct weft_target_info info;	/* written under channel->targets_lock, read without */
	u64 first_incarnation;		/* likewise; 0 until there is one */
	u64 info_ns;			/* ktime when info was told; likewise */

	struct weft_device __rcu *device;	/* under channel->targets_lock; see direct.h */

	atomic_t inflight;
	atomic64_t direct;		/* requests that went to it */
	atomic64_t reads;
	atomic64_t writes;
	atomic64_t read_bytes;
	atomic64_t write_bytes;
	atomic64_t errors;
	u64 ewma_latency_ns;		/* updates race and may lose a sample */
	struct weft_histogram read_latency;
	struct weft_histogram write_latency;

	/* the flush that is running; its worker's (flush.c) */
	struct list_head flush_node;
	int flush_error;
	u64 flush_incarnation;		/* that the FLUSH was for */

	struct kobject kobj;
	struct completion kobj_released;
};

void weft_targets_init(struct weft_channel *ch);
void weft_targets_free(struct weft_channel *ch);
/* What WEFT_IOC_TARGETS says: all of it or, with -EINVAL, nothing. Others stay as they are. */
int weft_targets_update(struct weft_channel *ch, const struct weft_target_info *infos, u32 count);

/* Makes an entry for a target that the agent has not named yet. May sleep. ERR_PTR. */
struct weft_target *weft_target_find_or_create(struct weft_channel *ch, u32 id);
/* NULL: no such target. */
struct weft_target *weft_target_find(struct weft_channel *ch, u32 id);

void weft_target_begin(struct weft_target *target);
void weft_target_end(struct weft_target *target, struct weft_channel *ch, u32 op, u32 bytes,
		     int error, u64 latency_ns);
/* As the agent said last; 0: it has had no connection yet. */
u64 weft_target_incarnation(const struct weft_target *target);
/* What it acknowledges needs no flush. */
bool weft_target_is_durable(const struct weft_target *target);
/* Of what the target reported of itself, now; 0 before it has. */
u32 weft_target_report_age_ms(const struct weft_target *target);
void weft_target_fill_stat(struct weft_target *target, struct weft_target_stat *stat);

#endif
