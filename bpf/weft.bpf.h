/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every balancer policy includes: the contract with weft.ko and small helpers.
 *
 * The contract is kmod/balancer.h itself, compiled here with CO-RE relocations: no mirror to keep in sync,
 * and no vmlinux.h to generate. An object built against one version of the module finds the fields at
 * their new places in another. A policy that wants more of the kernel's types includes a vmlinux.h
 * of its own before this file.
 *
 * What a policy may count on:
 *  - it chooses among legal answers only. An illegal index is counted and replaced by the built-in
 *    choice; after WEFT_BALANCER_FAULTS_MAX of them the policy is detached;
 *  - a callback that is left out (NULL) means the built-in choice;
 *  - callbacks run wherever a request is submitted or completed, on many CPUs at once, and may not sleep;
 *  - the verifier lets arguments be read at constant offsets only: take arrays with weft_io_targets() and
 *    weft_place_grant_at() instead of indexing them.
 */
#ifndef _WEFT_BPF_H
#define _WEFT_BPF_H

#ifdef __VMLINUX_H__
#define _LINUX_TYPES_H		/* vmlinux.h has them all */
#else
#include <linux/types.h>
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
#endif

#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "kmod/uapi/weft.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#include "kmod/balancer.h"
#pragma clang attribute pop

/* Fills in what the module knows of a target; stat__sz: sizeof(*stat). 0, or -ENOENT: no such target. */
extern int weft_target_stat(u32 id, struct weft_target_stat *stat, u32 stat__sz) __ksym;

/*
 * `index`, or 0 when it is not below `size`, in a way that shows the verifier the bound: clang leaves out a
 * check that it can prove, and the verifier cannot follow the proof (of a division, for one).
 */
#define weft_bounded(index, size)				\
({								\
	u32 __index = (index);					\
	barrier_var(__index);					\
	__index < (size) ? __index : 0;				\
})

/* Two different indices below nr (2 <= nr <= 256), each pair as likely as any other. */
static __always_inline void weft_two_choices(u32 nr, u32 *first, u32 *second)
{
	u32 random = bpf_get_prandom_u32();

	*first = (random & 0xffff) % nr;
	*second = (*first + 1 + (random >> 16) % (nr - 1)) % nr;
}

/* All ids of a request's copies; those beyond io->nr mean nothing. */
static __always_inline void weft_io_targets(const struct weft_io *io, u32 targets[WEFT_COPIES_MAX])
{
	targets[0] = io->targets[0];
	targets[1] = io->targets[1];
	targets[2] = io->targets[2];
	targets[3] = io->targets[3];
}
_Static_assert(WEFT_COPIES_MAX == 4, "weft_io_targets() copies 4");

/* Copies one of the grants offered. 0, or negative: there is none at `index`. */
static __always_inline int weft_place_grant_at(const struct weft_place *place, u32 index,
					       struct weft_place_grant *grant)
{
	switch (index) {
	case 0:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[0]);
	case 1:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[1]);
	case 2:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[2]);
	case 3:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[3]);
	case 4:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[4]);
	case 5:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[5]);
	case 6:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[6]);
	case 7:
		return bpf_core_read(grant, sizeof(*grant), &place->grants[7]);
	}
	return -1;
}
_Static_assert(WEFT_PLACE_MAX == 8, "weft_place_grant_at() knows 8");

/* The condition of a loop over a grant's targets: the verifier sees the bound. */
static __always_inline bool weft_has_target(const struct weft_place_grant *grant, u32 index)
{
	return index < WEFT_COPIES_MAX && index < grant->nr_targets;
}

#endif
