// SPDX-License-Identifier: GPL-2.0
/*
 * least_inflight: the copy whose target has the fewest requests of this host in hand. Needs no history, so it
 * follows at once; but it takes a target that fails fast, or one that is slow and idle, for a good one.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define INFLIGHT_DOWN	(~0U)	/* of a target that is down or unknown */

static __always_inline u32 inflight(u32 target)
{
	struct weft_target_stat stat = {};

	if (weft_target_stat(target, &stat, sizeof(stat)) || stat.state != WEFT_TARGET_UP)
		return INFLIGHT_DOWN;
	return stat.inflight;
}

/* A write waits for its last copy. */
static __always_inline u32 inflight_of_grant(const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};
	u32 most = 0;
	u32 i;

	if (weft_place_grant_at(place, index, &grant))
		return INFLIGHT_DOWN;
	for (i = 0; weft_has_target(&grant, i); i++) {
		u32 now = inflight(grant.targets[i]);

		if (now > most)
			most = now;
	}
	return most;
}

/* Both begin somewhere at random, so that not all that are equal pass by the same one. */
SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX];
	u32 i, start, nr = io->nr, best = 0, least = INFLIGHT_DOWN;

	if (nr < 2 || nr > WEFT_COPIES_MAX)
		return 0;
	weft_io_targets(io, targets);
	start = bpf_get_prandom_u32() % nr;
	for (i = 0; i < WEFT_COPIES_MAX && i < nr; i++) {
		u32 index = weft_bounded((start + i) % nr, WEFT_COPIES_MAX);
		u32 now = inflight(targets[index]);

		if (now < least) {
			least = now;
			best = index;
		}
	}
	return best;
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 i, start, nr = place->nr, best = 0, least = INFLIGHT_DOWN;

	if (nr < 2 || nr > WEFT_PLACE_MAX)
		return 0;
	start = bpf_get_prandom_u32() % nr;
	for (i = 0; i < WEFT_PLACE_MAX && i < nr; i++) {
		u32 index = (start + i) % nr;
		u32 now = inflight_of_grant(place, index);

		if (now < least) {
			least = now;
			best = index;
		}
	}
	return best;
}

SEC(".struct_ops.link")
struct weft_balancer_ops least_inflight = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.name = "least_inflight",
};
