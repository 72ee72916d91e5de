/* SPDX-License-Identifier: GPL-2.0 */
/* Between the choices (balancer.c) and their BPF side (balancer_bpf.c). */
#ifndef _WEFT_BALANCER_PRIVATE_H
#define _WEFT_BALANCER_PRIVATE_H

#include "balancer.h"

/* -EBUSY: one is attached; it stays. */
int weft_balancer_attach(struct weft_balancer_ops *ops);
/* -ENOLINK: `old` is not attached. */
int weft_balancer_replace(struct weft_balancer_ops *ops, struct weft_balancer_ops *old);
/* Nothing happens when it has been detached for its faults already. */
void weft_balancer_detach(struct weft_balancer_ops *ops);
/* The cluster that the policy which runs on this CPU is asked about; 0: any. */
u32 weft_balancer_cluster(void);

int weft_balancer_bpf_init(void);

#endif
