/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The balancer: which of several legal copies or grants is used.
 *
 * A policy is a struct_ops program (struct weft_balancer_ops, name "weft_balancer_ops" in BTF) or,
 * when none is attached or it answers with an illegal index, the built-in round robin. One policy
 * serves the whole host. These structs are the contract with BPF programs: fields are only added.
 */
#ifndef _WEFT_BALANCER_H
#define _WEFT_BALANCER_H

#include <linux/types.h>
#include "uapi/weft.h"

#define WEFT_BALANCER_NAME_LEN	16
#define WEFT_PLACE_MAX		8	/* grants offered to pick_place */
#define WEFT_BALANCER_FAULTS_MAX 64	/* illegal answers until a policy is detached */

/* A request that needs one copy. */
struct weft_io {
	u64 chunk;
	u64 offset;			/* bytes into the chunk */
	u32 length;			/* bytes */
	u32 op;				/* WEFT_OP_* */
	u32 nr;				/* legal choices: targets[0 .. nr - 1] */
	u32 targets[WEFT_COPIES_MAX];	/* target ids of the in-sync copies */
	u32 cluster;			/* its number on this host; target ids are its own */
};

/* Space that new data may be written to. */
struct weft_place_grant {
	u64 chunk;
	u64 blocks;			/* free in this grant */
	u32 nr_targets;
	u32 targets[WEFT_COPIES_MAX];	/* where its copies are */
};

struct weft_place {
	u64 ino;
	u64 file_block;
	u32 blocks;			/* wanted */
	u32 nr;				/* legal choices: grants[0 .. nr - 1] */
	struct weft_place_grant grants[WEFT_PLACE_MAX];
	u32 cluster;			/* weft_pool_cluster(); 0: not known */
};

/* A block request has come back. */
struct weft_done {
	u32 target;
	u32 op;
	u32 bytes;
	s32 error;			/* 0 or -errno */
	u64 latency_ns;			/* from the pool disk's decision to the completion */
	u32 cluster;
	u32 reserved;
};

/*
 * What the kfunc
 *	int weft_target_stat(u32 id, struct weft_target_stat *stat, u32 stat__sz)
 * tells: 0 after filling in the first stat__sz bytes (a policy built against a shorter struct
 * gets what it knows), -ENOENT: no such target.
 */
struct weft_target_stat {
	u32 id;
	u32 state;			/* WEFT_TARGET_UP, _DOWN */
	u32 inflight;			/* block requests of this host, now */
	u32 weight;			/* 100 is the norm */
	u32 zone;			/* 0: none */
	u32 queue_depth;		/* reported by the target */
	u32 load;			/* reported by the target, 0..1000 */
	u32 reserved;
	u64 ewma_latency_ns;		/* of reads, weight 1/8 per sample */
	u64 requests;
	u64 bytes;
	u64 errors;
	u32 flags;			/* WEFT_TARGET_LOCAL, _REPORTED, _DURABLE, _LEASED */
	u32 device_latency_us;		/* reported by the target: average of its device's requests */
	u32 report_age_ms;		/* of queue_depth, load, device_latency_us, now; 0 before a report */
	u16 paths_usable;		/* controllers that lead to an NVMe-oF target, now */
	u16 paths;			/* those that are known; 0: it is of another kind */
};

struct weft_balancer_ops {
	s32 (*pick_read)(const struct weft_io *io);
	s32 (*pick_place)(const struct weft_place *place);
	void (*io_done)(const struct weft_done *done);
	char name[WEFT_BALANCER_NAME_LEN];
};

/* Callers: any context that may not sleep as well. Always a legal index. */
u32 weft_balancer_pick_read(const struct weft_io *io);
u32 weft_balancer_pick_place(const struct weft_place *place);
void weft_balancer_io_done(const struct weft_done *done);

/* For sysfs. */
void weft_balancer_name(char name[WEFT_BALANCER_NAME_LEN]);	/* of the policy in force */
u64 weft_balancer_faults(void);	/* illegal answers of all policies so far */
u64 weft_balancer_picks(void);	/* legal ones */

int weft_balancer_init(void);
void weft_balancer_exit(void);

#endif
