// SPDX-License-Identifier: GPL-2.0
/*
 * An object that is removed waits until its last reader is gone: show functions may use it
 * freely, but must not take weft_channels_lock or targets_lock, which removal and creation hold.
 */
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/sysfs.h>

#include "balancer.h"
#include "channel_private.h"
#include "sysfs.h"
#include "target.h"

static struct kobject *weft_root;	/* /sys/fs/weft */
static struct kobject *weft_balancer;

/* ---- CLUSTER ---- */

static struct weft_channel *to_channel(struct kobject *kobj)
{
	return container_of(kobj, struct weft_channel, kobj);
}

static ssize_t agent_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_channel *ch = to_channel(kobj);
	bool attached;

	spin_lock(&ch->lock);
	attached = ch->agent && !ch->agent->dead;
	spin_unlock(&ch->lock);
	return sysfs_emit(buf, "%s\n", attached ? "attached" : "detached");
}

static ssize_t epoch_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_channel(kobj)->epoch));
}

static ssize_t session_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(to_channel(kobj)->session));
}

static ssize_t parked_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(to_channel(kobj)->parked_count));
}

static ssize_t inflight_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", weft_requests_inflight(to_channel(kobj)));
}

static ssize_t bad_completions_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", atomic64_read(&to_channel(kobj)->bad_completions));
}

static ssize_t stale_marks_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", atomic64_read(&to_channel(kobj)->stale_marks));
}

static ssize_t open_chunks_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&to_channel(kobj)->open_chunks));
}

/* what is left of it; 0: over, or there is none */
static ssize_t lease_ms_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	u64 now = ktime_get_boottime_ns(), until = READ_ONCE(to_channel(kobj)->lease_until_ns);

	return sysfs_emit(buf, "%llu\n", until > now ? div_u64(until - now, NSEC_PER_MSEC) : 0);
}

/* what balancer policies and traces call the cluster by */
static ssize_t number_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_channel(kobj)->number);
}

static struct kobj_attribute agent_attr = __ATTR_RO(agent);
static struct kobj_attribute epoch_attr = __ATTR_RO(epoch);
static struct kobj_attribute session_attr = __ATTR_RO(session);
static struct kobj_attribute parked_attr = __ATTR_RO(parked);
static struct kobj_attribute inflight_attr = __ATTR_RO(inflight);
static struct kobj_attribute bad_completions_attr = __ATTR_RO(bad_completions);
static struct kobj_attribute stale_marks_attr = __ATTR_RO(stale_marks);
static struct kobj_attribute open_chunks_attr = __ATTR_RO(open_chunks);
static struct kobj_attribute lease_ms_attr = __ATTR_RO(lease_ms);
static struct kobj_attribute number_attr = __ATTR_RO(number);

static struct attribute *channel_attrs[] = {
	&agent_attr.attr,
	&epoch_attr.attr,
	&session_attr.attr,
	&parked_attr.attr,
	&inflight_attr.attr,
	&bad_completions_attr.attr,
	&stale_marks_attr.attr,
	&open_chunks_attr.attr,
	&lease_ms_attr.attr,
	&number_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(channel);

static void channel_released(struct kobject *kobj)
{
	complete(&to_channel(kobj)->kobj_released);
}

static const struct kobj_type channel_type = {
	.release	= channel_released,
	.sysfs_ops	= &kobj_sysfs_ops,
	.default_groups	= channel_groups,
};

static void remove_kobj(struct kobject *kobj, struct completion *released)
{
	kobject_del(kobj);
	kobject_put(kobj);
	wait_for_completion(released);
}

int weft_sysfs_add_channel(struct weft_channel *ch)
{
	int ret;

	init_completion(&ch->kobj_released);
	ret = kobject_init_and_add(&ch->kobj, &channel_type, weft_root, "%s", ch->cluster);
	if (ret)
		goto remove;
	ch->targets_kobj = kobject_create_and_add("targets", &ch->kobj);
	if (ch->targets_kobj)
		return 0;
	ret = -ENOMEM;
remove:
	remove_kobj(&ch->kobj, &ch->kobj_released);
	return ret;
}

void weft_sysfs_remove_channel(struct weft_channel *ch)
{
	kobject_del(ch->targets_kobj);
	kobject_put(ch->targets_kobj);
	remove_kobj(&ch->kobj, &ch->kobj_released);
}

/* ---- CLUSTER/targets/ID ---- */

static struct weft_target *to_target(struct kobject *kobj)
{
	return container_of(kobj, struct weft_target, kobj);
}

static ssize_t name_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%.*s\n", (int)sizeof(to_target(kobj)->info.name),
			  to_target(kobj)->info.name);
}

