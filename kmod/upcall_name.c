// SPDX-License-Identifier: GPL-2.0
#include <linux/dcache.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "upcall.h"

int weft_upcall_lookup(struct inode *dir, const struct qstr *name, struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(dir);
	struct weft_lookup_req *req;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_LOOKUP, dir->i_ino, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	req = call.args;
	req->name_bytes = name->len;
	memcpy(req + 1, name->name, name->len);
	error = weft_upcall_attr_reply(fs, &call, sizeof(*req) + name->len, attr);
	return error ? error : weft_upcall_check_attr(fs, WEFT_META_LOOKUP, attr);
}

int weft_upcall_create(struct inode *dir, const struct qstr *name, const char *target, s64 now_ns,
		       const struct weft_create_req *create, struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(dir);
	u32 target_bytes = target ? strlen(target) : 0;
	struct weft_create_req *req;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_CREATE, dir->i_ino,
				  WEFT_CALL_KILLABLE | WEFT_CALL_CHANGES);
	if (error)
		return error;
	call.req->now_ns = now_ns;
	req = call.args;
	*req = *create;
	req->name_bytes = name->len;
	req->target_bytes = target_bytes;
	memcpy(req + 1, name->name, name->len);
	memcpy((void *)(req + 1) + name->len, target, target_bytes);
	error = weft_upcall_attr_reply(fs, &call, sizeof(*req) + name->len + target_bytes, attr);
	if (error)
		return error;
	if ((attr->mode ^ create->mode) & S_IFMT)
		return weft_upcall_bad(fs, WEFT_META_CREATE, "attr.mode", attr->mode);
	if (target && attr->size != target_bytes)
		return weft_upcall_bad(fs, WEFT_META_CREATE, "attr.size", attr->size);
	return weft_upcall_check_attr(fs, WEFT_META_CREATE, attr);
}

int weft_upcall_remove(struct inode *dir, const struct qstr *name, u32 flags, s64 now_ns,
		       struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(dir);
	struct weft_remove_req *req;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_REMOVE, dir->i_ino,
				  WEFT_CALL_KILLABLE | WEFT_CALL_CHANGES);
	if (error)
		return error;
	call.req->now_ns = now_ns;
	req = call.args;
	req->flags = flags;
	req->name_bytes = name->len;
	memcpy(req + 1, name->name, name->len);
	error = weft_upcall_attr_reply(fs, &call, sizeof(*req) + name->len, attr);
	return error ? error : weft_upcall_check_attr(fs, WEFT_META_REMOVE, attr);
}

int weft_upcall_rename(struct inode *old_dir, const struct qstr *old_name, struct inode *new_dir,
		       const struct qstr *new_name, u32 flags, s64 now_ns, struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(old_dir);
	struct weft_rename_req *req;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_RENAME, old_dir->i_ino,
				  WEFT_CALL_KILLABLE | WEFT_CALL_CHANGES);
	if (error)
		return error;
	call.req->now_ns = now_ns;
	req = call.args;
	req->new_parent = new_dir->i_ino;
	req->flags = flags;
	req->old_bytes = old_name->len;
	req->new_bytes = new_name->len;
	memcpy(req + 1, old_name->name, old_name->len);
	memcpy((void *)(req + 1) + old_name->len, new_name->name, new_name->len);
	error = weft_upcall_attr_reply(fs, &call, sizeof(*req) + old_name->len + new_name->len,
				       attr);
	if (error || !attr->ino)
		return error;
	return weft_upcall_check_attr(fs, WEFT_META_RENAME, attr);
}

int weft_upcall_link(struct inode *inode, struct inode *dir, const struct qstr *name, s64 now_ns,
		     struct weft_attr *attr)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_link_req *req;
	struct weft_call call;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_LINK, inode->i_ino,
				  WEFT_CALL_KILLABLE | WEFT_CALL_CHANGES);
	if (error)
		return error;
	call.req->now_ns = now_ns;
	req = call.args;
	req->parent = dir->i_ino;
	req->name_bytes = name->len;
	memcpy(req + 1, name->name, name->len);
	error = weft_upcall_attr_reply(fs, &call, sizeof(*req) + name->len, attr);
	if (error)
		return error;
	if (attr->ino != inode->i_ino)
		return weft_upcall_bad(fs, WEFT_META_LINK, "attr.ino", attr->ino);
	return weft_upcall_check_attr(fs, WEFT_META_LINK, attr);
}

