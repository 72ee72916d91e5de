// SPDX-License-Identifier: GPL-2.0
#include <linux/pagemap.h>
#include <linux/slab.h>
#include "upcall.h"

static struct kmem_cache *inode_cache;

static void weft_inode_init_once(void *memory)
{
	struct weft_inode *wi = memory;

	inode_init_once(&wi->vfs_inode);
}

int weft_inode_cache_init(void)
{
	inode_cache = kmem_cache_create("weft_inode", sizeof(struct weft_inode), 0,
					SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, weft_inode_init_once);
	return inode_cache ? 0 : -ENOMEM;
}

void weft_inode_cache_exit(void)
{
	/* Inodes are freed behind a grace period. */
	rcu_barrier();
	kmem_cache_destroy(inode_cache);
}

struct inode *weft_inode_alloc(struct super_block *sb)
{
	struct weft_fs *fs = sb->s_fs_info;
	struct weft_inode *wi = alloc_inode_sb(sb, inode_cache, GFP_KERNEL);

	if (!wi)
		return NULL;
	wi->flags = 0;
	mutex_init(&wi->load_lock);
	weft_extents_init(&wi->extents, fs->chunk_blocks);
	wi->disk_size = 0;
	wi->told_size = 0;
	wi->cut_size = WEFT_NO_CUT;
	INIT_LIST_HEAD(&wi->unmaps);
	wi->unmap_count = 0;
	wi->window_block = 0;
	wi->window_blocks = 0;
	wi->window_copies = 0;
	wi->copies = fs->copies;
	INIT_LIST_HEAD(&wi->window_link);
	wi->commit_state = WEFT_COMMIT_IDLE;
	wi->commit_ref = false;
	wi->commit_wanted = 0;
	wi->commit_running = 0;
	wi->commit_done = 0;
	INIT_LIST_HEAD(&wi->commit_link);
	wi->commit_failed = 0;
	wi->commit_error = 0;
	INIT_LIST_HEAD(&wi->staged_unmaps);
	spin_lock_init(&wi->ioend_lock);
	INIT_LIST_HEAD(&wi->ioends);
	INIT_WORK(&wi->ioend_work, weft_mapping_ioend_work);
	return &wi->vfs_inode;
}

void weft_inode_free(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	kmem_cache_free(inode_cache, WEFT_I(inode));
}

const struct inode_operations weft_special_inode_operations = {
	.getattr	= weft_getattr,
	.setattr	= weft_setattr,
};

static void inode_set_operations(struct inode *inode, dev_t rdev)
{
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		inode->i_op = &weft_file_inode_operations;
		inode->i_fop = &weft_file_operations;
		inode->i_mapping->a_ops = &weft_address_space_operations;
		mapping_set_large_folios(inode->i_mapping);
		break;
	case S_IFDIR:
		inode->i_op = &weft_dir_inode_operations;
		inode->i_fop = &weft_dir_operations;
		break;
	case S_IFLNK:
		inode->i_op = &weft_symlink_inode_operations;
		inode_nohighmem(inode);
		break;
	default:
		inode->i_op = &weft_special_inode_operations;
		init_special_inode(inode, inode->i_mode, rdev);
	}
}

static bool has_uncommitted(struct inode *inode)
{
	return S_ISREG(inode->i_mode) &&
	       (inode->i_state & I_DIRTY_ALL || weft_commit_needed(WEFT_I(inode), false));
}

static void inode_set_attr(struct inode *inode, const struct weft_attr *attr)
{
	if (attr->copies)
		WRITE_ONCE(WEFT_I(inode)->copies, attr->copies);
	inode->i_mode = attr->mode;
	set_nlink(inode, attr->nlink);
	i_uid_write(inode, attr->uid);
	i_gid_write(inode, attr->gid);
	inode_set_ctime_to_ts(inode, ns_to_timespec64(attr->ctime_ns));
	/* What has not been committed is newer than what the server says. */
	if (has_uncommitted(inode))
		return;
	inode_set_atime_to_ts(inode, ns_to_timespec64(attr->atime_ns));
	inode_set_mtime_to_ts(inode, ns_to_timespec64(attr->mtime_ns));
	if (!S_ISREG(inode->i_mode))
		i_size_write(inode, attr->size);
}

static void inode_set_first_attr(struct inode *inode, const struct weft_attr *attr)
{
	struct weft_inode *wi = WEFT_I(inode);

	inode->i_mode = attr->mode;
	inode_set_attr(inode, attr);
	i_size_write(inode, attr->size);
	inode->i_blocks = attr->blocks << (WEFT_BLOCK_SHIFT - 9);
	wi->btime = ns_to_timespec64(attr->btime_ns);
	wi->disk_size = attr->size;
	wi->told_size = attr->size;
	inode_set_operations(inode, new_decode_dev(attr->rdev));
}

