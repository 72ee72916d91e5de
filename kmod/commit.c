// SPDX-License-Identifier: GPL-2.0
/*
 * Commits: the metadata server is told what has been written.
 *
 * One worker of the mount, the committer, does it for all files. Whoever wants a file committed
 * puts it into the queue; fsync then waits. The committer takes the whole queue, and
 *
 *   1. stages of each file what is to be told: holes and a nearer end, dirty extents, size;
 *   2. flushes the pool once: what the staged extents name is durable from here on;
 *   3. tells holes and nearer ends, one call each;
 *   4. tells extents, sizes and times of as many files as a message takes. A file whose extents
 *      take several messages has its size in the last one.
 *
 * So many fsyncs share one flush and one call, and a file's truncations, holes and extents reach
 * the server in the order in which they happened, although nothing is locked while a call is made:
 * what changes meanwhile is dirty again, and goes with the next round.
 *
 * The committer waits as long as the channel does, so a commit is never left in doubt. Its waiters
 * can be killed.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <linux/writeback.h>
#include "upcall.h"

static struct weft_inode *first_of(struct list_head *list)
{
	return list_first_entry_or_null(list, struct weft_inode, commit_link);
}

bool weft_commit_needed(struct weft_inode *wi, bool datasync)
{
	const struct weft_extent_map *map = &wi->extents;
	bool needed;

	if (!datasync && test_bit(WEFT_INODE_TOUCHED, &wi->flags))
		return true;
	down_read(&wi->extents.lock);
	needed = !list_empty(&map->dirty) || !list_empty(&map->staged) || !list_empty(&map->sent) ||
		 !list_empty(&wi->unmaps) || wi->cut_size != WEFT_NO_CUT ||
		 wi->disk_size != wi->told_size;
	up_read(&wi->extents.lock);
	return needed || READ_ONCE(wi->commit_state) != WEFT_COMMIT_IDLE;
}

/* Fixes what the running commit says of a file. */
static void stage(struct weft_inode *wi)
{
	wi->staged_error = 0;
	clear_bit(WEFT_INODE_TOUCHED, &wi->flags);
	smp_mb__after_atomic();		/* times that are set later touch it again */
	down_write(&wi->extents.lock);
	weft_extents_stage(&wi->extents);
	list_splice_tail_init(&wi->unmaps, &wi->staged_unmaps);
	wi->unmap_count = 0;
	wi->staged_cut = wi->cut_size;
	wi->cut_size = WEFT_NO_CUT;
	wi->staged_size = wi->disk_size;
	up_write(&wi->extents.lock);
}

/* The commit of a file has ended, for better or worse. */
static void unstage(struct weft_inode *wi)
{
	bool success = !wi->staged_error;

	down_write(&wi->extents.lock);
	weft_extents_committed(&wi->extents, success);
	if (success)
		wi->told_size = wi->staged_size;
	else
		wi->cut_size = min(wi->cut_size, wi->staged_cut);
	list_splice_init(&wi->staged_unmaps, &wi->unmaps);
	up_write(&wi->extents.lock);
}

static int tell_unmaps(struct weft_inode *wi)
{
	struct weft_unmap *unmap, *next;
	int error;

	if (wi->staged_cut != WEFT_NO_CUT) {
		error = weft_upcall_cut(&wi->vfs_inode, wi->staged_cut);
		if (error)
			return error;
		down_write(&wi->extents.lock);
		wi->told_size = wi->staged_cut;
		wi->staged_cut = WEFT_NO_CUT;
		up_write(&wi->extents.lock);
	}
	list_for_each_entry_safe(unmap, next, &wi->staged_unmaps, link) {
		error = weft_upcall_punch(&wi->vfs_inode, unmap->file_block, unmap->blocks);
		if (error)
			return error;
		list_del(&unmap->link);
		kfree(unmap);
	}
	return 0;
}

static void fill_attributes(struct weft_inode *wi, struct weft_commit *file)
{
	struct inode *inode = &wi->vfs_inode;
	struct timespec64 atime = inode_get_atime(inode);
	struct timespec64 mtime = inode_get_mtime(inode);
	struct timespec64 ctime = inode_get_ctime(inode);

	file->valid = WEFT_SET_ATIME;
	file->atime_ns = timespec64_to_ns(&atime);
	/* What else there is of other inodes is changed at the server first. */
	if (!S_ISREG(inode->i_mode))
		return;
	file->valid |= WEFT_SET_SIZE | WEFT_SET_MTIME | WEFT_SET_CTIME;
	file->size = wi->staged_size;
	file->mtime_ns = timespec64_to_ns(&mtime);
	file->ctime_ns = timespec64_to_ns(&ctime);
}

