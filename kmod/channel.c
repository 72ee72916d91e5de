// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "device.h"
#include "disk.h"
#include "sysfs.h"
#include "target.h"

#define GRACE_TICK_MS	250	/* how late a soft mount's request may fail */

DEFINE_MUTEX(weft_channels_lock);	/* the list, and that names in it are unique */
static LIST_HEAD(channels);
static DEFINE_XARRAY_ALLOC1(numbers);	/* number -> channel, for readers under RCU */

static void channel_grace(struct work_struct *work);

static struct weft_channel *channel_find(const char *cluster)
{
	struct weft_channel *ch;

	lockdep_assert_held(&weft_channels_lock);
	list_for_each_entry(ch, &channels, node)
		if (!strcmp(ch->cluster, cluster))
			return ch;
	return NULL;
}

void weft_channel_hold(struct weft_channel *ch)
{
	kref_get(&ch->refs);
}

static struct weft_channel *channel_create(const char *cluster, u32 depth, u64 pool_bytes)
{
	struct weft_channel *ch = kzalloc(sizeof(*ch), GFP_KERNEL);
	int ret = -ENOMEM;

	if (!ch)
		return ERR_PTR(ret);
	kref_init(&ch->refs);
	strscpy(ch->cluster, cluster);
	get_random_bytes(ch->client, sizeof(ch->client));
	spin_lock_init(&ch->lock);
	INIT_LIST_HEAD(&ch->parked);
	ch->clean_epoch = 1;
	init_waitqueue_head(&ch->detached);
	INIT_DELAYED_WORK(&ch->grace_work, channel_grace);
	weft_targets_init(ch);

	ret = weft_requests_init(ch, depth);
	if (ret)
		goto free_channel;
	ret = weft_buffer_init(&ch->buffer, pool_bytes);
	if (ret)
		goto free_requests;
	ret = xa_alloc(&numbers, &ch->number, ch, xa_limit_31b, GFP_KERNEL);
	if (ret)
		goto free_buffer;
	ret = weft_sysfs_add_channel(ch);
	if (ret)
		goto free_number;
	return ch;

free_number:
	xa_erase(&numbers, ch->number);
	synchronize_rcu();
free_buffer:
	weft_buffer_free(&ch->buffer);
free_requests:
	weft_requests_free(ch);
free_channel:
	kfree(ch);
	return ERR_PTR(ret);
}

struct weft_channel *weft_channel_find_or_create(const char *cluster, u32 depth, u64 pool_bytes)
{
	struct weft_channel *ch = channel_find(cluster);

	if (ch) {
		weft_channel_hold(ch);
		return ch;
	}
	ch = channel_create(cluster, depth, pool_bytes);
	if (!IS_ERR(ch))
		list_add(&ch->node, &channels);
	return ch;
}

struct weft_channel *weft_channel_by_number(u32 number)
{
	unsigned long index = number;

	if (number)
		return xa_load(&numbers, number);
	return xa_find(&numbers, &index, ULONG_MAX, XA_PRESENT);
}

struct weft_channel *weft_channel_get(const char *cluster)
{
	struct weft_channel *ch;

	mutex_lock(&weft_channels_lock);
	ch = channel_find(cluster);
	if (ch)
		weft_channel_hold(ch);
	mutex_unlock(&weft_channels_lock);
	return ch;
}

/* Called with weft_channels_lock, so that no new channel of the name meets the old one's sysfs. */
static void channel_free(struct kref *refs)
{
	struct weft_channel *ch = container_of(refs, struct weft_channel, refs);

	WARN_ON_ONCE(ch->agent || ch->claimed || ch->pool || ch->parked_count);
	list_del(&ch->node);
	xa_erase(&numbers, ch->number);
	synchronize_rcu();	/* weft_channel_by_number() */
	weft_targets_free(ch);
	weft_sysfs_remove_channel(ch);
	mutex_unlock(&weft_channels_lock);

	cancel_delayed_work_sync(&ch->grace_work);
	weft_requests_free(ch);
	weft_buffer_free(&ch->buffer);
	kfree(ch);
}

void weft_channel_put(struct weft_channel *ch)
{
	kref_put_mutex(&ch->refs, channel_free, &weft_channels_lock);
}

void weft_channel_update_live(struct weft_channel *ch)
{
	struct weft_agent *agent = ch->agent;
	struct weft_agent *was = rcu_dereference_protected(ch->live, lockdep_is_held(&ch->lock));
	bool live = agent && agent->ready && !agent->dead && !ch->aborted;
	u32 i;

	lockdep_assert_held(&ch->lock);
	if (live == !!was)
		return;
	if (live)
		weft_requests_unpark(ch, agent);
	else
		agent = was;
	for (i = 0; i < agent->queue_count; i++) {
		struct weft_queue *queue = &agent->queues[i];

		spin_lock(&queue->lock);
		queue->live = live;
		spin_unlock(&queue->lock);
		if (live)
			weft_queue_kick(queue);
	}
	rcu_assign_pointer(ch->live, live ? agent : NULL);
}

