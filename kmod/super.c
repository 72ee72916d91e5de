// SPDX-License-Identifier: GPL-2.0
#include <linux/backing-dev.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include "upcall.h"

int weft_fs_error(struct weft_fs *fs, int error)
{
	if (error != -ESTALE)
		return error;
	if (!test_and_set_bit(WEFT_FS_SHUTDOWN, &fs->flags))
		pr_err("weft: cluster %s: the metadata server has ended this host's session; nothing can be changed any more; unmount and mount again\n",
		       fs->cluster);
	return -EIO;
}

static void weft_put_super(struct super_block *sb)
{
	struct weft_fs *fs = sb->s_fs_info;
	int error;

	weft_commit_drain(fs);
	weft_orphan_drain(fs);
	weft_orphan_exit(fs);
	weft_space_exit(fs);
	/* a session that ends otherwise has its open chunks made equal by the server */
	error = weft_pool_equalize(fs->pool);
	if (!error)
		error = weft_upcall_unmount(fs);
	if (error)
		pr_warn("weft: cluster %s: unmounted, but the metadata server was not told (error %d); it ends the session when weftd is stopped and the lease has run out\n",
			fs->cluster, error);
	weft_pool_destroy(fs->pool);
	weft_channel_release(fs->channel);
}

static int weft_sync_fs(struct super_block *sb, int wait)
{
	struct weft_fs *fs = sb->s_fs_info;

	if (!wait)
		return 0;
	/*
	 * The VFS has written all data and has waited for it last. Files grew and extents became
	 * dirty by that: put these inodes into the committer's queue too.
	 */
	sync_inodes_sb(sb);
	weft_commit_drain(fs);
	weft_orphan_drain(fs);
	return weft_pool_flush(fs->pool);
}

static int weft_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct weft_fs *fs = dentry->d_sb->s_fs_info;
	struct weft_statfs_rep rep;
	int error = weft_upcall_statfs(fs, &rep);

	if (error)
		return error;
	buf->f_type = WEFT_SUPER_MAGIC;
	buf->f_bsize = WEFT_BLOCK_BYTES;
	buf->f_blocks = rep.blocks;
	/* What was granted and is not used yet is as good as free. */
	buf->f_bfree = min(rep.blocks, rep.free_blocks + weft_space_free_blocks(fs));
	buf->f_bavail = buf->f_bfree;
	buf->f_files = rep.files;
	buf->f_namelen = WEFT_NAME_MAX;
	buf->f_fsid = u64_to_fsid(huge_encode_dev(dentry->d_sb->s_dev));
	return 0;
}

/* umount -f: whoever waits for the agent gets EIO. */
static void weft_umount_begin(struct super_block *sb)
{
	struct weft_fs *fs = sb->s_fs_info;

	set_bit(WEFT_FS_SHUTDOWN, &fs->flags);
	weft_channel_abort(fs->channel);
}

static int weft_show_options(struct seq_file *seq, struct dentry *root)
{
	struct weft_fs *fs = root->d_sb->s_fs_info;

	seq_printf(seq, ",%s,grace=%u", fs->soft ? "soft" : "hard", fs->grace_s);
	return 0;
}

static const struct super_operations weft_super_operations = {
	.alloc_inode	= weft_inode_alloc,
	.free_inode	= weft_inode_free,
	.dirty_inode	= weft_inode_dirtied,
	.write_inode	= weft_commit_write_inode,
	.evict_inode	= weft_inode_evict,
	.put_super	= weft_put_super,
	.sync_fs	= weft_sync_fs,
	.statfs		= weft_statfs,
	.umount_begin	= weft_umount_begin,
	.show_options	= weft_show_options,
};

static void super_set_limits(struct super_block *sb)
{
	sb->s_magic = WEFT_SUPER_MAGIC;
	sb->s_op = &weft_super_operations;
	sb->s_d_op = &weft_dentry_operations;
	sb->s_blocksize = WEFT_BLOCK_BYTES;
	sb->s_blocksize_bits = WEFT_BLOCK_SHIFT;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_time_min = div_s64(S64_MIN, NSEC_PER_SEC);
	sb->s_time_max = div_s64(S64_MAX, NSEC_PER_SEC);
	/* There are no extended attributes, so none that a write would have to remove. */
	sb->s_flags |= SB_NOSEC;
}