/* Puts as much of a file into the message as it takes. Returns true when that was all. */
static bool pack(struct weft_upcall_commit *message, struct weft_inode *wi)
{
	struct weft_commit *file;
	u32 room, count;
	bool all;

	file = weft_upcall_commit_file(message, &room);
	if (!file)
		return false;
	file->ino = wi->vfs_inode.i_ino;
	down_write(&wi->extents.lock);
	count = weft_extents_send(&wi->extents, (void *)(file + 1), room);
	all = list_empty(&wi->extents.staged);
	up_write(&wi->extents.lock);
	if (all)
		fill_attributes(wi, file);
	file->extents = count;
	weft_upcall_commit_extents(message, count);
	return all;
}

static void set_error(struct list_head *files, int error)
{
	struct weft_inode *wi;

	list_for_each_entry(wi, files, commit_link)
		wi->staged_error = error;
}

/* Serves the waiters of a file, and drops it unless it is wanted again. */
static void finish(struct weft_fs *fs, struct weft_inode *wi)
{
	struct weft_committer *committer = &fs->committer;
	struct inode *inode = &wi->vfs_inode;
	int error = wi->staged_error;
	bool release = false;

	unstage(wi);
	if (error) {
		/* Nothing is lost yet: it stays dirty and is told later. */
		__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
		pr_err_ratelimited("weft: cluster %s: inode %lu: commit failed with error %d\n",
				   fs->cluster, inode->i_ino, error);
	}
	spin_lock(&committer->lock);
	if (error) {
		wi->commit_failed = wi->commit_running;
		wi->commit_error = error;
	}
	if (wi->commit_state == WEFT_COMMIT_RUNNING_AGAIN) {
		wi->commit_state = WEFT_COMMIT_QUEUED;
		list_move_tail(&wi->commit_link, &committer->queue);
	} else {
		wi->commit_state = WEFT_COMMIT_IDLE;
		list_del_init(&wi->commit_link);
		release = wi->commit_ref;
		wi->commit_ref = false;
	}
	/*
	 * Where the queue has no reference, the waiter is what keeps the inode: it is not touched
	 * again.
	 */
	smp_store_release(&wi->commit_done, wi->commit_running);
	smp_mb();	/* against the waiter: it queues itself, then looks at commit_done */
	wake_up_var(&wi->commit_done);
	spin_unlock(&committer->lock);
	if (release)
		iput(inode);
}

static void finish_all(struct weft_fs *fs, struct list_head *files, int error)
{
	struct weft_inode *wi;

	if (error)
		set_error(files, error);
	while ((wi = first_of(files)))
		finish(fs, wi);
}

/* Puts files into the message until it is full. Returns true when the last one went in whole. */
static bool pack_files(struct weft_upcall_commit *message, struct list_head *files, u32 files_max,
		       struct list_head *packed)
{
	struct weft_inode *wi;

	while (files_max-- && (wi = first_of(files))) {
		if (!pack(message, wi))
			return false;
		list_move_tail(&wi->commit_link, packed);
	}
	return true;
}

/* What a message told of these files is to be told once more, file by file. Returns how many. */
static u32 unpack_files(struct list_head *packed, struct list_head *files)
{
	struct weft_inode *wi;
	u32 count = 0;

	list_for_each_entry(wi, packed, commit_link) {
		down_write(&wi->extents.lock);
		weft_extents_unsend(&wi->extents);
		up_write(&wi->extents.lock);
		count++;
	}
	list_splice_init(packed, files);
	return count;
}

/*
 * Packs and sends messages until all files have been told. The server takes a message whole or not
 * at all: when it refuses one, the files are told one by one, so that the one to blame keeps no
 * other from being committed.
 */
static void tell_files(struct weft_fs *fs, struct list_head *files)
{
	struct weft_upcall_commit message;
	u32 alone = 0;
	LIST_HEAD(packed);

	while (!list_empty(files)) {
		bool whole;
		int error;

		error = weft_upcall_commit_begin(&message, fs);
		if (error) {
			finish_all(fs, files, error);
			return;
		}
		whole = pack_files(&message, files, alone ? 1 : U32_MAX, &packed);
		error = weft_upcall_commit_send(&message);
		/* Of the file that did not fit whole, this message has a part. */
		if (error && !whole)
			list_move_tail(&first_of(files)->commit_link, &packed);
		if (error && error != -EIO && !list_is_singular(&packed)) {
			alone = unpack_files(&packed, files);
			continue;
		}
		if (alone && !list_empty(&packed))
			alone--;
		finish_all(fs, &packed, error);
	}
}

