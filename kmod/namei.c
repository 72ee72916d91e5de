// SPDX-License-Identifier: GPL-2.0
/*
 * The name space. Each change is one call that the server has made durable when it returns; what is
 * cached here is then brought to the same state. The VFS holds i_rwsem of the directories.
 */
#include <linux/fs.h>
#include <linux/slab.h>
#include "upcall.h"

/* A directory has lost or gained a name. */
static void dir_changed(struct inode *dir, s64 now_ns)
{
	inode_set_mtime_to_ts(dir, ns_to_timespec64(now_ns));
	weft_inode_touch(dir, now_ns);
}

/* A killed call: nothing that is cached of this name is sure any more. */
static void name_doubt(struct inode *dir, struct dentry *dentry)
{
	weft_inode_doubt(dir);
	if (d_really_is_positive(dentry))
		weft_inode_doubt(d_inode(dentry));
	d_drop(dentry);
}

/*
 * A directory that this mount has made has all its names in the dentry cache, until the cache lets
 * one of them go: then a name that is not there need not be asked for. d_lock is held; the mark is
 * off before the name leaves the hash table.
 */
static void weft_d_prune(struct dentry *dentry)
{
	if (IS_ROOT(dentry) || d_unhashed(dentry) || d_really_is_negative(dentry))
		return;
	clear_bit(WEFT_INODE_COMPLETE, &WEFT_I(d_inode(dentry->d_parent))->flags);
	smp_mb__after_atomic();	/* the mark, then the hash table: see is_complete() */
}

const struct dentry_operations weft_dentry_operations = {
	.d_prune	= weft_d_prune,
};

static bool is_complete(struct inode *dir)
{
	smp_rmb();	/* the hash table was searched before: see weft_d_prune() */
	return test_bit(WEFT_INODE_COMPLETE, &WEFT_I(dir)->flags);
}

static struct dentry *weft_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct weft_attr attr;
	struct inode *inode;
	int error;

	if (dentry->d_name.len > WEFT_NAME_MAX)
		return ERR_PTR(-ENAMETOOLONG);
	if (is_complete(dir))
		return d_splice_alias(NULL, dentry);
	error = weft_upcall_lookup(dir, &dentry->d_name, &attr);
	if (error == -ENOENT)
		return d_splice_alias(NULL, dentry);
	if (error)
		return ERR_PTR(error);
	inode = weft_inode_get(dir->i_sb, &attr);
	return d_splice_alias(inode, dentry);
}

static int create(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, umode_t mode,
		  dev_t rdev, const char *target)
{
	struct weft_create_req req = { .rdev = new_encode_dev(rdev) };
	s64 now_ns = weft_now_ns();
	struct weft_attr attr;
	struct inode *inode;
	int error;

	req.uid = from_kuid(&init_user_ns, mapped_fsuid(idmap, &init_user_ns));
	if (dir->i_mode & S_ISGID) {
		req.gid = i_gid_read(dir);
		if (S_ISDIR(mode))
			mode |= S_ISGID;
	} else {
		req.gid = from_kgid(&init_user_ns, mapped_fsgid(idmap, &init_user_ns));
	}
	req.mode = mode;
	error = weft_upcall_create(dir, &dentry->d_name, target, now_ns, &req, &attr);
	if (error == -EINTR)
		name_doubt(dir, dentry);
	if (error)
		return error;
	inode = weft_inode_create(dir->i_sb, &attr);
	if (IS_ERR(inode)) {
		name_doubt(dir, dentry);
		return PTR_ERR(inode);
	}
	if (target)
		inode->i_link = kstrdup(target, GFP_KERNEL);	/* else it is asked for later */
	dir_changed(dir, now_ns);
	if (S_ISDIR(mode)) {
		inc_nlink(dir);
		set_bit(WEFT_INODE_COMPLETE, &WEFT_I(inode)->flags);
	}
	d_instantiate(dentry, inode);
	return 0;
}

static int weft_create(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
		       umode_t mode, bool exclusive)
{
	return create(idmap, dir, dentry, mode, 0, NULL);
}

static int weft_mknod(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
		      umode_t mode, dev_t rdev)
{
	return create(idmap, dir, dentry, mode, rdev, NULL);
}

static int weft_mkdir(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
		      umode_t mode)
{
	return create(idmap, dir, dentry, mode | S_IFDIR, 0, NULL);
}