/* An inode that has been looked up. What is known of it already is newer than the answer. */
struct inode *weft_inode_get(struct super_block *sb, const struct weft_attr *attr)
{
	struct inode *inode = iget_locked(sb, attr->ino);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (inode->i_state & I_NEW) {
		inode_set_first_attr(inode, attr);
		unlock_new_inode(inode);
		return inode;
	}
	if ((inode->i_mode ^ attr->mode) & S_IFMT) {
		weft_upcall_bad(sb->s_fs_info, WEFT_META_LOOKUP, "attr.mode", attr->mode);
		iput(inode);
		return ERR_PTR(-EIO);
	}
	return inode;
}

/* An inode that has just been made: its number must be new, its map is empty. */
struct inode *weft_inode_create(struct super_block *sb, const struct weft_attr *attr)
{
	struct inode *inode = iget_locked(sb, attr->ino);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(inode->i_state & I_NEW)) {
		weft_upcall_bad(sb->s_fs_info, WEFT_META_CREATE, "attr.ino in use", attr->ino);
		iput(inode);
		return ERR_PTR(-EIO);
	}
	inode_set_first_attr(inode, attr);
	set_bit(WEFT_INODE_LOADED, &WEFT_I(inode)->flags);
	unlock_new_inode(inode);
	return inode;
}

static void inode_drop_unmaps(struct weft_inode *wi)
{
	struct weft_unmap *unmap, *next;

	list_for_each_entry_safe(unmap, next, &wi->unmaps, link) {
		list_del(&unmap->link);
		kfree(unmap);
	}
}

/*
 * The last reference is gone, and so is all I/O. A file that keeps a name has been committed; if
 * that failed, the loss was reported to its writers. One without a name is evicted at the server by
 * a worker, for this may run in reclaim.
 */
void weft_inode_evict(struct inode *inode)
{
	struct weft_inode *wi = WEFT_I(inode);
	struct weft_fs *fs = weft_fs_of(inode);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	weft_space_close_window(wi);
	down_write(&wi->extents.lock);
	weft_extents_drop(&wi->extents, 0, U64_MAX, fs, weft_space_give);
	inode_drop_unmaps(wi);
	up_write(&wi->extents.lock);
	if (!inode->i_nlink && !is_bad_inode(inode))
		weft_orphan_add(fs, inode->i_ino);
}

void weft_inode_dirtied(struct inode *inode, int flags)
{
	set_bit(WEFT_INODE_TOUCHED, &WEFT_I(inode)->flags);
}

/*
 * An operation on the name space has changed the inode at this time, here and at the server. A
 * commit that is on its way may carry an older ctime: let another one follow.
 */
void weft_inode_touch(struct inode *inode, s64 now_ns)
{
	inode_set_ctime_to_ts(inode, ns_to_timespec64(now_ns));
	if (READ_ONCE(WEFT_I(inode)->commit_state) != WEFT_COMMIT_IDLE)
		mark_inode_dirty_sync(inode);
}

void weft_inode_doubt(struct inode *inode)
{
	set_bit(WEFT_INODE_DOUBT, &WEFT_I(inode)->flags);
	clear_bit(WEFT_INODE_COMPLETE, &WEFT_I(inode)->flags);
}

int weft_inode_settle(struct inode *inode)
{
	struct weft_attr attr;
	int error;

	if (!test_and_clear_bit(WEFT_INODE_DOUBT, &WEFT_I(inode)->flags))
		return 0;
	error = weft_upcall_getattr(inode, &attr);
	if (error) {
		weft_inode_doubt(inode);
		return error;
	}
	inode_set_attr(inode, &attr);
	return 0;
}

static int extents_add(struct inode *inode, const struct weft_extent *extents, u32 count)
{
	struct weft_inode *wi = WEFT_I(inode);

	for (u32 i = 0; i < count; i++) {
		bool unwritten = extents[i].flags & WEFT_EXTENT_UNWRITTEN;
		int error;

		/* With the chunk maps at hand, I/O to this file waits for no upcall. */
		error = weft_pool_load(weft_fs_of(inode)->pool, extents[i].pool_block,
				       extents[i].blocks);
		if (error)
			return error;
		down_write(&wi->extents.lock);
		weft_extents_insert(&wi->extents, &extents[i],
				    unwritten ? WEFT_UNWRITTEN : WEFT_WRITTEN, WEFT_ONSERVER);
		up_write(&wi->extents.lock);
	}
	return 0;
}

static int extents_load(struct inode *inode, struct weft_extent *extents)
{
	struct weft_inode *wi = WEFT_I(inode);
	u64 file_block = 0;
	bool eof;

	do {
		ssize_t count =
			weft_upcall_get_extents(inode, file_block, extents, WEFT_EXTENTS_MAX, &eof);
		int error;

		if (count < 0)
			return count;
		error = extents_add(inode, extents, count);
		if (error)
			return error;
		if (count)
			file_block = extents[count - 1].file_block + extents[count - 1].blocks;
	} while (!eof);
	inode->i_blocks = wi->extents.blocks << (WEFT_BLOCK_SHIFT - 9);
	return 0;
}

