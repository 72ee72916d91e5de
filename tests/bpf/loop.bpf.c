// SPDX-License-Identifier: GPL-2.0
/*
 * A policy that takes its time: each answer, a legal one, comes after 980,000 instructions, of the million that
 * the verifier follows. It must cost speed and nothing else.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The verifier compares each round with all before it: few long ones do not keep it busy for minutes. */
#define ROUNDS		35000
#define ADDITIONS	26	/* of a round, which has two more instructions */

static __always_inline u32 waste(void)
{
	u32 i, j, sum = 0;

	for (i = 0; i < ROUNDS; i++) {
#pragma clang loop unroll(full)
		for (j = 0; j < ADDITIONS; j++) {
			sum += i;
			barrier_var(sum);
		}
	}
	return sum;
}

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	u32 nr = io->nr;

	return nr ? waste() % nr : 0;
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	u32 nr = place->nr;

	return nr ? waste() % nr : 0;
}

SEC("struct_ops/io_done")
void BPF_PROG(io_done, const struct weft_done *done)
{
	waste();
}

SEC(".struct_ops.link")
struct weft_balancer_ops loop = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.io_done = (void *)io_done,
	.name = "loop",
};
