// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/fiemap.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include "fs.h"

static int lock_shared(struct kiocb *iocb, struct inode *inode)
{
	if (!(iocb->ki_flags & IOCB_NOWAIT))
		inode_lock_shared(inode);
	else if (!inode_trylock_shared(inode))
		return -EAGAIN;
	return 0;
}

static int lock_exclusive(struct kiocb *iocb, struct inode *inode)
{
	if (!(iocb->ki_flags & IOCB_NOWAIT))
		inode_lock(inode);
	else if (!inode_trylock(inode))
		return -EAGAIN;
	return 0;
}

/* What is not cached needs no more than the extent map: it is loaded before anything is locked. */
static int weft_file_open(struct inode *inode, struct file *file)
{
	int error;

	if ((file->f_mode & FMODE_WRITE) && weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	error = generic_file_open(inode, file);
	if (error)
		return error;
	error = weft_inode_settle(inode);
	if (error)
		return error;
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return weft_inode_load(inode);
}

static int weft_file_release(struct inode *inode, struct file *file)
{
	/* The last writer leaves: nobody will use the rest of the window. */
	if ((file->f_mode & FMODE_WRITE) && atomic_read(&inode->i_writecount) == 1)
		weft_space_close_window(WEFT_I(inode));
	return 0;
}

static ssize_t read_direct(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done;
	int error;

	if (!iov_iter_count(to))
		return 0;
	file_accessed(iocb->ki_filp);
	error = lock_shared(iocb, inode);
	if (error)
		return error;
	done = iomap_dio_rw(iocb, to, &weft_read_iomap_ops, NULL, 0, NULL, 0);
	inode_unlock_shared(inode);
	return done;
}

static ssize_t weft_file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	if (iocb->ki_flags & IOCB_DIRECT)
		return read_direct(iocb, to);
	return generic_file_read_iter(iocb, to);
}

/*
 * Times are noted in memory alone, which waits for nothing: a write that must not wait need not be put
 * off for them, as kiocb_modified() does whenever the clock has ticked.
 */
static int note_modified(struct kiocb *iocb)
{
	if (IS_NOSEC(file_inode(iocb->ki_filp)))
		return file_modified(iocb->ki_filp);
	return kiocb_modified(iocb);
}

/* With i_rwsem held for writing. Returns the bytes to write, 0, or an errno. */
static ssize_t write_checks(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t count = generic_write_checks(iocb, from);
	loff_t size;
	int error;

	if (count <= 0)
		return count;
	size = i_size_read(inode);
	if (iocb->ki_pos > size) {
		if (iocb->ki_flags & IOCB_NOWAIT)
			return -EAGAIN;
		/* Direct writes that are under way move the end of the file when they end. */
		inode_dio_wait(inode);
		size = i_size_read(inode);
		if (iocb->ki_pos > size) {
			error = weft_zero_beyond(inode, size, iocb->ki_pos);
			if (error)
				return error;
		}
	}
	error = note_modified(iocb);
	return error ? error : count;
}

static ssize_t write_buffered(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done;
	int error;

	error = lock_exclusive(iocb, inode);
	if (error)
		return error;
	done = write_checks(iocb, from);
	if (done > 0)
		done = iomap_file_buffered_write(iocb, from, &weft_write_iomap_ops, NULL);
	inode_unlock(inode);
	return done > 0 ? generic_write_sync(iocb, done) : done;
}

static int write_direct_end(struct kiocb *iocb, ssize_t size, int error, unsigned int flags)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t end = iocb->ki_pos + size;
	unsigned int nofs;

	if (error || !size)
		return error;
	if (!(flags & IOMAP_DIO_UNWRITTEN) && end <= READ_ONCE(WEFT_I(inode)->disk_size))
		return 0;
	nofs = memalloc_nofs_save();
	weft_iomap_written(inode, iocb->ki_pos, size, true);
	memalloc_nofs_restore(nofs);
	return 0;
}

static const struct iomap_dio_ops weft_write_dio_ops = {
	.end_io		= write_direct_end,
};

/* A write inside the file that changes no attribute but mtime goes on beside others. */
static bool may_share(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);

	return !(iocb->ki_flags & IOCB_APPEND) && IS_NOSEC(inode) &&
	       iocb->ki_pos + iov_iter_count(from) <= i_size_read(inode);
}

static ssize_t write_checks_shared(struct kiocb *iocb, struct iov_iter *from)
{
	ssize_t count = generic_write_checks(iocb, from);
	int error;

	if (count <= 0)
		return count;
	error = note_modified(iocb);
	return error ? error : count;
}

/*
 * Direct writes run beside each other. One that moves the end of the file is set up alone; one that
 * appends has to be over before the next can know where to go.
 */