static void drop_known(struct weft_fs *fs, u64 pool_block, u64 blocks)
{
	WARN_ON_ONCE(1);	/* what was loaded is on the server */
}

int weft_inode_load(struct inode *inode)
{
	struct weft_inode *wi = WEFT_I(inode);
	struct weft_extent *extents;
	int error;

	if (test_bit(WEFT_INODE_LOADED, &wi->flags))
		return 0;
	error = mutex_lock_killable(&wi->load_lock);
	if (error)
		return error;
	if (test_bit(WEFT_INODE_LOADED, &wi->flags))
		goto unlock;
	extents = kvmalloc_array(WEFT_EXTENTS_MAX, sizeof(*extents), GFP_KERNEL);
	error = extents ? extents_load(inode, extents) : -ENOMEM;
	kvfree(extents);
	if (!error) {
		smp_mb__before_atomic();	/* the map, then the flag */
		set_bit(WEFT_INODE_LOADED, &wi->flags);
	} else {
		down_write(&wi->extents.lock);
		weft_extents_drop(&wi->extents, 0, U64_MAX, weft_fs_of(inode), drop_known);
		up_write(&wi->extents.lock);
	}
unlock:
	mutex_unlock(&wi->load_lock);
	return error;
}

int weft_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		 unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	int error;

	error = weft_inode_settle(inode);
	if (error)
		return error;
	generic_fillattr(idmap, mask, inode, stat);
	if (mask & STATX_BTIME) {
		stat->btime = WEFT_I(inode)->btime;
		stat->result_mask |= STATX_BTIME;
	}
	if ((mask & STATX_DIOALIGN) && S_ISREG(inode->i_mode)) {
		struct block_device *bdev = weft_pool_bdev(weft_fs_of(inode)->pool);

		stat->result_mask |= STATX_DIOALIGN;
		stat->dio_mem_align = bdev_dma_alignment(bdev) + 1;
		stat->dio_offset_align = WEFT_BLOCK_BYTES;
	}
	return 0;
}

/*
 * Times of a regular file are the kernel's: a commit tells them. The rest is the server's, unless
 * it is set to what it is already.
 */
#define LAZY_ATTRS	(ATTR_ATIME | ATTR_MTIME | ATTR_CTIME)

static bool is_for_server(const struct inode *inode, const struct iattr *iattr)
{
	if (!S_ISREG(inode->i_mode))
		return true;
	if ((iattr->ia_valid & ATTR_MODE) && iattr->ia_mode != inode->i_mode)
		return true;
	if ((iattr->ia_valid & ATTR_UID) && !uid_eq(iattr->ia_uid, inode->i_uid))
		return true;
	return (iattr->ia_valid & ATTR_GID) && !gid_eq(iattr->ia_gid, inode->i_gid);
}

static int server_setattr(struct inode *inode, const struct iattr *iattr, struct weft_attr *attr)
{
	struct weft_setattr_req set = { };
	s64 now_ns = weft_now_ns();

	if (iattr->ia_valid & ATTR_MODE) {
		set.valid |= WEFT_SET_MODE;
		set.mode = iattr->ia_mode;
	}
	if (iattr->ia_valid & ATTR_UID) {
		set.valid |= WEFT_SET_UID;
		set.uid = from_kuid(&init_user_ns, iattr->ia_uid);
	}
	if (iattr->ia_valid & ATTR_GID) {
		set.valid |= WEFT_SET_GID;
		set.gid = from_kgid(&init_user_ns, iattr->ia_gid);
	}
	if (iattr->ia_valid & ATTR_ATIME) {
		set.valid |= WEFT_SET_ATIME;
		set.atime_ns = timespec64_to_ns(&iattr->ia_atime);
	}
	if (iattr->ia_valid & ATTR_MTIME) {
		set.valid |= WEFT_SET_MTIME;
		set.mtime_ns = timespec64_to_ns(&iattr->ia_mtime);
	}
	if (iattr->ia_valid & ATTR_CTIME) {
		set.valid |= WEFT_SET_CTIME;
		set.ctime_ns = timespec64_to_ns(&iattr->ia_ctime);
	}
	return weft_upcall_setattr(inode, &set, now_ns, attr);
}

int weft_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *iattr)
{
	struct inode *inode = d_inode(dentry);
	struct weft_attr attr;
	int error;

	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	error = weft_inode_settle(inode);
	if (error)
		return error;
	error = setattr_prepare(idmap, dentry, iattr);
	if (error)
		return error;
	if (iattr->ia_valid & ATTR_SIZE) {
		error = weft_truncate(inode, iattr->ia_size);
		if (error)
			return error;
	}
	if (is_for_server(inode, iattr)) {
		error = server_setattr(inode, iattr, &attr);
		if (error == -EINTR)
			weft_inode_doubt(inode);
		if (error)
			return error;
	}
	setattr_copy(idmap, inode, iattr);
	if (S_ISREG(inode->i_mode) && (iattr->ia_valid & LAZY_ATTRS))
		mark_inode_dirty_sync(inode);
	return 0;
}
