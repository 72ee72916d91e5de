// SPDX-License-Identifier: GPL-2.0
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/uaccess.h>
#include "upcall.h"

static long get_copies(struct inode *inode, u32 __user *arg)
{
	int error = weft_inode_settle(inode);

	return error ?: put_user(READ_ONCE(WEFT_I(inode)->copies), arg);
}

static int set_copies_locked(struct file *file, u32 copies)
{
	struct weft_setattr_req set = { .valid = WEFT_SET_COPIES, .copies = copies };
	struct inode *inode = file_inode(file);
	s64 now_ns = weft_now_ns();
	struct weft_attr attr;
	int error;

	if (!inode_owner_or_capable(file_mnt_idmap(file), inode))
		return -EPERM;
	if (weft_fs_is_shutdown(weft_fs_of(inode)))
		return -EIO;
	error = weft_upcall_setattr(inode, &set, now_ns, &attr);
	if (error == -EINTR)
		weft_inode_doubt(inode);
	if (error)
		return error;
	WRITE_ONCE(WEFT_I(inode)->copies, copies);
	weft_inode_touch(inode, now_ns);
	return 0;
}

static long set_copies(struct file *file, const u32 __user *arg)
{
	struct inode *inode = file_inode(file);
	u32 copies;
	int error;

	if (get_user(copies, arg))
		return -EFAULT;
	if (!copies || copies > WEFT_COPIES_MAX)
		return -EINVAL;
	error = mnt_want_write_file(file);
	if (error)
		return error;
	inode_lock(inode);
	error = set_copies_locked(file, copies);
	inode_unlock(inode);
	mnt_drop_write_file(file);
	return error;
}

long weft_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case WEFT_IOC_GET_COPIES:
		return get_copies(file_inode(file), (u32 __user *)arg);
	case WEFT_IOC_SET_COPIES:
		return set_copies(file, (const u32 __user *)arg);
	default:
		return -ENOTTY;
	}
}