static void tell_all_unmaps(struct weft_fs *fs, struct list_head *files)
{
	struct weft_inode *wi, *next;

	list_for_each_entry_safe(wi, next, files, commit_link) {
		wi->staged_error = tell_unmaps(wi);
		if (wi->staged_error)
			finish(fs, wi);
	}
}

/* Takes the queue. Returns false when it is empty. */
static bool take_queue(struct weft_committer *committer, struct list_head *files)
{
	struct weft_inode *wi;

	spin_lock(&committer->lock);
	list_splice_tail_init(&committer->queue, files);
	list_for_each_entry(wi, files, commit_link) {
		wi->commit_state = WEFT_COMMIT_RUNNING;
		wi->commit_running = wi->commit_wanted;
	}
	spin_unlock(&committer->lock);
	return !list_empty(files);
}

static void commit_work(struct work_struct *work)
{
	struct weft_fs *fs = container_of(work, struct weft_fs, committer.work);
	unsigned int nofs = memalloc_nofs_save();
	struct weft_inode *wi;
	LIST_HEAD(files);

	while (take_queue(&fs->committer, &files)) {
		int error;

		list_for_each_entry(wi, &files, commit_link)
			stage(wi);
		error = weft_pool_flush(fs->pool);
		if (error) {
			finish_all(fs, &files, error);
			continue;
		}
		tell_all_unmaps(fs, &files);
		tell_files(fs, &files);
	}
	memalloc_nofs_restore(nofs);
}

/*
 * Queues a file; the queue keeps the inode. One that is about to be freed cannot be kept: then the
 * caller has to wait. Returns what commit_done has to reach.
 */
static u64 enqueue(struct inode *inode, bool *kept)
{
	struct weft_committer *committer = &weft_fs_of(inode)->committer;
	struct weft_inode *wi = WEFT_I(inode);
	u64 wanted;

	spin_lock(&committer->lock);
	wanted = ++wi->commit_wanted;
	if (wi->commit_state == WEFT_COMMIT_RUNNING) {
		wi->commit_state = WEFT_COMMIT_RUNNING_AGAIN;
	} else if (wi->commit_state == WEFT_COMMIT_IDLE) {
		wi->commit_state = WEFT_COMMIT_QUEUED;
		wi->commit_ref = igrab(inode);
		list_add_tail(&wi->commit_link, &committer->queue);
	}
	*kept = wi->commit_ref;
	spin_unlock(&committer->lock);
	queue_work(weft_fs_of(inode)->commit_wq, &committer->work);
	return wanted;
}

static bool is_done(struct weft_inode *wi, u64 wanted)
{
	/* What the commit left behind is seen by who sees that it is done. */
	return (s64)(smp_load_acquire(&wi->commit_done) - wanted) >= 0;
}

void weft_commit_queue(struct inode *inode)
{
	struct weft_inode *wi = WEFT_I(inode);
	bool kept;
	u64 wanted = enqueue(inode, &kept);

	if (!kept)
		wait_var_event(&wi->commit_done, is_done(wi, wanted));
}

int weft_commit_wait(struct inode *inode)
{
	struct weft_committer *committer = &weft_fs_of(inode)->committer;
	struct weft_inode *wi = WEFT_I(inode);
	int error = 0;
	bool kept;
	u64 wanted = enqueue(inode, &kept);

	if (!kept)
		wait_var_event(&wi->commit_done, is_done(wi, wanted));
	else if (wait_var_event_killable(&wi->commit_done, is_done(wi, wanted)))
		return -EINTR;
	spin_lock(&committer->lock);
	if ((s64)(wi->commit_failed - wanted) >= 0)
		error = wi->commit_error;
	spin_unlock(&committer->lock);
	return error;
}

void weft_commit_drain(struct weft_fs *fs)
{
	flush_work(&fs->committer.work);
}

/*
 * Writeback of the inode. sync(2) puts all inodes into the queue first and waits for the committer
 * once, in sync_fs.
 */
int weft_commit_write_inode(struct inode *inode, struct writeback_control *wbc)
{
	if (wbc->sync_mode == WB_SYNC_ALL && !wbc->for_sync)
		return weft_commit_wait(inode);
	weft_commit_queue(inode);
	return 0;
}

void weft_commit_init(struct weft_fs *fs)
{
	spin_lock_init(&fs->committer.lock);
	INIT_LIST_HEAD(&fs->committer.queue);
	INIT_WORK(&fs->committer.work, commit_work);
}
