// SPDX-License-Identifier: GPL-2.0
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "direct.h"
#include "sysfs.h"
#include "target.h"

#define EWMA_WEIGHT	8	/* a new sample counts 1/8 */
#define LOAD_MAX	1000
#define FLAGS_KNOWN	(WEFT_TARGET_LOCAL | WEFT_TARGET_REPORTED | WEFT_TARGET_DURABLE | \
			 WEFT_TARGET_LEASED)

void weft_targets_init(struct weft_channel *ch)
{
	mutex_init(&ch->targets_lock);
	xa_init(&ch->targets);
}

void weft_targets_free(struct weft_channel *ch)
{
	struct weft_target *target;
	unsigned long id;

	weft_direct_drop_all(ch);
	xa_for_each(&ch->targets, id, target) {
		WARN_ON_ONCE(atomic_read(&target->inflight));
		weft_sysfs_remove_target(target);
		kfree(target);
	}
	xa_destroy(&ch->targets);
}

struct weft_target *weft_target_find(struct weft_channel *ch, u32 id)
{
	return xa_load(&ch->targets, id);
}

static struct weft_target *target_create(struct weft_channel *ch, u32 id)
{
	struct weft_target *target;
	int ret;

	lockdep_assert_held(&ch->targets_lock);
	if (ch->target_count >= WEFT_TARGETS_MAX)
		return ERR_PTR(-ENOSPC);
	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target)
		return ERR_PTR(-ENOMEM);
	target->id = id;
	target->info.id = id;
	target->info.state = WEFT_TARGET_UP;
	target->info.weight = 100;
	INIT_LIST_HEAD(&target->flush_node);
	ret = weft_sysfs_add_target(ch, target);
	if (ret)
		goto free_target;
	ret = xa_err(xa_store(&ch->targets, id, target, GFP_KERNEL));
	if (ret)
		goto remove_sysfs;
	ch->target_count++;
	return target;

remove_sysfs:
	weft_sysfs_remove_target(target);
free_target:
	kfree(target);
	return ERR_PTR(ret);
}

struct weft_target *weft_target_find_or_create(struct weft_channel *ch, u32 id)
{
	struct weft_target *target = weft_target_find(ch, id);
	unsigned int noio;

	if (target)
		return target;
	/* a write may wait for targets_lock to have its chunk's map stored */
	noio = memalloc_noio_save();
	mutex_lock(&ch->targets_lock);
	target = weft_target_find(ch, id);
	if (!target)
		target = target_create(ch, id);
	mutex_unlock(&ch->targets_lock);
	memalloc_noio_restore(noio);
	return target;
}

static bool info_is_valid(const struct weft_target_info *info)
{
	if (!info->id || info->reserved1 || info->load > LOAD_MAX || info->flags & ~FLAGS_KNOWN ||
	    info->paths_usable > info->paths)
		return false;
	if (info->state != WEFT_TARGET_UP && info->state != WEFT_TARGET_DOWN)
		return false;
	return strnlen(info->name, sizeof(info->name)) < sizeof(info->name);
}

/*
 * An agent that has just started knows none until it is connected: the old one stays. True: what
 * was written under the one before is lost.
 */
static bool target_set_incarnation(struct weft_target *target, u64 incarnation)
{
	u64 was = target->info.incarnation;

	if (!incarnation || incarnation == was)
		return false;
	if (!was)
		WRITE_ONCE(target->first_incarnation, incarnation);
	WRITE_ONCE(target->info.incarnation, incarnation);
	return was;
}

static void target_set_info(struct weft_target *target, const struct weft_target_info *info)
{
	WRITE_ONCE(target->info.state, info->state);
	WRITE_ONCE(target->info.weight, info->weight);
	WRITE_ONCE(target->info.zone, info->zone);
	WRITE_ONCE(target->info.queue_depth, info->queue_depth);
	WRITE_ONCE(target->info.load, info->load);
	WRITE_ONCE(target->info.device_latency_us, info->device_latency_us);
	WRITE_ONCE(target->info.report_age_ms, info->report_age_ms);
	WRITE_ONCE(target->info.flags, info->flags);
	WRITE_ONCE(target->info.paths_usable, info->paths_usable);
	WRITE_ONCE(target->info.paths, info->paths);
	WRITE_ONCE(target->info_ns, ktime_get_ns());
	memcpy(target->info.name, info->name, sizeof(info->name));
}

