// SPDX-License-Identifier: GPL-2.0
/*
 * A policy that is wrong on purpose: every answer is an index that was not offered. The module must count
 * each, use the built-in choice instead, and detach the policy after WEFT_BALANCER_FAULTS_MAX of them.
 */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	return bpf_get_prandom_u32() & 1 ? (s32)io->nr : -1 - (s32)(bpf_get_prandom_u32() >> 1);
}

SEC("struct_ops/pick_place")
s32 BPF_PROG(pick_place, const struct weft_place *place)
{
	return bpf_get_prandom_u32() & 1 ? (s32)place->nr : 0x7fffffff;
}

SEC(".struct_ops.link")
struct weft_balancer_ops garbage = {
	.pick_read = (void *)pick_read,
	.pick_place = (void *)pick_place,
	.name = "garbage",
};