/* state inflight reads writes read_bytes write_bytes errors ewma_latency_ns */
static ssize_t stat_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_target *target = to_target(kobj);

	return sysfs_emit(buf, "%u %d %lld %lld %lld %lld %lld %llu\n",
			  READ_ONCE(target->info.state),
			  atomic_read(&target->inflight), atomic64_read(&target->reads),
			  atomic64_read(&target->writes), atomic64_read(&target->read_bytes),
			  atomic64_read(&target->write_bytes), atomic64_read(&target->errors),
			  READ_ONCE(target->ewma_latency_ns));
}

/* flags zone queue_depth load device_latency_us report_age_ms incarnation */
static ssize_t report_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_target *target = to_target(kobj);

	return sysfs_emit(buf, "%u %u %u %u %u %u %llx\n", READ_ONCE(target->info.flags),
			  READ_ONCE(target->info.zone), READ_ONCE(target->info.queue_depth),
			  READ_ONCE(target->info.load), READ_ONCE(target->info.device_latency_us),
			  weft_target_report_age_ms(target), READ_ONCE(target->info.incarnation));
}

/* weight zone flags: what the agent told, for those who simulate policies */
static ssize_t label_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_target *target = to_target(kobj);

	return sysfs_emit(buf, "%u %u %u\n", READ_ONCE(target->info.weight),
			  READ_ONCE(target->info.zone), READ_ONCE(target->info.flags));
}

static ssize_t read_latency_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return weft_histogram_show(&to_target(kobj)->read_latency, buf);
}

static ssize_t write_latency_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return weft_histogram_show(&to_target(kobj)->write_latency, buf);
}

/* whether the module uses its block device itself, and the requests that went there */
static ssize_t direct_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_target *target = to_target(kobj);

	return sysfs_emit(buf, "%d %lld\n", !!rcu_access_pointer(target->device),
			  atomic64_read(&target->direct));
}

/* controllers that lead to it: those that are usable, and all; 0 0: of another kind */
static ssize_t paths_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct weft_target *target = to_target(kobj);

	return sysfs_emit(buf, "%u %u\n", READ_ONCE(target->info.paths_usable),
			  READ_ONCE(target->info.paths));
}

static struct kobj_attribute paths_attr = __ATTR_RO(paths);
static struct kobj_attribute direct_attr = __ATTR_RO(direct);
static struct kobj_attribute name_attr = __ATTR_RO(name);
static struct kobj_attribute stat_attr = __ATTR_RO(stat);
static struct kobj_attribute report_attr = __ATTR_RO(report);
static struct kobj_attribute label_attr = __ATTR_RO(label);
static struct kobj_attribute read_latency_attr = __ATTR_RO(read_latency);
static struct kobj_attribute write_latency_attr = __ATTR_RO(write_latency);

static struct attribute *target_attrs[] = {
	&name_attr.attr,
	&stat_attr.attr,
	&report_attr.attr,
	&label_attr.attr,
	&direct_attr.attr,
	&paths_attr.attr,
	&read_latency_attr.attr,
	&write_latency_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(target);

static void target_released(struct kobject *kobj)
{
	complete(&to_target(kobj)->kobj_released);
}

static const struct kobj_type target_type = {
	.release	= target_released,
	.sysfs_ops	= &kobj_sysfs_ops,
	.default_groups	= target_groups,
};

int weft_sysfs_add_target(struct weft_channel *ch, struct weft_target *target)
{
	int ret;

	init_completion(&target->kobj_released);
	ret = kobject_init_and_add(&target->kobj, &target_type, ch->targets_kobj, "%u", target->id);
	if (ret)
		remove_kobj(&target->kobj, &target->kobj_released);
	return ret;
}

void weft_sysfs_remove_target(struct weft_target *target)
{
	remove_kobj(&target->kobj, &target->kobj_released);
}

/* ---- balancer ---- */

static ssize_t policy_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	char name[WEFT_BALANCER_NAME_LEN];

	weft_balancer_name(name);
	return sysfs_emit(buf, "%s\n", name);
}

static ssize_t faults_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", weft_balancer_faults());
}

static ssize_t picks_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", weft_balancer_picks());
}

static struct kobj_attribute policy_attr = __ATTR_RO(policy);
static struct kobj_attribute faults_attr = __ATTR_RO(faults);
static struct kobj_attribute picks_attr = __ATTR_RO(picks);

static const struct attribute *balancer_attrs[] = {
	&policy_attr.attr,
	&faults_attr.attr,
	&picks_attr.attr,
	NULL
};

int weft_sysfs_init(void)
{
	int ret = -ENOMEM;

	weft_root = kobject_create_and_add("weft", fs_kobj);
	if (!weft_root)
		return ret;
	weft_balancer = kobject_create_and_add("balancer", weft_root);
	if (!weft_balancer)
		goto put_root;
	ret = sysfs_create_files(weft_balancer, balancer_attrs);
	if (!ret)
		return 0;
	kobject_put(weft_balancer);
put_root:
	kobject_put(weft_root);
	return ret;
}

void weft_sysfs_exit(void)
{
	sysfs_remove_files(weft_balancer, balancer_attrs);
	kobject_put(weft_balancer);
	kobject_put(weft_root);
}
