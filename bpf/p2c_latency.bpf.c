// SPDX-License-Identifier: GPL-2.0
/*
 * p2c_latency: of two copies chosen at random, the one that promises the shorter wait (weft_wait.bpf.h).
 *
 * Two random choices instead of the best of all: close to as good, and hosts that look at the same
 * figures do not all run to the same target (M. Mitzenmacher, "The Power of Two Choices in Randomized
 * Load Balancing", IEEE TPDS 12(10), 2001).
 */
#include "bpf/weft_wait.bpf.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 targets[WEFT_COPIES_MAX];
	u32 chosen, other, nr = io->nr;

	if (nr < 2 || nr > WEFT_COPIES_MAX)
		return 0;
	weft_two_choices(nr, &chosen, &other);
	chosen = weft_bounded(chosen, WEFT_COPIES_MAX);
	other = weft_bounded(other, WEFT_COPIES_MAX);
	weft_io_targets(io, targets);
	if (weft_wait_ns(io->cluster, targets[other], WEFT_OP_READ) <
	    weft_wait_ns(io->cluster, targets[chosen], WEFT_OP_READ)) {
		u32 worse = chosen;

		chosen = other;
		other = worse;
	}
	return weft_wait_is_due(io->cluster, targets[chosen], targets[other]) ? other : chosen;
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 first, second, nr = place->nr;

	if (nr < 2 || nr > WEFT_PLACE_MAX)
		return 0;
	weft_two_choices(nr, &first, &second);
	return weft_wait_of_grant(place, second) < weft_wait_of_grant(place, first) ? second : first;
}

SEC("struct_ops/io_done")
void BPF_PROG(io_done, const struct weft_done *done)
{
	weft_wait_done(done);
}

SEC(".struct_ops.link")
struct weft_balancer_ops p2c_latency = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.io_done = (void *)io_done,
	.name = "p2c_latency",
};
