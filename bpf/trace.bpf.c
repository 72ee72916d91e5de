// SPDX-License-Identifier: GPL-2.0
/*
 * trace: sees every question to the balancer and every request that came back, as records of
 * trace_record.h in a ring buffer. No policy: it works with any, the built-in one included, and costs
 * nothing while it is not attached.
 *
 * The reader is woken when a quarter of the ring is full, not for each record; it looks by itself often
 * enough for the rest. What does not fit is counted and left out.
 */
#include "bpf/weft.bpf.h"
#include "bpf/trace_record.h"

char LICENSE[] SEC("license") = "GPL";

#define RING_BYTES	(8 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} records SEC(".maps");

__u64 dropped;

static __always_inline void *reserve(u64 bytes)
{
	void *record = bpf_ringbuf_reserve(&records, bytes, 0);

	if (!record)
		__sync_fetch_and_add(&dropped, 1);
	return record;
}

static __always_inline void submit(void *record)
{
	bool wake = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) > RING_BYTES / 4;

	bpf_ringbuf_submit(record, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static __always_inline void set_head(struct weft_trace_head *head, u16 type, u16 bytes, u32 cluster)
{
	head->type = type;
	head->bytes = bytes;
	head->cluster = cluster;
	head->time_ns = bpf_ktime_get_ns();
}

SEC("fexit/weft_balancer_pick_read")
int BPF_PROG(on_pick_read, const struct weft_io *io, u32 choice)
{
	struct weft_trace_read *read = reserve(sizeof(*read));

	if (!read)
		return 0;
	set_head(&read->head, WEFT_TRACE_READ, sizeof(*read), io->cluster);
	read->chunk = io->chunk;
	read->offset = io->offset;
	read->length = io->length;
	read->nr = io->nr;
	read->choice = choice;
	weft_io_targets(io, read->targets);
	submit(read);
	return 0;
}

static __always_inline void copy_grant(struct weft_trace_grant *to, const struct weft_place *place, u32 index)
{
	struct weft_place_grant grant = {};

	weft_place_grant_at(place, index, &grant);
	to->chunk = grant.chunk;
	to->blocks = grant.blocks;
	to->nr_targets = grant.nr_targets;
	to->targets[0] = grant.targets[0];
	to->targets[1] = grant.targets[1];
	to->targets[2] = grant.targets[2];
	to->targets[3] = grant.targets[3];
	to->reserved = 0;
}

SEC("fexit/weft_balancer_pick_place")
int BPF_PROG(on_pick_place, const struct weft_place *place, u32 choice)
{
	struct weft_trace_place *record = reserve(sizeof(*record));
	u32 i, nr = place->nr;

	if (!record)
		return 0;
	if (nr > WEFT_TRACE_GRANTS)
		nr = WEFT_TRACE_GRANTS;
	/* reserved for the largest; the reader takes what the head says */
	set_head(&record->head, WEFT_TRACE_PLACE,
		 sizeof(*record) - (WEFT_TRACE_GRANTS - nr) * sizeof(record->grants[0]), place->cluster);
	record->ino = place->ino;
	record->file_block = place->file_block;
	record->blocks = place->blocks;
	record->nr = nr;
	record->choice = choice;
	for (i = 0; i < WEFT_TRACE_GRANTS; i++)
		copy_grant(&record->grants[i], place, i);
	submit(record);
	return 0;
}

SEC("fentry/weft_balancer_io_done")
int BPF_PROG(on_io_done, const struct weft_done *done)
{
	struct weft_trace_done *record = reserve(sizeof(*record));

	if (!record)
		return 0;
	set_head(&record->head, WEFT_TRACE_DONE, sizeof(*record), done->cluster);
	record->target = done->target;
	record->op = done->op;
	record->bytes = done->bytes;
	record->error = done->error;
	record->latency_ns = done->latency_ns;
	submit(record);
	return 0;
}
