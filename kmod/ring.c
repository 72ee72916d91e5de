// SPDX-License-Identifier: GPL-2.0
#include <linux/build_bug.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "ring.h"

u64 weft_ring_bytes(u32 entries)
{
	u64 entry_bytes = sizeof(struct weft_sqe) + sizeof(struct weft_cqe);

	return PAGE_ALIGN(PAGE_SIZE + entries * entry_bytes);
}

int weft_queue_init(struct weft_queue *queue, u32 entries)
{
	BUILD_BUG_ON(sizeof(struct weft_sqe) != 64);
	BUILD_BUG_ON(sizeof(struct weft_cqe) != 32);
	BUILD_BUG_ON(sizeof(struct weft_ring) > PAGE_SIZE);

	queue->bytes = weft_ring_bytes(entries);
	queue->ring = vmalloc_user(queue->bytes);
	if (!queue->ring)
		return -ENOMEM;
	queue->entries = entries;
	queue->sq = (void *)queue->ring + PAGE_SIZE;
	queue->cq = (void *)(queue->sq + entries);
	queue->ring->entries = entries;
	queue->ring->sq_offset = PAGE_SIZE;
	queue->ring->cq_offset = PAGE_SIZE + entries * sizeof(struct weft_sqe);
	spin_lock_init(&queue->lock);
	mutex_init(&queue->complete_lock);
	init_waitqueue_head(&queue->wait);
	return 0;
}

void weft_queue_free(struct weft_queue *queue)
{
	vfree(queue->ring);
	queue->ring = NULL;
}

void weft_queue_push(struct weft_queue *queue, const struct weft_sqe *sqe)
{
	lockdep_assert_held(&queue->lock);
	queue->sq[queue->sq_tail & (queue->entries - 1)] = *sqe;
	queue->sq_tail++;
	/* pairs with the agent's load-acquire: it sees the entry before the tail */
	smp_store_release(&queue->ring->sq_tail, queue->sq_tail);
}

void weft_queue_kick(struct weft_queue *queue)
{
	/*
	 * Pairs with the agent's barrier between setting NEED_WAKEUP and looking at sq_tail:
	 * either it sees the new tail or the flag is seen here.
	 */
	smp_mb();
	if (READ_ONCE(queue->ring->agent_flags) & WEFT_RING_NEED_WAKEUP)
		wake_up_interruptible(&queue->wait);
}

bool weft_queue_has_work(struct weft_queue *queue)
{
	return READ_ONCE(queue->ring->sq_head) != READ_ONCE(queue->sq_tail);
}

int weft_queue_completions(struct weft_queue *queue)
{
	u32 count;

	lockdep_assert_held(&queue->complete_lock);
	/* pairs with the agent's store-release: the entries are seen after the tail */
	count = smp_load_acquire(&queue->ring->cq_tail) - queue->cq_head;
	return count <= queue->entries ? count : -EINVAL;
}

void weft_queue_peek(struct weft_queue *queue, struct weft_cqe *cqe)
{
	const struct weft_cqe *from = &queue->cq[queue->cq_head & (queue->entries - 1)];

	/* once, whatever the compiler thinks: the agent may change it while it is being checked */
	cqe->tag = READ_ONCE(from->tag);
	cqe->epoch = READ_ONCE(from->epoch);
	cqe->result = READ_ONCE(from->result);
	cqe->reserved[0] = READ_ONCE(from->reserved[0]);
	cqe->reserved[1] = READ_ONCE(from->reserved[1]);
}

void weft_queue_advance(struct weft_queue *queue)
{
	queue->cq_head++;
	/* the entry has been read: the agent may write over it */
	smp_store_release(&queue->ring->cq_head, queue->cq_head);
}
