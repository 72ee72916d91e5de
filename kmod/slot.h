/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The buffer pool of a channel and its slots. The pool is owned by the kernel: folios of at
 * least two pages (those count their pins exactly), one contiguous view for the kernel, and
 * mapped into the agent. It holds WEFT_META_SLOTS message slots (request half, answer half) and
 * data slots in three sizes.
 *
 * A slot is refcounted: who took it holds one reference, and every request that names it holds
 * another one until no agent can touch the memory for it any more.
 */
#ifndef _WEFT_SLOT_H
#define _WEFT_SLOT_H

#include <linux/mm_types.h>
#include <linux/refcount.h>

#include "ids.h"
#include "uapi/weft.h"

enum weft_slot_class {
	WEFT_SLOT_META,
	WEFT_SLOT_LARGE,		/* WEFT_IO_BYTES_MAX */
	WEFT_SLOT_MEDIUM,
	WEFT_SLOT_SMALL,		/* a block */
	WEFT_SLOT_CLASSES
};

struct weft_slot {
	refcount_t refs;
	enum weft_kind kind;		/* how it was taken */
	struct weft_slots *of;
	u32 index;			/* of its class */
	u64 offset;			/* bytes from the start of the pool */
	void *data;
};

struct weft_slots {
	struct weft_ids ids;
	struct weft_slot *slots;
};

struct weft_buffer {
	struct page **pages;
	unsigned long page_count;
	u64 bytes;
	void *data;			/* all pages in a row */
	struct weft_slots classes[WEFT_SLOT_CLASSES];
};

int weft_buffer_init(struct weft_buffer *buffer, u64 bytes);
void weft_buffer_free(struct weft_buffer *buffer);

/* Maps the pool into the agent; vma has its size. Pages outlive the pool while they are mapped. */
int weft_buffer_mmap(struct weft_buffer *buffer, struct vm_area_struct *vma);

/* Somebody may still move data into or out of the pool by DMA or through io_uring. */
bool weft_buffer_is_pinned(const struct weft_buffer *buffer);

/* Waiting for slots ends with `error` (0: goes on): all, or what began before `since`. */
void weft_buffer_set_error(struct weft_buffer *buffer, int error);
void weft_buffer_expire(struct weft_buffer *buffer, unsigned long since, int error);

/* A message slot, or a data slot of at least `bytes`. ERR_PTR as weft_ids_take(). */
struct weft_slot *weft_slot_take_meta(struct weft_buffer *buffer, enum weft_kind kind,
				      enum weft_wait wait);
struct weft_slot *weft_slot_take(struct weft_buffer *buffer, u32 bytes, enum weft_kind kind,
				 enum weft_wait wait);
void weft_slot_get(struct weft_slot *slot);
void weft_slot_put(struct weft_slot *slot);

#endif
