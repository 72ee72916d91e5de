/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How long a request would wait at a target: for policies that choose by latency.
 *
 * A latency that was measured holds the queue that the request met, so latency times queue would count
 * the queue twice, and a fast target that is busy would look as bad as a slow one that is idle. So the
 * depth at which latencies were measured is averaged along with them, and the wait that a target promises
 * is its latency, scaled by what is ahead now over what was then. Scaling down has a limit: a target that
 * answers late with nothing ahead is slow.
 *
 * A target that nothing is read from shows nothing. weft_wait_is_due() says when it is to be tried again:
 * seldom enough not to show in a p99 (1 choice in WAIT_PASSED_MAX), one request at a time. What is old
 * counts for less, so that a host that reads little tries again by itself.
 *
 * Use: weft_wait_done(done) in io_done; weft_wait_ns() and weft_wait_is_due(), or weft_wait_chosen() when no
 * other target was in question, in the pick callbacks. Reads
 * are judged by reads; where there are none, by writes, then by what the module has measured, then by
 * what the target reports of its device.
 */
#ifndef _WEFT_WAIT_BPF_H
#define _WEFT_WAIT_BPF_H

#include "bpf/weft.bpf.h"

#define WAIT_FOREVER		(~0ULL)		/* of a target that is down or unknown */
#define WAIT_TARGETS_MAX	4096		/* of all clusters of the host */
#define WAIT_DEPTH_ONE		16		/* depths are kept in sixteenths */
#define WAIT_SCALED_DOWN_MAX	4		/* the part of a latency that no empty queue makes up for */
#define WAIT_SMOOTH		3		/* a new sample counts 1/8 */
#define WAIT_SMOOTH_STALE	1		/* 1/2 after a pause: it is news */
#define WAIT_STALE_NS		100000000ULL
#define WAIT_HALVED_NS		10000000000ULL	/* after this long without a sample a latency counts half */
#define WAIT_HALVINGS_MAX	16
#define WAIT_PASSED_MAX		512		/* choices against a target until it is tried again */
#define WAIT_UNIT_SHIFT		16		/* a request takes longer for each 64 KiB it has */
#define WAIT_REPORT_MS_MAX	10000		/* older reports say nothing */

/* Kept without locks: updates race and may lose a sample. */
struct weft_wait_average {
	u64 latency_ns;		/* for 64 KiB at most; 0: no sample yet */
	u64 depth;		/* requests in flight meanwhile, with this one, in sixteenths */
	u64 sampled_ns;		/* time of the last sample */
};

struct weft_wait_target {
	struct weft_wait_average read;
	struct weft_wait_average write;
	u64 passed;		/* choices that went against it since it was chosen last */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WAIT_TARGETS_MAX);
	__type(key, u64);
	__type(value, struct weft_wait_target);
} weft_waits SEC(".maps");

static __always_inline struct weft_wait_target *weft_wait_find(u32 cluster, u32 target)
{
	u64 key = (u64)cluster << 32 | target;

	return bpf_map_lookup_elem(&weft_waits, &key);
}

static __always_inline struct weft_wait_target *weft_wait_find_or_create(u32 cluster, u32 target)
{
	u64 key = (u64)cluster << 32 | target;
	struct weft_wait_target *wait = bpf_map_lookup_elem(&weft_waits, &key);
	struct weft_wait_target none = {};

	if (wait)
		return wait;
	bpf_map_update_elem(&weft_waits, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&weft_waits, &key);
}

static __always_inline u64 weft_wait_smooth(u64 old, u64 sample, u32 shift)
{
	return sample > old ? old + ((sample - old) >> shift) : old - ((old - sample) >> shift);
}

static __always_inline void weft_wait_sample(struct weft_wait_average *average, u64 latency_ns, u64 depth)
{
	u64 now = bpf_ktime_get_ns();
	u32 shift = now - average->sampled_ns > WAIT_STALE_NS ? WAIT_SMOOTH_STALE : WAIT_SMOOTH;

	if (!average->latency_ns)
		shift = 0;
	/* never 0: that means that there is none */
	average->latency_ns = weft_wait_smooth(average->latency_ns, latency_ns | 1, shift);
	average->depth = weft_wait_smooth(average->depth, depth, shift);
	average->sampled_ns = now;
}

/*
 * What a request that came back tells. One that failed tells nothing: a target that is out of reach is
 * down soon, and a refusal (an old map) is no fault of the target.
 */
