// SPDX-License-Identifier: GPL-2.0
/*
 * local_first: reads from a copy in this host's own zone (weftd's `zone`, equal to the target's), to keep
 * traffic off the links between zones. When the local one is down, or would take LOCAL_WORTH times as long
 * as another, the other is taken. Without a local copy: the shortest wait.
 */
#include "bpf/weft_wait.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define LOCAL_WORTH	4

static __always_inline bool is_local(u32 target)
{
	struct weft_target_stat stat = {};

	return !weft_target_stat(target, &stat, sizeof(stat)) && (stat.flags & WEFT_TARGET_LOCAL);
}

/* The wait as it is compared: what is not local counts LOCAL_WORTH times. */
static __always_inline u64 cost_of(u64 wait_ns, bool local)
{
	if (wait_ns > WAIT_FOREVER / LOCAL_WORTH)
		return wait_ns;
	return local ? wait_ns : wait_ns * LOCAL_WORTH;
}

static __always_inline bool has_local(const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};
	u32 i;

	if (weft_place_grant_at(place, index, &grant))
		return false;
	for (i = 0; weft_has_target(&grant, i); i++)
		if (is_local(grant.targets[i]))
			return true;
	return false;
}

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX];
	u32 i, start, second, nr = io->nr, best, local = WEFT_COPIES_MAX;
	u64 least = WAIT_FOREVER;

	if (nr < 2 || nr > WEFT_COPIES_MAX)
		return 0;
	weft_io_targets(io, targets);
	weft_two_choices(nr, &start, &second);
	best = start;
	for (i = 0; i < WEFT_COPIES_MAX && i < nr; i++) {
		u32 index = weft_bounded((start + i) % nr, WEFT_COPIES_MAX);
		bool is = is_local(targets[index]);
		u64 cost = cost_of(weft_wait_ns(io->cluster, targets[index], WEFT_OP_READ), is);

		if (is)
			local = index;
		if (cost < least) {
			least = cost;
			best = index;
		}
	}
	/* only a local copy is worth a try when it has looked bad for long */
	best = weft_bounded(best, WEFT_COPIES_MAX);
	if (local >= WEFT_COPIES_MAX || local == best) {
		weft_wait_chosen(io->cluster, targets[best]);
		return best;
	}
	return weft_wait_is_due(io->cluster, targets[best], targets[local]) ? local : best;
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 first, second, nr = place->nr;

	if (nr < 2 || nr > WEFT_PLACE_MAX)
		return 0;
	weft_two_choices(nr, &first, &second);
	return cost_of(weft_wait_of_grant(place, second), has_local(place, second)) <
	       cost_of(weft_wait_of_grant(place, first), has_local(place, first)) ? second : first;
}

SEC("struct_ops/io_done")
void BPF_PROG(io_done, const struct weft_done *done)
{
	weft_wait_done(done);
}

SEC(".struct_ops.link")
struct weft_balancer_ops local_first = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.io_done = (void *)io_done,
	.name = "local_first",
};
