// SPDX-License-Identifier: GPL-2.0
#include <linux/uidgid.h>
#include "upcall.h"

static bool mode_is_known(u32 mode)
{
	if (mode & ~(S_IFMT | S_IALLUGO))
		return false;
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
	       S_ISFIFO(mode) || S_ISSOCK(mode);
}

int weft_upcall_check_attr(struct weft_fs *fs, u32 op, const struct weft_attr *attr)
{
	if (!attr->ino)
		return weft_upcall_bad(fs, op, "attr.ino", attr->ino);
	if (!mode_is_known(attr->mode))
		return weft_upcall_bad(fs, op, "attr.mode", attr->mode);
	if (attr->size > S64_MAX ||
	    (S_ISLNK(attr->mode) && (!attr->size || attr->size > WEFT_SYMLINK_MAX)))
		return weft_upcall_bad(fs, op, "attr.size", attr->size);
	if (attr->blocks > WEFT_FILE_BLOCK_MAX)
		return weft_upcall_bad(fs, op, "attr.blocks", attr->blocks);
	if (attr->nlink > S32_MAX)
		return weft_upcall_bad(fs, op, "attr.nlink", attr->nlink);
	if (!uid_valid(make_kuid(&init_user_ns, attr->uid)))
		return weft_upcall_bad(fs, op, "attr.uid", attr->uid);
	if (!gid_valid(make_kgid(&init_user_ns, attr->gid)))
		return weft_upcall_bad(fs, op, "attr.gid", attr->gid);
	if (attr->copies > WEFT_COPIES_MAX ||
	    (!attr->copies && (S_ISREG(attr->mode) || S_ISDIR(attr->mode))))
		return weft_upcall_bad(fs, op, "attr.copies", attr->copies);
	return 0;
}

/* Sends a call whose answer is one weft_attr, and ends it. */
ssize_t weft_upcall_attr_reply(struct weft_fs *fs, struct weft_call *call, size_t args_bytes,
			       struct weft_attr *attr)
{
	u32 op = call->req->op;
	int error;

	error = weft_upcall_check_bytes(fs, op, weft_upcall_send(fs, call, args_bytes),
					sizeof(*attr));
	if (!error)
		memcpy(attr, call->rep, sizeof(*attr));
	weft_call_end(call);
	return error;
}

/* The answer must be about the inode that was asked for. */
static int check_same_inode(struct inode *inode, u32 op, const struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(inode);

	if (attr->ino != inode->i_ino)
		return weft_upcall_bad(fs, op, "attr.ino", attr->ino);
	if ((attr->mode ^ inode->i_mode) & S_IFMT)
		return weft_upcall_bad(fs, op, "attr.mode", attr->mode);
	return weft_upcall_check_attr(fs, op, attr);
}

int weft_upcall_getattr(struct inode *inode, struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_GETATTR, inode->i_ino, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	error = weft_upcall_attr_reply(fs, &call, 0, attr);
	return error ? error : check_same_inode(inode, WEFT_META_GETATTR, attr);
}

int weft_upcall_setattr(struct inode *inode, const struct weft_setattr_req *set, s64 now_ns,
			struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_SETATTR, inode->i_ino,
				  WEFT_CALL_KILLABLE | WEFT_CALL_CHANGES);
	if (error)
		return error;
	call.req->now_ns = now_ns;
	memcpy(call.args, set, sizeof(*set));
	error = weft_upcall_attr_reply(fs, &call, sizeof(*set), attr);
	return error ? error : check_same_inode(inode, WEFT_META_SETATTR, attr);
}