static __always_inline void weft_wait_done(const struct weft_done *done)
{
	struct weft_target_stat stat = {};
	struct weft_wait_target *wait;
	u32 op = done->op;
	u64 latency_ns;

	if (done->error || (op != WEFT_OP_READ && op != WEFT_OP_WRITE))
		return;
	if (weft_target_stat(done->target, &stat, sizeof(stat)))
		return;
	wait = weft_wait_find_or_create(done->cluster, done->target);
	if (!wait)
		return;
	latency_ns = done->latency_ns / (1 + (done->bytes >> WAIT_UNIT_SHIFT));
	weft_wait_sample(op == WEFT_OP_READ ? &wait->read : &wait->write, latency_ns,
			 (stat.inflight + 1ULL) * WAIT_DEPTH_ONE);
}

static __always_inline u64 weft_wait_halved(u64 wait_ns, u64 age_ns)
{
	u64 times = age_ns / WAIT_HALVED_NS;

	return wait_ns >> (times < WAIT_HALVINGS_MAX ? times : WAIT_HALVINGS_MAX);
}

/*
 * What the latency was at its depth, for `ahead` requests with this one. In proportion, because targets that
 * are loaded alike must be told apart by what is ahead now; but a target that was slow with a queue is not
 * fast without it before it has shown that.
 */
static __always_inline u64 weft_wait_scaled(u64 latency_ns, u64 depth, u64 ahead)
{
	u64 wait_ns, least_ns = latency_ns / WAIT_SCALED_DOWN_MAX;

	if (depth < WAIT_DEPTH_ONE)
		depth = WAIT_DEPTH_ONE;
	wait_ns = latency_ns * (ahead * WAIT_DEPTH_ONE) / depth;
	return wait_ns > least_ns ? wait_ns : least_ns;
}

/* How long a request of kind `op` (WEFT_OP_READ, _WRITE) would take at the target, or WAIT_FOREVER. */
static __always_inline u64 weft_wait_ns(u32 cluster, u32 target, u32 op)
{
	struct weft_target_stat stat = {};
	struct weft_wait_average *average;
	struct weft_wait_target *wait;
	u64 ahead;

	if (weft_target_stat(target, &stat, sizeof(stat)) || stat.state != WEFT_TARGET_UP)
		return WAIT_FOREVER;
	ahead = stat.inflight + 1ULL;
	wait = weft_wait_find(cluster, target);
	if (wait) {
		average = op == WEFT_OP_READ ? &wait->read : &wait->write;
		if (!average->latency_ns)
			average = op == WEFT_OP_READ ? &wait->write : &wait->read;
		if (average->latency_ns)
			return weft_wait_halved(weft_wait_scaled(average->latency_ns, average->depth, ahead),
						bpf_ktime_get_ns() - average->sampled_ns);
	}
	if (stat.ewma_latency_ns)
		return stat.ewma_latency_ns * ahead;
	if ((stat.flags & WEFT_TARGET_REPORTED) && stat.report_age_ms < WAIT_REPORT_MS_MAX)
		return (stat.device_latency_us * 1000ULL + 1) * ahead;
	return ahead;	/* nothing is known: worth a try, the emptiest first */
}

static __always_inline void weft_wait_chosen(u32 cluster, u32 target)
{
	struct weft_wait_target *wait = weft_wait_find(cluster, target);

	if (wait)
		wait->passed = 0;
}

/*
 * Of two targets `chosen` is to be read from and `other` is not. True: read from `other` all the same, for it
 * has not been for so long that it may have changed.
 */
static __always_inline bool weft_wait_is_due(u32 cluster, u32 chosen, u32 other)
{
	struct weft_wait_target *wait = weft_wait_find_or_create(cluster, other);
	struct weft_target_stat stat = {};

	weft_wait_chosen(cluster, chosen);
	if (!wait || ++wait->passed < WAIT_PASSED_MAX)
		return false;
	if (bpf_ktime_get_ns() - wait->read.sampled_ns < WAIT_STALE_NS)
		return false;
	if (weft_target_stat(other, &stat, sizeof(stat)) || stat.state != WEFT_TARGET_UP || stat.inflight)
		return false;
	wait->passed = 0;
	return true;
}

/* New data goes to every copy of a grant: its wait is that of the slowest. */
static __always_inline u64 weft_wait_of_grant(const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};
	u64 longest = 0;
	u32 i;

	if (weft_place_grant_at(place, index, &grant))
		return WAIT_FOREVER;
	for (i = 0; weft_has_target(&grant, i); i++) {
		u64 wait = weft_wait_ns(place->cluster, grant.targets[i], WEFT_OP_WRITE);

		if (wait > longest)
			longest = wait;
	}
	return longest;
}

#endif
