// SPDX-License-Identifier: GPL-2.0
/*
 * p2c_latency: of two copies chosen at random, the one that promises the shorter wait.
 *
 * The wait at a target is its average read latency times the requests ahead (ours in flight, plus this
 * one). Two random choices instead of the best of all: close to as good, and hosts that look at the same
 * figures do not all run to the same target (M. Mitzenmacher, "The Power of Two Choices in Randomized
 * Load Balancing", IEEE TPDS 12(10), 2001).
 *
 * To write a policy of your own, copy this file to NAME.bpf.c, change what the callbacks answer and the
 * name at the end, and see bpf/weft.bpf.h for what they may count on. `make` compiles every bpf/NAME.bpf.c;
 * `weftctl balancer set build/bpf/NAME.bpf.o` attaches it, under load if you like.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * One choice in PROBE_EVERY is left to chance alone. A target that was slow once would otherwise never
 * be read from again, and so never show that it has recovered.
 */
#define PROBE_EVERY	64

/* Of a target that is down or unknown: worse than any that works. */
#define WAIT_FOREVER	(~0ULL)

static __always_inline u64 wait_ns(u32 target)
{
	struct weft_target_stat stat = {};

	if (weft_target_stat(target, &stat, sizeof(stat)) || stat.state != WEFT_TARGET_UP)
		return WAIT_FOREVER;
	return stat.ewma_latency_ns * (stat.inflight + 1ULL);
}

/* New data goes to every copy of a grant: its wait is that of the slowest. */
static __always_inline u64 grant_wait_ns(const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};
	u64 longest = 0;
	u32 i;

	if (weft_place_grant_at(place, index, &grant))
		return WAIT_FOREVER;
	for (i = 0; i < WEFT_COPIES_MAX && i < grant.nr_targets; i++) {
		u64 wait = wait_ns(grant.targets[i]);

		if (wait > longest)
			longest = wait;
	}
	return longest;
}

/* Two different indices below nr (nr >= 2). False: take *first without looking. */
static __always_inline bool two_choices(u32 nr, u32 *first, u32 *second)
{
	u32 random = bpf_get_prandom_u32();

	*first = (random & 0xff) % nr;
	*second = (*first + 1 + (random >> 8 & 0xff) % (nr - 1)) % nr;
	return (random >> 16) % PROBE_EVERY;
}

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX];
	u32 first, second, nr = io->nr;

	if (nr < 2 || nr > WEFT_COPIES_MAX)
		return 0;
	if (!two_choices(nr, &first, &second))
		return first;
	first = weft_bounded(first, WEFT_COPIES_MAX);
	second = weft_bounded(second, WEFT_COPIES_MAX);
	weft_io_targets(io, targets);
	return wait_ns(targets[second]) < wait_ns(targets[first]) ? second : first;
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 first, second, nr = place->nr;

	if (nr < 2 || nr > WEFT_PLACE_MAX)
		return 0;
	if (!two_choices(nr, &first, &second))
		return first;
	return grant_wait_ns(place, second) < grant_wait_ns(place, first) ? second : first;
}

SEC(".struct_ops.link")
struct weft_balancer_ops p2c_latency = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.name = "p2c_latency",
};
