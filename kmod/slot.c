// SPDX-License-Identifier: GPL-2.0
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "slot.h"

#define FOLIO_ORDER_MAX		8	/* 1 MiB: few entries in the NIC's translation table */
#define FOLIO_ORDER_MIN		1	/* large folios count their pins exactly */

/* Share of the pool of the small and medium classes; the large slots get the rest. */
#define SMALL_SHARE		16
#define MEDIUM_SHARE		4
#define MEDIUM_BYTES		(64U << 10)

static const u32 class_bytes[WEFT_SLOT_CLASSES] = {
	[WEFT_SLOT_META] = WEFT_META_REQ_BYTES + WEFT_META_REP_BYTES,
	[WEFT_SLOT_LARGE] = WEFT_IO_BYTES_MAX,
	[WEFT_SLOT_MEDIUM] = MEDIUM_BYTES,
	[WEFT_SLOT_SMALL] = WEFT_BLOCK_BYTES,
};

static void buffer_free_pages(struct weft_buffer *buffer)
{
	unsigned long i = 0;

	while (i < buffer->page_count) {
		struct folio *folio = page_folio(buffer->pages[i]);

		i += folio_nr_pages(folio);
		folio_put(folio);
	}
	buffer->page_count = 0;
	kvfree(buffer->pages);
	buffer->pages = NULL;
}

static struct folio *alloc_folio(unsigned int order_max)
{
	unsigned int order;
	struct folio *folio;

	for (order = order_max; order > FOLIO_ORDER_MIN; order--) {
		folio = folio_alloc(GFP_KERNEL | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN, order);
		if (folio)
			return folio;
	}
	return folio_alloc(GFP_KERNEL | __GFP_ZERO, FOLIO_ORDER_MIN);
}

static int buffer_alloc_pages(struct weft_buffer *buffer, unsigned long count)
{
	buffer->pages = kvmalloc_array(count, sizeof(*buffer->pages), GFP_KERNEL);
	if (!buffer->pages)
		return -ENOMEM;
	while (buffer->page_count < count) {
		unsigned long left = count - buffer->page_count;
		unsigned int order = min_t(unsigned int, FOLIO_ORDER_MAX, ilog2(left));
		struct folio *folio = alloc_folio(order);
		unsigned long i;

		if (!folio) {
			buffer_free_pages(buffer);
			return -ENOMEM;
		}
		for (i = 0; i < folio_nr_pages(folio); i++)
			buffer->pages[buffer->page_count++] = folio_page(folio, i);
	}
	return 0;
}

static int buffer_init_class(struct weft_buffer *buffer, enum weft_slot_class class, u32 count,
			     u64 *offset)
{
	struct weft_slots *slots = &buffer->classes[class];
	u32 i;
	int ret;

	slots->slots = kvcalloc(count, sizeof(*slots->slots), GFP_KERNEL);
	if (!slots->slots)
		return -ENOMEM;
	ret = weft_ids_init(&slots->ids, count, max(count / 8, 1U));
	if (ret)
		return ret;
	for (i = 0; i < count; i++) {
		struct weft_slot *slot = &slots->slots[i];

		slot->of = slots;
		slot->index = i;
		slot->offset = *offset;
		slot->data = buffer->data + *offset;
		*offset += class_bytes[class];
	}
	return 0;
}

/* Large slots first, so that every slot is aligned to its size. */
static int buffer_init_slots(struct weft_buffer *buffer)
{
	u32 small_count = buffer->bytes / SMALL_SHARE / class_bytes[WEFT_SLOT_SMALL];
	u32 medium_count = buffer->bytes / MEDIUM_SHARE / class_bytes[WEFT_SLOT_MEDIUM];
	u64 offset = 0, rest;
	int ret;

	ret = buffer_init_class(buffer, WEFT_SLOT_META, WEFT_META_SLOTS, &offset);
	if (ret)
		return ret;
	rest = buffer->bytes - offset - buffer->bytes / SMALL_SHARE - buffer->bytes / MEDIUM_SHARE;
	ret = buffer_init_class(buffer, WEFT_SLOT_LARGE, rest / class_bytes[WEFT_SLOT_LARGE],
				&offset);
	if (ret)
		return ret;
	ret = buffer_init_class(buffer, WEFT_SLOT_MEDIUM, medium_count, &offset);
	if (ret)
		return ret;
	return buffer_init_class(buffer, WEFT_SLOT_SMALL, small_count, &offset);
}