void weft_channel_start_grace(struct weft_channel *ch)
{
	lockdep_assert_held(&ch->lock);
	if (ch->soft && !rcu_access_pointer(ch->live))
		schedule_delayed_work(&ch->grace_work, msecs_to_jiffies(GRACE_TICK_MS));
}

/* Fails what a soft mount has waited for longer than its grace. Runs while no agent is live. */
static void channel_grace(struct work_struct *work)
{
	struct delayed_work *grace = to_delayed_work(work);
	struct weft_channel *ch = container_of(grace, struct weft_channel, grace_work);
	unsigned long since;
	bool over;

	spin_lock(&ch->lock);
	over = !ch->soft || rcu_access_pointer(ch->live);
	since = jiffies - msecs_to_jiffies(ch->grace_ms);
	spin_unlock(&ch->lock);
	if (over)
		return;
	weft_requests_expire(ch, since);
	weft_ids_expire(&ch->tags, since, -EIO);
	weft_buffer_expire(&ch->buffer, since, -EIO);

	spin_lock(&ch->lock);
	weft_channel_start_grace(ch);
	spin_unlock(&ch->lock);
}

int weft_channel_claim(struct weft_channel *ch, bool soft, u32 grace_ms)
{
	int ret = -EBUSY;

	spin_lock(&ch->lock);
	if (!ch->claimed) {
		ch->claimed = true;
		ch->soft = soft;
		ch->grace_ms = grace_ms;
		weft_channel_start_grace(ch);
		ret = 0;
	}
	spin_unlock(&ch->lock);
	return ret;
}

void weft_channel_release(struct weft_channel *ch)
{
	spin_lock(&ch->lock);
	WARN_ON_ONCE(!ch->claimed);
	ch->claimed = false;
	ch->soft = false;
	ch->session = 0;
	WRITE_ONCE(ch->lease_until_ns, 0);
	WRITE_ONCE(ch->aborted, false);
	weft_ids_set_error(&ch->tags, 0);
	weft_buffer_set_error(&ch->buffer, 0);
	weft_channel_update_live(ch);
	spin_unlock(&ch->lock);
}

/* A mount that is tried again may be given the session that it had: its slots go on counting. */
void weft_channel_set_session(struct weft_channel *ch, u64 session)
{
	spin_lock(&ch->lock);
	ch->session = session;
	if (ch->seq_session != session) {
		ch->seq_session = session;
		memset(ch->meta_seq, 0, sizeof(ch->meta_seq));
	}
	spin_unlock(&ch->lock);
}

void weft_channel_set_lease(struct weft_channel *ch, u64 until_ns)
{
	WRITE_ONCE(ch->lease_until_ns, until_ns);
}

void weft_channel_abort(struct weft_channel *ch)
{
	spin_lock(&ch->lock);
	WRITE_ONCE(ch->aborted, true);
	weft_channel_update_live(ch);
	weft_ids_set_error(&ch->tags, -EIO);
	weft_buffer_set_error(&ch->buffer, -EIO);
	spin_unlock(&ch->lock);
	weft_requests_fail_all(ch);
	weft_channel_kick_pool(ch);
}

bool weft_channel_is_aborted(struct weft_channel *ch)
{
	return READ_ONCE(ch->aborted);
}

bool weft_channel_may_retry(struct weft_channel *ch, unsigned long since)
{
	bool may;

	spin_lock(&ch->lock);
	may = !ch->aborted &&
		(!ch->soft || time_before(jiffies, since + msecs_to_jiffies(ch->grace_ms)));
	spin_unlock(&ch->lock);
	return may;
}

void weft_channel_reborn(struct weft_channel *ch)
{
	spin_lock(&ch->lock);
	if (ch->pool)
		weft_pool_reborn(ch->pool);
	spin_unlock(&ch->lock);
}

void weft_channel_kick_pool(struct weft_channel *ch)
{
	spin_lock(&ch->lock);
	if (ch->pool)
		weft_pool_kick(ch->pool);
	spin_unlock(&ch->lock);
}

int weft_channel_init(void)
{
	return weft_device_init();
}

void weft_channel_exit(void)
{
	weft_device_exit();
	WARN_ON_ONCE(!list_empty(&channels));
	xa_destroy(&numbers);
}
