/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The inside of a channel, for the files that make it up: agent.c, call.c, channel.c, chunk.c,
 * device.c, request.c, sysfs.c, target.c and the pool disk.
 *
 * A channel belongs to a cluster. It is born when an agent first attaches and lives while an
 * agent is attached or somebody holds it by weft_channel_get(); so a mount keeps it, with all
 * its requests and buffers, over the death of its agent.
 */
#ifndef _WEFT_CHANNEL_PRIVATE_H
#define _WEFT_CHANNEL_PRIVATE_H

#include <linux/completion.h>
#include <linux/kobject.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "agent.h"
#include "channel.h"
#include "request.h"
#include "slot.h"

struct weft_pool;

struct weft_channel {
	struct kref refs;
	struct list_head node;		/* of all channels, under weft_channels_lock */
	char cluster[WEFT_CLUSTER_NAME_MAX];
	u32 number;			/* of the cluster on this host, from 1 */
	u8 client[16];
	struct rcu_head rcu;

	struct weft_buffer buffer;
	u32 depth;
	struct weft_ids tags;
	struct weft_request *requests;	/* depth of them */

	/* The agent that requests are put on the rings of, while they are. Written under lock. */
	struct weft_agent __rcu *live;

	spinlock_t lock;		/* from here to parked_count */
	struct weft_agent *agent;	/* from ATTACH until its control fd is released */
	u32 epoch;			/* of the last attachment */
	u32 clean_epoch;		/* nothing is registered by attachments before this one */
	bool claimed;
	bool soft;
	bool aborted;
	u32 grace_ms;
	u64 session;
	u64 seq_session;		/* the session that meta_seq counts for */
	struct weft_pool *pool;
	struct list_head parked;	/* by the time of parking */
	u32 parked_count;

	u64 meta_seq[WEFT_META_SLOTS];	/* the last one used; owned by who holds the slot */
	wait_queue_head_t detached;	/* agent became NULL */
	struct delayed_work grace_work;
	atomic64_t bad_completions;
	atomic64_t stale_marks;		/* copies that this client marked */
	atomic_t open_chunks;		/* of the mount's pool disk */

	struct mutex targets_lock;	/* adding to targets */
	struct xarray targets;		/* by id; they stay until the channel is freed */
	u32 target_count;
	u64 lease_until_ns;		/* CLOCK_BOOTTIME; what the agent said last, 0: none */

	struct kobject kobj;
	struct completion kobj_released;
	struct kobject *targets_kobj;
};

extern struct mutex weft_channels_lock;

/* The channel of a cluster with a reference, made if there is none. weft_channels_lock is held. */
struct weft_channel *weft_channel_find_or_create(const char *cluster, u32 depth, u64 pool_bytes);
void weft_channel_hold(struct weft_channel *ch);	/* by who has a reference */
/* The channel with this number, 0: any. Under rcu_read_lock(), valid as long. */
struct weft_channel *weft_channel_by_number(u32 number);

/* lock is held: what follows from agent, aborted: requests flow or park. */
void weft_channel_update_live(struct weft_channel *ch);
/* Requests may have been parked: sees to it that those of a soft mount do not stay so for ever. */
void weft_channel_start_grace(struct weft_channel *ch);
/* A request that has failed since `since` (jiffies) may be tried again. */
bool weft_channel_may_retry(struct weft_channel *ch, unsigned long since);
bool weft_channel_is_aborted(struct weft_channel *ch);
/* Tells the mount's pool disk that a target has another incarnation. */
void weft_channel_reborn(struct weft_channel *ch);
/* Tells the mount's pool disk that trying again may help now. */
void weft_channel_kick_pool(struct weft_channel *ch);

#endif