static int open_session(struct weft_fs *fs, struct fs_context *fc, struct weft_attr *root)
{
	struct weft_mount_rep rep;
	struct weft_pool_geometry geometry;
	int error = weft_upcall_mount(fs, &rep);

	if (error == -EBUSY) {
		errorf(fc,
		       "weft: cluster \"%s\" is mounted by another host; unmount it there, see weftctl session list",
		       fs->cluster);
		return error;
	}
	if (error) {
		errorf(fc,
		       "weft: cluster \"%s\": the metadata server refused the mount (error %d); see the log of weftd",
		       fs->cluster, error);
		return error;
	}
	weft_channel_set_session(fs->channel, rep.session);
	fs->root_ino = rep.root_ino;
	fs->pool_blocks = rep.pool_blocks;
	fs->chunk_blocks = rep.chunk_blocks;
	fs->copies = rep.copies;
	*root = rep.root;

	geometry.blocks = rep.pool_blocks;
	geometry.chunk_blocks = rep.chunk_blocks;
	fs->pool = weft_pool_create(fs->channel, &geometry);
	if (IS_ERR(fs->pool)) {
		weft_upcall_unmount(fs);
		return PTR_ERR(fs->pool);
	}
	return 0;
}

static int make_root(struct super_block *sb, const struct weft_attr *attr)
{
	struct inode *inode = weft_inode_get(sb, attr);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	sb->s_root = d_make_root(inode);
	return sb->s_root ? 0 : -ENOMEM;
}

static int weft_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct weft_fs *fs = sb->s_fs_info;
	struct weft_attr root;
	int error;

	fs->sb = sb;
	super_set_limits(sb);
	error = weft_channel_claim(fs->channel, fs->soft, fs->grace_s * MSEC_PER_SEC);
	if (error) {
		errorf(fc, "weft: cluster \"%s\" is being mounted or unmounted already",
		       fs->cluster);
		return error;
	}
	error = open_session(fs, fc, &root);
	if (error)
		goto release;
	error = super_setup_bdi(sb);
	if (error)
		goto close;
	sb->s_bdi->ra_pages = WEFT_READAHEAD_BYTES >> PAGE_SHIFT;
	sb->s_bdi->io_pages = WEFT_IO_BYTES_MAX >> PAGE_SHIFT;
	weft_space_init(fs);
	weft_commit_init(fs);
	weft_orphan_init(fs);
	error = make_root(sb, &root);
	if (error)
		goto close;
	sb->s_flags |= SB_ACTIVE;
	return 0;

close:
	weft_upcall_unmount(fs);
	weft_pool_destroy(fs->pool);
release:
	weft_channel_release(fs->channel);
	return error;
}

static void fs_free(struct weft_fs *fs)
{
	if (fs->ioend_wq)
		destroy_workqueue(fs->ioend_wq);
	if (fs->commit_wq)
		destroy_workqueue(fs->commit_wq);
	if (fs->space_wq)
		destroy_workqueue(fs->space_wq);
	if (fs->channel)
		weft_channel_put(fs->channel);
	kfree(fs);
}

/* Each of the three may wait for the one before it, so each has its own rescuer. */
static int fs_make_workqueues(struct weft_fs *fs)
{
	fs->ioend_wq = alloc_workqueue("weft-ioend/%s", WQ_MEM_RECLAIM, 0, fs->cluster);
	fs->commit_wq = alloc_workqueue("weft-commit/%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 1,
					fs->cluster);
	/* refills of all classes and the orphans */
	fs->space_wq = alloc_workqueue("weft-space/%s", WQ_MEM_RECLAIM | WQ_UNBOUND,
				       WEFT_COPIES_MAX + 1, fs->cluster);
	return fs->ioend_wq && fs->commit_wq && fs->space_wq ? 0 : -ENOMEM;
}

enum { OPT_SOFT, OPT_HARD, OPT_GRACE };

static const struct fs_parameter_spec weft_parameters[] = {
	fsparam_flag("soft",	OPT_SOFT),
	fsparam_flag("hard",	OPT_HARD),
	fsparam_u32("grace",	OPT_GRACE),
	{ }
};

static int weft_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct weft_fs *fs = fc->s_fs_info;
	struct fs_parse_result result;
	int option = fs_parse(fc, weft_parameters, param, &result);

	switch (option) {
	case OPT_SOFT:
	case OPT_HARD:
		fs->soft = option == OPT_SOFT;
		return 0;
	case OPT_GRACE:
		if (!result.uint_32 || result.uint_32 > WEFT_GRACE_MAX_S)
			return invalf(fc, "weft: grace=%u: must be 1 to %u seconds", result.uint_32,
				      WEFT_GRACE_MAX_S);
		fs->grace_s = result.uint_32;
		return 0;
	default:
		return option;
	}
}

