// SPDX-License-Identifier: GPL-2.0
/* A policy that the verifier must refuse: it reads memory at an address of its own making. */
#include "bpf/weft.bpf.h"

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/pick_read")
s32 BPF_PROG(pick_read, const struct weft_io *io)
{
	return *(volatile u32 *)(unsigned long)(io->chunk + 4096);
}

SEC(".struct_ops.link")
struct weft_balancer_ops refused = {
	.pick_read = (void *)pick_read,
	.name = "refused",
};
