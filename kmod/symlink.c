// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/slab.h>
#include "upcall.h"

/*
 * A target never changes: it is asked for once, and then found by the VFS itself in i_link, which
 * is freed with the inode, behind a grace period.
 */
static const char *weft_get_link(struct dentry *dentry, struct inode *inode,
				 struct delayed_call *done)
{
	char *target, *known;

	if (!dentry)
		return ERR_PTR(-ECHILD);
	target = weft_upcall_readlink(inode);
	if (IS_ERR(target))
		return target;
	known = cmpxchg(&inode->i_link, NULL, target);
	if (known) {
		kfree(target);
		return known;
	}
	return target;
}

const struct inode_operations weft_symlink_inode_operations = {
	.get_link	= weft_get_link,
	.getattr	= weft_getattr,
	.setattr	= weft_setattr,
};
