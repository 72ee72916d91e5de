// SPDX-License-Identifier: GPL-2.0
/*
 * Reading directories. The position in a directory is the server's cookie of the last entry that
 * was read, plus 2 for `.` and `..`; cookies rise and belong to their entries for life, so a
 * position stays good while names come and go.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include "upcall.h"

#define COOKIE_SHIFT	2

/* One answer of the server, kept in the open file; the VFS holds f_pos_lock. */
struct weft_dir_page {
	u64 cookie;			/* of the entry before the next one */
	u32 count;			/* entries left */
	u32 next;			/* bytes into entries */
	u32 bytes;
	bool eof;			/* nothing behind this page */
	u8 entries[WEFT_META_REP_BYTES] __aligned(8);
};

static void page_forget(struct weft_dir_page *page)
{
	page->count = 0;
	page->eof = false;
	page->cookie = 0;
}

static int page_fill(struct inode *dir, struct weft_dir_page *page, u64 cookie)
{
	ssize_t bytes = weft_upcall_readdir(dir, cookie, page->entries, &page->count, &page->eof);

	if (bytes < 0) {
		page_forget(page);
		return bytes;
	}
	page->cookie = cookie;
	page->next = 0;
	page->bytes = bytes;
	return 0;
}

/*
 * Hands out what the page holds. Returns 1 when that was all, 0 when the caller's buffer is full.
 */
static int page_emit(struct inode *dir, struct weft_dir_page *page, struct dir_context *ctx)
{
	while (page->count) {
		const struct weft_dirent *entry = (void *)page->entries + page->next;
		ssize_t length =
			weft_upcall_dirent(dir, entry, page->bytes - page->next, page->cookie);

		if (length < 0)
			return length;
		if (!dir_emit(ctx, entry->name, entry->name_bytes, entry->ino, entry->type))
			return 0;
		page->cookie = entry->cookie;
		page->next += length;
		page->count--;
		ctx->pos = entry->cookie + COOKIE_SHIFT;
	}
	return 1;
}

static int weft_iterate(struct file *file, struct dir_context *ctx)
{
	struct inode *dir = file_inode(file);
	struct weft_dir_page *page = file->private_data;

	if (!dir_emit_dots(file, ctx))
		return 0;
	if (!page) {
		page = kvmalloc(sizeof(*page), GFP_KERNEL);
		if (!page)
			return -ENOMEM;
		page_forget(page);
		file->private_data = page;
	}
	for (;;) {
		int more;

		if (page->cookie != ctx->pos - COOKIE_SHIFT || (!page->count && !page->eof)) {
			int error = page_fill(dir, page, ctx->pos - COOKIE_SHIFT);

			if (error)
				return error;
		}
		more = page_emit(dir, page, ctx);
		if (more <= 0 || page->eof)
			return min(more, 0);
	}
}

/* rewinddir() shows what is there now. */
static loff_t weft_dir_llseek(struct file *file, loff_t offset, int whence)
{
	struct weft_dir_page *page = file->private_data;

	offset = generic_file_llseek(file, offset, whence);
	if (page && !offset)
		page_forget(page);
	return offset;
}

static int weft_dir_release(struct inode *inode, struct file *file)
{
	kvfree(file->private_data);
	return 0;
}

/* Changes of names are durable when they return; left are the directory's own times. */
static int weft_dir_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);

	if (!weft_commit_needed(WEFT_I(inode), datasync))
		return 0;
	return weft_commit_wait(inode);
}

const struct file_operations weft_dir_operations = {
	.iterate_shared	= weft_iterate,
	.llseek		= weft_dir_llseek,
	.release	= weft_dir_release,
	.fsync		= weft_dir_fsync,
	.unlocked_ioctl	= weft_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.read		= generic_read_dir,
};