static int test_super(struct super_block *sb, struct fs_context *fc)
{
	const struct weft_fs *fs = sb->s_fs_info;
	const struct weft_fs *wanted = fc->s_fs_info;

	return fs->channel == wanted->channel;
}

static bool same_options(const struct weft_fs *fs, const struct weft_fs *wanted)
{
	return fs->soft == wanted->soft && fs->grace_s == wanted->grace_s;
}

static int weft_get_tree(struct fs_context *fc)
{
	struct weft_fs *fs = fc->s_fs_info;
	struct super_block *sb;
	int error;

	if (!fc->source || !*fc->source)
		return invalf(fc, "weft: no cluster named; mount -t weft CLUSTER DIRECTORY");
	if (strscpy(fs->cluster, fc->source, sizeof(fs->cluster)) < 0)
		return invalf(fc, "weft: the cluster name \"%s\" is longer than %u characters",
			      fc->source, WEFT_CLUSTER_NAME_MAX - 1);
	fs->channel = weft_channel_get(fs->cluster);
	if (!fs->channel) {
		errorf(fc, "weft: no agent serves cluster \"%s\"; start weftd --cluster %s",
		       fs->cluster, fs->cluster);
		return -ENOTCONN;
	}
	error = fs_make_workqueues(fs);
	if (error)
		return error;

	sb = sget_fc(fc, test_super, set_anon_super_fc);
	if (IS_ERR(sb))
		return PTR_ERR(sb);
	if (!sb->s_root) {
		error = weft_fill_super(sb, fc);
		if (error) {
			deactivate_locked_super(sb);
			return error;
		}
	} else if (!same_options(sb->s_fs_info, fs)) {
		warnf(fc,
		      "weft: cluster \"%s\" is mounted already; soft, hard and grace stay as they are",
		      fs->cluster);
	}
	fc->root = dget(sb->s_root);
	return 0;
}

static int weft_reconfigure(struct fs_context *fc)
{
	struct weft_fs *fs = fc->root->d_sb->s_fs_info;

	if (!same_options(fs, fc->s_fs_info))
		return invalf(fc,
			      "weft: soft, hard and grace cannot be changed by a remount; unmount first");
	sync_filesystem(fc->root->d_sb);
	return 0;
}

static void weft_free_fc(struct fs_context *fc)
{
	if (fc->s_fs_info)
		fs_free(fc->s_fs_info);
}

static const struct fs_context_operations weft_context_operations = {
	.parse_param	= weft_parse_param,
	.get_tree	= weft_get_tree,
	.reconfigure	= weft_reconfigure,
	.free		= weft_free_fc,
};

static int weft_init_fs_context(struct fs_context *fc)
{
	struct weft_fs *fs = kzalloc(sizeof(*fs), GFP_KERNEL);

	if (!fs)
		return -ENOMEM;
	fs->grace_s = WEFT_GRACE_DEFAULT_S;
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE) {
		const struct weft_fs *mounted = fc->root->d_sb->s_fs_info;

		fs->soft = mounted->soft;
		fs->grace_s = mounted->grace_s;
	}
	fc->s_fs_info = fs;
	fc->ops = &weft_context_operations;
	return 0;
}

static void weft_kill_super(struct super_block *sb)
{
	struct weft_fs *fs = sb->s_fs_info;

	kill_anon_super(sb);
	fs_free(fs);
}

static struct file_system_type weft_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "weft",
	.init_fs_context	= weft_init_fs_context,
	.parameters		= weft_parameters,
	.kill_sb		= weft_kill_super,
};
MODULE_ALIAS_FS("weft");

int weft_fs_init(void)
{
	int error;

	error = weft_extents_cache_init();
	if (error)
		return error;
	error = weft_inode_cache_init();
	if (error)
		goto destroy_extents;
	error = register_filesystem(&weft_fs_type);
	if (error)
		goto destroy_inodes;
	return 0;

destroy_inodes:
	weft_inode_cache_exit();
destroy_extents:
	weft_extents_cache_exit();
	return error;
}

void weft_fs_exit(void)
{
	unregister_filesystem(&weft_fs_type);
	weft_inode_cache_exit();
	weft_extents_cache_exit();
}