static int weft_symlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
			const char *target)
{
	if (strlen(target) > WEFT_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return create(idmap, dir, dentry, S_IFLNK | 0777, 0, target);
}

static int weft_link(struct dentry *old_dentry, struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(old_dentry);
	s64 now_ns = weft_now_ns();
	struct weft_attr attr;
	int error;

	error = weft_upcall_link(inode, dir, &dentry->d_name, now_ns, &attr);
	if (error == -EINTR) {
		name_doubt(dir, dentry);
		weft_inode_doubt(inode);
	}
	if (error)
		return error;
	set_nlink(inode, attr.nlink);
	weft_inode_touch(inode, now_ns);
	dir_changed(dir, now_ns);
	ihold(inode);
	d_instantiate(dentry, inode);
	return 0;
}

/* An inode has lost a name; the server says how many are left. */
static void lost_name(struct inode *inode, const struct weft_attr *attr, s64 now_ns)
{
	if (attr->ino != inode->i_ino) {
		weft_upcall_bad(weft_fs_of(inode), WEFT_META_REMOVE, "attr.ino", attr->ino);
		weft_inode_doubt(inode);
		return;
	}
	if (S_ISDIR(inode->i_mode))
		clear_nlink(inode);
	else
		set_nlink(inode, attr->nlink);
	weft_inode_touch(inode, now_ns);
}

static int remove_name(struct inode *dir, struct dentry *dentry, u32 flags)
{
	s64 now_ns = weft_now_ns();
	struct weft_attr attr;
	int error;

	error = weft_upcall_remove(dir, &dentry->d_name, flags, now_ns, &attr);
	if (error == -EINTR)
		name_doubt(dir, dentry);
	if (error)
		return error;
	lost_name(d_inode(dentry), &attr, now_ns);
	dir_changed(dir, now_ns);
	return 0;
}

static int weft_unlink(struct inode *dir, struct dentry *dentry)
{
	return remove_name(dir, dentry, 0);
}

static int weft_rmdir(struct inode *dir, struct dentry *dentry)
{
	int error = remove_name(dir, dentry, WEFT_REMOVE_DIR);

	if (!error)
		drop_nlink(dir);
	return error;
}

/* A directory counts the `..` of its children. */
static void move_dotdot(struct inode *child, struct inode *from, struct inode *to)
{
	if (!S_ISDIR(child->i_mode) || from == to)
		return;
	drop_nlink(from);
	inc_nlink(to);
}

static u32 rename_flags(unsigned int flags)
{
	return (flags & RENAME_NOREPLACE ? WEFT_RENAME_NOREPLACE : 0) |
	       (flags & RENAME_EXCHANGE ? WEFT_RENAME_EXCHANGE : 0);
}

static void renamed(struct inode *old_dir, struct inode *moved, struct inode *new_dir,
		    struct inode *other, bool exchange, const struct weft_attr *attr, s64 now_ns)
{
	move_dotdot(moved, old_dir, new_dir);
	weft_inode_touch(moved, now_ns);
	if (exchange) {
		move_dotdot(other, new_dir, old_dir);
		weft_inode_touch(other, now_ns);
	} else if (other) {
		if (S_ISDIR(other->i_mode))
			drop_nlink(new_dir);
		lost_name(other, attr, now_ns);
	}
	dir_changed(old_dir, now_ns);
	dir_changed(new_dir, now_ns);
}

static int weft_rename(struct mnt_idmap *idmap, struct inode *old_dir, struct dentry *old_dentry,
		       struct inode *new_dir, struct dentry *new_dentry, unsigned int flags)
{
	s64 now_ns = weft_now_ns();
	struct weft_attr attr;
	int error;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	error = weft_upcall_rename(old_dir, &old_dentry->d_name, new_dir, &new_dentry->d_name,
				   rename_flags(flags), now_ns, &attr);
	if (error == -EINTR) {
		name_doubt(old_dir, old_dentry);
		name_doubt(new_dir, new_dentry);
	}
	if (error)
		return error;
	renamed(old_dir, d_inode(old_dentry), new_dir, d_inode(new_dentry), flags & RENAME_EXCHANGE,
		&attr, now_ns);
	return 0;
}

const struct inode_operations weft_dir_inode_operations = {
	.lookup		= weft_lookup,
	.create		= weft_create,
	.link		= weft_link,
	.unlink		= weft_unlink,
	.symlink	= weft_symlink,
	.mkdir		= weft_mkdir,
	.rmdir		= weft_rmdir,
	.mknod		= weft_mknod,
	.rename		= weft_rename,
	.getattr	= weft_getattr,
	.setattr	= weft_setattr,
};