char *weft_upcall_readlink(struct inode *inode)
{
	struct weft_fs *fs = weft_fs_of(inode);
	struct weft_call call;
	char *target = NULL;
	ssize_t got;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_READLINK, inode->i_ino, WEFT_CALL_KILLABLE);
	if (error)
		return ERR_PTR(error);
	got = weft_upcall_send(fs, &call, 0);
	if (got == 0 || got > WEFT_SYMLINK_MAX) {
		got = weft_upcall_bad(fs, WEFT_META_READLINK, "length", got);
	} else if (got > 0) {
		target = kmemdup_nul(call.rep, got, GFP_KERNEL);
		if (!target)
			got = -ENOMEM;
		else if (strlen(target) != got)
			got = weft_upcall_bad(fs, WEFT_META_READLINK, "NUL at", strlen(target));
	}
	weft_call_end(&call);
	if (got < 0) {
		kfree(target);
		return ERR_PTR(got);
	}
	return target;
}

ssize_t weft_upcall_readdir(struct inode *dir, u64 cookie, void *buf, u32 *count, bool *eof)
{
	struct weft_fs *fs = weft_fs_of(dir);
	struct weft_readdir_rep rep;
	struct weft_readdir_req *req;
	struct weft_call call;
	ssize_t got;
	int error;

	error = weft_upcall_begin(fs, &call, WEFT_META_READDIR, dir->i_ino, WEFT_CALL_KILLABLE);
	if (error)
		return error;
	req = call.args;
	req->cookie = cookie;
	req->bytes_max = WEFT_META_REP_BYTES - sizeof(rep);
	got = weft_upcall_send(fs, &call, sizeof(*req));
	if (got >= (ssize_t)sizeof(rep)) {
		memcpy(&rep, call.rep, sizeof(rep));
		got -= sizeof(rep);
		memcpy(buf, call.rep + sizeof(rep), got);
	} else if (got >= 0) {
		got = weft_upcall_bad(fs, WEFT_META_READDIR, "length", got);
	}
	weft_call_end(&call);
	if (got < 0)
		return got;
	if (rep.eof > 1)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "eof", rep.eof);
	/* An empty answer that is not the last would be asked for forever. */
	if (!rep.count && !rep.eof)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "count", rep.count);
	*count = rep.count;
	*eof = rep.eof;
	return got;
}

ssize_t weft_upcall_dirent(struct inode *dir, const struct weft_dirent *entry, size_t bytes,
			   u64 cookie)
{
	struct weft_fs *fs = weft_fs_of(dir);
	size_t length;

	if (bytes < sizeof(*entry))
		return weft_upcall_bad(fs, WEFT_META_READDIR, "length", bytes);
	length = ALIGN(sizeof(*entry) + entry->name_bytes, 8);
	if (!entry->name_bytes || entry->name_bytes > WEFT_NAME_MAX || length > bytes)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "entry.name_bytes",
				       entry->name_bytes);
	if (memchr(entry->name, '/', entry->name_bytes) ||
	    memchr(entry->name, 0, entry->name_bytes))
		return weft_upcall_bad(fs, WEFT_META_READDIR, "entry.name of inode", entry->ino);
	if (!entry->ino)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "entry.ino", entry->ino);
	if (entry->type > DT_WHT)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "entry.type", entry->type);
	/* Two positions are the kernel's own, for . and .. */
	if (entry->cookie <= cookie || entry->cookie > S64_MAX - 2)
		return weft_upcall_bad(fs, WEFT_META_READDIR, "entry.cookie", entry->cookie);
	return length;
}