int weft_targets_update(struct weft_channel *ch, const struct weft_target_info *infos, u32 count)
{
	struct weft_target *target;
	bool kick = false, reborn = false;
	u32 i;

	for (i = 0; i < count; i++)
		if (!info_is_valid(&infos[i]))
			return -EINVAL;
	for (i = 0; i < count; i++) {
		target = weft_target_find_or_create(ch, infos[i].id);
		if (IS_ERR(target))
			return PTR_ERR(target);
		mutex_lock(&ch->targets_lock);
		reborn |= target_set_incarnation(target, infos[i].incarnation);
		target_set_info(target, &infos[i]);
		mutex_unlock(&ch->targets_lock);
		kick |= infos[i].state == WEFT_TARGET_UP;
	}
	if (reborn)
		weft_channel_reborn(ch);
	if (kick)
		weft_channel_kick_pool(ch);
	return 0;
}

void weft_target_begin(struct weft_target *target)
{
	atomic_inc(&target->inflight);
}

static void target_sample(struct weft_target *target, u64 latency_ns)
{
	u64 old = READ_ONCE(target->ewma_latency_ns);

	if (old)
		latency_ns = old - old / EWMA_WEIGHT + latency_ns / EWMA_WEIGHT;
	WRITE_ONCE(target->ewma_latency_ns, latency_ns);
}

void weft_target_end(struct weft_target *target, struct weft_channel *ch, u32 op, u32 bytes,
		     int error, u64 latency_ns)
{
	struct weft_done done = {
		.cluster = ch->number,
		.target = target->id,
		.op = op,
		.bytes = error ? 0 : bytes,
		.error = error,
		.latency_ns = latency_ns,
	};

	atomic_dec(&target->inflight);
	if (error) {
		atomic64_inc(&target->errors);
	} else if (op == WEFT_OP_READ) {
		atomic64_inc(&target->reads);
		atomic64_add(bytes, &target->read_bytes);
		target_sample(target, latency_ns);
		weft_histogram_add(&target->read_latency, latency_ns);
	} else if (op == WEFT_OP_WRITE) {
		atomic64_inc(&target->writes);
		atomic64_add(bytes, &target->write_bytes);
		weft_histogram_add(&target->write_latency, latency_ns);
	}
	weft_balancer_io_done(&done);
}

u64 weft_target_incarnation(const struct weft_target *target)
{
	return READ_ONCE(target->info.incarnation);
}

bool weft_target_is_durable(const struct weft_target *target)
{
	return READ_ONCE(target->info.flags) & WEFT_TARGET_DURABLE;
}

u32 weft_target_report_age_ms(const struct weft_target *target)
{
	u64 since_ms = div_u64(ktime_get_ns() - READ_ONCE(target->info_ns), NSEC_PER_MSEC);

	if (!(READ_ONCE(target->info.flags) & WEFT_TARGET_REPORTED))
		return 0;
	return min_t(u64, READ_ONCE(target->info.report_age_ms) + since_ms, U32_MAX);
}

void weft_target_fill_stat(struct weft_target *target, struct weft_target_stat *stat)
{
	s64 reads = atomic64_read(&target->reads), writes = atomic64_read(&target->writes);

	*stat = (struct weft_target_stat) {
		.id = target->id,
		.state = READ_ONCE(target->info.state),
		.inflight = atomic_read(&target->inflight),
		.weight = READ_ONCE(target->info.weight),
		.zone = READ_ONCE(target->info.zone),
		.queue_depth = READ_ONCE(target->info.queue_depth),
		.load = READ_ONCE(target->info.load),
		.ewma_latency_ns = READ_ONCE(target->ewma_latency_ns),
		.requests = reads + writes,
		.bytes = atomic64_read(&target->read_bytes) + atomic64_read(&target->write_bytes),
		.errors = atomic64_read(&target->errors),
		.flags = READ_ONCE(target->info.flags),
		.device_latency_us = READ_ONCE(target->info.device_latency_us),
		.report_age_ms = weft_target_report_age_ms(target),
		.paths_usable = READ_ONCE(target->info.paths_usable),
		.paths = READ_ONCE(target->info.paths),
	};
}