int weft_buffer_init(struct weft_buffer *buffer, u64 bytes)
{
	int ret;

	BUILD_BUG_ON(WEFT_POOL_BYTES_MIN < 4 * WEFT_META_SLOTS *
		     (WEFT_META_REQ_BYTES + WEFT_META_REP_BYTES));
	if (WARN_ON_ONCE(bytes < WEFT_POOL_BYTES_MIN || bytes > WEFT_POOL_BYTES_MAX ||
			 bytes % WEFT_IO_BYTES_MAX))
		return -EINVAL;
	ret = buffer_alloc_pages(buffer, bytes >> PAGE_SHIFT);
	if (ret)
		return ret;
	buffer->bytes = bytes;
	buffer->data = vmap(buffer->pages, buffer->page_count, VM_MAP, PAGE_KERNEL);
	ret = buffer->data ? buffer_init_slots(buffer) : -ENOMEM;
	if (ret)
		weft_buffer_free(buffer);
	return ret;
}

void weft_buffer_free(struct weft_buffer *buffer)
{
	int class;

	for (class = 0; class < WEFT_SLOT_CLASSES; class++) {
		weft_ids_free(&buffer->classes[class].ids);
		kvfree(buffer->classes[class].slots);
		buffer->classes[class].slots = NULL;
	}
	if (buffer->data)
		vunmap(buffer->data);
	buffer->data = NULL;
	buffer_free_pages(buffer);
}

int weft_buffer_mmap(struct weft_buffer *buffer, struct vm_area_struct *vma)
{
	unsigned long count = buffer->page_count;

	/* a child of the agent must not keep the pool of a dead parent alive */
	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	return vm_insert_pages(vma, vma->vm_start, buffer->pages, &count);
}

bool weft_buffer_is_pinned(const struct weft_buffer *buffer)
{
	unsigned long i = 0;

	while (i < buffer->page_count) {
		struct folio *folio = page_folio(buffer->pages[i]);

		if (folio_maybe_dma_pinned(folio))
			return true;
		i += folio_nr_pages(folio);
	}
	return false;
}

void weft_buffer_set_error(struct weft_buffer *buffer, int error)
{
	int class;

	for (class = 0; class < WEFT_SLOT_CLASSES; class++)
		weft_ids_set_error(&buffer->classes[class].ids, error);
}

void weft_buffer_expire(struct weft_buffer *buffer, unsigned long since, int error)
{
	int class;

	for (class = 0; class < WEFT_SLOT_CLASSES; class++)
		weft_ids_expire(&buffer->classes[class].ids, since, error);
}

static struct weft_slot *slot_take(struct weft_slots *slots, enum weft_kind kind,
				   enum weft_wait wait)
{
	int id = weft_ids_take(&slots->ids, kind, wait);
	struct weft_slot *slot;

	if (id < 0)
		return ERR_PTR(id);
	slot = &slots->slots[id];
	slot->kind = kind;
	refcount_set(&slot->refs, 1);
	return slot;
}

struct weft_slot *weft_slot_take_meta(struct weft_buffer *buffer, enum weft_kind kind,
				      enum weft_wait wait)
{
	return slot_take(&buffer->classes[WEFT_SLOT_META], kind, wait);
}

struct weft_slot *weft_slot_take(struct weft_buffer *buffer, u32 bytes, enum weft_kind kind,
				 enum weft_wait wait)
{
	enum weft_slot_class class = WEFT_SLOT_SMALL;

	while (bytes > class_bytes[class] && class > WEFT_SLOT_LARGE)
		class--;
	if (WARN_ON_ONCE(bytes > class_bytes[class]))
		return ERR_PTR(-EIO);
	return slot_take(&buffer->classes[class], kind, wait);
}

void weft_slot_get(struct weft_slot *slot)
{
	refcount_inc(&slot->refs);
}

void weft_slot_put(struct weft_slot *slot)
{
	if (refcount_dec_and_test(&slot->refs))
		weft_ids_put(&slot->of->ids, slot->index, slot->kind);
}
