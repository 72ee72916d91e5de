// SPDX-License-Identifier: GPL-2.0
/*
 * weighted: each target gets requests in proportion to its weight (100 is the norm, 0 means: only when
 * nothing else is left). By chance, not in turn: hosts that begin together do not stay in step.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline u32 weight(u32 target)
{
	struct weft_target_stat stat = {};

	if (weft_target_stat(target, &stat, sizeof(stat)) || stat.state != WEFT_TARGET_UP)
		return 0;
	return stat.weight;
}

/* Each of its targets takes every byte: it can take what the weakest can. */
static __always_inline u32 weight_of_grant(const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};
	u32 least = ~0U;
	u32 i;

	if (weft_place_grant_at(place, index, &grant))
		return 0;
	for (i = 0; weft_has_target(&grant, i); i++) {
		u32 one = weight(grant.targets[i]);

		if (one < least)
			least = one;
	}
	return grant.nr_targets ? least : 0;
}

/*
 * One of `nr` by chance, in proportion to their weights, whose sum is given. There are `max`; those from nr
 * on are 0.
 */
static __always_inline u32 draw(const u32 *weights, u32 max, u32 nr, u64 sum)
{
	u64 left;
	u32 i;

	if (!sum)
		return bpf_get_prandom_u32() % nr;
	left = bpf_get_prandom_u32() % sum;
	for (i = 0; i < max - 1; i++) {
		if (left < weights[i])
			break;
		left -= weights[i];
	}
	return i;
}

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX], weights[WEFT_COPIES_MAX] = {};
	u64 sum = 0;
	u32 i, nr = io->nr;

	if (nr < 2 || nr > WEFT_COPIES_MAX)
		return 0;
	weft_io_targets(io, targets);
	for (i = 0; i < WEFT_COPIES_MAX && i < nr; i++) {
		weights[i] = weight(targets[i]);
		sum += weights[i];
	}
	return draw(weights, WEFT_COPIES_MAX, nr, sum);
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 weights[WEFT_PLACE_MAX] = {};
	u64 sum = 0;
	u32 i, nr = place->nr;

	if (nr < 2 || nr > WEFT_PLACE_MAX)
		return 0;
	for (i = 0; i < WEFT_PLACE_MAX && i < nr; i++) {
		weights[i] = weight_of_grant(place, i);
		sum += weights[i];
	}
	return draw(weights, WEFT_PLACE_MAX, nr, sum);
}

SEC(".struct_ops.link")
struct weft_balancer_ops weighted = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.name = "weighted",
};