static ssize_t write_direct(struct kiocb *iocb, struct iov_iter *from)
{
	unsigned int dio_flags = iocb->ki_flags & IOCB_APPEND ? IOMAP_DIO_FORCE_WAIT : 0;
	struct inode *inode = file_inode(iocb->ki_filp);
	bool shared = may_share(iocb, from);
	ssize_t done;
	int error;

	if ((iocb->ki_pos | iov_iter_count(from)) & (WEFT_BLOCK_BYTES - 1))
		return -EINVAL;
	if (shared) {
		error = lock_shared(iocb, inode);
		if (error)
			return error;
		shared = may_share(iocb, from);	/* it may have been truncated before */
		if (!shared)
			inode_unlock_shared(inode);
	}
	if (shared) {
		done = write_checks_shared(iocb, from);
	} else {
		error = lock_exclusive(iocb, inode);
		if (error)
			return error;
		done = write_checks(iocb, from);
		if (!dio_flags) {
			downgrade_write(&inode->i_rwsem);
			shared = true;
		}
	}
	if (done > 0)
		done = iomap_dio_rw(iocb, from, &weft_write_iomap_ops, &weft_write_dio_ops,
				    dio_flags, NULL, 0);
	if (shared)
		inode_unlock_shared(inode);
	else
		inode_unlock(inode);
	return done;
}

static ssize_t weft_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done;

	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	if (iocb->ki_flags & IOCB_DIRECT) {
		done = write_direct(iocb, from);
		/* The page cache could not be emptied, somebody maps it: go through it. */
		if (done != -ENOTBLK)
			return done;
	}
	return write_buffered(iocb, from);
}

static int weft_file_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);
	int error;

	error = file_write_and_wait_range(file, start, end);
	if (error)
		return error;
	/* A commit flushes the pool before it tells anything. */
	if (weft_commit_needed(WEFT_I(inode), datasync))
		return weft_commit_wait(inode);
	return weft_pool_flush(weft_fs_of(inode)->pool);
}

/*
 * The space is allocated before iomap locks the folio. It cannot go again: that takes
 * invalidate_lock for writing. The file may grow over more of the folio meanwhile; then iomap_begin
 * has the fault taken again.
 */
static vm_fault_t page_mkwrite_locked(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct folio *folio = page_folio(vmf->page);
	loff_t pos = folio_pos(folio);
	loff_t end = min_t(loff_t, pos + folio_size(folio), i_size_read(inode));
	int error = 0;

	if (end > pos)
		error = weft_iomap_allocate(inode, pos, end - pos, WEFT_NEW);
	if (error)
		return vmf_fs_error(error);
	return iomap_page_mkwrite(vmf, &weft_write_iomap_ops);
}

static vm_fault_t weft_page_mkwrite(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	vm_fault_t result;

	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return VM_FAULT_SIGBUS;
	sb_start_pagefault(inode->i_sb);
	file_update_time(vmf->vma->vm_file);
	filemap_invalidate_lock_shared(inode->i_mapping);
	result = page_mkwrite_locked(vmf);
	filemap_invalidate_unlock_shared(inode->i_mapping);
	sb_end_pagefault(inode->i_sb);
	return result;
}

static const struct vm_operations_struct weft_vm_operations = {
	.fault		= filemap_fault,
	.map_pages	= filemap_map_pages,
	.page_mkwrite	= weft_page_mkwrite,
};

static int weft_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	file_accessed(file);
	vma->vm_ops = &weft_vm_operations;
	return 0;
}

static loff_t weft_file_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);

	switch (whence) {
	case SEEK_HOLE:
		inode_lock_shared(inode);
		offset = iomap_seek_hole(inode, offset, &weft_read_iomap_ops);
		inode_unlock_shared(inode);
		break;
	case SEEK_DATA:
		inode_lock_shared(inode);
		offset = iomap_seek_data(inode, offset, &weft_read_iomap_ops);
		inode_unlock_shared(inode);
		break;
	default:
		return generic_file_llseek(file, offset, whence);
	}
	if (offset < 0)
		return offset;
	return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
}

static int weft_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 length)
{
	int error = weft_inode_load(inode);

	if (error)
		return error;
	inode_lock_shared(inode);
	error = iomap_fiemap(inode, info, start, length, &weft_read_iomap_ops);
	inode_unlock_shared(inode);
	return error;
}

const struct inode_operations weft_file_inode_operations = {
	.getattr	= weft_getattr,
	.setattr	= weft_setattr,
	.fiemap		= weft_fiemap,
};

const struct file_operations weft_file_operations = {
	.open		= weft_file_open,
	.release	= weft_file_release,
	.llseek		= weft_file_llseek,
	.read_iter	= weft_file_read_iter,
	.write_iter	= weft_file_write_iter,
	.mmap		= weft_file_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.fsync		= weft_file_fsync,
	.unlocked_ioctl	= weft_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.splice_read	= filemap_splice_read,
	.splice_write	= iter_file_splice_write,
	.fallocate	= weft_fallocate,
	.fop_flags	= FOP_BUFFER_RASYNC | FOP_BUFFER_WASYNC | FOP_DIO_PARALLEL_WRITE,
};
