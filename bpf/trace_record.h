/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace of a host's block requests: what the balancer was asked, what it answered, what came of it.
 * `weftctl trace record` writes it, `weftctl balancer simulate` reads it. This header is the format, for the
 * BPF program that makes the records (trace.bpf.c) and for C++ (userland/balancer/trace_file.h).
 *
 * A trace is a struct weft_trace_file, then records, each a struct weft_trace_head and what its type says;
 * all little-endian. TARGET records come first, then the others roughly in order of time (of several CPUs),
 * at last one END: a file without it was cut off. Readers refuse types and versions that they do not know.
 * Version 1.
 */
#ifndef _WEFT_TRACE_RECORD_H
#define _WEFT_TRACE_RECORD_H

#include <linux/types.h>

#define WEFT_TRACE_MAGIC	0x4543415254544657ULL	/* "WFTTRACE" */
#define WEFT_TRACE_VERSION	1
#define WEFT_TRACE_COPIES	4	/* targets of a record: WEFT_COPIES_MAX */
#define WEFT_TRACE_GRANTS	8	/* WEFT_PLACE_MAX */

struct weft_trace_file {
	__u64 magic;
	__u32 version;
	__u32 reserved;
	__u64 started_ns;		/* time of day, since 1970 */
};

enum weft_trace_type {
	WEFT_TRACE_TARGET = 1,
	WEFT_TRACE_READ = 2,		/* a copy was to be chosen */
	WEFT_TRACE_PLACE = 3,		/* space for new data was to be chosen */
	WEFT_TRACE_DONE = 4,		/* a request came back */
	WEFT_TRACE_END = 5,
};

struct weft_trace_head {
	__u16 type;
	__u16 bytes;			/* of the record, this head included */
	__u32 cluster;			/* its number on the host; target ids are its own */
	__u64 time_ns;			/* monotonic clock of the host */
};

struct weft_trace_target {
	struct weft_trace_head head;
	__u32 id;
	__u32 weight;
	__u32 zone;
	__u32 flags;			/* WEFT_TARGET_LOCAL */
	char name[32];			/* ends with a 0 */
};

struct weft_trace_read {
	struct weft_trace_head head;
	__u64 chunk;
	__u64 offset;			/* bytes into the chunk */
	__u32 length;			/* bytes */
	__u16 nr;			/* targets that could be chosen from */
	__u16 choice;
	__u32 targets[WEFT_TRACE_COPIES];
};

struct weft_trace_grant {
	__u64 chunk;
	__u64 blocks;			/* free */
	__u32 nr_targets;
	__u32 targets[WEFT_TRACE_COPIES];
	__u32 reserved;
};

struct weft_trace_place {
	struct weft_trace_head head;
	__u64 ino;
	__u64 file_block;
	__u32 blocks;			/* wanted */
	__u16 nr;			/* grants that could be chosen from; only they are in the file */
	__u16 choice;
	struct weft_trace_grant grants[WEFT_TRACE_GRANTS];
};

struct weft_trace_done {
	struct weft_trace_head head;
	__u32 target;
	__u32 op;			/* WEFT_OP_* */
	__u32 bytes;
	__s32 error;			/* 0 or -errno */
	__u64 latency_ns;
};

struct weft_trace_end {
	struct weft_trace_head head;
	__u64 records;			/* before this one */
	__u64 dropped;			/* that did not fit into the ring buffer */
};

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

static_assert(sizeof(struct weft_trace_file) == 24, "");
static_assert(sizeof(struct weft_trace_head) == 16, "");
static_assert(sizeof(struct weft_trace_target) == 64, "");
static_assert(sizeof(struct weft_trace_read) == 56, "");
static_assert(sizeof(struct weft_trace_grant) == 40, "");
static_assert(sizeof(struct weft_trace_place) == 40 + 8 * 40, "");
static_assert(sizeof(struct weft_trace_done) == 40, "");
static_assert(sizeof(struct weft_trace_end) == 32, "");

#endif
