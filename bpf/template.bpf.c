// SPDX-License-Identifier: GPL-2.0
/*
 * A policy to begin with: copy it to NAME.bpf.c, change what the callbacks answer and the name at the end.
 * README.md beside it says how to try and load it. This one takes the first target that is up.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline bool is_up(u32 target)
{
	struct weft_target_stat stat = {};

	return !weft_target_stat(target, &stat, sizeof(stat)) && stat.state == WEFT_TARGET_UP;
}

/* Which copy is read: an index below io->nr into its targets. */
SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX];
	u32 i, nr = io->nr;

	weft_io_targets(io, targets);
	for (i = 0; i < WEFT_COPIES_MAX && i < nr; i++)
		if (is_up(targets[i]))
			return i;
	return 0;
}

/* Where new data goes: an index below place->nr into its grants, each with all the targets of its copies. */
SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	struct weft_place_grant grant = {};
	u32 i, nr = place->nr;

	for (i = 0; i < WEFT_PLACE_MAX && i < nr; i++)
		if (!weft_place_grant_at(place, i, &grant) && grant.nr_targets && is_up(grant.targets[0]))
			return i;
	return 0;
}

/* What has come back: for policies that remember. Leave out a callback that you do not need. */
SEC("struct_ops/io_done")
void BPF_PROG(io_done, const struct weft_done *done)
{
}

SEC(".struct_ops.link")
struct weft_balancer_ops mine = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.io_done = (void *)io_done,
	.name = "mine",	/* up to 15 letters, digits and _.- */
};
